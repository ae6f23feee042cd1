//! Clients that take their time.

use std::time::Duration;

use futures::future::join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::raw::{BOUND, connect, payment, rig_with, sent, still_serves, until_closed};

const HASTY: [(&str, &str); 2] = [("http.header_timeout_ms", "400"), ("http.request_timeout_ms", "400")];

/// Beginnings of a request, one of them of HTTP/2, and nothing at all.
const BEGINNINGS: [&str; 5] = ["", "P", "PRI * HTTP/2.0\r\n", "POST /v1/payments HTTP/1.1\r\nX-A: 1", "GET "];

/// Sends a byte now and then for as long as it can.
async fn trickle(mut stream: TcpStream) {
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    while stream.write_all(b"a").await.is_ok() {
        pace.tick().await;
    }
}

#[tokio::test]
async fn heads_that_do_not_end_are_cut_off_while_others_are_served() {
    let rig = rig_with(&HASTY).await;
    let channel = rig.channel(1_000).await;
    let mut slow = Vec::new();
    for i in 0..100 {
        slow.push(sent(&rig, BEGINNINGS[i % BEGINNINGS.len()]).await);
    }
    still_serves(&rig, &channel, 1).await;
    join_all(slow.into_iter().map(until_closed)).await;
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off_however_steadily_it_comes() {
    let rig = rig_with(&HASTY).await;
    let channel = rig.channel(1_000).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(sent(&rig, "POST /v1/payments HTTP/1.1\r\nX-A: ").await);
    }
    let all = tokio::time::timeout(BOUND, join_all(slow.into_iter().map(trickle)));
    still_serves(&rig, &channel, 1).await;
    all.await.expect("the relayer ends every one of them");
}

#[tokio::test]
async fn bodies_that_do_not_end_are_answered_in_time_and_cut_off() {
    let rig = rig_with(&HASTY).await;
    let channel = rig.channel(1_000).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let whole = payment(&channel, 1);
        slow.push(sent(&rig, &whole[..whole.len() - 5]).await);
    }
    still_serves(&rig, &channel, 2).await;
    for answer in join_all(slow.into_iter().map(until_closed)).await {
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    }
    assert_eq!(rig.stored(&channel).await.state.amount.units(), 2, "half a request pays nothing");
}

#[tokio::test]
async fn a_body_that_trickles_in_is_cut_off_however_steadily_it_comes() {
    let rig = rig_with(&HASTY).await;
    let channel = rig.channel(1_000).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(sent(&rig, "POST /v1/payments HTTP/1.1\r\nContent-Length: 100000\r\n\r\n").await);
    }
    let all = tokio::time::timeout(BOUND, join_all(slow.into_iter().map(trickle)));
    still_serves(&rig, &channel, 1).await;
    all.await.expect("the relayer ends every one of them");
}

#[tokio::test]
async fn connections_that_say_nothing_make_room_for_those_who_wait() {
    let rig = rig_with(&[("http.connections_max", "8"), HASTY[0]]).await;
    let channel = rig.channel(1_000).await;
    let mut silent = Vec::new();
    for i in 0..24 {
        let stream =
            if i % 2 == 0 { connect(&rig).await } else { sent(&rig, "PRI * HTTP/2.0\r\n\r\nSM").await };
        silent.push(stream);
    }
    still_serves(&rig, &channel, 1).await;
}
