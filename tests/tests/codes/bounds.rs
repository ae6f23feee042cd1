//! How much may come in: by channel, by address, at once, and of channels that must be looked up.

use common::wire::{Outcome, PaymentAnswer};
use tests::http::Reply;
use tests::issuer::{Route, Step};
use tests::rig::{Rig, RigOptions, SOON};

use super::table::{Shown, json, paid, refused};

/// Far more than a second allows, far less than takes a second.
const PAYMENTS: u64 = 200;

async fn rig_with(config: &[(&'static str, &str)]) -> Rig {
    let relayer = config.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    Rig::start(RigOptions { relayer, ..RigOptions::default() }).await
}

/// Pays 1, 2, 3, … until the relayer does not take it; gives back the amount and the answer.
async fn pay_until_refused(rig: &Rig, channel: &tests::payer::Channel) -> (u64, Reply) {
    for amount in 1..=PAYMENTS {
        let reply = rig.pay(0, channel, amount).await;
        if reply.status != 200 {
            return (amount, reply);
        }
    }
    panic!("{PAYMENTS} payments in a row were taken");
}

pub(super) async fn a_channel_that_pays_too_often_is_rate_limited() -> Shown {
    let rig = rig_with(&[("limits.per_channel_per_s", "3")]).await;
    let (channel, other) = (rig.channel(1_000).await, rig.channel(1_000).await);
    // Whoever cannot sign does not use up the share of one who can.
    for _ in 0..20 {
        let forged = tests::payer::forged(channel.voucher(1), common::ids::Signature([1; 64]));
        refused("invalid_signature", &rig.present(0, json(&forged)).await);
    }
    let (amount, reply) = pay_until_refused(&rig, &channel).await;
    assert!(amount > 3, "three at once are allowed: {amount}");
    let shown = refused("rate_limited", &reply);
    assert_eq!(
        rig.stored(&channel).await.state.amount.units(),
        amount - 1,
        "what is refused is not recorded"
    );
    assert_eq!(rig.pay(0, &other, 1).await.status, 200, "another channel has its own share");
    // It gets through once its time has come.
    tests::wait_until(SOON, "the channel may pay again", || async {
        rig.pay(0, &channel, amount).await.status == 200
    })
    .await;
    shown
}

pub(super) async fn an_address_that_asks_too_often_is_rate_limited() -> Shown {
    let rig = rig_with(&[("limits.per_address_per_s", "5")]).await;
    let channel = rig.channel(1_000).await;
    let (_, reply) = pay_until_refused(&rig, &channel).await;
    let shown = refused("rate_limited", &reply);
    // Reading counts as well, and a batch counts for each of its payments: six never fit into five.
    let url = format!("{}/v1/channels/{}", rig.relayer(0), channel.id());
    tests::wait_for(SOON, "reading is refused", || async {
        let reply = rig.http.get(&url).await;
        (reply.status != 200).then(|| refused("rate_limited", &reply))
    })
    .await;
    let batch: Vec<_> = (1..=6).map(|amount| channel.voucher(amount)).collect();
    let body = serde_json::to_vec(&batch).expect("vouchers are JSON");
    refused("rate_limited", &rig.http.post(&format!("{}/v1/payments/batch", rig.relayer(0)), body).await);
    shown
}

pub(super) async fn more_payments_in_flight_than_the_limit_are_overload() -> Shown {
    let mut rig = rig_with(&[
        ("limits.payments_in_flight_max", "1"),
        ("batch_max", "1"),
        // Longer than the test: the one that waits for Redis goes on waiting.
        ("redis.command_timeout_ms", "60000"),
        ("http.request_timeout_ms", "60000"),
    ])
    .await;
    let (first, second) = (paid(&rig, 1).await, paid(&rig, 1).await);
    let sent = rig.redis.proxy().look_out_for("EVALSHA");
    rig.redis.pause().await;
    let waiting = {
        let (http, url) = (rig.http.clone(), format!("{}/v1/payments", rig.relayer(0)));
        let body = json(&first.voucher(2));
        tokio::spawn(async move { http.post(&url, body).await })
    };
    sent.wait(SOON).await;
    let shown = refused("overloaded", &rig.pay(0, &second, 2).await);
    let batch = serde_json::to_vec(&[second.voucher(2)]).expect("vouchers are JSON");
    refused("overloaded", &rig.http.post(&format!("{}/v1/payments/batch", rig.relayer(0)), batch).await);
    rig.redis.resume().await;
    let answer: PaymentAnswer = waiting.await.expect("no panic").success();
    assert_eq!(answer.outcome, Outcome::Accepted, "the one that was in flight is taken");
    assert_eq!(rig.stored(&second).await.state.amount.units(), 1, "what is refused is not recorded");
    assert_eq!(rig.pay(0, &second, 2).await.status, 200, "there is room again");
    shown
}

pub(super) async fn more_lookups_than_the_limit_are_overload() -> Shown {
    let rig = rig_with(&[
        ("channels.issuer_lookups_in_flight_max", "1"),
        // Until the one that hangs is given up.
        ("issuer.request_timeout_ms", "2000"),
    ])
    .await;
    let (first, second) = (rig.channel(1_000).await, rig.channel(1_000).await);
    rig.front.next(Route::Channel, 1, Step::Hang);
    let waiting = {
        let (http, url) = (rig.http.clone(), format!("{}/v1/payments", rig.relayer(0)));
        let body = json(&first.voucher(1));
        tokio::spawn(async move { http.post(&url, body).await })
    };
    rig.front.wait_for_count(Route::Channel, 1, SOON).await;
    let before = rig.dump().await;
    let shown = refused("overloaded", &rig.pay(0, &second, 1).await);
    assert_eq!(rig.dump().await, before);
    refused("issuer_unavailable", &waiting.await.expect("no panic"));
    assert_eq!(rig.pay(0, &second, 1).await.status, 200, "there is room again");
    shown
}
