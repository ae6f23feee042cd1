//! The journal: every accepted payment and every close that ended, in segments that are written once and never changed.
//! This is its form alone (`docs/JOURNAL.md`); where segments are kept is the service's affair.
//!
//! # Layout
//!
//! * [`mod@line`]: what stands on a line of a segment.
//! * [`segment`]: lines, compressed, with the roots that prove them.
//! * [`verify`]: whether a whole journal is what its settler wrote, and what it says is true.

pub mod line;
pub mod segment;
pub mod verify;

#[cfg(test)]
mod tests;
