//! Clients that want too much: large bodies, many headers, more requests than they read answers of.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::AsyncWriteExt as _;

use super::raw::{BOUND, connect, payment, resident_kib, rig_with, sent, still_serves, until_closed};

/// What a relayer may grow by while a few dozen clients send all that they can, in KiB.
const GROWTH_MAX_KIB: u64 = 64 * 1024;

#[tokio::test]
async fn a_body_over_the_limit_is_refused_by_its_length_or_once_it_gets_there() {
    let rig = rig_with(&[("http.body_max_bytes", "4096")]).await;
    let channel = rig.channel(1_000).await;
    let before = resident_kib(&rig);
    // Announced, and not sent: whoever waits for such a body waits in vain.
    for route in ["payments", "payments/batch"] {
        let head = format!("POST /v1/{route} HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n{{");
        let answer = until_closed(sent(&rig, head).await).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("payload_too_large"), "{answer}");
    }

    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let endless: String =
        format!("POST /v1/payments HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(1_000));
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = connect(&rig).await;
        let endless = endless.clone();
        streams.push(async move {
            // Refused long before the end.
            let _ = tokio::time::timeout(BOUND, stream.write_all(endless.as_bytes())).await;
            until_closed(stream).await
        });
    }
    join_all(streams).await;
    still_serves(&rig, &channel, 1).await;
    let grown = resident_kib(&rig).saturating_sub(before);
    assert!(grown < GROWTH_MAX_KIB, "80 MB were sent, and the relayer grew by {grown} KiB");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_not_kept() {
    let rig = rig_with(&[]).await;
    let channel = rig.channel(1_000).await;
    let before = resident_kib(&rig);
    let many: String = (0..5_000).map(|i| format!("X-{i}: {i}\r\n")).collect();
    let heads = [
        format!("GET / HTTP/1.1\r\nX-A: {}\r\n\r\n", "a".repeat(1_000_000)),
        format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1_000_000)),
        format!("GET / HTTP/1.1\r\n{many}\r\n"),
    ];
    for head in &heads {
        let answers = join_all((0..30).map(|_| async { until_closed(sent(&rig, head).await).await })).await;
        // What was not read turns the answer into a reset for some.
        for answer in answers.iter().filter(|answer| !answer.is_empty()) {
            assert!(answer.starts_with("HTTP/1.1 431 ") || answer.starts_with("HTTP/1.1 414 "), "{answer}");
        }
        assert!(answers.iter().any(|answer| !answer.is_empty()), "nobody heard why");
    }
    still_serves(&rig, &channel, 1).await;
    let grown = resident_kib(&rig).saturating_sub(before);
    assert!(grown < GROWTH_MAX_KIB, "the relayer grew by {grown} KiB");
}

#[tokio::test]
async fn heads_that_stop_just_below_the_limit_hold_little_memory() {
    const STREAMS: u64 = 500;
    let rig = rig_with(&[]).await;
    let channel = rig.channel(1_000).await;
    let before = resident_kib(&rig);
    let head = format!("GET / HTTP/1.1\r\nX-A: {}", "a".repeat(300_000));
    let mut held = Vec::new();
    for _ in 0..STREAMS {
        held.push(sent(&rig, &head).await);
    }
    still_serves(&rig, &channel, 1).await;
    let each = resident_kib(&rig).saturating_sub(before) / STREAMS;
    assert!(each < 64, "{each} KiB for each unfinished head");
    drop(held);
}

#[tokio::test]
async fn a_client_that_reads_no_answers_is_not_read_from_either() {
    let rig = rig_with(&[]).await;
    let channel = rig.channel(1_000).await;
    let before = resident_kib(&rig);
    let requests =
        format!("GET /v1/channels/{} HTTP/1.1\r\nHost: relayer\r\n\r\n", channel.id()).repeat(1_000);
    let mut stream = connect(&rig).await;
    let mut written = 0;
    // A second without room for one more byte: the relayer has stopped reading.
    while let Ok(Ok(length @ 1..)) =
        tokio::time::timeout(Duration::from_secs(1), stream.write(requests.as_bytes())).await
    {
        written += length;
        assert!(written < 256 << 20, "{written} bytes of requests were taken, and no answer was read");
    }
    still_serves(&rig, &channel, 1).await;
    let grown = resident_kib(&rig).saturating_sub(before);
    assert!(grown < GROWTH_MAX_KIB, "{written} bytes were sent, and the relayer grew by {grown} KiB");
}

#[tokio::test]
async fn more_connections_buy_an_address_no_more_requests() {
    const RATE: u64 = 20;
    let rig = rig_with(&[("limits.per_address_per_s", "20")]).await;
    let channel = rig.channel(1_000).await;
    let begun = Instant::now();
    let request = payment(&channel, 1).replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
    let answers = join_all((0..200).map(|_| async { until_closed(sent(&rig, &request).await).await })).await;
    let most = RATE * (begun.elapsed().as_secs() + 2);
    let taken = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 200 ")).count() as u64;
    let limited = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 429 ")).count() as u64;
    assert_eq!(taken + limited, 200, "every connection is answered");
    assert!((1..=most).contains(&taken), "{taken} of 200 requests were taken, at most {most} may be");
}
