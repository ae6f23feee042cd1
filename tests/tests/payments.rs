//! Payments over HTTP with real processes: the whole way, the top of the range, delegates, batches, closes, and what
//! is malformed. Refusals code by code are in `codes.rs`.

mod payments {
    mod batches;
    mod forms;
    mod proofs;
    mod whole_way;
}
