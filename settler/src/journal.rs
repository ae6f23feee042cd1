//! The journal, as the leader keeps it: what the consumers read is gathered in memory, closed into segments and stored,
//! and only then acknowledged and trimmed. Redis' streams are the log before it: what a leader held in memory when it
//! died is read again by its successor.
//!
//! No entry is journaled twice, whoever leads: a segment says how far it reaches in each stream, entries come in the
//! order of their ids, and a segment's number can be taken once. A leader whose number was taken reads what took it, and
//! leaves out what that holds.
//!
//! # Layout
//!
//! * [`Journal`]: what is gathered, and how far each stream has come. `records`: from entries to lines.
//! * `trail`: one partition's way from read to acknowledged. `ended`: the same for closes that ended.
//! * `writer`: closes segments and stores them. `retention`: removes old ones.

pub(crate) mod ended;
pub(crate) mod records;
pub(crate) mod retention;
pub(crate) mod trail;
pub(crate) mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::channel::Terms;
use common::ids::ChannelId;
use common::journal::line::{Line, Source, TermsLine};
use common::journal::segment::Head;
use common::store::stream::EntryId;
use service::journal::JournalStore;
use tokio::sync::watch;

use crate::app::App;
use crate::leadership::Leadership;
use crate::metrics::gauge_value;

/// One stream of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stream {
    /// Accepted payments.
    Accepted(u16),
    /// Closes that ended.
    Settled(u16),
}

/// What the journal takes of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) stream: Stream,
    pub(crate) id: EntryId,
    /// Channels whose terms must stand above its lines.
    pub(crate) channels: Vec<ChannelId>,
    /// Its lines, each with its line feed.
    pub(crate) lines: Vec<u8>,
}

/// Items that go into one segment.
#[derive(Debug, Default)]
struct Batch {
    items: Vec<Item>,
    /// A line for each channel of the items.
    terms: HashMap<ChannelId, Vec<u8>>,
    bytes: usize,
    /// When the first item came.
    since: Option<Instant>,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Last entry that is in a segment or in memory.
    taken: EntryId,
    /// Last entry that is in a stored segment.
    stored: EntryId,
}

#[derive(Debug, Default)]
struct State {
    /// `None` until the last segment of the predecessors was read.
    streams: Option<HashMap<Stream, Progress>>,
    gathered: Batch,
    /// Nothing is taken any more: the leader is on its way out.
    over: bool,
}

/// The journal of one leadership.
#[derive(Debug)]
pub(crate) struct Journal {
    app: Arc<App>,
    store: JournalStore,
    state: watch::Sender<State>,
}

impl Journal {
    /// Nothing is read or written yet: see [`writer::run`].
    pub(crate) fn new(app: Arc<App>, store: JournalStore) -> Journal {
        Journal { app, store, state: watch::Sender::new(State::default()) }
    }

    /// Starts the tasks that keep it.
    pub(crate) fn start(self: &Arc<Self>, leadership: &Arc<Leadership>) {
        leadership.spawn(writer::run(leadership.clone(), self.clone()));
        leadership.spawn(ended::run(leadership.clone(), self.clone()));
        if let Some(days) = self.app.config.journal.retention_days {
            leadership.spawn(retention::run(leadership.clone(), self.clone(), days));
        }
    }

    /// Up to which entry it has taken a stream. `None` if it takes nothing now: the last segment is not read yet, as
    /// much is gathered as one segment holds, or the leader is on its way out.
    pub(crate) fn taken(&self, stream: Stream) -> Option<EntryId> {
        let state = self.state.borrow();
        let has_room = !state.over && state.gathered.bytes < self.app.config.journal.segment_max_bytes;
        let streams = state.streams.as_ref().filter(|_| has_room)?;
        Some(streams.get(&stream).map_or(EntryId::ZERO, |progress| progress.taken))
    }

    /// Up to which entry a stream is in stored segments.
    pub(crate) fn stored(&self, stream: Stream) -> EntryId {
        let state = self.state.borrow();
        let progress = state.streams.as_ref().and_then(|streams| streams.get(&stream));
        progress.map_or(EntryId::ZERO, |progress| progress.stored)
    }

    /// Takes what comes next of a stream, in the order of its ids; there is one caller a stream. `terms` holds those of
    /// the items' channels. Gives back the first entry that there was no room for, if any.
    pub(crate) fn take(&self, items: Vec<Item>, terms: &HashMap<ChannelId, Terms>) -> Option<EntryId> {
        let max = self.app.config.journal.segment_max_bytes;
        let mut left = None;
        self.state.send_modify(|state| {
            let State { streams, gathered, over } = state;
            for item in items {
                let progress = match streams {
                    Some(streams) if !*over && gathered.bytes < max => {
                        streams.entry(item.stream).or_default()
                    }
                    _ => {
                        left = Some(item.id);
                        break;
                    }
                };
                if item.id > progress.taken {
                    progress.taken = item.id;
                    gathered.push(item, terms);
                }
            }
            self.app.metrics.journal_waiting_bytes.set(bytes_value(gathered.bytes));
        });
        left
    }

    /// Waits until all that was taken is stored.
    pub(crate) async fn flushed(&self) {
        let is_flushed = |state: &State| {
            state.streams.iter().flatten().all(|(_, progress)| progress.stored >= progress.taken)
        };
        // The sender is this journal: it is there.
        let _ = self.state.subscribe().wait_for(is_flushed).await;
    }

    /// Where the journal of the predecessors ends: what comes after it can be taken from now on.
    fn begin(&self, head: &Head) {
        self.state.send_modify(|state| {
            state.streams.get_or_insert_default();
        });
        self.note_stored(head);
    }

    /// Takes note of a stored segment, of this leader or of another.
    fn note_stored(&self, head: &Head) {
        self.state.send_modify(|state| {
            let streams = state.streams.get_or_insert_default();
            for (stream, id) in positions(head) {
                let progress = streams.entry(stream).or_default();
                progress.stored = progress.stored.max(id);
                progress.taken = progress.taken.max(id);
            }
            self.app.metrics.journal_waiting_bytes.set(bytes_value(state.gathered.bytes));
        });
    }

    /// Waits until a segment is full or old enough and gives back what goes into it. `None` when the leader is on its
    /// way out and all was given.
    async fn next_batch(&self, leadership: &Leadership) -> Option<Batch> {
        let config = &self.app.config.journal;
        let mut state = self.state.subscribe();
        let due = async {
            let since = state.wait_for(|state| state.gathered.since.is_some()).await;
            let since = since.ok().and_then(|state| state.gathered.since).unwrap_or_else(Instant::now);
            let closes_at = since + Duration::from_millis(config.segment_max_age_ms);
            let is_full = |state: &State| state.gathered.bytes >= config.segment_max_bytes;
            // Whatever comes first.
            let _ = tokio::time::timeout_at(closes_at.into(), state.wait_for(is_full)).await;
        };
        leadership.unless_draining(due).await;
        let mut batch = Batch::default();
        self.state.send_modify(|state| {
            batch = std::mem::take(&mut state.gathered);
            state.over = leadership.is_draining();
        });
        (!batch.items.is_empty()).then_some(batch)
    }

    /// Whose journal goes on here: also one of a payee's earlier key, for as long as that is among those configured. What
    /// is written from then on is under the present one.
    fn continues(&self, before: &Source) -> bool {
        let now = self.source();
        self.app.payees.of(&before.payee).is_some()
            && (&before.prefix, before.partitions) == (&now.prefix, now.partitions)
    }

    fn source(&self) -> Source {
        let keys = self.app.store.keys();
        Source {
            payee: self.app.payees.current(),
            prefix: keys.prefix().to_owned(),
            partitions: keys.partitions(),
        }
    }
}

impl Batch {
    fn push(&mut self, item: Item, terms: &HashMap<ChannelId, Terms>) {
        self.since.get_or_insert_with(Instant::now);
        self.bytes = self.bytes.saturating_add(item.lines.len());
        for id in &item.channels {
            if let (false, Some(terms)) = (self.terms.contains_key(id), terms.get(id)) {
                let line = Line::Terms(TermsLine { channel_id: *id, terms: terms.clone() }).to_json();
                self.bytes = self.bytes.saturating_add(line.len());
                self.terms.insert(*id, line);
            }
        }
        self.items.push(item);
    }
}

/// How far each stream is in the journal.
fn positions(head: &Head) -> impl Iterator<Item = (Stream, EntryId)> {
    head.positions.iter().flat_map(|position| {
        [
            (Stream::Accepted(position.partition), position.accepted),
            (Stream::Settled(position.partition), position.settled),
        ]
    })
}

fn bytes_value(bytes: usize) -> i64 {
    gauge_value(bytes.try_into().unwrap_or(u64::MAX))
}
