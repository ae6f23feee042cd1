//! Closes that ended: read from their streams for the journal, and removed once it has stored them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::store::StoreError;
use futures::{StreamExt, stream};

use super::{Journal, Stream, records};
use crate::leadership::Leadership;

/// Between two looks: closes are few beside payments, and nobody waits for their records.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Entries of one partition in one read.
const ENTRIES_PER_READ: usize = 128;

/// Partitions that are read at once.
const PARTITIONS_AT_ONCE: usize = 16;

/// Reads the streams of all partitions again and again.
pub(crate) async fn run(leadership: Arc<Leadership>, journal: Arc<Journal>) {
    while !leadership.is_draining() {
        stream::iter(0..leadership.app.store.partitions())
            .for_each_concurrent(PARTITIONS_AT_ONCE, |partition| look(&leadership, &journal, partition))
            .await;
        leadership.pause(LOOK_EVERY).await;
    }
}

async fn look(leadership: &Leadership, journal: &Journal, partition: u16) {
    if let Err(error) = read(leadership, journal, partition).await {
        leadership.trouble(&error, "reading closes that ended", partition).await;
    }
}

/// Hands over all that is there of one partition. Nobody else reads this stream: what was taken is known by its ids.
async fn read(leadership: &Leadership, journal: &Journal, partition: u16) -> Result<(), StoreError> {
    let stream = Stream::Settled(partition);
    while let Some(taken) = journal.taken(stream) {
        let stored = journal.stored(stream);
        let store = &leadership.app.store;
        let ended = store.read_ended(&leadership.lease, partition, stored, taken, ENTRIES_PER_READ).await?;
        let is_last = ended.len() < ENTRIES_PER_READ;
        let items = ended.into_iter().map(|entry| records::of_ended(partition, entry));
        // What there is no room for is read again.
        let left = journal.take(items.collect(), &HashMap::new());
        if is_last || left.is_some() {
            break;
        }
    }
    Ok(())
}
