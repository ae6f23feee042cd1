//! Redis or the issuer away, refusing, or silent: what was recorded for certain not, and what perhaps.

use common::wire::{Outcome, PaymentAnswer};
use tests::issuer::{Route, Step};
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};

use super::table::{Shown, json, paid, refused, refused_without_a_trace};

/// A relayer that looks at Redis once and then not for an hour: payments find out by themselves.
async fn rig_that_does_not_look() -> Rig {
    Rig::start(RigOptions {
        relayer: vec![("readiness_interval_ms", "3600000".to_owned())],
        ..RigOptions::default()
    })
    .await
}

/// Pays until the relayer takes it, as a payer should, and gives back the answer. Until it has noticed that a broken
/// connection is broken, a relayer does not know either.
async fn once_back(rig: &Rig, channel: &Channel, amount: u64) -> PaymentAnswer {
    tests::wait_for(SOON, "the relayer has its store again", || async {
        let reply = rig.pay(0, channel, amount).await;
        match reply.status {
            503 => drop(refused("store_unavailable", &reply)),
            504 => drop(refused("outcome_unknown", &reply)),
            _ => return Some(reply.success()),
        }
        None
    })
    .await
}

pub(super) async fn without_redis_the_store_is_unavailable() -> Shown {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = paid(&rig, 1).await;
    rig.redis.proxy().cut();
    rig.relayer_is_ready(0, false).await;
    let shown = refused_without_a_trace(&rig, "store_unavailable", json(&channel.voucher(2))).await;
    // Whoever asks for anything else about a channel is told the same.
    let url = format!("{}/v1/channels/{}", rig.relayer(0), channel.id());
    refused("store_unavailable", &rig.http.get(&url).await);
    let close = channel.close(rig.relayer(0)).await.expect("the relayer answers");
    assert_eq!(close.code(), Some("store_unavailable"));
    rig.redis.proxy().pass();
    assert_eq!(once_back(&rig, &channel, 2).await.outcome, Outcome::Accepted);
    shown
}

pub(super) async fn a_redis_out_of_memory_is_unavailable() -> Shown {
    let rig = rig_that_does_not_look().await;
    let (channel, fresh) = (paid(&rig, 1).await, rig.channel(1_000).await);
    rig.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let shown = refused_without_a_trace(&rig, "store_unavailable", json(&channel.voucher(2))).await;
    refused_without_a_trace(&rig, "store_unavailable", json(&fresh.voucher(1))).await;
    rig.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    for (channel, amount) in [(&channel, 2), (&fresh, 1)] {
        let answer: PaymentAnswer = rig.pay(0, channel, amount).await.success();
        assert_eq!(answer.outcome, Outcome::Accepted, "what was refused had not been recorded");
    }
    shown
}

pub(super) async fn a_redis_that_refuses_a_write_is_unavailable() -> Shown {
    let rig = rig_that_does_not_look().await;
    let (channel, fresh) = (paid(&rig, 1).await, rig.channel(1_000).await);
    let mut shown = None;
    for error in [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "READONLY You can't write against a read only replica.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "LOADING Redis is loading the dataset in memory",
    ] {
        rig.redis.set_error(Some(error));
        shown = Some(refused_without_a_trace(&rig, "store_unavailable", json(&channel.voucher(2))).await);
        refused_without_a_trace(&rig, "store_unavailable", json(&fresh.voucher(1))).await;
        rig.redis.set_error(None);
    }
    assert_eq!(once_back(&rig, &channel, 2).await.outcome, Outcome::Accepted);
    shown.expect("at least one error")
}

pub(super) async fn without_an_answer_of_the_issuer_a_first_payment_is_refused() -> Shown {
    let rig = Rig::start(RigOptions::default()).await;
    let (known, fresh) = (paid(&rig, 1).await, rig.channel(1_000).await);
    for status in [500, 502, 503, 429] {
        rig.front.always(Route::Channel, Step::Status(status));
        refused_without_a_trace(&rig, "issuer_unavailable", json(&fresh.voucher(1))).await;
    }
    let shown = refused_without_a_trace(&rig, "issuer_unavailable", json(&fresh.voucher(1))).await;
    // Channels that are known need no issuer, and nothing is held against the others.
    assert_eq!(rig.pay(0, &known, 2).await.status, 200);
    rig.front.heal();
    assert_eq!(rig.pay(0, &fresh, 1).await.status, 200);
    shown
}

pub(super) async fn an_issuer_that_hangs_is_unavailable() -> Shown {
    let rig = Rig::start(RigOptions {
        relayer: vec![("issuer.request_timeout_ms", "200".to_owned())],
        ..RigOptions::default()
    })
    .await;
    let fresh = rig.channel(1_000).await;
    rig.front.always(Route::Channel, Step::Hang);
    let shown = refused_without_a_trace(&rig, "issuer_unavailable", json(&fresh.voucher(1))).await;
    rig.front.heal();
    assert_eq!(rig.pay(0, &fresh, 1).await.status, 200);
    shown
}

pub(super) async fn a_reply_that_is_lost_leaves_the_outcome_unknown_and_the_resend_is_a_duplicate() -> Shown {
    let rig = Rig::start(RigOptions { relayers: 2, ..RigOptions::default() }).await;
    // Paid before, so that Redis knows script and channel: the next EVALSHA is the payment.
    let channel = paid(&rig, 1).await;
    let lost = rig.redis.proxy().swallow_next_reply_then_cut("EVALSHA");
    let shown = refused("outcome_unknown", &rig.pay(0, &channel, 5).await);
    lost.wait(SOON).await;
    assert_eq!(rig.stored(&channel).await.state.amount.units(), 5, "Redis had taken it");
    // On any relayer, as often as one likes.
    let before = rig.dump().await;
    assert_eq!(once_back(&rig, &channel, 5).await.outcome, Outcome::Duplicate);
    let elsewhere: PaymentAnswer = rig.pay(1, &channel, 5).await.success();
    assert_eq!(elsewhere.outcome, Outcome::Duplicate);
    assert_eq!(rig.dump().await, before, "recorded once");
    assert_eq!(once_back(&rig, &channel, 6).await.outcome, Outcome::Accepted, "and the channel goes on");
    shown
}

pub(super) async fn a_reply_that_does_not_come_in_time_leaves_the_outcome_unknown() -> Shown {
    let rig = Rig::start(RigOptions {
        relayer: vec![
            ("redis.command_timeout_ms", "200".to_owned()),
            ("readiness_interval_ms", "3600000".to_owned()),
        ],
        ..RigOptions::default()
    })
    .await;
    let channel = paid(&rig, 1).await;
    rig.redis.proxy().swallow_replies();
    let shown = refused("outcome_unknown", &rig.pay(0, &channel, 5).await);
    assert_eq!(rig.stored(&channel).await.state.amount.units(), 5, "Redis had taken it");
    rig.redis.proxy().pass();
    assert_eq!(once_back(&rig, &channel, 5).await.outcome, Outcome::Duplicate);
    shown
}
