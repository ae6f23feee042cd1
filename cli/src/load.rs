//! Many payers at once: each payment signed, sent, and followed up until its outcome is known.
//!
//! # Layout
//!
//! * [`payers`]: channels to pay from, opened or found again.
//! * [`schedule`]: which payment is sent when, and when to stop.
//! * `worker`: one payer side in flight. [`report`]: what came of it all.
//!
//! With a fixed rate, a payment's latency counts from when it was to be sent, not from when a stalled system let it
//! be sent: a second of standstill shows in every payment that it held up ("coordinated omission" is left out by
//! measuring this way; see Gil Tene, *How NOT to Measure Latency*).

pub mod payers;
pub mod report;
pub mod schedule;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::amount::Amount;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::RelayerClient;
use crate::ledger::{LedgerError, LedgerWriter};
use payers::PayingChannel;
use report::Report;
use schedule::{Schedule, Until};
use worker::Worker;

/// What to do.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Relayers, taken in turn.
    pub relayers: Vec<RelayerClient>,
    /// Payments in flight at once, at most; no more than there are channels.
    pub concurrency: usize,
    /// Payments a second; without it, each payment is sent when the one before it has its answer.
    pub rate: Option<u64>,
    /// When to stop.
    pub until: Until,
    /// What each payment adds.
    pub step: Amount,
    /// How long an outcome is asked for after the end, until it is given up as unknown.
    pub patience: Duration,
}

/// Counts that can be watched while payments go on.
#[derive(Debug, Default)]
pub struct Progress {
    acknowledged: AtomicU64,
}

impl Progress {
    /// Payments acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// What every worker shares.
struct Shared {
    relayers: Vec<RelayerClient>,
    schedule: Schedule,
    step: Amount,
    ledger: Option<Arc<LedgerWriter>>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    patience: Duration,
}

/// Pays from `channels` until the options or `cancel` say stop. The channels come back with what they owe.
///
/// # Errors
/// The ledger cannot be written: payments that nobody could prove are not made.
pub async fn run(
    options: LoadOptions,
    channels: Vec<PayingChannel>,
    ledger: Option<Arc<LedgerWriter>>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(Report, Vec<PayingChannel>), LedgerError> {
    let workers = options.concurrency.clamp(1, channels.len().max(1));
    let start = Instant::now();
    let shared = Arc::new(Shared {
        relayers: options.relayers,
        schedule: Schedule::new(start, options.rate, options.until),
        step: options.step,
        ledger,
        progress,
        cancel: cancel.clone(),
        patience: options.patience,
    });
    let mut shares: Vec<Vec<PayingChannel>> = (0..workers).map(|_| Vec::new()).collect();
    for (i, channel) in channels.into_iter().enumerate() {
        // One worker a channel: its amounts must reach the relayers in order.
        shares[i % workers].push(channel);
    }
    let mut running = JoinSet::new();
    for (i, share) in shares.into_iter().enumerate() {
        running.spawn(Worker::new(Arc::clone(&shared), share, i).run());
    }
    let mut report = Report::default();
    let mut channels = Vec::new();
    let mut failure = None;
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(Ok((part, share))) => {
                report.add(&part);
                channels.extend(share);
            }
            Ok(Err(error)) => {
                cancel.cancel();
                failure = Some(error);
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
    report.elapsed = start.elapsed();
    match failure {
        Some(error) => Err(error),
        None => Ok((report, channels)),
    }
}
