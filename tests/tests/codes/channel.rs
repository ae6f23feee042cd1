//! Channels that cannot be paid here, and what asking for them costs the issuer.

use common::wire::PaymentAnswer;
use ed25519_dalek::SigningKey;
use tests::issuer::Route;
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions};
use tokio::task::JoinSet;

use super::table::{Shown, json, refused, refused_without_a_trace};

pub(super) async fn a_channel_for_someone_else_has_the_wrong_payee() -> Shown {
    let rig = Rig::start(RigOptions::default()).await;
    let someone = common::ids::PublicKey::of(&SigningKey::from_bytes(&rand::random()));
    rig.issuer.client().register(&someone).await.expect("the issuer registers any key");
    let channel = rig.payer().await.channel(someone).open().await;
    refused_without_a_trace(&rig, "wrong_payee", json(&channel.voucher(5))).await;
    // It stays so, and the issuer is asked once.
    let shown = refused_without_a_trace(&rig, "wrong_payee", json(&channel.voucher(6))).await;
    assert_eq!(rig.front.count(Route::Channel), 1);
    shown
}

pub(super) async fn a_channel_that_the_issuer_does_not_know_is_unknown() -> Shown {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = rig.payer().await.channel(rig.payee()).unopened();
    refused_without_a_trace(&rig, "unknown_channel", json(&channel.voucher(5))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_unknown_id_costs_the_issuer_one_request() {
    let rig = Rig::start(RigOptions {
        // Longer than the test: the clock does not decide what it shows.
        relayer: vec![("channels.unknown_ttl_ms", "600000".to_owned())],
        ..RigOptions::default()
    })
    .await;
    let channel = rig.payer().await.channel(rig.payee()).unopened();
    refused("unknown_channel", &rig.pay(0, &channel, 1).await);
    for reply in all_at_once(&rig, (2..102).map(|amount| (channel.clone(), amount))).await {
        refused("unknown_channel", &reply);
    }
    assert_eq!(rig.front.count(Route::Channel), 1);
}

#[tokio::test]
async fn an_id_that_was_unknown_is_looked_up_again_later() {
    let rig = Rig::start(RigOptions {
        relayer: vec![("channels.unknown_ttl_ms", "100".to_owned())],
        ..RigOptions::default()
    })
    .await;
    let payer = rig.payer().await;
    let opening = payer.channel(rig.payee());
    let channel = opening.clone().unopened();
    refused("unknown_channel", &rig.pay(0, &channel, 1).await);
    opening.open().await;
    tests::wait_until(tests::rig::SOON, "the channel is taken", || async {
        rig.pay(0, &channel, 1).await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_unknown_ids_cost_the_issuer_a_bounded_number_of_requests() {
    const PER_S: u64 = 5;
    let rig = Rig::start(RigOptions {
        relayer: vec![("channels.issuer_lookups_per_s", PER_S.to_string())],
        ..RigOptions::default()
    })
    .await;
    let payer = rig.payer().await;
    let started = std::time::Instant::now();
    let unopened: Vec<Channel> = (0..200).map(|_| payer.channel(rig.payee()).unopened()).collect();
    let replies = all_at_once(&rig, unopened.into_iter().map(|channel| (channel, 1))).await;
    let bound = PER_S * (started.elapsed().as_secs() + 2);
    let (unknown, others): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 404);
    unknown.iter().for_each(|reply| drop(refused("unknown_channel", reply)));
    others.iter().for_each(|reply| drop(refused("overloaded", reply)));
    let asked = rig.front.count(Route::Channel);
    assert!(asked <= bound && asked < 200, "{asked} requests, where {bound} are allowed");
    assert_eq!(unknown.len() as u64, asked, "who was not asked for is not called unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_first_payments_at_once_cost_the_issuer_one_request() {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = rig.channel(1_000).await;
    let replies = all_at_once(&rig, (1..=50).map(|amount| (channel.clone(), amount))).await;
    let highest = replies
        .iter()
        .filter(|reply| reply.status == 200)
        .map(|reply| reply.success::<PaymentAnswer>().cumulative_amount.units())
        .max();
    assert_eq!(highest, Some(50), "the highest is taken whatever the order");
    replies.iter().filter(|reply| reply.status != 200).for_each(|reply| drop(refused("stale_amount", reply)));
    assert_eq!(rig.front.count(Route::Channel), 1);
}

/// The answers to all payments, sent at the same time to the first relayer.
async fn all_at_once(rig: &Rig, payments: impl Iterator<Item = (Channel, u64)>) -> Vec<tests::http::Reply> {
    let mut requests = JoinSet::new();
    for (channel, amount) in payments {
        let (http, url) = (rig.http.clone(), format!("{}/v1/payments", rig.relayer(0)));
        requests.spawn(async move { http.post(&url, json(&channel.voucher(amount))).await });
    }
    requests.join_all().await
}
