//! What the tests of the schemes have in common.

use common::amount::Amount;
use common::ids::Hash;
use common::problem::Problem;
use common::scheme::{paytree, payword};
use common::voucher::Proof;
use common::wire::{Outcome, PaymentAnswer, PaymentRequest};
use tests::http::Reply;
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions};
use tests::stream::Stream;

/// What a unit pays in these tests.
pub(super) const UNIT: u64 = 5;

/// Relayers, and a bound on how far each hashes for one payment.
pub(super) async fn relayers(count: usize, hash_steps_max: u32) -> Rig {
    Rig::start(RigOptions {
        relayers: count,
        relayer: vec![("limits.hash_steps_max", hash_steps_max.to_string())],
        ..RigOptions::default()
    })
    .await
}

/// A channel whose payments are steps of a fresh chain.
pub(super) async fn chain(rig: &Rig, length: u32) -> Channel {
    let seed = Hash(rand::random());
    rig.payer().await.channel(rig.payee()).capacity(1_000_000).payword(seed, UNIT, length).open().await
}

/// A channel whose payments are leaves of a fresh tree.
pub(super) async fn tree(rig: &Rig, leaves: u32) -> Channel {
    let seed = Hash(rand::random());
    rig.payer().await.channel(rig.payee()).capacity(1_000_000).paytree(seed, UNIT, leaves).open().await
}

pub(super) fn json(payment: &PaymentRequest) -> Vec<u8> {
    serde_json::to_vec(payment).expect("a payment is JSON")
}

/// Presents a payment that must be taken.
pub(super) async fn taken(rig: &Rig, relayer: usize, payment: &PaymentRequest) -> Outcome {
    let answer: PaymentAnswer = rig.present(relayer, json(payment)).await.success();
    let named = (answer.channel_id, answer.cumulative_amount);
    assert_eq!(named, (payment.channel_id.into(), payment.cumulative_amount));
    answer.outcome
}

/// Presents a payment that must be recorded now.
pub(super) async fn accepted(rig: &Rig, relayer: usize, payment: &PaymentRequest) {
    assert_eq!(taken(rig, relayer, payment).await, Outcome::Accepted, "{payment:?}");
}

/// Asserts that a reply is a refusal with this code, and gives back the problem.
pub(super) fn problem(reply: &Reply, code: &str) -> Problem {
    let problem = reply.problem();
    assert_eq!(problem.code.as_str(), code, "{reply:?}");
    problem
}

/// Has a relayer refuse a body with this code, alone as well as over a stream, and Redis hold the same before and after.
pub(super) async fn refused(rig: &Rig, relayer: usize, code: &str, body: impl Into<Vec<u8>>) -> Problem {
    let (before, body) = (rig.dump().await, body.into());
    let reply = rig.present(relayer, body.clone()).await;
    let found = problem(&reply, code);
    let mut stream = Stream::open(rig.relayer(relayer)).await;
    stream.send(body).await.expect("an open connection");
    assert_eq!(stream.answer().await, reply.body, "the answer over a stream is that of the single route");
    assert_eq!(rig.dump().await, before, "{code} was answered, and something was written");
    found
}

/// Asserts that a payer which lost its state finds the latest payment in a refusal, complete.
pub(super) fn assert_latest(problem: &Problem, channel: &Channel, amount: u64) {
    let latest = problem.latest.as_ref().expect("with the latest payment");
    assert_eq!(latest.cumulative_amount, Amount::new(amount));
    assert_eq!(latest.proof, channel.voucher(amount).proof, "complete");
}

/// The step behind a payment.
pub(super) fn step(payment: &PaymentRequest) -> payword::Proof {
    match &payment.proof {
        Proof::Payword(proof) => *proof,
        other => panic!("not a step: {other:?}"),
    }
}

/// The leaf behind a payment.
pub(super) fn leaf(payment: &PaymentRequest) -> paytree::Proof {
    match &payment.proof {
        Proof::Paytree(proof) => proof.clone(),
        other => panic!("not a leaf: {other:?}"),
    }
}

/// The payment with another proof, for as much as that has units.
pub(super) fn with_proof(payment: &PaymentRequest, proof: Proof) -> PaymentRequest {
    let units = proof.units().expect("a proof that counts units");
    PaymentRequest { cumulative_amount: Amount::new(u64::from(units) * UNIT), proof, ..payment.clone() }
}

/// As it is, but for one bit.
pub(super) fn flipped(mut hash: Hash, bit: usize) -> Hash {
    hash.0[bit / 8] ^= 1 << (bit % 8);
    hash
}

/// The body of a payment that does not state its amount.
pub(super) fn without_amount(payment: &PaymentRequest) -> String {
    let mut body = serde_json::to_value(payment).expect("a payment is JSON");
    body.as_object_mut().expect("an object").remove("cumulative_amount");
    body.to_string()
}
