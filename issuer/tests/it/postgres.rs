//! The suite on PostgreSQL, and what PostgreSQL alone has: several issuers on one database, and a server to lose.

use crate::harness::Backend;

/// What every test here runs on.
const BACKEND: Backend = Backend::Postgres;

#[path = "batches.rs"]
mod batches;
#[path = "committing.rs"]
mod committing;
#[path = "keeping.rs"]
mod keeping;
#[path = "killing.rs"]
mod killing;
#[path = "opening.rs"]
mod opening;
#[path = "random.rs"]
mod random;
#[path = "refunding.rs"]
mod refunding;
#[path = "settling.rs"]
mod settling;
