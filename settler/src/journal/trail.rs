//! One partition's way from read to acknowledged: entries are handed to the journal as they are read, and acknowledged
//! once it has stored them.
//!
//! The consumer never waits for the journal: what it reads is put into the books at once. Entries that the journal has
//! no room for stay with Redis, read and unacknowledged, and are read a second time when it has.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use common::channel::Terms;
use common::ids::ChannelId;
use common::store::StoreError;
use common::store::settle::ReadFrom;
use common::store::stream::{Entry, EntryId};

use super::{Journal, Stream, records};
use crate::leadership::Leadership;

/// Entries in one call of the script: Lua passes some thousand arguments.
const ACKNOWLEDGED_AT_ONCE: usize = 1_024;

/// The entries of one partition that were handed over and not yet acknowledged.
#[derive(Debug)]
pub(crate) struct Trail {
    journal: Arc<Journal>,
    partition: u16,
    /// Last entry that was handed over.
    last: EntryId,
    /// True if entries after that were read already: they come first.
    behind: bool,
    /// Handed over and not acknowledged, with the reason for those that are given up on.
    waiting: VecDeque<(EntryId, Option<String>)>,
}

impl Trail {
    /// Before anything was read.
    pub(crate) fn new(journal: Arc<Journal>, partition: u16) -> Trail {
        Trail { journal, partition, last: EntryId::ZERO, behind: false, waiting: VecDeque::new() }
    }

    /// After an error: whatever is unacknowledged is read again from the start. What the journal has taken it leaves out.
    pub(crate) fn restart(&mut self) {
        *self = Trail::new(self.journal.clone(), self.partition);
    }

    /// After which entry to read again, if the journal has room for what it had none for.
    pub(crate) fn resume(&self) -> Option<EntryId> {
        (self.behind && self.journal.taken(self.stream()).is_some()).then_some(self.last)
    }

    /// Nothing is left to be read again.
    pub(crate) fn caught_up(&mut self) {
        self.behind = false;
    }

    /// True if a page that was read from there is one that the journal had no room for.
    pub(crate) fn is_resumed_by(&self, from: ReadFrom) -> bool {
        self.behind && from == ReadFrom::Unacknowledged(self.last)
    }

    /// Hands over a page that was read from there. Nothing may be left out: while there are entries that the journal had
    /// no room for, what comes after them is not handed over.
    pub(crate) fn hand_over(
        &mut self,
        from: ReadFrom,
        entries: &[Entry],
        dead: &BTreeMap<EntryId, String>,
        terms: &HashMap<ChannelId, Terms>,
    ) {
        if self.behind && !self.is_resumed_by(from) {
            return;
        }
        let Some(taken) = self.journal.taken(self.stream()) else {
            self.behind = true;
            return;
        };
        let new = entries.iter().filter(|entry| entry.id > taken);
        let items = new.map(|entry| records::of_accepted(self.partition, entry, dead.get(&entry.id), terms));
        let left = self.journal.take(items.collect(), terms);
        self.behind |= left.is_some();
        for entry in entries.iter().take_while(|entry| left.is_none_or(|left| entry.id < left)) {
            self.waiting.push_back((entry.id, dead.get(&entry.id).cloned()));
            self.last = entry.id;
        }
    }

    /// Acknowledges and trims what the journal has stored since. Says how many entries were given up on.
    ///
    /// # Errors
    /// [`StoreError`]; then [`Trail::restart`].
    pub(crate) async fn acknowledge(&mut self, leadership: &Leadership) -> Result<usize, StoreError> {
        let stored = self.journal.stored(self.stream());
        let mut given_up = 0usize;
        loop {
            let count =
                self.waiting.iter().take(ACKNOWLEDGED_AT_ONCE).take_while(|(id, _)| *id <= stored).count();
            if count == 0 {
                return Ok(given_up);
            }
            let entries: Vec<(EntryId, Option<String>)> = self.waiting.drain(..count).collect();
            let ids: Vec<EntryId> = entries.iter().map(|(id, _)| *id).collect();
            let dead: Vec<(EntryId, String)> =
                entries.into_iter().filter_map(|(id, reason)| Some((id, reason?))).collect();
            let store = &leadership.app.store;
            store.apply(&leadership.lease, self.partition, &[], &ids, &dead).await?;
            given_up = given_up.saturating_add(dead.len());
        }
    }

    /// On the way out: waits until the journal has stored what it took, and acknowledges it. What is cut short is read
    /// again by the next leader, which finds in the journal that it is there.
    pub(crate) async fn finish(&mut self, leadership: &Leadership) {
        if !self.waiting.is_empty() {
            self.journal.flushed().await;
            if let Err(error) = self.acknowledge(leadership).await {
                tracing::debug!(%error, partition = self.partition, "left to the next leader to acknowledge");
            }
        }
    }

    fn stream(&self) -> Stream {
        Stream::Accepted(self.partition)
    }
}
