//! An answer for each message, in the order of the messages, whatever has to be done for each.

use std::time::Duration;

use common::ids::Signature;
use common::problem::Code;
use common::wire::{Outcome, PaymentAnswer};
use tests::payer::{Channel, forged};
use tests::rig::{Rig, RigOptions, SOON};
use tests::stream::{Heard, Stream};
use tests::wait_until;

pub(super) async fn rig_with(config: &[(&'static str, &str)]) -> Rig {
    let relayer = config.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    Rig::start(RigOptions { relayer, ..RigOptions::default() }).await
}

/// Channels that have paid 1 each, so that Redis knows them.
pub(super) async fn paid(rig: &Rig, count: usize) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..count {
        let channel = rig.channel(1_000_000).await;
        rig.pay(0, &channel, 1).await.success::<PaymentAnswer>();
        channels.push(channel);
    }
    channels
}

/// A counter or gauge of the first relayer; 0 while there is none.
pub(super) async fn metric(rig: &Rig, line_start: &str) -> u64 {
    rig.metric(rig.relayers[0].admin_url(), line_start).await.unwrap_or(0)
}

#[tokio::test]
async fn a_payment_is_answered_as_the_single_route_does() {
    let rig = rig_with(&[]).await;
    let channel = rig.channel(1_000).await;
    let mut stream = Stream::open(rig.relayer(0)).await;
    for amount in 1..=3 {
        let over_stream = stream.pay(&channel.voucher(amount)).await;
        assert!(over_stream.contains("\"accepted\""), "{over_stream}");
        let again = stream.pay(&channel.voucher(amount)).await;
        assert_eq!(rig.pay(0, &channel, amount).await.body, again, "a duplicate is a duplicate");
        assert_eq!(over_stream.replace("accepted", "duplicate"), again);
    }
    // What is wrong ends nothing, and bytes are read as text is.
    stream.send("no JSON").await.expect("an open connection");
    assert_eq!(stream.refused().await.code, Code::Malformed);
    stream.send(vec![0xff, 0xfe]).await.expect("an open connection");
    assert_eq!(stream.refused().await.code, Code::Malformed);
    let bytes = serde_json::to_vec(&channel.voucher(4)).expect("a voucher is JSON");
    stream.send(bytes).await.expect("an open connection");
    assert_eq!(stream.taken().await.outcome, Outcome::Accepted);
    assert_eq!(rig.stored(&channel).await.state.amount.units(), 4);
}

#[tokio::test]
async fn interleaved_channels_are_answered_in_order_across_their_first_payments() {
    const CHANNELS: usize = 6;
    const AMOUNTS: u64 = 40;
    let rig = rig_with(&[("stream.in_flight_max", "1000")]).await;
    let mut channels = paid(&rig, CHANNELS / 2).await;
    for _ in 0..CHANNELS / 2 {
        // Redis does not know these: they are registered in the midst of their payments.
        channels.push(rig.channel(1_000_000).await);
    }
    let forged = |channel: &Channel| forged(channel.voucher(5), Signature([7; 64]));
    let (mut vouchers, mut expected) = (Vec::new(), Vec::new());
    for amount in 2..AMOUNTS + 2 {
        for channel in &channels {
            vouchers.push(channel.voucher(amount));
            expected.push(Ok((channel.id(), amount)));
        }
        vouchers.push(forged(&channels[0]));
        expected.push(Err(Code::InvalidSignature));
    }
    let mut stream = Stream::open(rig.relayer(0)).await;
    stream.pay_all(vouchers).await;
    for (i, expected) in expected.into_iter().enumerate() {
        match expected {
            Ok((id, amount)) => {
                let taken = stream.taken().await;
                assert_eq!((*taken.channel_id, taken.cumulative_amount.units()), (id, amount), "message {i}");
                assert_eq!(taken.outcome, Outcome::Accepted, "message {i}: each came after the one below it");
            }
            Err(code) => assert_eq!(stream.refused().await.code, code, "message {i}"),
        }
    }
    for channel in &channels {
        assert_eq!(rig.stored(channel).await.state.amount.units(), AMOUNTS + 1);
    }
}

#[tokio::test]
async fn a_payment_is_on_its_way_before_the_one_before_it_is_answered() {
    const IN_FLIGHT: usize = 20;
    let rig = rig_with(&[("redis.command_timeout_ms", "10000")]).await;
    let channels = paid(&rig, IN_FLIGHT).await;
    let mut stream = Stream::open(rig.relayer(0)).await;
    rig.redis.proxy().delay(Duration::from_millis(400));
    let started = std::time::Instant::now();
    stream.pay_all(channels.iter().map(|channel| channel.voucher(2))).await;
    for channel in &channels {
        assert_eq!(*stream.taken().await.channel_id, channel.id());
    }
    // One after the other they would take as many round trips as there are channels.
    let took = started.elapsed();
    assert!(took < Duration::from_millis(400) * 2 * 5, "{took:?} for {IN_FLIGHT} payments at once");
}

#[tokio::test]
async fn a_channel_that_must_be_looked_up_holds_up_no_other() {
    use tests::issuer::{Route, Step};
    let rig = rig_with(&[("issuer.request_timeout_ms", "1000")]).await;
    let (known, fresh) = (paid(&rig, 1).await.remove(0), rig.channel(1_000).await);
    rig.front.always(Route::Channel, Step::Hang);
    let mut stream = Stream::open(rig.relayer(0)).await;
    stream.pay_all([fresh.voucher(1), known.voucher(2), fresh.voucher(2)]).await;
    // Taken while the one before it waits for the issuer, and answered after it.
    wait_until(SOON, "the second is recorded", || async {
        rig.stored(&known).await.state.amount.units() == 2
    })
    .await;
    assert_eq!(stream.refused().await.code, Code::IssuerUnavailable);
    assert_eq!(*stream.taken().await.channel_id, known.id());
    assert_eq!(stream.refused().await.code, Code::IssuerUnavailable);
    rig.front.heal();
    stream.pay_all([fresh.voucher(1)]).await;
    assert_eq!(stream.taken().await.outcome, Outcome::Accepted);
}

#[tokio::test]
async fn payments_over_a_stream_are_rate_limited_as_single_ones_are() {
    let rig = rig_with(&[("limits.per_channel_per_s", "3"), ("limits.per_address_per_s", "60")]).await;
    let channel = rig.channel(1_000).await;
    let mut stream = Stream::open(rig.relayer(0)).await;
    stream.pay_all((1..=40).map(|amount| channel.voucher(amount))).await;
    let mut limited = 0;
    for _ in 1..=40 {
        let answer = stream.answer().await;
        if answer.contains("\"rate_limited\"") {
            assert!(answer.contains("\"retry_after_s\":1"), "{answer}");
            limited += 1;
        } else {
            assert!(answer.contains("\"accepted\""), "{answer}");
        }
    }
    assert!((20..=37).contains(&limited), "three a second, and one more for every third of one: {limited}");
    stream.pay_all((1..=60).map(|_| channel.voucher(1))).await;
    let mut by_address = 0;
    for _ in 1..=60 {
        by_address += u64::from(stream.answer().await.contains("\"rate_limited\""));
    }
    assert!(by_address > 0, "messages count as requests do");
}

#[tokio::test]
async fn a_payment_whose_reply_was_lost_is_unknown_and_those_after_it_are_answered_all_the_same() {
    let rig = rig_with(&[("redis.command_timeout_ms", "300"), ("readiness_interval_ms", "3600000")]).await;
    let channel = paid(&rig, 1).await.remove(0);
    let mut stream = Stream::open(rig.relayer(0)).await;
    rig.redis.proxy().swallow_replies();
    stream.pay_all([channel.voucher(5), channel.voucher(6)]).await;
    stream.send("no JSON").await.expect("an open connection");
    for code in [Code::OutcomeUnknown, Code::OutcomeUnknown, Code::Malformed] {
        assert_eq!(stream.refused().await.code, code);
    }
    assert!(rig.stored(&channel).await.state.amount.units() >= 5, "Redis had taken it");
    rig.redis.proxy().pass();
    wait_until(SOON, "the same voucher is taken", || async {
        let mut stream = Stream::open(rig.relayer(0)).await;
        stream.pay(&channel.voucher(6)).await.contains("\"cumulative_amount\":\"6\"")
    })
    .await;
}

#[tokio::test]
async fn while_the_relayer_is_not_ready_messages_are_refused_and_the_connection_stays() {
    let rig = rig_with(&[]).await;
    let channel = paid(&rig, 1).await.remove(0);
    let mut stream = Stream::open(rig.relayer(0)).await;
    rig.redis.proxy().cut();
    rig.relayer_is_ready(0, false).await;
    stream.pay_all([channel.voucher(2), rig.channel(10).await.voucher(1)]).await;
    for _ in 0..2 {
        let refused = stream.refused().await;
        assert_eq!((refused.code, refused.retry_after_s), (Code::StoreUnavailable, Some(1)));
    }
    rig.redis.proxy().pass();
    rig.relayer_is_ready(0, true).await;
    let mut answers = Vec::new();
    while !answers.last().is_some_and(|answer: &String| answer.contains("\"accepted\"")) {
        assert!(answers.len() < 1_000, "{answers:?}");
        answers.push(stream.pay(&channel.voucher(2)).await);
    }
}

#[tokio::test]
async fn a_request_that_is_no_websocket_is_told_what_it_lacks() {
    let rig = rig_with(&[]).await;
    let url = format!("{}/v1/payments/stream", rig.relayer(0));
    let plain = rig.http.get(&url).await;
    assert_eq!((plain.status, plain.problem().code), (426, Code::UpgradeRequired));
    let post = rig.http.post(&url, "{}").await;
    assert_eq!((post.status, post.problem().code), (405, Code::MethodNotAllowed));
}

#[tokio::test]
async fn a_ping_is_answered_and_a_close_is_returned() {
    use tokio_tungstenite::tungstenite::Message;
    let rig = rig_with(&[]).await;
    let channel = rig.channel(1_000).await;
    let mut stream = Stream::open(rig.relayer(0)).await;
    stream.send(Message::Ping(vec![1, 2, 3].into())).await.expect("an open connection");
    // The pong is passed over by the harness; the payment shows that the connection is in order.
    assert!(stream.pay(&channel.voucher(1)).await.contains("\"accepted\""));
    stream.send(Message::Close(None)).await.expect("an open connection");
    assert!(matches!(stream.heard().await, Heard::Close(_)));
    assert_eq!(stream.heard().await, Heard::Gone);
}

#[tokio::test]
async fn every_payment_of_a_client_that_vanishes_is_counted_as_ended() {
    let rig = rig_with(&[]).await;
    let mut channels = paid(&rig, 4).await;
    channels.push(rig.channel(1_000).await);
    for round in 2..12 {
        let mut stream = Stream::open(rig.relayer(0)).await;
        stream.pay_all(channels.iter().map(|channel| channel.voucher(round))).await;
        stream.connection().set_zero_linger().expect("an open connection");
    }
    wait_until(SOON, "none is in flight, and all that came are accounted for", || async {
        let of = async |outcome: &str| {
            metric(&rig, &format!("millrace_relayer_payments_total{{outcome=\"{outcome}\"}}")).await
        };
        let mut ended = 0;
        for outcome in ["accepted", "duplicate", "abandoned", "stale_amount"] {
            ended += of(outcome).await;
        }
        let received = metric(&rig, "millrace_relayer_payments_received_total").await;
        metric(&rig, "millrace_relayer_payments_in_flight").await == 0 && ended == received && received > 4
    })
    .await;
}
