//! The suite on the embedded database.

#![expect(clippy::duplicate_mod, reason = "the suite runs on both databases")]

use crate::harness::Backend;

/// What every test here runs on.
const BACKEND: Backend = Backend::Sqlite;

#[path = "batches.rs"]
mod batches;
#[path = "committing.rs"]
mod committing;
#[path = "keeping.rs"]
mod keeping;
#[path = "killing.rs"]
mod killing;
mod migrating;
#[path = "opening.rs"]
mod opening;
#[path = "random.rs"]
mod random;
#[path = "refunding.rs"]
mod refunding;
#[path = "settling.rs"]
mod settling;
