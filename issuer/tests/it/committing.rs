//! Channels whose payer commits to all payments when it opens them: the commitment, and the proofs that redeem it.

use common::amount::Amount;
use common::channel::{SchemeKind, Terms};
use common::client::{Purse, compressed};
use common::ids::{ChannelId, Hash};
use common::problem::Code;
use common::scheme::{STEPS_MAX, paytree, payword};
use common::voucher::Proof;
use common::wire::{IssuerStatus, SettlementRequest};
use futures::future::join_all;

use super::BACKEND;
use crate::harness::{Bank, Party, Settlement, code_of, fault_of, issuer_key};

const UNIT: u64 = 3;

pub(super) fn chain(seed: u8, length: u32) -> Purse {
    Purse::payword(Hash([seed; 32]), Amount::new(UNIT), length).expect("a length")
}

fn tree(seed: u8, leaves: u32) -> Purse {
    Purse::paytree(Hash([seed; 32]), Amount::new(UNIT), leaves).expect("a power of two")
}

pub(super) async fn bank_with_parties() -> (Bank, Party, Party) {
    let bank = Bank::start_with(BACKEND, |config| {
        config.development.enabled = true;
        config.development.starting_balance = Amount::new(10_000_000);
    })
    .await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    (bank, payer, payee)
}

pub(super) fn terms(bank: &Bank, payer: &Party, payee: &Party, scheme: SchemeKind) -> Terms {
    Terms { scheme, ..bank.terms(payer, payee, 4_000_000) }
}

pub(super) async fn open(bank: &Bank, payer: &Party, payee: &Party, purse: &Purse) -> ChannelId {
    let opening = payer.opening(terms(bank, payer, payee, purse.scheme()));
    bank.client.open(&opening).await.expect("opened").channel_id
}

pub(super) fn proof(purse: &Purse, units: u64) -> Proof {
    purse.payment(ChannelId([0; 32]), Amount::new(units * UNIT)).expect("within the commitment").proof
}

/// The settlement of so many units.
fn redeem(id: ChannelId, purse: &Purse, units: u64, payee: &Party) -> SettlementRequest {
    Settlement::of(id, units * UNIT).redeeming(Some(proof(purse, units)), payee)
}

#[tokio::test]
async fn commitments_that_no_payment_can_be_made_under_are_refused_by_field() {
    let (bank, payer, payee) = bank_with_parties().await;
    let payword = |unit, length| {
        let root = Hash([1; 32]);
        SchemeKind::Payword(payword::Commitment { root, unit: Amount::new(unit), length })
    };
    let paytree = |unit, leaves| {
        let root = Hash([2; 32]);
        SchemeKind::Paytree(paytree::Commitment { root, unit: Amount::new(unit), leaves })
    };
    for (field, scheme) in [
        ("terms.scheme.payword.length", payword(1, 0)),
        ("terms.scheme.payword.length", payword(1, STEPS_MAX + 1)),
        ("terms.scheme.payword.unit", payword(0, 8)),
        ("terms.scheme.payword.unit", payword(u64::MAX / 8 + 1, 8)),
        ("terms.scheme.paytree.leaves", paytree(1, 0)),
        ("terms.scheme.paytree.leaves", paytree(1, 1)),
        ("terms.scheme.paytree.leaves", paytree(1, 12)),
        ("terms.scheme.paytree.leaves", paytree(1, 2 * STEPS_MAX)),
        ("terms.scheme.paytree.unit", paytree(0, 8)),
        ("terms.scheme.paytree.unit", paytree(u64::MAX / 8 + 1, 8)),
    ] {
        let opening = payer.opening(terms(&bank, &payer, &payee, scheme));
        let (code, at) = fault_of(bank.client.open(&opening).await);
        assert_eq!((code, at.as_deref()), (Code::Malformed, Some(field)), "{scheme:?}");
    }
    assert_eq!(bank.usd(&payer).await, (10_000_000, 0));
    // The largest of both, and the highest unit.
    for scheme in [payword(1, STEPS_MAX), paytree(u64::MAX / 8, 8)] {
        let opening = payer.opening(terms(&bank, &payer, &payee, scheme));
        assert_eq!(code_of(bank.client.open(&opening).await), None, "{scheme:?}");
    }
    bank.assert_balanced().await;
}

#[tokio::test]
async fn a_commitment_opens_one_channel_ever_and_the_same_opening_finds_it() {
    let (bank, payer, payee) = bank_with_parties().await;
    let other = bank.party(3).await;
    for purse in [chain(7, 100), tree(7, 128)] {
        let had = bank.usd(&payer).await;
        let opening = payer.opening(terms(&bank, &payer, &payee, purse.scheme()));
        let id = bank.client.open(&opening).await.expect("opened").channel_id;
        let again = async |by: &Party, to: &Party| {
            let opening = by.opening(terms(&bank, by, to, purse.scheme()));
            fault_of(bank.client.open(&opening).await)
        };
        let reused = (Code::CommitmentReused, Some("terms.scheme".to_owned()));
        assert_eq!(again(&payer, &payee).await, reused);
        assert_eq!(again(&payer, &other).await, reused);
        assert_eq!(again(&other, &payee).await, reused);
        assert_eq!(bank.client.open(&opening).await.expect("found").channel_id, id);
        assert_eq!(bank.usd(&payer).await, (had.0 - 4_000_000, 4_000_000), "locked once");
        assert_eq!(bank.usd(&other).await, (10_000_000, 0), "a refused opening locks nothing");
        // Still after it is closed: by then the payee knows what it revealed.
        let close = Settlement::of(id, 40 * UNIT).close().redeeming(Some(proof(&purse, 40)), &payee);
        bank.client.settle(&id, &close).await.expect("closed");
        assert_eq!(again(&payer, &payee).await, reused);
        assert_eq!(again(&other, &payee).await, reused);
        assert_eq!(bank.client.open(&opening).await.expect("found").status, IssuerStatus::Closed);
    }
    bank.assert_balanced().await;
}

#[tokio::test]
async fn of_ten_openings_at_once_with_one_commitment_one_is_taken() {
    let (bank, payer, payee) = bank_with_parties().await;
    let purse = chain(8, 100);
    let openings: Vec<_> = (0..10)
        .map(|_| payer.opening(Terms { scheme: purse.scheme(), ..bank.terms(&payer, &payee, 10) }))
        .collect();
    let results = join_all(openings.iter().map(|opening| bank.client.open(opening))).await;
    let codes: Vec<_> = results.into_iter().map(code_of).collect();
    assert_eq!(codes.iter().filter(|code| code.is_none()).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(Code::CommitmentReused)).count(), 9);
    assert_eq!(bank.usd(&payer).await, (9_999_990, 10));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn the_longest_chain_is_settled_from_its_root() {
    let (bank, payer, payee) = bank_with_parties().await;
    let purse = chain(9, STEPS_MAX);
    let id = open(&bank, &payer, &payee, &purse).await;
    let all = u64::from(STEPS_MAX);
    let partial = redeem(id, &purse, 1_000, &payee);
    let receipt = bank.client.settle(&id, &partial).await.expect("settled");
    assert_eq!((receipt.settled_amount.units(), receipt.closed), (1_000 * UNIT, false));
    let started = std::time::Instant::now();
    let close = Settlement::of(id, all * UNIT).close().redeeming(Some(proof(&purse, all)), &payee);
    let (status, body) = bank.settle_raw(&id, &close).await;
    eprintln!("{all} steps of a chain were settled in {} ms", started.elapsed().as_millis());
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    assert_eq!(bank.settle_raw(&id, &close).await, (status, body), "a repeat, byte for byte");
    assert_eq!(bank.client.settle(&id, &partial).await.expect("the first receipt"), receipt);
    assert_eq!(bank.usd(&payee).await, (10_000_000 + all * UNIT, 0));
    assert_eq!(bank.usd(&payer).await, (10_000_000 - all * UNIT, 0));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn settlements_of_both_schemes_pay_once_however_often_they_are_sent() {
    let (bank, payer, payee) = bank_with_parties().await;
    let mut earned = 10_000_000;
    for purse in [chain(10, 1_000), tree(10, 1_024)] {
        let id = open(&bank, &payer, &payee, &purse).await;
        let partial = redeem(id, &purse, 100, &payee);
        let close = Settlement::of(id, 700 * UNIT).close().redeeming(Some(proof(&purse, 700)), &payee);
        for (request, units) in [(&partial, 100), (&close, 700)] {
            let answers = join_all((0..10).map(|_| bank.settle_raw(&id, request))).await;
            assert!(answers.iter().all(|answer| *answer == answers[0] && answer.0 == 200), "{answers:?}");
            let channel = bank.read(&id).await;
            let settled = channel.settled.expect("something was settled");
            assert_eq!(settled.cumulative_amount.units(), units * UNIT);
            assert_eq!(settled.proof, proof(&purse, units), "what a relayer starts from");
            assert!(channel.receipt.expect("a receipt").is_signed_by(&issuer_key()));
        }
        assert_eq!(bank.settle_raw(&id, &partial).await.0, 200, "what came before is still answered");
        earned += 700 * UNIT;
        assert_eq!(bank.usd(&payee).await, (earned, 0));
        let more = redeem(id, &purse, 800, &payee);
        assert_eq!(bank.refusal(&id, &more).await, Some(Code::ChannelClosed));
    }
    bank.assert_balanced().await;
}

/// Settlements of 50 units whose proofs do not hold, each with what is wrong with it.
fn wrong_proofs(purse: &Purse, other: &Purse) -> Vec<(&'static str, Proof)> {
    let good = proof(purse, 50);
    let mut wrong = vec![("of another root", proof(other, 50)), ("of another amount", proof(purse, 49))];
    let mut tampered = good.clone();
    let mut moved = good.clone();
    match (&mut tampered, &mut moved) {
        (Proof::Payword(tampered), Proof::Payword(moved)) => {
            tampered.token.0[31] ^= 1;
            moved.token = match proof(purse, 49) {
                Proof::Payword(below) => below.token,
                other => panic!("not a step: {other:?}"),
            };
            let token = tampered.token;
            wrong.push(("step 0", Proof::Payword(payword::Proof { k: 0, token })));
            wrong.push(("past the end", Proof::Payword(payword::Proof { k: u32::MAX, token })));
        }
        (Proof::Paytree(tampered), Proof::Paytree(moved)) => {
            tampered.siblings[5].0[0] ^= 1;
            moved.index = 51;
            let paytree::Proof { secret, siblings, .. } = moved.clone();
            wrong.push((
                "leaf 0",
                Proof::Paytree(paytree::Proof { index: 0, secret, siblings: siblings.clone() }),
            ));
            wrong.push(("past the end", Proof::Paytree(paytree::Proof { index: 1_024, secret, siblings })));
            let none = paytree::Proof { index: 50, secret, siblings: Vec::new() };
            wrong.push(("without siblings", Proof::Paytree(none)));
        }
        other => panic!("no scheme that counts units: {other:?}"),
    }
    wrong.extend([("tampered with", tampered), ("moved", moved)]);
    wrong
}

#[tokio::test]
async fn proofs_that_do_not_hold_are_refused_and_pay_nothing() {
    let (bank, payer, payee) = bank_with_parties().await;
    let pairs = [(chain(11, 1_000), chain(12, 1_000)), (tree(11, 1_024), tree(12, 1_024))];
    for (purse, other) in &pairs {
        let id = open(&bank, &payer, &payee, purse).await;
        let had = bank.usd(&payee).await;
        let mut wrong = wrong_proofs(purse, other);
        let of_the_other_scheme = pairs.iter().map(|(purse, _)| purse).find(|p| p.scheme() != purse.scheme());
        wrong.push(("of another scheme", proof(of_the_other_scheme.expect("two of them"), 50)));
        for (what, proof) in wrong {
            for settlement in [Settlement::of(id, 50 * UNIT), Settlement::of(id, 50 * UNIT).close()] {
                let request = settlement.redeeming(Some(proof.clone()), &payee);
                assert_eq!(bank.refusal(&id, &request).await, Some(Code::InvalidSignature), "{what}");
            }
        }
        // The payer's signature does not pay where amounts are committed to, and no one but the payee settles.
        let signed = Settlement::of(id, 50 * UNIT).signed(&payer, &payee);
        assert_eq!(bank.refusal(&id, &signed).await, Some(Code::InvalidSignature));
        let by_payer = Settlement::of(id, 50 * UNIT).redeeming(Some(proof(purse, 50)), &payer);
        assert_eq!(bank.refusal(&id, &by_payer).await, Some(Code::InvalidSignature));
        assert_eq!(bank.usd(&payee).await, had);
        assert_eq!(bank.refusal(&id, &redeem(id, purse, 50, &payee)).await, None);
        let stale = redeem(id, purse, 49, &payee);
        assert_eq!(bank.refusal(&id, &stale).await, Some(Code::StaleAmount));
    }
    bank.assert_balanced().await;
}

#[tokio::test]
async fn what_a_relayer_may_be_spared_an_issuer_must_be_shown() {
    let (bank, payer, payee) = bank_with_parties().await;
    let purse = tree(13, 1_024);
    let id = open(&bank, &payer, &payee, &purse).await;
    assert_eq!(bank.refusal(&id, &redeem(id, &purse, 8, &payee)).await, None);
    // Even after a settlement from which the rest would follow.
    let payment = purse.payment(id, Amount::new(9 * UNIT)).expect("within the commitment");
    let short = compressed(&payment, &proof(&purse, 8)).proof;
    assert_ne!(short, payment.proof);
    let request = Settlement::of(id, 9 * UNIT).redeeming(Some(short), &payee);
    let problem = crate::harness::problem_of(bank.client.settle(&id, &request).await);
    assert_eq!(problem.code, Code::InvalidSignature);
    assert!(problem.detail.expect("a sentence").contains("siblings"));
    assert_eq!(bank.refusal(&id, &redeem(id, &purse, 9, &payee)).await, None);
    bank.assert_balanced().await;
}

#[tokio::test]
async fn a_settlement_shows_one_proof_or_none_and_is_told_which_field_is_at_fault() {
    let (bank, payer, payee) = bank_with_parties().await;
    let purse = chain(14, 100);
    let id = open(&bank, &payer, &payee, &purse).await;
    let good = redeem(id, &purse, 5, &payee);
    let mut both = good.clone();
    both.signature = Settlement::of(id, 5 * UNIT).signed(&payer, &payee).signature;
    let mut expiring = good.clone();
    expiring.expires_at = Some(0);
    let mut none = good.clone();
    none.proof = None;
    let superfluous = Settlement::of(id, 0).close().redeeming(good.proof.clone(), &payee);
    for (field, request) in
        [("signature", both), ("expires_at", expiring), ("signature", none), ("signature", superfluous)]
    {
        let (code, at) = fault_of(bank.client.settle(&id, &request).await);
        assert_eq!((code, at.as_deref()), (Code::Malformed, Some(field)), "{request:?}");
    }
    let close = Settlement::of(id, 0).close().redeeming(None, &payee);
    assert_eq!(bank.refusal(&id, &close).await, None, "closed for nothing");
    assert_eq!(bank.usd(&payer).await, (10_000_000, 0));
    bank.assert_balanced().await;
}
