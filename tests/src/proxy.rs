//! The TCP proxy that delays, swallows and cuts. It lives beside the stack, as `millrace chaos` needs it too.

pub use cli::stack::proxy::{Counts, Fault, FaultProxy, Lookout, Protocol};
