//! From the deposit to the receipt, and who may pay and close.

use common::amount::Amount;
use common::channel::Status;
use common::ids::{ChannelId, Signature};
use common::message;
use common::problem::Code;
use common::wire::{CloseAnswer, CloseRequest, IssuerStatus, Outcome, Party, PaymentAnswer, RelayerChannel};
use ed25519_dalek::SigningKey;
use tests::http::Reply;
use tests::payer::{Channel, Payer, forged};
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_for;

async fn full_rig() -> Rig {
    Rig::start(RigOptions { relayers: 2, settlers: 1, ..RigOptions::default() }).await
}

async fn read(rig: &Rig, i: usize, id: &ChannelId) -> RelayerChannel {
    rig.http.get(&format!("{}/v1/channels/{id}", rig.relayer(i))).await.success()
}

async fn ask_for_close(rig: &Rig, channel: &Channel, by: Party, key: &SigningKey) -> Reply {
    let signature = Signature::of(key, &message::close_request(&channel.id()));
    let body = serde_json::to_vec(&CloseRequest { requested_by: by, signature }).expect("a request is JSON");
    rig.http.post(&format!("{}/v1/channels/{}/close", rig.relayer(0), channel.id()), body).await
}

fn outcome(reply: &Reply) -> Outcome {
    reply.success::<PaymentAnswer>().outcome
}

#[tokio::test]
async fn a_payment_travels_from_the_deposit_to_the_receipt() {
    let rig = full_rig().await;
    let payer = rig.payer().await;
    let (had, earned_before) = (rig.balance(&payer.public_key()).await, rig.balance(&rig.payee()).await);
    let channel = payer.channel(rig.payee()).capacity(1_000).open().await;
    assert_eq!(rig.balance(&payer.public_key()).await, (had.0 - 1_000, 1_000));

    let fresh = read(&rig, 0, &channel.id()).await;
    assert_eq!((fresh.status, &fresh.latest, fresh.close_requested), (Status::Open, &None, false));
    assert_eq!((&fresh.terms, fresh.capacity), (channel.terms(), Amount::new(1_000)));

    let first: PaymentAnswer = rig.pay(0, &channel, 10).await.success();
    assert_eq!((*first.channel_id, first.cumulative_amount), (channel.id(), Amount::new(10)));
    assert_eq!(first.outcome, Outcome::Accepted);
    assert_eq!(outcome(&rig.pay(1, &channel, 25).await), Outcome::Accepted);
    for relayer in [0, 1] {
        assert_eq!(outcome(&rig.pay(relayer, &channel, 25).await), Outcome::Duplicate);
        let latest = read(&rig, relayer, &channel.id()).await.latest.expect("paid");
        let voucher = channel.voucher(25);
        assert_eq!(latest.cumulative_amount, Amount::new(25));
        assert_eq!(latest.proof, voucher.proof);
    }

    let asked = channel.close(rig.relayer(1)).await.expect("the relayer answers");
    assert_eq!(asked.status, 202);
    assert_eq!(asked.body, Ok(CloseAnswer { channel_id: channel.id(), status: Status::Open }));
    let settled = rig.settled(&channel).await;
    assert_eq!((settled.settled_amount, settled.refunded_amount), (Amount::new(25), Amount::new(975)));
    let closed = wait_for(SOON, "the relayer shows the receipt", || async {
        let shown = read(&rig, 0, &channel.id()).await;
        shown.receipt.is_some().then_some(shown)
    })
    .await;
    assert_eq!((closed.status, closed.close_requested), (Status::Closed, true));
    let receipt = closed.receipt.expect("waited for");
    assert!(receipt.is_signed_by(&rig.issuer.public_key()), "{receipt:?}");
    assert!(!receipt.is_signed_by(&rig.payee()), "not just any key");
    assert_eq!((receipt.settled_amount, receipt.refunded_amount), (Amount::new(25), Amount::new(975)));
    assert_eq!(settled.receipt, Some(receipt));

    assert_eq!(rig.balance(&payer.public_key()).await, (had.0 - 25, 0));
    assert_eq!(rig.balance(&rig.payee()).await, (earned_before.0 + 25, 0));
    rig.assert_books_balance().await;
}

#[tokio::test]
async fn amounts_are_exact_around_two_to_the_53_and_at_the_top_of_the_range() {
    const TOP: u64 = u64::MAX;
    // All the money there is belongs to the payee, who pays itself: no two accounts could each hold that much.
    let rig = Rig::start(RigOptions {
        relayers: 2,
        settlers: 1,
        issuer: |config| config.development.starting_balance = Amount::MAX,
        ..RigOptions::default()
    })
    .await;
    let payer = Payer::register_as(&rig.issuer.url(), rig.payee_key().clone()).await;
    let channel = payer.channel(rig.payee()).capacity(TOP - 1).open().await;
    let steps = [(1 << 53) - 1, 1 << 53, (1 << 53) + 1, (1 << 53) + 2, (1 << 63) - 1, 1 << 63, TOP - 2];
    for (i, &amount) in steps.iter().enumerate() {
        let reply = rig.pay(i % 2, &channel, amount).await;
        assert_eq!(outcome(&reply), Outcome::Accepted, "{amount}");
        assert!(reply.body.contains(&format!("\"{amount}\"")), "a string of all its digits: {}", reply.body);
        let stale = rig.pay(1 - i % 2, &channel, amount - 1).await.problem();
        assert_eq!(stale.code, Code::StaleAmount, "{amount} - 1");
        assert_eq!(stale.latest.expect("with the latest").cumulative_amount, Amount::new(amount));
    }
    assert_eq!(rig.pay(0, &channel, TOP).await.problem().code, Code::OverCapacity);
    channel.close(rig.relayer(0)).await.expect("the relayer answers").body.expect("taken");
    let settled = rig.settled(&channel).await;
    assert_eq!((settled.settled_amount, settled.refunded_amount), (Amount::new(TOP - 2), Amount::new(1)));
    rig.closed(&channel, TOP - 2).await;
    assert_eq!(rig.balance(&rig.payee()).await, (TOP, 0));
    rig.assert_books_balance().await;
}

#[tokio::test]
async fn only_the_payer_authorizer_signs_vouchers_where_it_is_not_the_payer() {
    let rig = full_rig().await;
    let [payer_key, delegate] = [(); 2].map(|()| SigningKey::from_bytes(&rand::random()));
    let payer = Payer::register_as(&rig.issuer.url(), payer_key.clone()).await;
    let channel = payer.channel(rig.payee()).authorizer(delegate.clone()).open().await;
    assert_eq!(channel.terms().payer_authorizer, common::ids::PublicKey::of(&delegate));
    assert_eq!(outcome(&rig.pay(0, &channel, 5).await), Outcome::Accepted);

    let message = message::voucher(&channel.id(), Amount::new(6), 0);
    let signature = Signature::of(&payer_key, &message);
    let by_payer = forged(channel.voucher(6), signature);
    let refused = rig.present(0, serde_json::to_vec(&by_payer).expect("JSON")).await.problem();
    assert_eq!(refused.code, Code::InvalidSignature);

    // The delegate may pay and not close; the deposit goes back to the payer.
    assert_eq!(
        ask_for_close(&rig, &channel, Party::Payer, &delegate).await.problem().code,
        Code::InvalidSignature
    );
    assert_eq!(ask_for_close(&rig, &channel, Party::Payer, &payer_key).await.status, 202);
    rig.closed(&channel, 5).await;
    let (_, locked) = rig.balance(&common::ids::PublicKey::of(&payer_key)).await;
    assert_eq!(locked, 0);
}

#[tokio::test]
async fn a_close_is_asked_for_by_payer_or_payee_and_by_no_one_else() {
    let rig = full_rig().await;
    let payer_key = SigningKey::from_bytes(&rand::random());
    let payer = Payer::register_as(&rig.issuer.url(), payer_key.clone()).await;
    let channel = payer.channel(rig.payee()).open().await;
    rig.pay(0, &channel, 7).await.success::<PaymentAnswer>();
    let stranger = SigningKey::from_bytes(&rand::random());
    let before = rig.stored(&channel).await;
    for (by, key) in [
        (Party::Payer, &stranger),
        (Party::Payee, &stranger),
        (Party::Payer, rig.payee_key()),
        (Party::Payee, &payer_key),
    ] {
        let refused = ask_for_close(&rig, &channel, by, key).await;
        assert_eq!((refused.status, refused.problem().code), (403, Code::InvalidSignature), "{by:?}");
    }
    // A signature for another channel does not count here.
    let other = payer.channel(rig.payee()).open().await;
    let signature = Signature::of(&payer_key, &message::close_request(&other.id()));
    let body = serde_json::json!({ "requested_by": "payer", "signature": signature }).to_string();
    let url = format!("{}/v1/channels/{}/close", rig.relayer(0), channel.id());
    assert_eq!(rig.http.post(&url, body).await.problem().code, Code::InvalidSignature);
    assert_eq!(rig.stored(&channel).await.close_requested_at_ms, before.close_requested_at_ms);

    let taken = ask_for_close(&rig, &channel, Party::Payee, rig.payee_key()).await;
    assert_eq!(taken.status, 202, "{taken:?}");
    rig.closed(&channel, 7).await;
    let again = ask_for_close(&rig, &channel, Party::Payer, &payer_key).await;
    assert_eq!(again.success::<CloseAnswer>().status, Status::Closed, "a late request is told so");
    rig.assert_books_balance().await;
}

#[tokio::test]
async fn a_channel_that_never_paid_is_closed_for_nothing() {
    let rig = full_rig().await;
    let channel = rig.channel(300).await;
    let asked = channel.close(rig.relayer(0)).await.expect("the relayer answers");
    assert_eq!(asked.status, 202);
    let settled = rig.settled(&channel).await;
    assert_eq!((settled.settled_amount, settled.refunded_amount), (Amount::ZERO, Amount::new(300)));
    assert_eq!(settled.status, IssuerStatus::Closed);
    rig.closed(&channel, 0).await;
    assert_eq!(rig.pay(0, &channel, 1).await.problem().code, Code::ChannelClosed);
    rig.assert_books_balance().await;
}
