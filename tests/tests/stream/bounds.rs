//! What one connection can make a relayer hold, and for how long.

use std::time::Duration;

use common::problem::Code;
use common::wire::Outcome;
use tests::rig::{Rig, SOON};
use tests::stream::{Heard, Stream};
use tests::wait_until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::answers::{metric, paid, rig_with};

/// How long anything may take that is bounded by a timeout of a second or less.
const BOUND: Duration = Duration::from_secs(10);

#[tokio::test]
async fn beyond_the_limit_of_unanswered_payments_a_connection_is_not_read() {
    const IN_FLIGHT: u64 = 8;
    const SENT: u64 = 100;
    let mut rig = rig_with(&[
        ("stream.in_flight_max", "8"),
        ("redis.command_timeout_ms", "60000"),
        ("readiness_interval_ms", "3600000"),
    ])
    .await;
    let channels = paid(&rig, 2).await;
    let received = async |rig: &Rig| metric(rig, "millrace_relayer_payments_received_total").await;
    let before = received(&rig).await;
    rig.redis.pause().await;
    let mut stream = Stream::open(rig.relayer(0)).await;
    stream.pay_all((2..2 + SENT).map(|amount| channels[0].voucher(amount))).await;
    wait_until(SOON, "as many as may be are in flight", || async {
        received(&rig).await == before + IN_FLIGHT
    })
    .await;
    // Another connection is served meanwhile, and by then this one would have been read on.
    let mut other = Stream::open(rig.relayer(0)).await;
    other.send("no JSON").await.expect("an open connection");
    assert_eq!(other.refused().await.code, Code::Malformed);
    assert_eq!(received(&rig).await, before + IN_FLIGHT + 1, "the rest stays with the client");
    rig.redis.resume().await;
    for amount in 2..2 + SENT {
        let taken = stream.taken().await;
        assert_eq!((taken.cumulative_amount.units(), taken.outcome), (amount, Outcome::Accepted));
    }
}

#[tokio::test]
async fn a_client_that_reads_no_answers_is_not_read_from_and_is_cut_off() {
    let rig = rig_with(&[("stream.write_timeout_ms", "500")]).await;
    let channel = paid(&rig, 1).await.remove(0);
    let mut stream = Stream::open_narrow(rig.relayer(0)).await;
    // A masked text frame that holds "x", which has an answer a hundred times its size.
    let message = [0x81, 0x81, 0, 0, 0, 0, b'x'];
    let many = message.repeat(1_000);
    let connection = stream.connection();
    let mut sent = 0usize;
    let cut_off = async {
        loop {
            // Answers are never read, so this ends in a write without room, and then in a reset.
            match connection.write(&many).await {
                Ok(length) => sent += length,
                Err(_) => return,
            }
        }
    };
    tokio::time::timeout(BOUND, cut_off).await.expect("the relayer lets go of it");
    let received = metric(&rig, "millrace_relayer_payments_received_total").await;
    eprintln!("{received} messages were taken, {sent} bytes sent");
    assert!(received < 200_000, "{received} messages were taken, and no answer was read");
    let mut other = Stream::open(rig.relayer(0)).await;
    assert!(other.pay(&channel.voucher(2)).await.contains("\"accepted\""));
    assert_eq!(metric(&rig, "millrace_relayer_payments_in_flight").await, 0);
}

#[tokio::test]
async fn a_message_over_the_limit_is_told_so_and_the_connection_closed() {
    let rig = rig_with(&[("stream.message_max_bytes", "1000")]).await;
    let channel = rig.channel(1_000).await;
    let mut text = serde_json::to_string(&channel.voucher(2)).expect("a voucher is JSON");
    text.push_str(&" ".repeat(1_000 - text.len()));
    let mut stream = Stream::open(rig.relayer(0)).await;
    stream.pay_all([channel.voucher(1)]).await;
    stream.send(text.clone()).await.expect("an open connection");
    stream.send(format!("{text} ")).await.expect("an open connection");
    // What was sent before is answered before.
    for amount in 1..=2 {
        assert_eq!(stream.taken().await.cumulative_amount.units(), amount);
    }
    let refused = stream.refused().await;
    assert_eq!(
        (refused.code, refused.detail.as_deref()),
        (Code::PayloadTooLarge, Some("the limit is 1000 bytes"))
    );
    assert_eq!(stream.heard().await, Heard::Close(Some(1009)));
    assert_eq!(stream.heard().await, Heard::Gone);
    // In parts it is as large.
    let mut stream = Stream::open(rig.relayer(0)).await;
    for (first, part) in [(0x01, 600u16), (0x80, 600)] {
        let [high, low] = part.to_be_bytes();
        let mut frame = vec![first, 0xfe, high, low, 0, 0, 0, 0];
        frame.resize(8 + usize::from(part), b' ');
        stream.connection().write_all(&frame).await.expect("an open connection");
    }
    assert_eq!(stream.refused().await.code, Code::PayloadTooLarge);
    assert_eq!(stream.heard().await, Heard::Close(Some(1009)));
    let total = "millrace_relayer_payments_total{outcome=\"payload_too_large\"}";
    assert_eq!(metric(&rig, total).await, 2);
}

#[tokio::test]
async fn what_is_no_websocket_closes_the_connection_after_what_came_before() {
    let rig = rig_with(&[]).await;
    let channel = rig.channel(1_000).await;
    let cases: [(&[u8], u16); 5] = [
        // Not masked; a reserved bit; a reserved opcode; a continuation of nothing; text that is not UTF-8.
        (&[0x81, 0x01, b'x'], 1002),
        (&[0xc1, 0x81, 0, 0, 0, 0, b'x'], 1002),
        (&[0x83, 0x81, 0, 0, 0, 0, b'x'], 1002),
        (&[0x80, 0x81, 0, 0, 0, 0, b'x'], 1002),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
    ];
    for (amount, (frame, code)) in (1..).zip(cases) {
        let mut stream = Stream::open(rig.relayer(0)).await;
        stream.pay_all([channel.voucher(amount)]).await;
        stream.connection().write_all(frame).await.expect("an open connection");
        assert_eq!(stream.taken().await.cumulative_amount.units(), amount, "{frame:?}");
        assert_eq!(stream.heard().await, Heard::Close(Some(code)), "{frame:?}");
    }
}

#[tokio::test]
async fn a_silent_client_is_pinged_kept_while_it_answers_and_let_go_of_when_it_does_not() {
    let rig = rig_with(&[
        ("stream.ping_interval_ms", "100"),
        ("stream.idle_timeout_ms", "1000"),
        // Nor does it answer the close: it is waited for this long.
        ("stream.write_timeout_ms", "500"),
        ("http.request_timeout_ms", "200"),
        ("http.header_timeout_ms", "200"),
    ])
    .await;
    let channel = rig.channel(1_000).await;
    let mut answering = Stream::open(rig.relayer(0)).await;
    let mut silent = Stream::open(rig.relayer(0)).await;
    let mut heard = Vec::new();
    let ended = silent.connection().read_to_end(&mut heard);
    let answers = async {
        // More than the idle timeout's worth, and far more than a request may take.
        for _ in 0..15 {
            assert_eq!(answering.heard().await, Heard::Ping);
        }
        answering.pay(&channel.voucher(1)).await
    };
    let (ended, answer) = tokio::join!(tokio::time::timeout(BOUND, ended), answers);
    ended.expect("the relayer lets go of it").expect("it ends well");
    assert!(answer.contains("\"accepted\""), "{answer}");
    // A ping, and then a close frame with 1001.
    assert_eq!((heard[0], heard[2], [heard[4], heard[5]]), (0x89, 0x88, 1001u16.to_be_bytes()), "{heard:?}");
}

#[tokio::test]
async fn streams_count_as_connections() {
    let rig = rig_with(&[("http.connections_max", "2")]).await;
    let channel = rig.channel(1_000).await;
    let mut streams = [Stream::open(rig.relayer(0)).await, Stream::open(rig.relayer(0)).await];
    assert!(streams[0].pay(&channel.voucher(1)).await.contains("\"accepted\""));
    let waiting = {
        let (http, url) = (rig.http.clone(), format!("{}/v1/channels/{}", rig.relayer(0), channel.id()));
        tokio::spawn(async move { http.get(&url).await })
    };
    assert!(streams[1].pay(&channel.voucher(2)).await.contains("\"accepted\""));
    assert!(!waiting.is_finished(), "a third has to wait");
    let [first, _second] = streams;
    drop(first);
    let reply = tokio::time::timeout(BOUND, waiting).await.expect("there is room again").expect("no panic");
    assert_eq!(reply.status, 200);
}
