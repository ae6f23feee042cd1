//! The issuer over real HTTP, in this process, on a database of its own per test.

mod batches;
mod committing;
mod harness;
mod keeping;
mod killing;
mod opening;
mod random;
mod refunding;
mod settling;
