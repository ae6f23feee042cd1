//! How far a relayer hashes for one payment, and from where.

use common::amount::Amount;
use common::client::Purse;
use common::ids::Hash;
use common::scheme::payword;
use common::voucher::Proof;
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions};

use super::scene::{
    UNIT, accepted, assert_latest, chain, flipped, json, refused, relayers, step, with_proof,
};

/// The bound of these relayers.
const STEPS_MAX: u32 = 10;

/// How often Redis was asked for all that it holds of a channel.
async fn reads(rig: &Rig) -> u64 {
    let stats = rig.redis.command(&["INFO", "commandstats"]).await;
    let line =
        stats.split("\\r\\n").flat_map(str::lines).find(|line| line.starts_with("cmdstat_hmget:calls="));
    let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
    calls.map_or(0, |calls| calls.parse().expect("a number of calls"))
}

/// Pays up to `k` in steps that every relayer takes.
async fn pay_up_to(rig: &Rig, relayer: usize, channel: &Channel, from: u64, k: u64) {
    for k in (from..=k).step_by(10) {
        accepted(rig, relayer, &channel.voucher(k * UNIT)).await;
    }
}

#[tokio::test]
async fn a_payment_is_at_most_the_bound_above_the_one_before() {
    let rig = relayers(1, STEPS_MAX).await;
    let channel = chain(&rig, 1_000).await;
    let first = refused(&rig, 0, "step_too_large", json(&channel.voucher(11 * UNIT))).await;
    assert_eq!((first.status, first.latest), (422, None), "nothing was paid");
    assert!(first.detail.expect("a sentence").contains("11 steps"));
    accepted(&rig, 0, &channel.voucher(10 * UNIT)).await;
    let next = refused(&rig, 0, "step_too_large", json(&channel.voucher(21 * UNIT))).await;
    assert_latest(&next, &channel, 10 * UNIT);
    accepted(&rig, 0, &channel.voucher(20 * UNIT)).await;
    // The bound is on the work for a payment, whether it holds or not.
    let forged = flipped(step(&channel.voucher(31 * UNIT)).token, 0);
    let forged = Proof::Payword(payword::Proof { k: 31, token: forged });
    refused(&rig, 0, "step_too_large", json(&with_proof(&channel.voucher(UNIT), forged))).await;
}

#[tokio::test]
async fn the_bound_is_1024_steps_where_nothing_else_is_configured() {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = chain(&rig, 3_000).await;
    refused(&rig, 0, "step_too_large", json(&channel.voucher(1_025 * UNIT))).await;
    accepted(&rig, 0, &channel.voucher(1_024 * UNIT)).await;
    accepted(&rig, 0, &channel.voucher(2_048 * UNIT)).await;
}

#[tokio::test]
async fn a_relayer_that_lags_behind_asks_redis_once_and_goes_on_from_there() {
    let rig = relayers(2, STEPS_MAX).await;
    let channel = chain(&rig, 1_000).await;
    pay_up_to(&rig, 0, &channel, 10, 200).await;
    // One that never saw the channel: the terms, and then how far it is.
    let before = reads(&rig).await;
    accepted(&rig, 1, &channel.voucher(205 * UNIT)).await;
    assert_eq!(reads(&rig).await, before + 2);
    // One that has seen it, far below.
    accepted(&rig, 0, &channel.voucher(210 * UNIT)).await;
    pay_up_to(&rig, 0, &channel, 220, 400).await;
    let before = reads(&rig).await;
    accepted(&rig, 1, &channel.voucher(410 * UNIT)).await;
    assert_eq!(reads(&rig).await, before + 1, "its view was too old");
    pay_up_to(&rig, 1, &channel, 420, 500).await;
    assert_eq!(reads(&rig).await, before + 1, "and is no more");
}

#[tokio::test]
async fn a_relayer_that_met_the_channel_before_redis_did_asks_redis_all_the_same() {
    let rig = relayers(2, STEPS_MAX).await;
    let channel = chain(&rig, 1_000).await;
    // Looked up with the issuer, and nothing recorded.
    refused(&rig, 1, "step_too_large", json(&channel.voucher(50 * UNIT))).await;
    pay_up_to(&rig, 0, &channel, 10, 100).await;
    accepted(&rig, 1, &channel.voucher(110 * UNIT)).await;
}

#[tokio::test]
async fn a_channel_that_redis_does_not_know_goes_on_from_what_the_issuer_has_paid() {
    let rig = relayers(1, STEPS_MAX).await;
    let channel = chain(&rig, 1_000).await;
    rig.settle_directly(&channel, 500 * UNIT, false, 0).await;
    let beyond = refused(&rig, 0, "step_too_large", json(&channel.voucher(511 * UNIT))).await;
    assert_latest(&beyond, &channel, 500 * UNIT);
    let stale = refused(&rig, 0, "stale_amount", json(&channel.voucher(250 * UNIT))).await;
    assert_latest(&stale, &channel, 500 * UNIT);
    accepted(&rig, 0, &channel.voucher(510 * UNIT)).await;
    let stale = refused(&rig, 0, "stale_amount", json(&channel.voucher(UNIT))).await;
    assert_latest(&stale, &channel, 510 * UNIT);
}

#[tokio::test]
async fn a_payer_that_lost_its_place_goes_on_from_what_a_stale_payment_is_answered() {
    let rig = relayers(2, STEPS_MAX).await;
    let channel = chain(&rig, 1_000).await;
    pay_up_to(&rig, 0, &channel, 10, 300).await;
    // All it has is its seed; a relayer tells where it stands, whichever payment it tries first.
    for relayer in [0, 1] {
        for k in [1, 150, 299] {
            let stale = refused(&rig, relayer, "stale_amount", json(&channel.voucher(k * UNIT))).await;
            assert_latest(&stale, &channel, 300 * UNIT);
        }
        let beyond = refused(&rig, relayer, "step_too_large", json(&channel.voucher(900 * UNIT))).await;
        assert_latest(&beyond, &channel, 300 * UNIT);
    }
    let stale = refused(&rig, 1, "stale_amount", json(&channel.voucher(UNIT))).await;
    let latest = stale.latest.expect("with the latest payment");
    let Some(k) = latest.proof.units() else { panic!("a step: {latest:?}") };
    // It takes nobody's word for it: the token must be of its own chain.
    let stranger = Purse::payword(Hash(rand::random()), Amount::new(UNIT), 1_000);
    assert!(!stranger.expect("a chain").made(&latest));
    assert_eq!(latest.proof, channel.voucher(u64::from(k) * UNIT).proof);
    accepted(&rig, 1, &channel.voucher(u64::from(k + 1) * UNIT)).await;
}
