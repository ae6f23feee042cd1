//! Every accepted payment is in the journal exactly once, whatever becomes of the settler, its store and Redis' clock;
//! and whoever changes the journal afterwards is found out.

#[path = "journal/bucket.rs"]
mod bucket;
#[path = "journal/command.rs"]
mod command;
#[cfg(debug_assertions)]
#[path = "journal/crashes.rs"]
mod crashes;
#[path = "journal/kept.rs"]
mod kept;
#[path = "journal/run.rs"]
mod run;
#[path = "journal/segments.rs"]
mod segments;
#[path = "journal/store_fails.rs"]
mod store_fails;
