//! A relayer's limits.

use std::time::Duration;

use common::ids::Hash;
use serde_json::{Value, json};
use tests::payer::Channel;
use tests::rig::{ConfigFile, Rig, RigOptions, SOON};

use super::{Changing, refuses_as_a_whole};

/// A rig whose one relayer has a file with nothing in it.
async fn rig() -> (Rig, ConfigFile) {
    let mut rig = Rig::start(RigOptions { relayers: 0, ..RigOptions::default() }).await;
    let file = ConfigFile::new(rig.dir().join("relayer.yaml"));
    let relayer = rig.spawn_relayer_from(Some(&file), &[]);
    relayer.wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    (rig, file)
}

/// Pays the next unit, and gives back the code of the refusal, if it was one.
async fn next(rig: &Rig, channel: &Channel, amount: &mut u64) -> Option<&'static str> {
    *amount += 1;
    let answer = channel.pay(rig.relayer(0), *amount).await.expect("an answer");
    answer.code()
}

/// The first refusal among some payments in a row.
async fn first_refusal(rig: &Rig, channel: &Channel, amount: &mut u64) -> Option<&'static str> {
    for _ in 0..50 {
        if let Some(code) = next(rig, channel, amount).await {
            return Some(code);
        }
    }
    None
}

#[tokio::test]
async fn every_limit_of_a_relayer_takes_effect_while_it_runs() {
    let (mut rig, file) = rig().await;
    let mut relayer = rig.relayers.remove(0);
    let mut changing = Changing::new(&mut relayer, file);
    let (channel, other) = (rig.channel(1_000_000).await, rig.channel(1_000_000).await);
    let (mut amount, mut other_amount) = (0, 0);
    assert_eq!(first_refusal(&rig, &channel, &mut amount).await, None, "no limit so far");

    changing.set(&[("settle_margin_s", 4_000_000_000_u32.into())]).await;
    assert_eq!(next(&rig, &channel, &mut amount).await, Some("channel_expired"));
    changing.set(&[("settle_margin_s", 300.into())]).await;
    assert_eq!(next(&rig, &channel, &mut amount).await, None);

    let batch = |from: u64| (from..from + 3).map(|amount| channel.voucher(amount)).collect::<Vec<_>>();
    let url = format!("{}/v1/payments/batch", rig.relayer(0));
    let body = serde_json::to_vec(&batch(1_000)).expect("JSON");
    changing.set(&[("batch_max", 2.into())]).await;
    let problem = rig.http.post(&url, body.clone()).await.problem();
    assert!(problem.detail.is_some_and(|detail| detail.contains("the limit is 2 (batch_max)")));
    changing.set(&[("batch_max", 3.into())]).await;
    assert_eq!(rig.http.post(&url, body).await.status, 200);
    amount = 2_000;

    changing.set(&[("batch_max", 1.into()), ("limits.payments_in_flight_max", 1.into())]).await;
    next(&rig, &other, &mut other_amount).await;
    rig.redis.proxy().delay(Duration::from_millis(100));
    let both = tokio::join!(next(&rig, &channel, &mut amount), next(&rig, &other, &mut other_amount));
    rig.redis.proxy().pass();
    assert!(matches!(both, (None, Some("overloaded")) | (Some("overloaded"), None)), "{both:?}");
    changing.set(&[("limits.payments_in_flight_max", 4_096.into())]).await;

    let chain = rig.payer().await.channel(rig.payee()).payword(Hash([7; 32]), 1, 1_000).open().await;
    changing.set(&[("limits.hash_steps_max", 10.into())]).await;
    let answer = chain.pay(rig.relayer(0), 11).await.expect("an answer");
    assert_eq!(answer.code(), Some("step_too_large"));
    changing.set(&[("limits.hash_steps_max", 11.into())]).await;
    assert_eq!(chain.pay(rig.relayer(0), 11).await.expect("an answer").code(), None);

    changing.set(&[("limits.per_channel_per_s", 1.into())]).await;
    assert_eq!(first_refusal(&rig, &channel, &mut amount).await, Some("rate_limited"));
    assert_eq!(next(&rig, &other, &mut other_amount).await, None, "each channel for itself");
    changing.set(&[("limits.keys_max", 99.into())]).await;
    assert_eq!(next(&rig, &channel, &mut amount).await, None, "counts begin anew");
    changing.set(&[("limits.per_channel_per_s", Value::Null)]).await;
    assert_eq!(first_refusal(&rig, &channel, &mut amount).await, None);
    changing.set(&[("limits.per_address_per_s", 1.into())]).await;
    assert_eq!(first_refusal(&rig, &channel, &mut amount).await, Some("rate_limited"));
    changing.set(&[("limits.per_address_per_s", Value::Null)]).await;
    assert_eq!(first_refusal(&rig, &channel, &mut amount).await, None);

    changing.what_every_service_has().await;
    changing.assert_all::<relayer::Config>();
}

#[tokio::test]
async fn a_relayer_refuses_what_needs_a_restart_and_all_that_comes_with_it() {
    let (mut rig, file) = rig().await;
    let mut process = rig.relayers.remove(0);
    refuses_as_a_whole(
        &mut process,
        file,
        [("channels.cache_max", json!(5)), ("limits.payments_in_flight_max", json!(300))],
    )
    .await;
    let channel = rig.channel(10).await;
    assert_eq!(next(&rig, &channel, &mut 0).await, None, "and it goes on");
}
