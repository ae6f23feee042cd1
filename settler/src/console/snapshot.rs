//! What the overview shows, read from Redis in one go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::store::StoreError;
use common::store::history::{Sample, Sums};
use common::store::listing::Letter;
use common::store::read::{LeaseInfo, PartitionInfo};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::Console;
use super::channels;

/// Partitions that are asked at once.
const PARTITIONS_AT_ONCE: usize = 16;

/// Dead letters on the overview; all are on a page of their own.
const LETTERS_SHOWN: u32 = 5;

/// What Redis held at one time.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// When it was read, in ms since 1970.
    pub(crate) at_ms: u64,
    pub(crate) lease: LeaseInfo,
    pub(crate) partitions: Vec<PartitionInfo>,
    /// The oldest first, with their times in ms since 1970.
    pub(crate) history: Vec<(u64, Sample)>,
    /// The newest first.
    pub(crate) dead: Vec<Letter>,
}

impl Snapshot {
    /// Since when the present leader leads, in ms since 1970. `None` if it has not said so yet.
    pub(crate) fn led_since_ms(&self) -> Option<u64> {
        let holder = self.lease.holder.as_deref()?;
        let (_, sample) = self.history.iter().rev().find(|(_, sample)| sample.holder == holder)?;
        Some(sample.since_ms)
    }

    /// The newest sums, with when they were kept.
    pub(crate) fn sums(&self) -> Option<(u64, &Sums)> {
        self.history.iter().rev().find_map(|(at_ms, sample)| Some((*at_ms, sample.sums.as_ref()?)))
    }

    /// A sum over all partitions.
    pub(crate) fn sum(&self, of: fn(&PartitionInfo) -> u64) -> u64 {
        self.partitions.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Time of the oldest entry that waits in any stream, in ms since 1970.
    pub(crate) fn oldest_at_ms(&self) -> Option<u64> {
        self.partitions.iter().filter_map(|partition| partition.oldest_at_ms).min()
    }
}

impl Console {
    /// What Redis holds, no older than `console.refresh_ms`: all who look share one reading.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        let keep = Duration::from_millis(self.app.config.console.refresh_ms);
        // Held while it is read: who comes meanwhile waits for the same.
        let mut latest = self.latest.lock().await;
        if let Some((_, snapshot)) = latest.as_ref().filter(|(read_at, _)| read_at.elapsed() < keep) {
            return Ok(snapshot.clone());
        }
        let snapshot = Arc::new(self.read().await?);
        *latest = Some((Instant::now(), snapshot.clone()));
        Ok(snapshot)
    }

    async fn read(&self) -> Result<Snapshot, StoreError> {
        let store = &self.app.store;
        let partitions = stream::iter(0..store.partitions())
            .map(|partition| store.partition_info(partition))
            .buffered(PARTITIONS_AT_ONCE)
            .try_collect::<Vec<PartitionInfo>>();
        let history = store.history(self.app.config.console.history_samples_max);
        let dead = channels::newest_dead(store, None, LETTERS_SHOWN);
        let (lease, partitions, history, (dead, _)) =
            futures::try_join!(store.lease_info(), partitions, history, dead)?;
        Ok(Snapshot { at_ms: self.app.clock.now_ms(), lease, partitions, history, dead })
    }
}
