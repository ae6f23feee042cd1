//! The harness of Millrace's integration tests: what users of miniredis know, on a real Redis.
//!
//! # Layout
//!
//! * [`redis`]: a private Redis for one test, in a container or as a process, with a fault proxy in front.
//! * [`proxy`]: the TCP proxy that delays, swallows and cuts.
//! * [`payer`]: opens channels and pays.
//! * [`browser`]: a real browser, for pages that people look at.
//! * [`http`]: answers as they come over the wire. [`described`]: whether a service says so of them.
//! * [`stream`]: payments over a WebSocket connection.
//! * [`issuer`]: an issuer in this process, and one that fails on demand.
//! * [`channel`]: channels and vouchers without an issuer, for tests of the store.
//! * [`recover`]: `millrace recover` as an operator runs it.
//! * [`rig`]: real relayers and settlers as processes, with all of the above around them.
//! * [`load`]: payers that pay without a pause and remember what was acknowledged.
//! * [`binaries`]: where the built programs are, for [`cli::stack::Stack`].
//! * [`wait_until`]: the only way to wait: for a condition, with a deadline.
//!
//! `README.md` beside this crate shows how they go together.

pub mod binaries;
pub mod browser;
pub mod channel;
pub mod described;
pub mod http;
pub mod issuer;
pub mod load;
pub mod payer;
pub mod proxy;
pub mod recover;
pub mod redis;
pub mod rig;
pub mod stream;
mod wait;

pub use wait::{wait_for, wait_until};
