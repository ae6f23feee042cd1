//! What every part of the settler works with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use common::clock::Clock;
use common::store::Store;
use common::store::lease::Lease;
use service::issuer_client::IssuerClient;
use service::journal::JournalStore;

use crate::config::Config;
use crate::issuer_key::IssuerKey;
use crate::journal::writer::Trouble;
use crate::keyless::Keyless;
use crate::metrics::Metrics;
use crate::settlement::Payees;

/// The parts of one settler process.
#[derive(Debug)]
pub(crate) struct App {
    /// As the process was started.
    pub(crate) config: Config,
    /// As it was read last: only what is reloadable may differ from `config`.
    pub(crate) live: ArcSwap<Config>,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) issuer: IssuerClient,
    /// Whose receipts count.
    pub(crate) issuer_key: IssuerKey,
    pub(crate) payees: Payees,
    /// Channels that pay someone whose key is not here.
    pub(crate) keyless: Keyless,
    pub(crate) metrics: Metrics,
    /// Where the journal is, if one is kept.
    pub(crate) journal: Option<JournalStore>,
    /// Why it cannot be kept at the moment.
    pub(crate) journal_trouble: Trouble,
    /// This process start, as other settlers see it.
    pub(crate) process: String,
    /// Leaderships that this process has sought.
    pub(crate) terms: AtomicU64,
    pub(crate) post: Post,
    pub(crate) pulse: Pulse,
}

impl App {
    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_millis(self.config.lease.ttl_ms)
    }

    /// The number of the next leadership to be sought: what was sent in an earlier one and arrives late is told from it.
    pub(crate) fn next_term(&self) -> u64 {
        self.terms.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

/// Sixteen random bytes in hex: no two process starts have the same.
pub(crate) fn random_process() -> String {
    rand::random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether this process leads, for whoever wants to know.
#[derive(Debug, Default)]
pub(crate) struct Post(Mutex<Option<Arc<Lease>>>);

impl Post {
    /// Takes note of the lease that this process leads under, or of its end.
    pub(crate) fn set(&self, lease: Option<Arc<Lease>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    /// The lease, while this process leads, with its token.
    pub(crate) fn lease(&self) -> Option<(Arc<Lease>, u64)> {
        let lease = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let token = lease.token().ok()?.get();
        Some((lease, token))
    }
}

/// A sign of life of the loop that stands by or leads.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<Instant>);

impl Pulse {
    pub(crate) fn new() -> Self {
        Pulse(Mutex::new(Instant::now()))
    }

    pub(crate) fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Time since the last beat.
    pub(crate) fn age(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_sixteen_bytes_of_hex_and_never_the_same() {
        let process = random_process();
        assert_eq!(process.len(), 32);
        assert!(process.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(process, random_process());
    }
}
