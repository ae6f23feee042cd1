//! What is missing: Redis beside the issuer's books and beside what was acknowledged.

use std::path::PathBuf;

use anyhow::Context as _;
use common::amount::Amount;
use common::ids::{ChannelId, PublicKey};
use common::store::Store;
use common::wire::{IssuerChannel, IssuerStatus};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use service::issuer_client::{ChannelQuery, IssuerClient};

use crate::audit::gather;

/// Questions to Redis that are on their way at once.
const IN_FLIGHT: usize = 32;

/// Channels in one answer of the issuer.
const PAGE: u32 = 1_000;

/// Sums over all channels of the payee.
#[derive(Debug, Default, Serialize)]
pub(super) struct Survey {
    pub(super) open_channels: u64,
    #[serde(serialize_with = "decimal")]
    pub(super) open_capacity: u128,
    /// Of the open channels: what Redis has recorded, or what was settled where that is more.
    #[serde(serialize_with = "decimal")]
    pub(super) open_known: u128,
    /// Channels that Redis holds for less than the issuer has paid, and by how much.
    pub(super) behind_issuer: u64,
    #[serde(serialize_with = "decimal")]
    pub(super) behind_issuer_by: u128,
    pub(super) ledger_channels: u64,
    /// Channels for which more was acknowledged than Redis holds and the issuer has paid, and by how much.
    pub(super) behind_ledger: u64,
    #[serde(serialize_with = "decimal")]
    pub(super) behind_ledger_by: u128,
}

pub(super) fn decimal<S: serde::Serializer>(sum: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(sum)
}

impl Survey {
    /// Whether something is missing for certain.
    pub(super) fn shows_loss(&self) -> bool {
        self.behind_issuer + self.behind_ledger > 0
    }
}

/// Walks all channels of the payee at the issuer, then those of the ledgers.
pub(super) async fn survey(
    store: &Store,
    issuer: &IssuerClient,
    payees: &[PublicKey],
    ledgers: &[PathBuf],
) -> anyhow::Result<Survey> {
    let mut survey = Survey::default();
    for payee in payees {
        at_issuer(&mut survey, store, issuer, *payee).await?;
    }
    for (id, known) in gather::ledgers(ledgers)? {
        let Some(acknowledged) = known.acknowledged else { continue };
        survey.ledger_channels += 1;
        let recorded = amount_in(store, &id).await?.unwrap_or_default();
        if acknowledged <= recorded {
            continue;
        }
        let settled = issuer.channel(&id).await?.map_or(Amount::ZERO, |channel| channel.settled_amount);
        if let Some(short) = acknowledged.checked_sub(recorded.max(settled)) {
            survey.behind_ledger += u64::from(!short.is_zero());
            survey.behind_ledger_by += u128::from(short.units());
        }
    }
    Ok(survey)
}

/// Walks the channels of one payee at the issuer.
async fn at_issuer(
    survey: &mut Survey,
    store: &Store,
    issuer: &IssuerClient,
    payee: PublicKey,
) -> anyhow::Result<()> {
    for_each_page(issuer, payee, async |channels| {
        let known: Vec<(IssuerChannel, Option<Amount>)> = futures::stream::iter(channels)
            .map(async |channel| amount_in(store, &channel.channel_id).await.map(|amount| (channel, amount)))
            .buffered(IN_FLIGHT)
            .try_collect()
            .await?;
        for (channel, recorded) in known {
            let settled = channel.settled_amount;
            if channel.status == IssuerStatus::Open {
                survey.open_channels += 1;
                survey.open_capacity += u128::from(channel.terms.capacity.units());
                survey.open_known += u128::from(settled.max(recorded.unwrap_or_default()).units());
            }
            // One that Redis does not know starts from what was settled, by itself.
            if let Some(short) = recorded.and_then(|recorded| settled.checked_sub(recorded)) {
                survey.behind_issuer += u64::from(!short.is_zero());
                survey.behind_issuer_by += u128::from(short.units());
            }
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn amount_in(store: &Store, id: &ChannelId) -> anyhow::Result<Option<Amount>> {
    Ok(store.channel(id).await?.map(|channel| channel.state.amount))
}

/// Gives every channel of the payee to `each`, a page at a time.
pub(super) async fn for_each_page(
    issuer: &IssuerClient,
    payee: PublicKey,
    mut each: impl AsyncFnMut(Vec<IssuerChannel>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut query = ChannelQuery { payee: Some(payee), limit: Some(PAGE), ..ChannelQuery::default() };
    loop {
        let page = issuer.channels(&query).await.context("cannot list the payee's channels")?;
        each(page.channels).await?;
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(()),
        }
    }
}
