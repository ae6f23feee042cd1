//! Looks into Redis while the campaign goes on: what streams hold before it is trimmed, and how channels stand.
//!
//! Redis runs with `appendfsync always`: it answers nobody before its file is on disk, so that what is seen here is
//! there to stay.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use common::ids::ChannelId;
use common::store::Store;
use common::store::read::StoredChannel;
use common::store::stream::EntryId;
use common::wire::Latest;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::history::Recorded;
use crate::ledger::LedgerWriter;

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(60);

/// Entries of a partition read at once.
const ENTRIES: u64 = 1_000;

/// Channels looked at after each round, of those that were just paid from.
const CHANNELS: usize = 6;

/// Starts to look; what the streams held comes out at the end.
pub(super) fn start(
    store: Store,
    looks: &Path,
    stop: CancellationToken,
) -> anyhow::Result<JoinHandle<anyhow::Result<Vec<Recorded>>>> {
    let ledger = LedgerWriter::append_to(looks)?;
    Ok(tokio::spawn(async move {
        let mut after = vec![EntryId::ZERO; usize::from(store.partitions())];
        let mut recorded = Vec::new();
        while !stop.is_cancelled() {
            let mut paid_from = BTreeSet::new();
            for (partition, from) in (0u16..).zip(&mut after) {
                // Redis is away now and then, which is what the campaign is for.
                let Ok(entries) = store.entries(partition, *from, ENTRIES).await else { continue };
                for entry in entries {
                    *from = EntryId { ms: entry.id.ms, n: entry.id.n.saturating_add(1) };
                    for payment in entry.payments.into_iter().flatten() {
                        recorded.push(Recorded { channel_id: payment.channel_id, amount: payment.amount });
                        paid_from.insert(payment.channel_id);
                    }
                }
            }
            for id in paid_from.into_iter().take(CHANNELS) {
                look(&store, &ledger, &id).await?;
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(recorded)
    }))
}

async fn look(store: &Store, ledger: &LedgerWriter, id: &ChannelId) -> anyhow::Result<()> {
    let look = ledger.look();
    if let Ok(Some(channel)) = store.channel(id).await {
        ledger.observed(look, *id, latest(&channel).as_ref(), "redis")?;
    }
    Ok(())
}

fn latest(channel: &StoredChannel) -> Option<Latest> {
    let cumulative_amount = channel.state.amount;
    let proof = channel.state.proof(channel.terms.scheme)?;
    Some(Latest { cumulative_amount, proof })
}
