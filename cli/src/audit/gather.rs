//! Collects what an audit looks at: ledgers, Redis page by page, and each channel at the issuer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use common::amount::Amount;
use common::ids::{ChannelId, PublicKey};
use common::store::Store;
use futures::{StreamExt as _, TryStreamExt as _};
use service::issuer_client::IssuerClient;

use super::{ChannelFacts, facts};
use crate::ledger::{self, LedgerOutcome};

/// Questions that are on their way at once.
const IN_FLIGHT: usize = 32;

/// How often a channel is read before what does not fit together is taken for true.
const READINGS_MAX: u32 = 3;

/// Pause before a channel is read again.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Keys looked at by one SCAN.
const SCAN_COUNT: u32 = 1_000;

/// What ledgers say of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InLedger {
    /// Highest acknowledged amount.
    pub acknowledged: Option<Amount>,
    /// Highest amount without an answer.
    pub unknown: Option<Amount>,
}

/// Reads ledgers: the highest amounts of each channel.
///
/// # Errors
/// A ledger cannot be read.
pub fn ledgers(paths: &[PathBuf]) -> Result<BTreeMap<ChannelId, InLedger>, ledger::LedgerError> {
    let mut known = BTreeMap::<ChannelId, InLedger>::new();
    for path in paths {
        // Sent, and no answer written down: the payer died, or was still waiting.
        let mut unanswered = BTreeMap::new();
        ledger::read(path, |entry| {
            let of_channel = known.entry(entry.channel_id).or_default();
            if let Some(attempt) = entry.attempt {
                unanswered.remove(&attempt);
            }
            let highest = match entry.outcome {
                LedgerOutcome::Sent => {
                    unanswered.insert(entry.seq, (entry.channel_id, entry.cumulative_amount));
                    return;
                }
                outcome if outcome.is_acknowledged() => &mut of_channel.acknowledged,
                outcome if outcome.is_unknown() => &mut of_channel.unknown,
                _ => return,
            };
            *highest = (*highest).max(Some(entry.cumulative_amount));
        })?;
        for (channel_id, amount) in unanswered.into_values() {
            let unknown = &mut known.entry(channel_id).or_default().unknown;
            *unknown = (*unknown).max(Some(amount));
        }
    }
    Ok(known)
}

/// Collects the facts of every channel that a ledger names or Redis holds, in the order of their ids.
///
/// # Errors
/// Redis or issuer did not answer: half an audit is none.
pub async fn channels(
    mut known: BTreeMap<ChannelId, InLedger>,
    store: &Store,
    issuer: &IssuerClient,
    issuer_key: &PublicKey,
) -> anyhow::Result<Vec<ChannelFacts>> {
    for partition in 0..store.partitions() {
        let mut cursor = None;
        loop {
            let (ids, next) = store.channel_page(partition, cursor.as_deref(), SCAN_COUNT).await?;
            for id in ids {
                known.entry(id).or_default();
            }
            if next.is_none() {
                break;
            }
            cursor = next;
        }
    }
    futures::stream::iter(known)
        .map(async |(channel_id, known)| settled_down(channel_id, known, store, issuer, issuer_key).await)
        .buffered(IN_FLIGHT)
        .try_collect()
        .await
}

/// Reads a channel, anew if what was read does not fit together: Redis and issuer are asked one after the other, and a
/// payment or a settlement may have come in between. What is truly wrong stays wrong.
async fn settled_down(
    channel_id: ChannelId,
    known: InLedger,
    store: &Store,
    issuer: &IssuerClient,
    issuer_key: &PublicKey,
) -> anyhow::Result<ChannelFacts> {
    let mut readings = 1;
    loop {
        let stored = store.channel(&channel_id).await?;
        let issued = issuer.channel(&channel_id).await?;
        let facts = ChannelFacts {
            channel_id,
            acknowledged: known.acknowledged,
            unknown: known.unknown,
            stored: stored.map(facts::of_redis),
            issued: issued.map(|channel| facts::of_issuer(channel, issuer_key)),
        };
        if readings == READINGS_MAX || facts.fit_together() {
            return Ok(facts);
        }
        readings += 1;
        tokio::time::sleep(READ_AGAIN_AFTER).await;
    }
}
