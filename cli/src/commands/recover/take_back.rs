//! Vouchers that are presented again while everyone is halted: from ledgers, and from the issuer's own books. Each is
//! verified as if it were paid, and only ever raises an amount.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::amount::Amount;
use common::channel::Terms;
use common::clock::Clock;
use common::ids::{ChannelId, PublicKey};
use common::store::Store;
use common::store::recovery::TakenBack;
use common::voucher::VerifiedVoucher;
use common::wire::{IssuerChannel, IssuerStatus, PaymentRequest};
use serde::Serialize;
use service::issuer_client::IssuerClient;

use super::survey::{decimal, for_each_page};
use crate::ledger;

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct TakeBack {
    pub(super) from_ledger: u64,
    #[serde(serialize_with = "decimal")]
    pub(super) from_ledger_units: u128,
    pub(super) from_issuer: u64,
    #[serde(serialize_with = "decimal")]
    pub(super) from_issuer_units: u128,
    pub(super) refused: Vec<Refused>,
}

/// A voucher that was not put back.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    pub(super) channel_id: ChannelId,
    pub(super) amount: Amount,
    pub(super) reason: String,
}

impl TakeBack {
    /// The highest acknowledged voucher of each channel in the ledgers.
    pub(super) async fn vouchers(
        &mut self,
        store: &Store,
        issuer: &IssuerClient,
        payees: &[PublicKey],
        ledgers: &[PathBuf],
    ) -> anyhow::Result<()> {
        let mut highest = BTreeMap::<ChannelId, PaymentRequest>::new();
        for path in ledgers {
            ledger::read(path, |entry| {
                if !entry.outcome.is_acknowledged() {
                    return;
                }
                let (channel_id, cumulative_amount) = (entry.channel_id, entry.cumulative_amount);
                let payment = PaymentRequest { channel_id, cumulative_amount, proof: entry.proof };
                match highest.get(&channel_id) {
                    Some(known) if known.cumulative_amount >= cumulative_amount => {}
                    _ => drop(highest.insert(channel_id, payment)),
                }
            })?;
        }
        for (id, payment) in highest {
            let amount = payment.cumulative_amount;
            match present(store, issuer, payees, payment).await? {
                Ok(Some(more)) => {
                    self.from_ledger += 1;
                    self.from_ledger_units += u128::from(more.units());
                }
                Ok(None) => {}
                Err(reason) => self.refused.push(Refused { channel_id: id, amount, reason }),
            }
        }
        Ok(())
    }

    /// The voucher behind the latest settlement of each channel that Redis knows for less: otherwise the settler would
    /// find the issuer ahead of Redis and stop everyone again.
    pub(super) async fn settlements(
        &mut self,
        store: &Store,
        issuer: &IssuerClient,
        payee: PublicKey,
    ) -> anyhow::Result<()> {
        for_each_page(issuer, payee, async |channels| {
            for channel in channels {
                let Some(latest) = &channel.settled else { continue };
                let Some(stored) = store.channel(&channel.channel_id).await? else { continue };
                if stored.state.amount >= latest.cumulative_amount {
                    continue;
                }
                let (channel_id, amount) = (channel.channel_id, latest.cumulative_amount);
                let payment =
                    PaymentRequest { channel_id, cumulative_amount: amount, proof: latest.proof.clone() };
                match put_back(store, &channel.terms, payment, channel.settled_amount).await? {
                    Ok(Some(more)) => {
                        self.from_issuer += 1;
                        self.from_issuer_units += u128::from(more.units());
                    }
                    Ok(None) => {}
                    Err(reason) => self.refused.push(Refused { channel_id, amount, reason }),
                }
            }
            Ok(())
        })
        .await
    }
}

/// Puts one voucher of a ledger back. Answers by how much that raised its channel, or why it did not.
async fn present(
    store: &Store,
    issuer: &IssuerClient,
    payees: &[PublicKey],
    payment: PaymentRequest,
) -> anyhow::Result<Result<Option<Amount>, String>> {
    let id = payment.channel_id;
    let stored = store.channel(&id).await?;
    if stored.as_ref().is_some_and(|stored| stored.state.amount >= payment.cumulative_amount) {
        return Ok(Ok(None));
    }
    let issued = issuer.channel(&id).await?;
    let Some(IssuerChannel { terms, status, settled_amount, .. }) = issued else {
        return Ok(Err("the issuer does not know the channel".to_owned()));
    };
    if !payees.contains(&terms.payee) {
        return Ok(Err(format!("the channel pays {}", terms.payee)));
    }
    if status != IssuerStatus::Open {
        return Ok(if payment.cumulative_amount <= settled_amount {
            Ok(None)
        } else {
            Err(format!("the issuer has ended the channel, with {settled_amount} settled"))
        });
    }
    put_back(store, &terms, payment, settled_amount).await
}

async fn put_back(
    store: &Store,
    terms: &Terms,
    payment: PaymentRequest,
    settled: Amount,
) -> anyhow::Result<Result<Option<Amount>, String>> {
    let terms = match terms.clone().check() {
        Ok(terms) => terms,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let amount = payment.cumulative_amount;
    let voucher = match VerifiedVoucher::verify(&terms, payment.into()) {
        Ok(voucher) => voucher,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let now_ms = Clock::system().now_ms();
    Ok(match store.take_back(&terms, &voucher, settled, now_ms).await? {
        TakenBack::Taken { from } => Ok(amount.checked_sub(from)),
        TakenBack::Known => Ok(None),
        TakenBack::OverCapacity => Err("it is above the channel's capacity".to_owned()),
        TakenBack::NotOpen => Err("the channel has begun to close for less".to_owned()),
    })
}
