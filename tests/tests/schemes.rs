//! The payment schemes that a payer commits to when it opens a channel, over HTTP with real processes: the whole way of
//! each beside signed vouchers, what does not hold, and how much of a proof must be shown and hashed.

mod schemes {
    mod chain;
    mod forged;
    mod forms;
    mod reused;
    mod scene;
    mod sizes;
    mod tree;
    mod whole_way;
}
