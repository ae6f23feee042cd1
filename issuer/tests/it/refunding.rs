//! Refunds of expired channels.

use std::time::Duration;

use common::ids::ChannelId;
use common::problem::Code;
use common::wire::IssuerStatus;
use futures::future::join_all;

use super::BACKEND;
use crate::harness::{Bank, LIFETIME_S, Party, Settlement, code_of};

#[tokio::test]
async fn a_refund_gives_back_the_rest_once_the_channel_has_expired() {
    let bank = Bank::start(BACKEND).await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    let id = bank.channel(&payer, &payee, 500).await;
    bank.client.settle(&id, &Settlement::of(id, 120).signed(&payer, &payee)).await.expect("settled");
    let request = payer.refund(&id);

    bank.clock.advance(Duration::from_secs(LIFETIME_S.unsigned_abs()));
    assert_eq!(code_of(bank.client.refund(&id, &request).await), Some(Code::ChannelNotExpired));
    assert_eq!(bank.usd(&payer).await, (500, 380));
    bank.clock.advance(Duration::from_secs(1));
    for forged in [payee.refund(&id), Party::new(9).refund(&id), payer.refund(&ChannelId([1; 32]))] {
        assert_eq!(code_of(bank.client.refund(&id, &forged).await), Some(Code::InvalidSignature));
    }

    let refunds = join_all((0..10).map(|_| bank.client.refund(&id, &request))).await;
    for refunded in refunds {
        let channel = refunded.expect("refunded");
        assert_eq!((channel.status, channel.refunded_amount.units()), (IssuerStatus::Refunded, 380));
        assert_eq!(channel.settled_amount.units(), 120);
    }
    assert_eq!((bank.usd(&payer).await, bank.usd(&payee).await), ((880, 0), (1_120, 0)));
    let late = Settlement::of(id, 200).signed(&payer, &payee);
    assert_eq!(bank.refusal(&id, &late).await, Some(Code::ChannelClosed));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn a_closed_or_unknown_channel_is_not_refunded() {
    let bank = Bank::start(BACKEND).await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    let id = bank.channel(&payer, &payee, 500).await;
    bank.client.settle(&id, &Settlement::of(id, 120).close().signed(&payer, &payee)).await.expect("closed");
    bank.clock.advance(Duration::from_secs(LIFETIME_S.unsigned_abs() + 1));
    assert_eq!(code_of(bank.client.refund(&id, &payer.refund(&id)).await), Some(Code::ChannelClosed));
    let nowhere = ChannelId([1; 32]);
    assert_eq!(
        code_of(bank.client.refund(&nowhere, &payer.refund(&nowhere)).await),
        Some(Code::UnknownChannel)
    );
    assert_eq!(bank.client.channel(&nowhere).await, Ok(None));
    assert_eq!(bank.usd(&payer).await, (880, 0));
}
