//! The rows of the benchmarks: one file each, all of one form. A new one is a file, a variant of [`Row`] and a line in
//! [`Row::run`].

mod batch;
mod latency;
mod memory;
mod redis;
mod scaling;
mod schemes;
mod settler;
mod single;

use crate::figure::Findings;
use crate::machine::Machine;

pub(crate) use settler::serve_issuer as serve_settling_issuer;

/// What every row is given.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    /// Where it runs.
    pub(crate) machine: Machine,
    /// True if it is only to show that it can be run, in seconds.
    pub(crate) brief: bool,
}

impl Bench {
    /// What to measure with: `full`, or `brief` where that was asked for.
    pub(crate) fn choose<T>(&self, full: T, brief: T) -> T {
        if self.brief { brief } else { full }
    }
}

/// The rows, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Row {
    /// Single payments over HTTP: CPU of the relayer.
    Single,
    /// Batches: CPU of the relayer.
    Batch,
    /// Redis: its CPU a payment, and what waiting for the disk costs.
    Redis,
    /// How long a payment takes: alone, and at fixed rates.
    Latency,
    /// Memory of relayers and Redis.
    Memory,
    /// One, two and four relayers.
    Scaling,
    /// Payments that cost hashes, and receipts for payments: CPU of the relayer.
    Schemes,
    /// A settler: a backlog worked off, channels closed.
    Settler,
}

impl Row {
    /// The name as the command line and the report have it.
    pub(crate) fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Measures.
    ///
    /// # Errors
    /// Something did not run, or payments and records do not agree. Never that it was slow.
    pub(crate) async fn run(self, bench: &Bench) -> anyhow::Result<Findings> {
        match self {
            Row::Single => single::run(bench).await,
            Row::Batch => batch::run(bench).await,
            Row::Redis => redis::run(bench).await,
            Row::Latency => latency::run(bench).await,
            Row::Memory => memory::run(bench).await,
            Row::Scaling => scaling::run(bench).await,
            Row::Schemes => schemes::run(bench).await,
            Row::Settler => settler::run(bench).await,
        }
    }
}
