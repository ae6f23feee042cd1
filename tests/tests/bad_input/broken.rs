//! Clients that speak HTTP badly, half, or all at once.

use tokio::io::AsyncWriteExt as _;

use super::raw::{connect, payment, rig_with, sent, still_serves, until_closed};

#[tokio::test]
async fn pipelined_payments_are_answered_in_order() {
    const PAYMENTS: u64 = 30;
    let rig = rig_with(&[]).await;
    let channel = rig.channel(1_000).await;
    let mut requests: String = (1..=PAYMENTS).map(|amount| payment(&channel, amount)).collect();
    requests.push_str("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    let answers = until_closed(sent(&rig, requests).await).await;
    let amounts: Vec<u64> = answers
        .split("\"cumulative_amount\":\"")
        .skip(1)
        .map(|rest| rest.split('"').next().and_then(|amount| amount.parse().ok()).expect("an amount"))
        .collect();
    assert_eq!(amounts, (1..=PAYMENTS).collect::<Vec<_>>());
    assert_eq!(answers.matches("HTTP/1.1 200 ").count() as u64, PAYMENTS);
    assert_eq!(answers.matches("\"accepted\"").count() as u64, PAYMENTS, "one after the other");
    assert_eq!(answers.matches("HTTP/1.1 404 ").count(), 1, "the last one closes");
}

#[tokio::test]
async fn a_client_that_closes_its_half_in_the_middle_of_a_request_pays_nothing() {
    let rig = rig_with(&[]).await;
    let channel = rig.channel(1_000).await;
    let whole = payment(&channel, 1);
    for cut in [0, 1, 10, 40, whole.len() - 1] {
        let mut stream = sent(&rig, &whole[..cut]).await;
        stream.shutdown().await.expect("an open connection");
        until_closed(stream).await;
    }
    let reply = rig.pay(0, &channel, 1).await;
    assert!(reply.body.contains("\"accepted\""), "no half of it was taken before: {reply:?}");
}

#[tokio::test]
async fn a_client_that_closes_its_half_after_a_request_is_charged_once_at_most() {
    let rig = rig_with(&[]).await;
    let channel = rig.channel(1_000).await;
    for amount in 1..=20 {
        let mut stream = sent(&rig, payment(&channel, amount)).await;
        stream.shutdown().await.expect("an open connection");
        let answer = until_closed(stream).await;
        let again = rig.pay(0, &channel, amount).await;
        assert_eq!(again.status, 200, "{again:?}");
        if answer.starts_with("HTTP/1.1 200 ") {
            assert!(again.body.contains("\"duplicate\""), "it had been taken: {again:?}");
        }
        assert_eq!(rig.stored(&channel).await.state.amount.units(), amount);
    }
}

#[tokio::test]
async fn garbage_is_refused_and_its_connection_closed() {
    let rig = rig_with(&[("http.header_timeout_ms", "500")]).await;
    let channel = rig.channel(1_000).await;
    let valid = payment(&channel, 1);
    let two_lengths = valid.replacen("Host:", "Content-Length: 1\r\nHost:", 1);
    let length_and_chunks = valid.replacen("Host: relayer", "Transfer-Encoding: chunked, identity", 1);
    let garbage: [&[u8]; 9] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\r\n\r\n",
        b"EHLO relayer\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nA\x00b: c\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n\r\n\r\n",
        two_lengths.as_bytes(),
        length_and_chunks.as_bytes(),
    ];
    for bytes in garbage {
        let answer = until_closed(sent(&rig, bytes).await).await;
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(refused, "{:?} was answered {answer}", bytes.escape_ascii().to_string());
    }
    let reply = rig.pay(0, &channel, 1).await;
    assert!(reply.body.contains("\"accepted\""), "none of it was a payment: {reply:?}");
}

#[tokio::test]
async fn a_connection_that_is_reset_in_the_middle_takes_nothing_with_it() {
    let rig = rig_with(&[]).await;
    let channel = rig.channel(1_000).await;
    for amount in 1..=50 {
        let mut stream = connect(&rig).await;
        stream.set_zero_linger().expect("an open connection");
        stream.write_all(payment(&channel, amount).as_bytes()).await.expect("an open connection");
        drop(stream);
    }
    still_serves(&rig, &channel, 51).await;
    assert_eq!(rig.stored(&channel).await.state.amount.units(), 51);
}
