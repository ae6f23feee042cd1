//! What is wrong with the voucher itself: its form, its size, its signature, its amount.

use common::amount::Amount;
use common::ids::Signature;
use common::wire::PaymentRequest;
use tests::payer::{forged, signature_of};
use tests::rig::{Rig, RigOptions};

use super::table::{Shown, json, paid, refused, refused_without_a_trace};

pub(super) async fn a_body_without_the_documented_form_is_malformed() -> Shown {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = paid(&rig, 1).await;
    let body = String::from_utf8(json(&channel.voucher(5))).expect("JSON is text");
    let shown = refused_without_a_trace(&rig, "malformed", body.replace("\"5\"", "5")).await;
    assert_eq!(shown.problem.field.as_deref(), Some("cumulative_amount"));
    shown
}

pub(super) async fn a_body_over_the_limit_is_too_large() -> Shown {
    let rig = Rig::start(RigOptions {
        relayer: vec![("http.body_max_bytes", "1000".to_owned())],
        ..RigOptions::default()
    })
    .await;
    let channel = paid(&rig, 1).await;
    let mut body = json(&channel.voucher(5));
    body.resize(1_001, b' ');
    // Size is looked at first: not even the form counts.
    refused_without_a_trace(&rig, "payload_too_large", vec![b'x'; 1_001]).await;
    let batch = format!("{}/v1/payments/batch", rig.relayer(0));
    refused("payload_too_large", &rig.http.post(&batch, body.clone()).await);
    let shown = refused_without_a_trace(&rig, "payload_too_large", body.clone()).await;
    body.truncate(1_000);
    assert_eq!(rig.present(0, body).await.status, 200, "the same within the limit");
    shown
}

pub(super) async fn a_signature_that_does_not_check_is_invalid() -> Shown {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = paid(&rig, 1).await;
    let other = rig.channel(1_000).await;
    let voucher = channel.voucher(5);
    for signature in
        [Signature([0; 64]), signature_of(&channel.voucher(6).proof), signature_of(&other.voucher(5).proof)]
    {
        let forged = forged(voucher.clone(), signature);
        refused_without_a_trace(&rig, "invalid_signature", json(&forged)).await;
    }
    // Also where the channel was never paid from: nothing is written before a signature holds.
    let forged = PaymentRequest { channel_id: other.id(), ..voucher };
    refused_without_a_trace(&rig, "invalid_signature", json(&forged)).await
}

pub(super) async fn more_than_the_capacity_is_over_capacity() -> Shown {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = paid(&rig, 1).await;
    refused_without_a_trace(&rig, "over_capacity", json(&channel.voucher(u64::MAX))).await;
    let shown = refused_without_a_trace(&rig, "over_capacity", json(&channel.voucher(1_001))).await;
    assert_eq!(rig.pay(0, &channel, 1_000).await.status, 200, "the capacity itself can be paid");
    // As a first payment too; that makes the channel known, and no more.
    let fresh = rig.channel(10).await;
    refused("over_capacity", &rig.pay(0, &fresh, 11).await);
    let stored = rig.store().await.channel(&fresh.id()).await.expect("Redis answers");
    assert_eq!(stored.map_or(Amount::ZERO, |stored| stored.state.amount), Amount::ZERO);
    shown
}
