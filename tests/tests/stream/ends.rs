//! Relayers that stop and die under streams: what was sent is answered, and what was acknowledged is kept.

use std::time::Duration;

use common::wire::Outcome;
use nix::sys::signal::Signal;
use tests::rig::SOON;
use tests::stream::{Heard, Stream};
use tests::wait_until;

use super::answers::{metric, paid, rig_with};

#[tokio::test]
async fn what_was_sent_before_sigterm_is_answered_and_then_the_connection_closed() {
    const STREAMS: usize = 4;
    const SENT: u64 = 30;
    // Fewer at once than are sent: the rest is still in the socket when the signal comes.
    let mut rig = rig_with(&[("redis.command_timeout_ms", "10000"), ("stream.in_flight_max", "20")]).await;
    let channels = paid(&rig, STREAMS).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(Stream::open(rig.relayer(0)).await);
    }
    let mut idle = Stream::open(rig.relayer(0)).await;
    rig.redis.proxy().delay(Duration::from_millis(250));
    for (stream, channel) in streams.iter_mut().zip(&channels) {
        stream.pay_all((2..2 + SENT).map(|amount| channel.voucher(amount))).await;
    }
    wait_until(SOON, "payments are in flight", || async {
        metric(&rig, "millrace_relayer_payments_in_flight").await == 20 * STREAMS as u64
    })
    .await;
    rig.relayers[0].signal(Signal::SIGTERM).expect("it runs");
    for stream in &mut streams {
        for amount in 2..2 + SENT {
            let taken = stream.taken().await;
            assert_eq!((taken.cumulative_amount.units(), taken.outcome), (amount, Outcome::Accepted));
        }
    }
    for stream in streams.iter_mut().chain([&mut idle]) {
        assert_eq!(stream.heard().await, Heard::Close(Some(1001)));
        assert_eq!(stream.heard().await, Heard::Gone);
    }
    let status = rig.relayers[0].wait_exit(SOON).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
    for channel in &channels {
        assert_eq!(rig.stored(channel).await.state.amount.units(), 1 + SENT);
    }
}

#[tokio::test]
async fn a_client_that_never_stops_sending_does_not_hold_the_shutdown() {
    let mut rig = rig_with(&[("stream.in_flight_max", "20"), ("http.drain_timeout_ms", "3000")]).await;
    let channel = paid(&rig, 1).await.remove(0);
    let mut stream = Stream::open(rig.relayer(0)).await;
    let vouchers: Vec<_> = (2..402).map(|amount| channel.voucher(amount)).collect();
    let (mut answered, mut closed) = (0u64, None);
    stream.pay_all(vouchers[..100].iter().cloned()).await;
    rig.relayers[0].signal(Signal::SIGTERM).expect("it runs");
    for voucher in &vouchers[100..] {
        let text = serde_json::to_string(voucher).expect("a voucher is JSON");
        if stream.send(text).await.is_err() {
            break;
        }
    }
    while closed.is_none() {
        match stream.heard().await {
            Heard::Answer(answer) => {
                assert!(answer.contains("\"accepted\""), "{answer}");
                answered += 1;
            }
            Heard::Close(code) => closed = Some(code),
            other => panic!("{other:?} instead of a close"),
        }
    }
    assert_eq!(closed, Some(Some(1001)));
    drop(stream);
    let status = rig.relayers[0].wait_exit(SOON).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert_eq!(
        rig.stored(&channel).await.state.amount.units(),
        1 + answered,
        "all of it was answered, in order"
    );
}
