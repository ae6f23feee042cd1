//! The payer, the issuer in this process, and the one that fails on demand.

use std::time::Duration;

use common::amount::Amount;
use common::problem::Code;
use common::wire::SettlementRequest;
use common::{ids, message};
use ed25519_dalek::SigningKey;
use service::issuer_client::IssuerError;
use tests::issuer::{Route, ScriptedIssuer, Step, TestIssuer};
use tests::payer::{Channel, Payer, issuer_client};

const SOON: Duration = Duration::from_secs(10);

fn payee_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

async fn register_payee(issuer_url: &str) -> ids::PublicKey {
    let payee = ids::PublicKey::of(&payee_key());
    issuer_client(issuer_url).register(&payee).await.expect("any key is registered");
    payee
}

fn settlement(channel: &Channel, amount: u64) -> SettlementRequest {
    let voucher = channel.voucher(amount);
    let message = message::settle(&channel.id(), voucher.cumulative_amount, true, 1);
    let payee_signature = ids::Signature::of(&payee_key(), &message);
    let unsigned = SettlementRequest::unsigned(voucher.cumulative_amount, Some(voucher.proof), true, 1);
    SettlementRequest { payee_signature, ..unsigned }
}

#[tokio::test]
async fn payer_opens_a_channel_that_the_issuer_then_settles() {
    let issuer = TestIssuer::start().await;
    let payee = register_payee(&issuer.url()).await;
    let payer = Payer::register(&issuer.url()).await;
    let channel = payer.channel(payee).capacity(500).open().await;

    let known = issuer.client().channel(&channel.id()).await.expect("an answer").expect("the channel");
    assert_eq!(known.terms, *channel.terms());
    assert_eq!(known.terms.issuer, issuer.public_key());
    let receipt = issuer.client().settle(&channel.id(), &settlement(&channel, 123)).await.expect("settled");
    assert_eq!(receipt.settled_amount, Amount::new(123));
    assert!(receipt.is_signed_by(&issuer.public_key()));
}

#[tokio::test]
async fn voucher_may_be_signed_by_a_delegate() {
    let issuer = TestIssuer::start().await;
    let payee = register_payee(&issuer.url()).await;
    let payer = Payer::register(&issuer.url()).await;
    let delegate = SigningKey::from_bytes(&[5; 32]);
    let channel = payer.channel(payee).authorizer(delegate).open().await;
    assert_ne!(channel.terms().payer, channel.terms().payer_authorizer);
    issuer
        .client()
        .settle(&channel.id(), &settlement(&channel, 1))
        .await
        .expect("the delegate's word counts");
}

#[tokio::test]
async fn clock_of_the_issuer_moves_by_hand() {
    let issuer = TestIssuer::start().await;
    let payee = register_payee(&issuer.url()).await;
    let channel = Payer::register(&issuer.url()).await.channel(payee).open().await;
    issuer.fast_forward(Duration::from_secs(2 * 86_400));
    let error = issuer.client().settle(&channel.id(), &settlement(&channel, 1)).await.expect_err("expired");
    assert_eq!(error.code(), Some(Code::ChannelExpired));
}

#[tokio::test]
async fn scripted_issuer_fails_as_often_as_told_and_counts() {
    let real = TestIssuer::start().await;
    let scripted = ScriptedIssuer::start(real.url()).await;
    scripted.fail_next(Route::Info, 2);
    let client = issuer_client(scripted.url());
    for _ in 0..2 {
        assert!(matches!(client.info().await, Err(IssuerError::Unavailable { .. })));
    }
    assert_eq!(client.info().await.expect("healed").public_key, real.public_key());
    assert_eq!((scripted.count(Route::Info), scripted.forwarded(Route::Info)), (3, 1));
    assert_eq!(scripted.count(Route::Settle), 0);

    scripted.always(Route::Info, Step::Status(503));
    assert!(client.info().await.is_err());
    scripted.heal();
    assert!(client.info().await.is_ok());
}

#[tokio::test]
async fn scripted_issuer_hangs_after_money_has_moved() {
    let real = TestIssuer::start().await;
    let scripted = ScriptedIssuer::start(real.url()).await;
    let payee = register_payee(scripted.url()).await;
    let channel = Payer::register(scripted.url()).await.channel(payee).open().await;
    scripted.hang_after_settling();

    let client = issuer_client(scripted.url());
    let (id, request) = (channel.id(), settlement(&channel, 7));
    let hanging = tokio::spawn({
        let (client, request) = (client.clone(), request.clone());
        async move { client.settle(&id, &request).await }
    });
    scripted.wait_for_forwarded(Route::Settle, 1, SOON).await;
    let known = real.client().channel(&id).await.expect("an answer").expect("the channel");
    assert_eq!(known.settled_amount, Amount::new(7), "the money has moved");
    assert!(!hanging.is_finished(), "and nobody was told");

    let receipt = client.settle(&id, &request).await.expect("the repeat is answered");
    assert_eq!(Some(receipt), known.receipt);
    assert_eq!(scripted.count(Route::Settle), 2);
    hanging.abort();
}

#[tokio::test]
async fn refused_payment_comes_back_as_its_problem() {
    let real = TestIssuer::start().await;
    let channel = Payer::register(&real.url()).await.channel(ids::PublicKey::of(&payee_key())).unopened();
    // The issuer is no relayer: it answers every payment with a problem.
    let answer = channel.pay(&real.url(), 5).await.expect("an answer");
    assert_eq!((answer.status, answer.code()), (404, Some("not_found")));
}
