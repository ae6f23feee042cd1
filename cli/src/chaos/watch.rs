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
        let mut seen = Vec::new();
        while !stop.is_cancelled() {
            let mut paid_from = BTreeSet::new();
            for (partition, from) in (0u16..).zip(&mut after) {
                // Redis is away now and then, which is what the campaign is for.
                let Ok(entries) = store.entries(partition, *from, ENTRIES).await else { continue };
                for entry in entries {
                    *from = EntryId { ms: entry.id.ms, n: entry.id.n.saturating_add(1) };
                    for payment in entry.payments.into_iter().flatten() {
                        let recorded = Recorded { channel_id: payment.channel_id, amount: payment.amount };
                        seen.push(Seen { recorded, at_ms: entry.id.ms, partition });
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
        Ok(in_order(seen))
    }))
}

/// A payment as it was seen in a stream.
struct Seen {
    recorded: Recorded,
    at_ms: u64,
    partition: u16,
}

/// Puts payments in the order in which they were recorded, channel by channel. A channel's stand in several streams; of
/// two in one stream it is known which was first, of two in different ones only by their times. Those of the same ms are
/// taken to have risen.
fn in_order(mut seen: Vec<Seen>) -> Vec<Recorded> {
    let at = |seen: &Seen| (seen.recorded.channel_id, seen.at_ms);
    seen.sort_by_key(at);
    for same in seen.chunk_by_mut(|a, b| at(a) == at(b)) {
        if same.iter().any(|other| Some(other.partition) != same.first().map(|first| first.partition)) {
            same.sort_by_key(|seen| seen.recorded.amount);
        }
    }
    seen.into_iter().map(|seen| seen.recorded).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use common::amount::Amount;

    /// Payments of one channel: when, in which stream, how much.
    fn amounts(seen: &[(u64, u16, u64)]) -> Vec<u64> {
        let seen = seen.iter().map(|(at_ms, partition, amount)| Seen {
            recorded: Recorded { channel_id: ChannelId([1; 32]), amount: Amount::new(*amount) },
            at_ms: *at_ms,
            partition: *partition,
        });
        in_order(seen.collect()).into_iter().map(|recorded| recorded.amount.units()).collect()
    }

    #[test]
    fn payments_in_several_streams_come_in_the_order_of_their_times() {
        assert_eq!(amounts(&[(5, 0, 2), (9, 0, 4), (3, 1, 1), (7, 1, 3)]), [1, 2, 3, 4]);
        assert_eq!(amounts(&[(5, 0, 2), (5, 1, 1)]), [1, 2], "nobody knows which was first");
    }

    #[test]
    fn an_amount_that_fell_is_still_to_be_seen() {
        assert_eq!(amounts(&[(5, 0, 2), (5, 0, 1)]), [2, 1]);
        assert_eq!(amounts(&[(6, 0, 1), (5, 1, 2)]), [2, 1]);
    }
}
