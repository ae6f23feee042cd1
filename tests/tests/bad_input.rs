//! A relayer among clients that are slow, greedy, broken or idle: what they can make it hold is bounded, and others are
//! served meanwhile. Decoders have their own tests: `tests/fuzz`.

mod bad_input {
    mod broken;
    mod greedy;
    mod idle;
    mod raw;
    mod slow;
}
