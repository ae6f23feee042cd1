//! Payments over WebSocket connections with real processes: answers, order, bounds, and ends. That every refusal is the
//! same as the single route's is shown where each code is: `codes.rs`.

mod stream {
    mod answers;
    mod bounds;
    mod ends;
    mod payers;
}
