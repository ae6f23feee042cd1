//! How much of a path must be shown, to relayers that took the payments before and to others.

use common::scheme::paytree;
use common::voucher::Proof;
use common::wire::{Outcome, PaymentRequest};
use tests::rig::Rig;

use super::scene::{
    UNIT, accepted, assert_latest, flipped, json, leaf, refused, relayers, taken, tree, with_proof,
};

/// Of no matter here.
const STEPS_MAX: u32 = 1_024;

/// The payment of leaf `index` with the lowest `siblings` of its path.
fn cut(payment: &PaymentRequest, siblings: usize) -> PaymentRequest {
    let mut proof = leaf(payment);
    proof.siblings.truncate(siblings);
    with_proof(payment, Proof::Paytree(proof))
}

async fn stored_is_complete(rig: &Rig, channel: &tests::payer::Channel, amount: u64) {
    let stored = rig.stored(channel).await.state;
    assert_eq!(stored.amount.units(), amount);
    assert_eq!(stored.proof, channel.voucher(amount).proof.to_bytes(), "kept with all its siblings");
}

#[tokio::test]
async fn compressed_payments_are_taken_by_any_relayer_after_others_took_the_ones_before() {
    let rig = relayers(3, STEPS_MAX).await;
    let channel = tree(&rig, 1_024).await;
    accepted(&rig, 0, &channel.voucher(UNIT)).await;
    // One after the other, and in leaps of all sizes.
    let leaps = [2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 64, 65, 127, 128, 500, 511, 512, 513, 1_000, 1_023];
    let mut latest = 1;
    for (i, index) in leaps.into_iter().enumerate() {
        let payment = channel.compressed_after(index * UNIT, latest * UNIT);
        accepted(&rig, (i * 2 + 1) % 3, &payment).await;
        stored_is_complete(&rig, &channel, index * UNIT).await;
        latest = index;
    }
}

#[tokio::test]
async fn a_compressed_payment_and_the_complete_one_are_the_same_payment() {
    let rig = relayers(2, STEPS_MAX).await;
    let channel = tree(&rig, 256).await;
    accepted(&rig, 0, &channel.voucher(4 * UNIT)).await;
    let (complete, compressed) = (channel.voucher(7 * UNIT), channel.compressed_after(7 * UNIT, 4 * UNIT));
    assert!(leaf(&compressed).siblings.len() < leaf(&complete).siblings.len());
    accepted(&rig, 0, &compressed).await;
    for relayer in [0, 1] {
        let before = rig.dump().await;
        // Also with nothing but the secret: the latest payment is known whole.
        for payment in [&complete, &compressed, &cut(&complete, 0), &cut(&complete, 3)] {
            assert_eq!(taken(&rig, relayer, payment).await, Outcome::Duplicate, "{payment:?}");
        }
        assert_eq!(rig.dump().await, before, "recorded once");
    }
    // The other way round, at the relayer that did not take it.
    accepted(&rig, 0, &channel.voucher(9 * UNIT)).await;
    let again = channel.compressed_after(9 * UNIT, 7 * UNIT);
    assert_eq!(taken(&rig, 1, &again).await, Outcome::Duplicate);
}

#[tokio::test]
async fn a_payment_that_leaves_out_too_much_is_told_the_latest_and_goes_on_from_there() {
    let rig = relayers(2, STEPS_MAX).await;
    let channel = tree(&rig, 256).await;
    // Nothing was paid: no sibling follows from anything.
    for siblings in [0, 1, 7] {
        let first = cut(&channel.voucher(3 * UNIT), siblings);
        let problem = refused(&rig, 0, "missing_siblings", json(&first)).await;
        assert_eq!((problem.status, problem.latest), (409, None));
        assert!(problem.detail.expect("a sentence").contains("expected the lowest 8"));
    }
    accepted(&rig, 0, &channel.voucher(3 * UNIT)).await;
    for relayer in [0, 1] {
        // Leaf 130 parts from leaf 3 at the top.
        for siblings in [0, 6] {
            let payment = cut(&channel.voucher(130 * UNIT), siblings);
            let problem = refused(&rig, relayer, "missing_siblings", json(&payment)).await;
            assert_latest(&problem, &channel, 3 * UNIT);
        }
    }
    let payment = channel.compressed_after(130 * UNIT, 3 * UNIT);
    assert_eq!(leaf(&payment).siblings.len(), 7, "no more than was missing");
    accepted(&rig, 1, &payment).await;
    // A lower leaf is stale, whether it could be checked or not.
    for relayer in [0, 1] {
        for payment in [cut(&channel.voucher(64 * UNIT), 0), channel.voucher(64 * UNIT)] {
            let problem = refused(&rig, relayer, "stale_amount", json(&payment)).await;
            assert_latest(&problem, &channel, 130 * UNIT);
        }
    }
}

#[tokio::test]
async fn a_relayer_that_met_the_channel_before_redis_did_takes_compressed_payments_too() {
    let rig = relayers(2, STEPS_MAX).await;
    let channel = tree(&rig, 256).await;
    refused(&rig, 1, "missing_siblings", json(&cut(&channel.voucher(9 * UNIT), 0))).await;
    accepted(&rig, 0, &channel.voucher(4 * UNIT)).await;
    accepted(&rig, 1, &channel.compressed_after(5 * UNIT, 4 * UNIT)).await;
    stored_is_complete(&rig, &channel, 5 * UNIT).await;
}

#[tokio::test]
async fn a_channel_that_redis_does_not_know_goes_on_from_what_the_issuer_has_paid() {
    let rig = relayers(1, STEPS_MAX).await;
    let channel = tree(&rig, 256).await;
    rig.settle_directly(&channel, 100 * UNIT, false, 0).await;
    let problem = refused(&rig, 0, "missing_siblings", json(&cut(&channel.voucher(200 * UNIT), 6))).await;
    assert_latest(&problem, &channel, 100 * UNIT);
    let stale = refused(&rig, 0, "stale_amount", json(&cut(&channel.voucher(9 * UNIT), 0))).await;
    assert_latest(&stale, &channel, 100 * UNIT);
    accepted(&rig, 0, &channel.compressed_after(102 * UNIT, 100 * UNIT)).await;
    stored_is_complete(&rig, &channel, 102 * UNIT).await;
}

#[tokio::test]
async fn what_was_proven_and_never_taken_does_not_mislead_a_relayer() {
    let rig = relayers(1, STEPS_MAX).await;
    let seed = common::ids::Hash(rand::random());
    let payer = rig.payer().await;
    let channel = payer.channel(rig.payee()).capacity(100 * UNIT).paytree(seed, UNIT, 256).open().await;
    accepted(&rig, 0, &channel.voucher(4 * UNIT)).await;
    // Proven, and above the capacity: the relayer knows a leaf that Redis does not hold.
    refused(&rig, 0, "over_capacity", json(&channel.voucher(200 * UNIT))).await;
    let mut latest = 4;
    for index in [5, 6, 7, 8, 40, 64, 100] {
        accepted(&rig, 0, &channel.compressed_after(index * UNIT, latest * UNIT)).await;
        stored_is_complete(&rig, &channel, index * UNIT).await;
        latest = index;
    }
}

#[tokio::test]
async fn what_is_shown_although_it_is_known_must_be_right_all_the_same() {
    let rig = relayers(1, STEPS_MAX).await;
    let channel = tree(&rig, 256).await;
    accepted(&rig, 0, &channel.voucher(4 * UNIT)).await;
    let paytree::Proof { index, secret, mut siblings } = leaf(&channel.voucher(5 * UNIT));
    siblings[6] = flipped(siblings[6], 1);
    let wrong = Proof::Paytree(paytree::Proof { index, secret, siblings });
    refused(&rig, 0, "invalid_signature", json(&with_proof(&channel.voucher(5 * UNIT), wrong))).await;
    // An odd leaf after the even one needs none.
    let mut latest = 4;
    for shown in 0..=8 {
        accepted(&rig, 0, &cut(&channel.voucher((latest + 1) * UNIT), shown)).await;
        stored_is_complete(&rig, &channel, (latest + 1) * UNIT).await;
        latest += 2;
        accepted(&rig, 0, &channel.voucher(latest * UNIT)).await;
    }
}
