//! Payments that come too late: after a higher one, after the close, near the end.

use std::time::{SystemTime, UNIX_EPOCH};

use common::amount::Amount;
use common::channel::Status;
use common::problem::Problem;
use common::wire::PaymentAnswer;
use tests::issuer::{Route, Step};
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};

use super::table::{Shown, json, paid, refused, refused_without_a_trace};

/// Asserts that a payer which lost its state can go on from what it is told.
fn assert_latest(problem: &Problem, channel: &Channel, amount: u64) {
    let latest = problem.latest.as_ref().expect("a rejection for order carries the latest voucher");
    assert_eq!(latest.cumulative_amount, Amount::new(amount));
    assert_eq!(latest.proof, channel.voucher(amount).proof);
}

/// One relayer and one settler that waits for the issuer for as long as the test takes.
async fn rig_with_patient_settler() -> Rig {
    Rig::start(RigOptions {
        settlers: 1,
        settler: vec![("issuer.request_timeout_ms", "100000".to_owned())],
        ..RigOptions::default()
    })
    .await
}

pub(super) async fn an_amount_not_above_the_latest_is_stale() -> Shown {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = paid(&rig, 5).await;
    let shown = refused_without_a_trace(&rig, "stale_amount", json(&channel.voucher(4))).await;
    assert_latest(&shown.problem, &channel, 5);
    // The same amount in another voucher is not the same payment.
    let other = channel.voucher_until(5, channel.terms().expires_at);
    let shown = refused_without_a_trace(&rig, "stale_amount", json(&other)).await;
    assert_latest(&shown.problem, &channel, 5);
    shown
}

pub(super) async fn a_channel_whose_settlement_is_under_way_is_closing() -> Shown {
    let rig = rig_with_patient_settler().await;
    let channel = paid(&rig, 5).await;
    rig.read_by_leader(&channel).await;
    rig.front.next(Route::Settle, 1, Step::Hang);
    channel.close(rig.relayer(0)).await.expect("the relayer answers").body.expect("taken");
    rig.front.wait_for_count(Route::Settle, 1, SOON).await;
    // Higher, the same and lower: what was pinned is the last word.
    for amount in [6, 5, 4] {
        let voucher = json(&channel.voucher(amount));
        let shown = refused_without_a_trace(&rig, "channel_closing", voucher).await;
        assert_latest(&shown.problem, &channel, 5);
    }
    refused_without_a_trace(&rig, "channel_closing", json(&channel.voucher(7))).await
}

pub(super) async fn a_channel_whose_settlement_was_refused_for_good_takes_nothing_more() -> Shown {
    let rig = rig_with_patient_settler().await;
    let channel = paid(&rig, 5).await;
    rig.read_by_leader(&channel).await;
    let no = serde_json::to_string(&Problem::new(common::problem::Code::InvalidSignature)).expect("JSON");
    rig.front.always(Route::Settle, Step::Json(403, no));
    channel.close(rig.relayer(0)).await.expect("the relayer answers").body.expect("taken");
    rig.in_status(&channel, Status::Failed).await;
    let shown = refused_without_a_trace(&rig, "channel_closing", json(&channel.voucher(6))).await;
    assert_latest(&shown.problem, &channel, 5);
    shown
}

pub(super) async fn a_settled_channel_is_closed() -> Shown {
    let rig = rig_with_patient_settler().await;
    let channel = paid(&rig, 5).await;
    channel.close(rig.relayer(0)).await.expect("the relayer answers").body.expect("taken");
    rig.closed(&channel, 5).await;
    for amount in [4, 5, 6] {
        let voucher = json(&channel.voucher(amount));
        let shown = refused_without_a_trace(&rig, "channel_closed", voucher).await;
        assert_latest(&shown.problem, &channel, 5);
    }
    refused_without_a_trace(&rig, "channel_closed", json(&channel.voucher(1_000))).await
}

pub(super) async fn a_channel_that_ended_before_redis_knew_it_is_closed() -> Shown {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = rig.channel(1_000).await;
    // With no token, as no settler has led here: one that Redis never gave out would look like a loss of data.
    rig.settle_directly(&channel, 7, true, 0).await;
    let shown = refused_without_a_trace(&rig, "channel_closed", json(&channel.voucher(8))).await;
    assert_latest(&shown.problem, &channel, 7);
    shown
}

pub(super) async fn a_channel_too_near_to_its_end_has_expired() -> Shown {
    let mut rig = Rig::start(RigOptions::default()).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs();
    let in_s = |seconds: u64| i64::try_from(now + seconds).expect("soon");
    // One that never paid, within the default margin of 300 seconds: nothing becomes known of it.
    let short = rig.payer().await.channel(rig.payee()).expires_at(in_s(200)).open().await;
    let shown = refused_without_a_trace(&rig, "channel_expired", json(&short.voucher(1))).await;
    // One that paid while there was time, on a relayer that wants more time left.
    let longer = rig.payer().await.channel(rig.payee()).expires_at(in_s(2_000)).open().await;
    rig.pay(0, &longer, 5).await.success::<PaymentAnswer>();
    let cautious = rig.spawn_relayer(&[("settle_margin_s", "4000".to_owned())]);
    cautious.wait_ready(SOON).await.expect("the relayer starts");
    let before = rig.dump().await;
    refused("channel_expired", &rig.pay(1, &longer, 6).await);
    assert_eq!(rig.dump().await, before);
    assert_eq!(rig.pay(0, &longer, 6).await.status, 200, "the margin is the relayer's own");
    shown
}
