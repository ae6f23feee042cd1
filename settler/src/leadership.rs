//! One leadership: what the leader's tasks share, how they are stopped, and how they are abandoned.

mod holds;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use common::amount::Amount;
use common::batch::ChannelSettlement;
use common::ids::ChannelId;
use common::store::StoreError;
use common::store::books::Books as Sums;
use common::store::lease::Lease;
use common::store::read::{PartitionInfo, StoredChannel};
use common::wire::Receipt;
use futures::{StreamExt, TryStreamExt, stream};
use service::issuer_client::IssuerError;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::batcher::{self, Batcher, Leased};
use crate::journal::Journal;
use crate::metrics::gauge_value;
use crate::policy::closes_at_ms;

pub(crate) use holds::{Hold, Holds};

/// Partitions that are asked at once.
const PARTITIONS_AT_ONCE: usize = 16;

/// How long to leave a partition alone after Redis failed on it.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Between two warnings that Redis fails; the metric counts every failure.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// Why a leadership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepDown {
    /// Asked to end.
    Shutdown,
    /// A newer leader wrote to a partition, or to the issuer, with at least this token.
    Fenced(u64),
    /// The lease ran out by this process' own clock.
    Expired,
    /// Redis says that someone else holds the lease, or nobody.
    Lost,
    /// Redis lost data.
    DataLost,
    /// One of the leader's tasks panicked.
    Failed,
}

impl StepDown {
    /// Every metric label.
    pub(crate) const LABELS: [&str; 6] = ["shutdown", "fenced", "expired", "lost", "data_lost", "failed"];

    /// As a metric label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            StepDown::Shutdown => "shutdown",
            StepDown::Fenced(_) => "fenced",
            StepDown::Expired => "expired",
            StepDown::Lost => "lost",
            StepDown::DataLost => "data_lost",
            StepDown::Failed => "failed",
        }
    }

    /// What an answer of the store means for the leadership; `None`: try again.
    pub(crate) fn of(error: &StoreError) -> Option<StepDown> {
        match error {
            StoreError::Fenced { fence } => Some(StepDown::Fenced(*fence)),
            StoreError::LeaseExpired => Some(StepDown::Expired),
            StoreError::LostData { .. } => Some(StepDown::DataLost),
            StoreError::Unavailable { .. }
            | StoreError::OutcomeUnknown { .. }
            | StoreError::Corrupt { .. } => None,
        }
    }
}

/// A lock for each partition, held from reading its channels until their new due times are written: a decision from
/// before a payment must not overwrite the one from after it.
#[derive(Debug)]
pub(crate) struct Books(Vec<Arc<tokio::sync::Mutex<()>>>);

impl Books {
    fn new(partitions: u16) -> Self {
        Books((0..partitions).map(|_| Arc::default()).collect())
    }

    /// Waits until the channels of all these partitions are the caller's to read and write. The lowest comes first: of
    /// two who want some of the same, none waits for the other while the other waits for it.
    pub(crate) async fn of(&self, partitions: &BTreeSet<u16>) -> Vec<OwnedMutexGuard<()>> {
        let mut held = Vec::with_capacity(partitions.len());
        for lock in partitions.iter().filter_map(|partition| self.0.get(usize::from(*partition))) {
            held.push(Arc::clone(lock).lock_owned().await);
        }
        held
    }
}

/// What the tasks of one leadership share.
#[derive(Debug)]
pub(crate) struct Leadership {
    pub(crate) app: Arc<App>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) books: Books,
    /// Closes under way at once.
    pub(crate) close_slots: Arc<Semaphore>,
    /// Settlements on their way to the issuer.
    settlements: Arc<Batcher>,
    /// Pages in memory at once.
    pub(crate) page_slots: Semaphore,
    /// The journal, if one is kept.
    pub(crate) journal: Option<Arc<Journal>>,
    /// One task at a time lifts the token; the others find it lifted.
    raising: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    /// Cancelled: take up nothing new.
    draining: CancellationToken,
    /// Cancelled: drop everything where it stands.
    over: CancellationToken,
    ended_by: OnceLock<StepDown>,
    /// When a failure of Redis was last worth a warning.
    warned_at: Mutex<Option<Instant>>,
    /// True since a settlement got no final answer, until one does.
    issuer_away: AtomicBool,
}

impl Leadership {
    pub(crate) fn new(app: Arc<App>, lease: Arc<Lease>) -> Arc<Self> {
        let closes = app.config.closes.in_flight_max.min(Semaphore::MAX_PERMITS);
        let books = Books::new(app.store.partitions());
        let issuer = Leased { issuer: app.issuer.clone(), lease: lease.clone() };
        let settlements = Batcher::new(issuer, &app.config.closes, app.metrics.clone());
        let journal = app.journal.clone().map(|store| Arc::new(Journal::new(app.clone(), store)));
        Arc::new(Self {
            app,
            lease,
            books,
            journal,
            close_slots: Arc::new(Semaphore::new(closes)),
            settlements: Arc::new(settlements),
            page_slots: Semaphore::new(PARTITIONS_AT_ONCE),
            raising: tokio::sync::Mutex::new(()),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            over: CancellationToken::new(),
            ended_by: OnceLock::new(),
            warned_at: Mutex::new(None),
            issuer_away: AtomicBool::new(false),
        })
    }

    /// Ends the leadership: every task is dropped at its next await. What they were about is safe with the next
    /// leader: their writes carry the token, and Redis keeps what they had read.
    pub(crate) fn end(&self, reason: StepDown) {
        // The first reason counts: the others follow from it.
        let _ = self.ended_by.set(reason);
        self.over.cancel();
    }

    /// Ends the leadership when the guard is dropped, however that comes about.
    pub(crate) fn end_when_dropped(&self) -> DropGuard {
        self.over.clone().drop_guard()
    }

    /// Waits for the end, and says why.
    pub(crate) async fn ended(&self) -> StepDown {
        self.over.cancelled().await;
        self.ended_by.get().copied().unwrap_or(StepDown::Failed)
    }

    /// Runs a task of this leadership. If it panics, the leadership ends: a partition without its task stands still.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let alarm = Alarm(self.clone());
        self.spawn_apart(async move {
            let _alarm = alarm;
            task.await;
        });
    }

    /// Runs a task whose panic is its own affair.
    pub(crate) fn spawn_apart(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.over.clone().run_until_cancelled_owned(task));
    }

    /// Has the issuer settle, together with what other closes have for it at this moment.
    ///
    /// # Errors
    /// As of a request of its own: a final no to this settlement, or *not known*.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        settlement: ChannelSettlement,
    ) -> Result<Receipt, IssuerError> {
        let (answer, sender) = self.settlements.submit(settlement);
        if let Some(sender) = sender {
            // If it panicked, those who wait for a request would do so for ever: that ends the leadership.
            self.spawn(sender);
        }
        answer.await.unwrap_or_else(|_| Err(batcher::given_up()))
    }

    /// True once nothing new is to be taken up.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Runs `future` to its end, or until nothing new is to be taken up.
    pub(crate) async fn unless_draining<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.draining.run_until_cancelled(future).await
    }

    /// Waits for a while, or until nothing new is to be taken up.
    pub(crate) async fn pause(&self, pause: Duration) {
        let _ = self.unless_draining(tokio::time::sleep(pause)).await;
    }

    /// Takes up nothing new and waits until what is under way has ended, but no longer than `within`.
    pub(crate) async fn drain(&self, within: Duration) {
        self.draining.cancel();
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "closes under way are left to the next leader");
        }
    }

    /// Drops every task and waits until all are gone, so that nothing of this leadership runs into the next.
    pub(crate) async fn abandon(&self) {
        self.over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Deals with an answer of the store: the end of the leadership, or a pause before the next attempt.
    pub(crate) async fn trouble(&self, error: &StoreError, doing: &str, partition: u16) {
        self.app.metrics.store_errors.inc();
        if let Some(reason) = StepDown::of(error) {
            self.end(reason);
        } else if self.may_warn() {
            tracing::warn!(%error, partition, "{doing} failed, trying again");
        } else {
            tracing::debug!(%error, partition, "{doing} failed, trying again");
        }
        self.pause(ERROR_PAUSE).await;
    }

    /// True once in a while: when Redis goes away it does so for every task at once.
    fn may_warn(&self) -> bool {
        let mut warned_at = self.warned_at.lock().unwrap_or_else(PoisonError::into_inner);
        let may = warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY);
        if may {
            *warned_at = Some(Instant::now());
        }
        may
    }

    /// Notes whether the issuer gave a final answer, and says so in the log where that has changed.
    pub(crate) fn issuer_answers(&self, error: Option<&str>) {
        let was_away = self.issuer_away.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_away => {
                tracing::warn!(error, "the issuer settles nothing: closes are tried again until it does");
            }
            None if was_away => tracing::info!("the issuer settles again"),
            _ => {}
        }
    }

    /// Shuts every older leader out of every partition. Tries again for as long as the lease lasts.
    ///
    /// # Errors
    /// What ends the leadership.
    pub(crate) async fn take_partitions(&self) -> Result<(), StoreError> {
        let partitions = 0..self.app.store.partitions();
        stream::iter(partitions.map(Ok))
            .try_for_each_concurrent(PARTITIONS_AT_ONCE, |partition| self.take_partition(partition))
            .await
    }

    async fn take_partition(&self, partition: u16) -> Result<(), StoreError> {
        loop {
            match self.app.store.take_partition(&self.lease, partition).await {
                Err(error) if StepDown::of(&error).is_none() => {
                    self.trouble(&error, "taking a partition", partition).await;
                }
                answer => return answer,
            }
        }
    }

    /// After the issuer refused the token `used` because it has seen `highest`: if the lease is still ours, Redis had
    /// lost its count, and a token above takes the partitions again.
    ///
    /// # Errors
    /// [`StoreError::Fenced`], if a successor leads; or what the store said.
    pub(crate) async fn raise_token(&self, used: u64, highest: u64) -> Result<(), StoreError> {
        let _one_at_a_time = self.raising.lock().await;
        if self.lease.token()?.get() > used {
            return Ok(());
        }
        if !self.app.store.raise_token(&self.lease, highest).await? {
            return Err(StoreError::Fenced { fence: highest });
        }
        let token = self.lease.token()?.get();
        self.app.metrics.token.set(gauge_value(token));
        tracing::warn!(
            highest,
            token,
            "the issuer has seen a higher fencing token: Redis had lost its count"
        );
        self.take_partitions().await
    }

    /// Notes that a close has begun, for this amount: while it has not ended, its money may come to be at risk.
    pub(crate) fn note_closing(&self, id: ChannelId, channel: &StoredChannel, amount: Amount) {
        let units = amount.checked_sub(channel.settled_before).unwrap_or_default().units();
        let policy = &self.app.config.policy;
        let late_ms = policy.expiry_margin_s.saturating_mul(1_000 / 2);
        let since_ms = closes_at_ms(policy, channel.terms.expires_at).saturating_add(late_ms);
        self.app.metrics.money.closing(id, units, since_ms);
    }

    fn show(&self, partitions: &[PartitionInfo]) {
        let sum = |of: fn(&PartitionInfo) -> u64| {
            gauge_value(partitions.iter().map(of).fold(0, u64::saturating_add))
        };
        let metrics = &self.app.metrics;
        metrics.stream_entries.set(sum(|info| info.entries));
        metrics.unacknowledged.set(sum(|info| info.unacknowledged));
        metrics.due_channels.set(sum(|info| info.due));
        metrics.dead_kept.set(sum(|info| info.dead));
        // What is acknowledged is trimmed, and with a journal only what is stored is acknowledged.
        let oldest_ms = partitions.iter().filter_map(|info| info.oldest_at_ms).min();
        let oldest_ms = oldest_ms.map_or(0, |oldest| self.app.clock.now_ms().saturating_sub(oldest));
        metrics.stream_oldest_ms.set(gauge_value(oldest_ms));
        metrics.journal_lag_ms.set(if self.journal.is_some() { gauge_value(oldest_ms) } else { 0 });
    }

    /// Keeps the gauges of what waits in Redis up to date.
    pub(crate) async fn observe(self: Arc<Self>, every: Duration) {
        while !self.is_draining() {
            let infos = stream::iter(0..self.app.store.partitions())
                .map(|partition| self.app.store.partition_info(partition))
                .buffer_unordered(PARTITIONS_AT_ONCE)
                .try_collect::<Vec<PartitionInfo>>();
            // What fails here fails in the loops that matter too, and is told there.
            if let Ok(infos) = infos.await {
                self.show(&infos);
            }
            let sums = stream::iter(0..self.app.store.partitions())
                .map(|partition| self.app.store.books(partition))
                .buffer_unordered(PARTITIONS_AT_ONCE)
                .try_fold(Sums::default(), async |sums, books| Ok(sums.and(books)));
            if let Ok(sums) = sums.await {
                self.app.metrics.money.read(sums);
            }
            self.pause(every).await;
        }
    }
}

/// Ends the leadership if it is dropped by a panic.
struct Alarm(Arc<Leadership>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a task of the leader panicked");
            self.0.end(StepDown::Failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_label() {
        for reason in [
            StepDown::Shutdown,
            StepDown::Fenced(1),
            StepDown::Expired,
            StepDown::Lost,
            StepDown::DataLost,
            StepDown::Failed,
        ] {
            assert!(StepDown::LABELS.contains(&reason.as_str()), "{reason:?}");
        }
    }

    #[test]
    fn only_answers_that_depose_end_a_leadership() {
        let detail = String::new;
        assert_eq!(StepDown::of(&StoreError::Fenced { fence: 8 }), Some(StepDown::Fenced(8)));
        assert_eq!(StepDown::of(&StoreError::LeaseExpired), Some(StepDown::Expired));
        assert_eq!(StepDown::of(&StoreError::LostData { detail: detail() }), Some(StepDown::DataLost));
        assert_eq!(StepDown::of(&StoreError::Unavailable { detail: detail() }), None);
        assert_eq!(StepDown::of(&StoreError::OutcomeUnknown { detail: detail() }), None);
        assert_eq!(StepDown::of(&StoreError::Corrupt { key: detail(), detail: detail() }), None);
    }
}
