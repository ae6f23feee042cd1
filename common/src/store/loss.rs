//! How a process notices that Redis lost what it had acknowledged, and how whoever notices first stops everyone.
//!
//! What this process has seen of Redis never goes back unless Redis does: the `seq` of each partition, fencing tokens,
//! ids of stream entries. Between a lost connection and the next good look at all of these nothing is written.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use fred::interfaces::KeysInterface;
use fred::prelude::StreamsInterface;
use fred::types::Value;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Notify;

use super::scripts::HALT;
use super::stream::EntryId;
use super::{Store, StoreError};

/// What a halted key starts with.
const HALTED: &str = "halted:";

/// Partitions that are looked at at once.
const AT_ONCE: usize = 16;

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seq {
    /// There is no seq: this Redis was never used, or lost everything.
    Absent,
    /// So many accept calls; after a recovery it goes on above whatever was seen before.
    At(u64),
    /// Someone noticed a loss.
    Halted {
        /// Where it stood then, if it was there at all.
        was: Option<u64>,
        /// What was noticed.
        reason: String,
    },
    /// No version of Millrace writes this.
    Unreadable(String),
}

impl Seq {
    pub(super) fn parse(value: Option<String>) -> Seq {
        let Some(text) = value else { return Seq::Absent };
        if let Some(rest) = text.strip_prefix(HALTED) {
            let (was, reason) = rest.split_once(':').unwrap_or((rest, ""));
            return Seq::Halted { was: was.parse().ok(), reason: reason.to_owned() };
        }
        match text.parse() {
            Ok(seq) => Seq::At(seq),
            Err(_) => Seq::Unreadable(text),
        }
    }
}

/// What this process has seen of Redis.
#[derive(Debug)]
pub(super) struct Seen {
    /// Highest seq, by partition.
    seqs: Vec<AtomicU64>,
    /// Last entry read, by partition.
    entries: Vec<Mutex<EntryId>>,
    /// Highest fencing token.
    token: AtomicU64,
    /// Time of the latest recovery, in µs since 1970; 0 before the first.
    recovery: AtomicU64,
    /// What went back, if something did: only a later recovery makes it good.
    lost: Mutex<Option<String>>,
    /// Times that a connection was lost, and how many of these were followed by a good look.
    disconnects: AtomicU64,
    looked_after: AtomicU64,
    /// Set by the first good look: who never looks is not kept from working (tests, tools).
    watched: AtomicBool,
    /// A connection came back or a loss was noticed: it is time to look.
    look_now: Notify,
}

impl Seen {
    pub(super) fn new(partitions: u16) -> Self {
        Seen {
            seqs: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
            entries: (0..partitions).map(|_| Mutex::new(EntryId::ZERO)).collect(),
            token: AtomicU64::new(0),
            recovery: AtomicU64::new(0),
            lost: Mutex::new(None),
            disconnects: AtomicU64::new(0),
            looked_after: AtomicU64::new(0),
            watched: AtomicBool::new(false),
            look_now: Notify::new(),
        }
    }

    pub(super) fn seq(&self, partition: u16) -> u64 {
        self.seqs.get(usize::from(partition)).map_or(0, |seen| seen.load(Ordering::Acquire))
    }

    pub(super) fn saw_seq(&self, partition: u16, seq: u64) {
        if let Some(seen) = self.seqs.get(usize::from(partition)) {
            seen.fetch_max(seq, Ordering::AcqRel);
        }
    }

    pub(super) fn saw_token(&self, token: u64) {
        self.token.fetch_max(token, Ordering::AcqRel);
    }

    pub(super) fn saw_entry(&self, partition: u16, id: EntryId) {
        if let Some(seen) = self.entries.get(usize::from(partition)) {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen = (*seen).max(id);
        }
    }

    fn entry(&self, partition: u16) -> EntryId {
        let seen = self.entries.get(usize::from(partition));
        seen.map_or(EntryId::ZERO, |seen| *seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn disconnected(&self) {
        self.disconnects.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn look_soon(&self) {
        self.look_now.notify_one();
    }

    fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything was made good up to `recovery`: what was seen before is no measure any more.
    fn forget(&self, recovery: u64) {
        for seq in &self.seqs {
            seq.store(0, Ordering::Release);
        }
        for entry in &self.entries {
            *entry.lock().unwrap_or_else(PoisonError::into_inner) = EntryId::ZERO;
        }
        self.token.store(0, Ordering::Release);
        self.recovery.store(recovery, Ordering::Release);
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Store {
    /// What this process saw Redis lose, if it did, and if that was not made good since.
    pub fn lost_data(&self) -> Option<String> {
        self.inner.seen.lost()
    }

    /// The latest recovery that this process knows of, as a number that rises with each. What was learned of Redis
    /// before it may not be so any more.
    pub fn recovery(&self) -> u64 {
        self.inner.seen.recovery.load(Ordering::Acquire)
    }

    /// Connections lost so far: what was compared before is to be compared anew.
    pub fn disconnects(&self) -> u64 {
        self.inner.seen.disconnects.load(Ordering::Acquire)
    }

    /// Waits until something has happened after which Redis should be looked at: a connection is back, or a loss was
    /// noticed.
    pub async fn look_wanted(&self) {
        self.inner.seen.look_now.notified().await;
    }

    /// Takes note that Redis lost data. From now on this process writes nothing, until [`Store::preflight`] finds that
    /// it was recovered from.
    pub fn report_lost(&self, detail: impl Into<String>) -> StoreError {
        let mut lost = self.inner.seen.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.is_none() {
            self.inner.seen.look_soon();
        }
        StoreError::LostData { detail: lost.get_or_insert_with(|| detail.into()).clone() }
    }

    /// Of a seq that a script or a look found wanting.
    pub(super) fn lost_seq(&self, partition: u16, found: Option<String>) -> StoreError {
        let key = self.keys().seq(partition);
        let seen = self.inner.seen.seq(partition);
        self.report_lost(match Seq::parse(found.filter(|text| !text.is_empty())) {
            Seq::Halted { reason, .. } => reason,
            Seq::Absent => format!("{key} was at {seen} and now holds nothing"),
            Seq::At(found) => format!("{key} was at {seen} and now holds {found}"),
            Seq::Unreadable(found) => format!("{key} was at {seen} and now holds {found:?}"),
        })
    }

    pub(super) fn refuse_after_loss(&self) -> Result<(), StoreError> {
        let seen = &self.inner.seen;
        if let Some(detail) = seen.lost() {
            return Err(StoreError::LostData { detail });
        }
        let looked = seen.disconnects.load(Ordering::Acquire) == seen.looked_after.load(Ordering::Acquire);
        if looked || !seen.watched.load(Ordering::Acquire) {
            return Ok(());
        }
        let detail = "connected anew, and what Redis holds now was not looked at yet".to_owned();
        Err(StoreError::Unavailable { detail })
    }

    /// Notes a good look that began after so many connections had been lost.
    pub(super) fn looked(&self, disconnects: u64) {
        self.inner.seen.looked_after.fetch_max(disconnects, Ordering::AcqRel);
        self.inner.seen.watched.store(true, Ordering::Release);
    }

    /// Compares all that this process has seen with what is there now. `recovery` is what `mr:meta` says.
    ///
    /// # Errors
    /// [`StoreError::LostData`], or [`StoreError::Unavailable`] if Redis cannot be asked.
    pub(super) async fn compare(&self, recovery: u64) -> Result<(), StoreError> {
        let seen = &self.inner.seen;
        let known = self.recovery();
        if recovery < known {
            return Err(self.report_lost(format!(
                "{} is from before the recovery that this process has seen",
                self.keys().meta()
            )));
        }
        // What was seen before the question: an accept call that is answered meanwhile may see more than this answer.
        let before: Vec<u64> = (0..self.partitions()).map(|partition| seen.seq(partition)).collect();
        let seqs = self.seqs().await?;
        let made_good = recovery > known && seqs.iter().all(|seq| matches!(seq, Seq::At(_)));
        if made_good {
            if seen.watched.load(Ordering::Acquire) || seen.lost().is_some() {
                tracing::warn!("Redis was recovered after a loss: what was seen of it before counts no more");
            }
            seen.forget(recovery);
        }
        if let Some(detail) = seen.lost() {
            return Err(StoreError::LostData { detail });
        }
        for ((partition, seq), before) in (0..).zip(&seqs).zip(before) {
            let before = if made_good { 0 } else { before };
            match seq {
                Seq::At(seq) if *seq >= before => {}
                Seq::At(seq) => return Err(self.lost_seq(partition, Some(seq.to_string()))),
                Seq::Absent => return Err(self.lost_seq(partition, None)),
                Seq::Halted { reason, .. } => return Err(self.report_lost(reason)),
                Seq::Unreadable(text) => return Err(self.lost_seq(partition, Some(text.clone()))),
            }
        }
        self.compare_entries().await?;
        let token = seen.token.load(Ordering::Acquire);
        if token > 0 {
            let found = self.highest_token().await?;
            if found < token {
                return Err(self.report_lost(format!(
                    "fencing tokens were at {token}, and Redis knows of none above {found}"
                )));
            }
        }
        // With replicas, what none of them has confirmed may be gone after a failover without having been promised.
        if self.confirm_all().await? {
            for (partition, seq) in (0..).zip(seqs) {
                if let Seq::At(seq) = seq {
                    seen.saw_seq(partition, seq);
                }
            }
        }
        Ok(())
    }

    /// Where every partition stands, in order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn seqs(&self) -> Result<Vec<Seq>, StoreError> {
        self.of_each_partition(|partition| self.keys().seq(partition))
            .await
            .map(|texts| texts.into_iter().map(Seq::parse).collect())
    }

    async fn of_each_partition(
        &self,
        key: impl Fn(u16) -> String,
    ) -> Result<Vec<Option<String>>, StoreError> {
        stream::iter(0..self.partitions())
            .map(|partition| {
                let key = key(partition);
                async move {
                    let client = self.client(partition)?;
                    client.get::<Option<String>, _>(key).await.map_err(|e| StoreError::of_read(&e))
                }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    /// The highest fencing token that Redis knows of: the counter's, or that of a partition's fence.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn highest_token(&self) -> Result<u64, StoreError> {
        let number = |text: &String| match Seq::parse(Some(text.clone())) {
            Seq::At(token) => token,
            Seq::Halted { was, .. } => was.unwrap_or(0),
            Seq::Absent | Seq::Unreadable(_) => 0,
        };
        let counter: Option<String> =
            self.client(0)?.get(self.keys().token()).await.map_err(|e| StoreError::of_read(&e))?;
        let fences = self.of_each_partition(|partition| self.keys().fence(partition)).await?;
        Ok(fences.iter().chain([&counter]).flatten().map(number).max().unwrap_or(0))
    }

    /// The streams' last ids against the entries that were read from them.
    async fn compare_entries(&self) -> Result<(), StoreError> {
        for partition in 0..self.partitions() {
            let read = self.inner.seen.entry(partition);
            if read == EntryId::ZERO {
                continue;
            }
            let key = self.keys().accepted(partition);
            let info: Result<Value, _> = self.client(partition)?.xinfo_stream(&key, false, None).await;
            let last = match info {
                Ok(info) => last_id(info),
                Err(error) if error.details().contains("no such key") => None,
                Err(error) => return Err(StoreError::of_read(&error)),
            };
            if last.is_none_or(|last| last < read) {
                let last = last.map_or("nothing".to_owned(), |last| last.to_string());
                return Err(self.report_lost(format!("{key} was read up to {read} and now ends at {last}")));
            }
        }
        Ok(())
    }

    /// Stops everyone on every partition, until a recovery. What was noticed is kept with it.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn halt(&self, reason: &str) -> Result<(), StoreError> {
        self.halt_keys(reason, |partition| vec![self.keys().seq(partition), self.keys().fence(partition)])
            .await
    }

    /// As [`Store::halt`], by a relayer: the fences are not its to write. No close begins either, and settlers find out.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn halt_payments(&self, reason: &str) -> Result<(), StoreError> {
        self.halt_keys(reason, |partition| vec![self.keys().seq(partition)]).await
    }

    async fn halt_keys(&self, reason: &str, keys: impl Fn(u16) -> Vec<String>) -> Result<(), StoreError> {
        for partition in 0..self.partitions() {
            let keys = keys(partition);
            let client = self.client(partition)?;
            HALT.run(client, keys, vec![reason.into()]).await.map_err(|e| StoreError::after_send(&e))?;
        }
        Ok(())
    }

    /// Of a fence that is above the caller's token: a newer leader's, or the mark of a halt.
    pub(super) fn fenced_by(&self, fence: Option<String>) -> StoreError {
        match Seq::parse(fence) {
            Seq::At(fence) => StoreError::Fenced { fence },
            Seq::Halted { reason, .. } => self.report_lost(reason),
            Seq::Absent | Seq::Unreadable(_) => StoreError::Fenced { fence: u64::MAX },
        }
    }
}

/// `last-generated-id` of an answer to XINFO STREAM, a map or a flat list.
fn last_id(info: Value) -> Option<EntryId> {
    const FIELD: &str = "last-generated-id";
    let value = match info {
        Value::Map(map) => map.inner().into_iter().find(|(key, _)| key.as_str() == Some(FIELD))?.1,
        list => {
            let mut items = list.into_array().into_iter();
            items.find(|item| item.as_str().as_deref() == Some(FIELD))?;
            items.next()?
        }
    };
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seq_is_a_number_or_says_why_it_is_none() {
        let of = |text: &str| Seq::parse(Some(text.to_owned()));
        assert_eq!(Seq::parse(None), Seq::Absent);
        assert_eq!(of("17"), Seq::At(17));
        assert_eq!(of("00000000000000000017"), Seq::At(17), "a fence");
        let reason = "it was at 9: now 3".to_owned();
        assert_eq!(of("halted:17:it was at 9: now 3"), Seq::Halted { was: Some(17), reason: reason.clone() });
        assert_eq!(of("halted::it was at 9: now 3"), Seq::Halted { was: None, reason });
        assert_eq!(of("x"), Seq::Unreadable("x".to_owned()));
    }

    #[test]
    fn a_mark_in_a_fence_is_above_every_token() {
        assert!(HALTED > "99999999999999999999");
    }
}
