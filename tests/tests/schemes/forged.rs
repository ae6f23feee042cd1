//! Payments that prove nothing, or something else than they say: each is refused, and leaves nothing behind.

use common::amount::Amount;
use common::ids::Hash;
use common::problem::Problem;
use common::scheme::payword::hash_times;
use common::scheme::{paytree, payword};
use common::voucher::Proof;
use common::wire::{PaymentAnswer, PaymentRequest};
use tests::rig::Rig;

use super::scene::{
    UNIT, accepted, assert_latest, chain, flipped, json, leaf, refused, relayers, step, tree, with_proof,
    without_amount,
};

/// More than these tests ever ask for.
const STEPS_MAX: u32 = 10_000;

async fn refuse(rig: &Rig, code: &str, payment: &PaymentRequest) -> Problem {
    refused(rig, 0, code, json(payment)).await
}

fn payword(k: u32, token: Hash) -> Proof {
    Proof::Payword(payword::Proof { k, token })
}

fn paytree(index: u32, secret: Hash, siblings: Vec<Hash>) -> Proof {
    Proof::Paytree(paytree::Proof { index, secret, siblings })
}

#[tokio::test]
async fn tokens_that_do_not_lead_to_the_root_pay_nothing() {
    let rig = relayers(1, STEPS_MAX).await;
    let (channel, other) = (chain(&rig, 100).await, chain(&rig, 100).await);
    // As a first payment and as a later one.
    for paid in [0, 7] {
        if paid > 0 {
            accepted(&rig, 0, &channel.voucher(paid * UNIT)).await;
        }
        let good = channel.voucher((paid + 3) * UNIT);
        let proof = step(&good);
        // Of another root.
        refuse(&rig, "invalid_signature", &with_proof(&good, other.voucher((paid + 3) * UNIT).proof)).await;
        let foreign = PaymentRequest { channel_id: channel.id(), ..other.voucher(UNIT) };
        refuse(&rig, "invalid_signature", &foreign).await;
        // Tampered with.
        for bit in [0, 9, 255] {
            let tampered = payword(proof.k, flipped(proof.token, bit));
            refuse(&rig, "invalid_signature", &with_proof(&good, tampered)).await;
        }
        // A step further, or less far, than it is.
        for k in [proof.k - 1, proof.k + 1, 100] {
            refuse(&rig, "invalid_signature", &with_proof(&good, payword(k, proof.token))).await;
        }
    }
    accepted(&rig, 0, &channel.voucher(10 * UNIT)).await;
}

#[tokio::test]
async fn the_same_step_with_another_token_is_no_duplicate_and_a_lower_step_is_stale() {
    let rig = relayers(1, STEPS_MAX).await;
    let channel = chain(&rig, 100).await;
    accepted(&rig, 0, &channel.voucher(8 * UNIT)).await;
    let latest = channel.voucher(8 * UNIT);
    let other = payword(8, flipped(step(&latest).token, 3));
    refuse(&rig, "invalid_signature", &with_proof(&latest, other)).await;
    for k in [7, 1] {
        let stale = refuse(&rig, "stale_amount", &channel.voucher(k * UNIT)).await;
        assert_latest(&stale, &channel, 8 * UNIT);
    }
}

#[tokio::test]
async fn steps_that_the_chain_has_not_are_malformed() {
    let rig = relayers(1, STEPS_MAX).await;
    let channel = chain(&rig, 100).await;
    let known = channel.voucher(UNIT);
    let root = hash_times(step(&known).token, 1);
    let seed = step(&channel.voucher(100 * UNIT)).token;
    for paid in [false, true] {
        if paid {
            accepted(&rig, 0, &known).await;
        }
        // The root is known to everyone: it must not be a payment, not even of nothing.
        for (k, token) in [(0, root), (101, seed), (101, root), (u32::MAX, seed)] {
            for body in [
                json(&with_proof(&known, payword(k, token))),
                without_amount(&with_proof(&known, payword(k, token))).into(),
            ] {
                let problem = refused(&rig, 0, "malformed", body).await;
                // A stated amount of 0 is at fault before the step is.
                let field = problem.field.as_deref();
                assert!(
                    field == Some("proof.payword.k") || (k == 0 && field == Some("cumulative_amount")),
                    "{problem:?}"
                );
            }
        }
    }
    accepted(&rig, 0, &channel.voucher(100 * UNIT)).await;
}

#[tokio::test]
async fn leaves_that_do_not_lead_to_the_root_pay_nothing() {
    let rig = relayers(1, STEPS_MAX).await;
    let (channel, other) = (tree(&rig, 64).await, tree(&rig, 64).await);
    for paid in [0, 8] {
        if paid > 0 {
            accepted(&rig, 0, &channel.voucher(paid * UNIT)).await;
        }
        let good = channel.voucher((paid + 3) * UNIT);
        let paytree::Proof { index, secret, siblings } = leaf(&good);
        // Of another root.
        refuse(&rig, "invalid_signature", &with_proof(&good, other.voucher((paid + 3) * UNIT).proof)).await;
        // Tampered with: the secret, a sibling of each level, and their order.
        let tampered = paytree(index, flipped(secret, 77), siblings.clone());
        refuse(&rig, "invalid_signature", &with_proof(&good, tampered)).await;
        for level in 0..siblings.len() {
            let mut changed = siblings.clone();
            changed[level] = flipped(changed[level], 8 * level);
            refuse(&rig, "invalid_signature", &with_proof(&good, paytree(index, secret, changed))).await;
        }
        let swapped = siblings.iter().rev().copied().collect();
        refuse(&rig, "invalid_signature", &with_proof(&good, paytree(index, secret, swapped))).await;
        let mut longer = siblings.clone();
        longer.push(Hash([0; 32]));
        refuse(&rig, "invalid_signature", &with_proof(&good, paytree(index, secret, longer))).await;
        // Another leaf than it is.
        for index in [index - 1, index + 1, 63] {
            let moved = paytree(index, secret, siblings.clone());
            refuse(&rig, "invalid_signature", &with_proof(&good, moved)).await;
        }
    }
    accepted(&rig, 0, &channel.voucher(11 * UNIT)).await;
}

#[tokio::test]
async fn what_one_payment_reveals_of_the_next_does_not_pay_it() {
    let rig = relayers(1, STEPS_MAX).await;
    let channel = tree(&rig, 64).await;
    accepted(&rig, 0, &channel.voucher(2 * UNIT)).await;
    let (paid, next) = (leaf(&channel.voucher(2 * UNIT)), leaf(&channel.voucher(3 * UNIT)));
    // The path of leaf 2 shows the hash of leaf 3, and everything above the two.
    let stolen = paytree(3, paid.siblings[0], next.siblings.clone());
    refuse(&rig, "invalid_signature", &with_proof(&channel.voucher(3 * UNIT), stolen)).await;
    let compressed = paytree(3, paid.siblings[0], Vec::new());
    refuse(&rig, "invalid_signature", &with_proof(&channel.voucher(3 * UNIT), compressed)).await;
    // A node in the place of a leaf, with the path from there: leaf 1 has the node above leaves 2 and 3 beside it.
    let node = leaf(&channel.voucher(UNIT)).siblings[1];
    for index in [1, 16, 33] {
        let above = paytree(index, node, paid.siblings[1..].to_vec());
        refuse(&rig, "invalid_signature", &with_proof(&channel.voucher(UNIT), above)).await;
        let padded = paytree(index, node, [&paid.siblings[1..], &[Hash([0; 32])]].concat());
        refuse(&rig, "invalid_signature", &with_proof(&channel.voucher(UNIT), padded)).await;
    }
}

#[tokio::test]
async fn the_same_leaf_with_another_proof_is_no_duplicate_and_a_lower_leaf_is_stale() {
    let rig = relayers(1, STEPS_MAX).await;
    let channel = tree(&rig, 64).await;
    let latest = channel.voucher(9 * UNIT);
    accepted(&rig, 0, &latest).await;
    let paytree::Proof { index, secret, siblings } = leaf(&latest);
    let mut changed = siblings.clone();
    changed[5] = flipped(changed[5], 1);
    for proof in [
        paytree(index, flipped(secret, 5), siblings.clone()),
        paytree(index, flipped(secret, 5), Vec::new()),
        paytree(index, secret, changed),
        paytree(index, secret, siblings[1..].to_vec()),
    ] {
        refuse(&rig, "invalid_signature", &with_proof(&latest, proof)).await;
    }
    for amount in [8 * UNIT, UNIT] {
        let stale = refuse(&rig, "stale_amount", &channel.voucher(amount)).await;
        assert_latest(&stale, &channel, 9 * UNIT);
    }
}

#[tokio::test]
async fn leaves_that_the_tree_has_not_are_malformed_and_so_is_leaf_0() {
    let rig = relayers(1, STEPS_MAX).await;
    let channel = tree(&rig, 64).await;
    let known = channel.voucher(UNIT);
    let paytree::Proof { secret, siblings, .. } = leaf(&known);
    // The payer's own proof of leaf 0: its leaf is the first sibling of leaf 1, so that the path is genuine.
    let mut of_0 = siblings.clone();
    of_0[0] = hash_times(secret, 1);
    for paid in [false, true] {
        if paid {
            accepted(&rig, 0, &known).await;
        }
        for (index, siblings) in [(0, &of_0), (0, &Vec::new()), (64, &siblings), (u32::MAX, &siblings)] {
            let proof = with_proof(&known, paytree(index, secret, siblings.clone()));
            let problem = refused(&rig, 0, "malformed", without_amount(&proof)).await;
            assert_eq!(problem.field.as_deref(), Some("proof.paytree.index"), "{problem:?}");
            refuse(&rig, "malformed", &proof).await;
        }
    }
    accepted(&rig, 0, &channel.voucher(63 * UNIT)).await;
}

#[tokio::test]
async fn a_payment_of_another_scheme_than_the_channel_s_is_refused_by_field() {
    let rig = relayers(1, STEPS_MAX).await;
    let channels = [chain(&rig, 64).await, tree(&rig, 64).await, rig.channel(1_000).await];
    for (i, channel) in channels.iter().enumerate() {
        for other in channels.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other) {
            let payment = PaymentRequest { channel_id: channel.id(), ..other.voucher(UNIT) };
            let problem = refuse(&rig, "invalid_signature", &payment).await;
            assert_eq!(problem.field.as_deref(), Some("proof"), "{problem:?}");
        }
        // The payer authorizer's own signature does not pay where amounts are committed to.
        if i < 2 {
            refuse(&rig, "invalid_signature", &channel.voucher_until(UNIT, 0)).await;
        }
    }
    for channel in &channels {
        accepted(&rig, 0, &channel.voucher(UNIT)).await;
    }
}

#[tokio::test]
async fn a_proof_says_its_amount_and_whoever_states_another_is_refused() {
    let rig = relayers(1, STEPS_MAX).await;
    for channel in [chain(&rig, 64).await, tree(&rig, 64).await] {
        for stated in [1, 6 * UNIT - 1, 6 * UNIT + 1, 7 * UNIT, 1_000_000, u64::MAX] {
            let payment =
                PaymentRequest { cumulative_amount: Amount::new(stated), ..channel.voucher(6 * UNIT) };
            let problem = refuse(&rig, "invalid_signature", &payment).await;
            assert_eq!(problem.field.as_deref(), Some("cumulative_amount"));
        }
        let nothing = PaymentRequest { cumulative_amount: Amount::ZERO, ..channel.voucher(6 * UNIT) };
        assert_eq!(refuse(&rig, "malformed", &nothing).await.field.as_deref(), Some("cumulative_amount"));
        let unstated = rig.present(0, without_amount(&channel.voucher(6 * UNIT))).await;
        let answer: PaymentAnswer = unstated.success();
        assert_eq!(answer.cumulative_amount, Amount::new(6 * UNIT), "the answer states it");
    }
}

#[tokio::test]
async fn no_proof_reaches_above_the_capacity() {
    let rig = relayers(1, STEPS_MAX).await;
    let payer = rig.payer().await;
    let opening = || payer.channel(rig.payee()).capacity(10 * UNIT + 1);
    for channel in [
        opening().payword(Hash(rand::random()), UNIT, 64).open().await,
        opening().paytree(Hash(rand::random()), UNIT, 64).open().await,
    ] {
        accepted(&rig, 0, &channel.voucher(UNIT)).await;
        for units in [11, 63] {
            refuse(&rig, "over_capacity", &channel.voucher(units * UNIT)).await;
        }
        accepted(&rig, 0, &channel.voucher(10 * UNIT)).await;
        refuse(&rig, "over_capacity", &channel.voucher(11 * UNIT)).await;
    }
}
