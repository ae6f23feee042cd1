//! Closes segments and stores them, one after another. A store that fails is tried for ever: payments go on meanwhile,
//! and stay in Redis.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::fault_point;
use common::journal::line::{Header, Position, Source};
use common::journal::segment::{self, Encoded, FORMAT, Head};
use common::store::stream::EntryId;
use futures::{FutureExt as _, TryFutureExt as _};
use service::journal::Written;

use super::{Batch, Journal, Stream, positions};
use crate::app::App;
use crate::leadership::{Leadership, StepDown};

/// Between two attempts, at first. Doubles with each.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);

/// And at most.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);

/// zstd's own default: a signature does not get smaller by trying harder.
const COMPRESSION_LEVEL: i32 = 3;

/// Why the journal cannot be kept, for `/readyz`.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<Option<String>>);

impl Trouble {
    /// In one line; `None` if all is well, or nobody tries.
    pub(crate) fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if that is news.
    fn set(&self, reason: Option<String>) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = now.is_some() != reason.is_some();
        *now = reason;
        is_news
    }
}

/// Whoever leads no more has no journal to keep.
struct Relief(Arc<App>);

impl Drop for Relief {
    fn drop(&mut self) {
        self.0.journal_trouble.set(None);
        self.0.metrics.journal_waiting_bytes.set(0);
    }
}

/// Stores segments until the leader is on its way out and all is stored.
pub(crate) async fn run(leadership: Arc<Leadership>, journal: Arc<Journal>) {
    let _relief = Relief(leadership.app.clone());
    let mut head = read_head(&journal).await;
    if !pass_ids(&leadership, &head).await {
        return;
    }
    tracing::info!(segment = head.number, root = %head.root, place = journal.store.place(), "the journal goes on");
    journal.begin(&head);
    while let Some(batch) = journal.next_batch(&leadership).await {
        head = store(&journal, batch, head).await;
        fault_point::reach("segment_stored");
        journal.note_stored(&head);
    }
}

/// Where the journal ends.
async fn read_head(journal: &Journal) -> Head {
    insist(journal, || try_to_read_head(journal)).await
}

async fn try_to_read_head(journal: &Journal) -> Result<Head, String> {
    let last = journal.store.last().await.map_err(|error| error.to_string())?;
    match last {
        None => Ok(Head::NONE),
        Some(last) if journal.continues(&last.header.source) => Ok(last.head()),
        Some(last) => {
            let Source { payee, prefix, partitions } = last.header.source;
            let place = journal.store.place();
            Err(format!(
                "the journal in {place} is that of payee {payee}, prefix {prefix}, {partitions} partitions; if it is \
                 this payee's under an earlier key, name that under further_payee_keys until the journal has gone on"
            ))
        }
    }
}

/// New entries come after those that the journal holds, whatever the clock of a new server says. False if the leadership
/// is over.
async fn pass_ids(leadership: &Leadership, head: &Head) -> bool {
    for Position { partition, accepted, settled } in head.positions.iter().copied() {
        let store = &leadership.app.store;
        while let Err(error) = store.pass_ids(&leadership.lease, partition, accepted, settled).await {
            leadership.trouble(&error, "setting the ids of streams", partition).await;
            if StepDown::of(&error).is_some() || leadership.is_draining() {
                return false;
            }
        }
    }
    true
}

/// Stores a batch after `head`, and gives back where the journal then ends: with this segment, or, where others have
/// journaled all of the batch, with theirs.
async fn store(journal: &Journal, batch: Batch, mut head: Head) -> Head {
    let batch = Arc::new(batch);
    let metrics = &journal.app.metrics;
    loop {
        let Some(encoded) = encode(journal, &batch, &head).await else {
            return head;
        };
        fault_point::reach("segment_built");
        let started = Instant::now();
        // What comes of an attempt that failed is seen by the next one: the number is taken then, by this very segment.
        let write = || journal.store.write(&encoded.head, encoded.bytes.clone());
        let written = insist(journal, || write().map_err(|error| error.to_string())).await;
        match written {
            Written::Now => {
                metrics.journal_put_seconds.observe(started.elapsed().as_secs_f64());
                metrics.journal_segments.inc();
                metrics.journal_records.inc_by(encoded.records);
                metrics.journal_bytes.inc_by(encoded.bytes.len().try_into().unwrap_or(u64::MAX));
                tracing::debug!(
                    segment = encoded.head.number, records = encoded.records, root = %encoded.head.root,
                    "a segment of the journal is stored"
                );
                return encoded.head;
            }
            Written::Taken => {
                tracing::info!(
                    segment = encoded.head.number,
                    "this segment of the journal is there already: what it holds is left out"
                );
                head = read_head(journal).await;
            }
        }
    }
}

/// Puts a segment together, away from the tasks that talk. `None` if the journal holds all of it.
async fn encode(journal: &Journal, batch: &Arc<Batch>, head: &Head) -> Option<Encoded> {
    let now_ms = journal.app.clock.now_ms();
    let on_its_own = || {
        let (batch, head, source) = (batch.clone(), head.clone(), journal.source());
        tokio::task::spawn_blocking(move || build(&batch, &head, source, now_ms))
    };
    insist(journal, || {
        on_its_own().map(|built| match built {
            Ok(built) => built.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        })
    })
    .await
}

/// The segment after `head` with what of the batch the journal does not hold.
fn build(batch: &Batch, head: &Head, source: Source, now_ms: u64) -> std::io::Result<Option<Encoded>> {
    let held: HashMap<Stream, EntryId> = positions(head).collect();
    let mut reached: BTreeMap<u16, Position> =
        head.positions.iter().map(|position| (position.partition, *position)).collect();
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut named = HashSet::new();
    for item in &batch.items {
        if held.get(&item.stream).is_some_and(|last| item.id <= *last) {
            continue;
        }
        for id in item.channels.iter().filter(|id| named.insert(**id)) {
            lines.extend(batch.terms.get(id).map(Vec::as_slice));
        }
        lines.extend(item.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()));
        let (Stream::Accepted(partition) | Stream::Settled(partition)) = item.stream;
        let position = reached.entry(partition).or_insert(Position {
            partition,
            accepted: EntryId::ZERO,
            settled: EntryId::ZERO,
        });
        match item.stream {
            Stream::Accepted(_) => position.accepted = item.id,
            Stream::Settled(_) => position.settled = item.id,
        }
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let header = Header {
        format: FORMAT,
        number: head.number.saturating_add(1),
        previous: head.root,
        created_at_ms: now_ms,
        source,
        positions: reached.into_values().collect(),
    };
    segment::encode(&header, lines, COMPRESSION_LEVEL).map(Some)
}

/// Does it again and again until it succeeds, and says so where that has changed.
async fn insist<T, F>(journal: &Journal, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let mut delay = RETRY_DELAY_MIN;
    loop {
        match attempt().await {
            Ok(done) => {
                if journal.app.journal_trouble.set(None) {
                    tracing::info!("the journal is kept again");
                }
                return done;
            }
            Err(reason) => {
                journal.app.metrics.journal_failures.inc();
                if journal.app.journal_trouble.set(Some(reason.clone())) {
                    tracing::error!(
                        reason,
                        "the journal cannot be kept: payments go on, and stay in Redis until it can"
                    );
                }
                tokio::time::sleep(delay).await;
                delay = delay.saturating_mul(2).min(RETRY_DELAY_MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests;
