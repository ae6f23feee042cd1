//! The harness itself, on a real Redis: each handle method does what it says.

mod harness {
    mod issuer;
    mod proxy;
    mod redis;
    mod stack;
}
