//! A payer that opens another channel with a commitment it has used before: what it revealed on the first channel would
//! pay on the second, and what it pays on the second would pay on the first.

use common::ids::Hash;
use common::problem::Code;
use common::wire::PaymentRequest;
use service::issuer_client::IssuerError;
use tests::payer::{Channel, Opening};
use tests::rig::{Rig, RigOptions};

use super::scene::{UNIT, accepted, json, problem, refused};

async fn refused_as_reused(opening: Opening<'_>) {
    match opening.try_open().await {
        Err(IssuerError::Refused(problem)) => {
            assert_eq!((problem.code, problem.status), (Code::CommitmentReused, 409));
            assert_eq!(problem.field.as_deref(), Some("terms.scheme"));
        }
        other => panic!("opened with a commitment of another channel: {other:?}"),
    }
}

async fn open_pay_close_and_open_again(commit: impl Fn(Opening<'_>) -> Opening<'_>) {
    let rig = Rig::start(RigOptions { settlers: 1, ..RigOptions::default() }).await;
    let (payer, other) = (rig.payer().await, rig.payer().await);
    let channel = commit(payer.channel(rig.payee())).open().await;
    accepted(&rig, 0, &channel.voucher(30 * UNIT)).await;
    let before = (rig.balance(&payer.public_key()).await, rig.balance(&other.public_key()).await);

    // Other terms, another payee, another payer who has seen the commitment: none of it makes a second channel.
    let again = || commit(payer.channel(rig.payee()).capacity(900));
    refused_as_reused(again()).await;
    refused_as_reused(commit(payer.channel(other.public_key()))).await;
    refused_as_reused(commit(other.channel(rig.payee()))).await;
    // Nor once the first is closed, when its payments have become known to payee and issuer.
    channel.close(rig.relayer(0)).await.expect("the relayer answers").body.expect("taken");
    rig.closed(&channel, 30 * UNIT).await;
    refused_as_reused(again()).await;
    assert_eq!(rig.balance(&other.public_key()).await, before.1, "nothing was locked");
    let (available, locked) = rig.balance(&payer.public_key()).await;
    assert_eq!((available, locked), (before.0.0 + 1_000 - 30 * UNIT, 0));

    // Payments of a channel that was not opened go nowhere, and those of the closed one neither.
    let unopened: Channel = again().unopened();
    let replayed = PaymentRequest { channel_id: unopened.id(), ..channel.voucher(30 * UNIT) };
    for payment in [&unopened.voucher(30 * UNIT), &replayed] {
        refused(&rig, 0, "unknown_channel", json(payment)).await;
    }
    problem(&rig.pay(0, &channel, 31 * UNIT).await, "channel_closed");
    assert_eq!(rig.earned().await, 30 * UNIT);
    rig.assert_books_balance().await;
}

#[tokio::test]
async fn a_chain_pays_on_one_channel_only() {
    let seed = Hash(rand::random());
    open_pay_close_and_open_again(|opening| opening.payword(seed, UNIT, 64)).await;
}

#[tokio::test]
async fn a_tree_pays_on_one_channel_only() {
    let seed = Hash(rand::random());
    open_pay_close_and_open_again(|opening| opening.paytree(seed, UNIT, 64)).await;
}

#[tokio::test]
async fn a_unit_or_a_length_of_its_own_makes_no_other_commitment_of_the_same_root() {
    let rig = Rig::start(RigOptions::default()).await;
    let (payer, seed) = (rig.payer().await, Hash(rand::random()));
    payer.channel(rig.payee()).payword(seed, UNIT, 64).open().await;
    refused_as_reused(payer.channel(rig.payee()).payword(seed, UNIT + 1, 64)).await;
    // Whoever knows step 10 of a chain of 64 knows it also where the chain is said to be shorter.
    let shorter = payer.channel(rig.payee()).payword(seed, UNIT, 64).with(|terms| {
        if let common::channel::SchemeKind::Payword(commitment) = &mut terms.scheme {
            commitment.length = 32;
        }
    });
    refused_as_reused(shorter).await;
    // Another seed is another chain.
    payer.channel(rig.payee()).payword(Hash(rand::random()), UNIT, 64).open().await;
}
