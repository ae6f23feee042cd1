//! The fault proxy, in front of a real Redis.

use std::time::{Duration, Instant};

use tests::proxy::{Fault, FaultProxy, Protocol};
use tests::redis::Redis;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(10);

/// Long enough for an answer that is not held back to have come.
const SILENCE: Duration = Duration::from_millis(300);

/// A bare connection: nothing that a client library does by itself gets in the way.
struct Line(TcpStream);

impl Line {
    async fn to(proxy: &FaultProxy) -> Line {
        Line(TcpStream::connect(proxy.address()).await.expect("the proxy listens"))
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("the connection is open");
    }

    /// What arrives next; empty once the connection is closed.
    async fn receive(&mut self) -> String {
        let mut bytes = [0u8; 1024];
        let length = tokio::time::timeout(SOON, self.0.read(&mut bytes)).await.expect("an answer in time");
        String::from_utf8_lossy(&bytes[..length.unwrap_or(0)]).into_owned()
    }

    async fn ask(&mut self, text: &str) -> String {
        self.send(text).await;
        self.receive().await
    }

    async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(SILENCE, self.0.read(&mut [0u8; 1])).await.is_err()
    }
}

#[tokio::test]
async fn passing_proxy_changes_nothing_and_counts() {
    let redis = Redis::start().await;
    let mut line = Line::to(redis.proxy()).await;
    assert_eq!(line.ask("SET k v\r\n").await, "+OK\r\n");
    assert_eq!(line.ask("GET k\r\n").await, "$1\r\nv\r\n");
    let counts = redis.proxy().counts();
    assert_eq!((counts.connections, counts.open, counts.requests), (1, 1, 2));
    assert_eq!((counts.request_bytes, counts.reply_bytes, counts.withheld_requests), (16, 12, 0));
    drop(line);
    redis.proxy().wait_for_counts(SOON, |counts| counts.open == 0).await;
}

#[tokio::test]
async fn cut_closes_open_connections_and_refuses_new_ones_until_healed() {
    let redis = Redis::start().await;
    let mut line = Line::to(redis.proxy()).await;
    assert_eq!(line.ask("PING\r\n").await, "+PONG\r\n");
    redis.proxy().cut();
    assert_eq!(line.receive().await, "", "the open connection is closed");
    assert_eq!(Line::to(redis.proxy()).await.receive().await, "", "a new one is closed at once");
    redis.proxy().pass();
    assert_eq!(Line::to(redis.proxy()).await.ask("PING\r\n").await, "+PONG\r\n");
}

#[tokio::test]
async fn fault_for_new_connections_leaves_open_ones_alone() {
    let redis = Redis::start().await;
    let mut open = Line::to(redis.proxy()).await;
    assert_eq!(open.ask("PING\r\n").await, "+PONG\r\n");
    redis.proxy().set_for_new(Fault::Cut);
    assert_eq!(Line::to(redis.proxy()).await.receive().await, "");
    assert_eq!(open.ask("PING\r\n").await, "+PONG\r\n");
    redis.proxy().cut_open();
    assert_eq!(open.receive().await, "");
    assert_eq!(Line::to(redis.proxy()).await.ask("PING\r\n").await, "+PONG\r\n");
}

#[tokio::test]
async fn client_comes_back_after_a_cut() {
    let redis = Redis::start().await;
    let client = redis.proxied_client().await;
    redis.proxy().cut_open();
    tests::wait_until(SOON, "the client is connected again", || {
        let client = client.clone();
        async move { fred::interfaces::ClientLike::ping::<String>(&client, None).await.is_ok() }
    })
    .await;
}

#[tokio::test]
async fn delay_holds_back_each_direction() {
    let redis = Redis::start().await;
    let mut line = Line::to(redis.proxy()).await;
    redis.proxy().delay(Duration::from_millis(250));
    let start = Instant::now();
    assert_eq!(line.ask("PING\r\n").await, "+PONG\r\n");
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    redis.proxy().pass();
    let start = Instant::now();
    assert_eq!(line.ask("PING\r\n").await, "+PONG\r\n");
    assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
}

#[tokio::test]
async fn swallowed_reply_leaves_the_command_carried_out() {
    let redis = Redis::start().await;
    let mut line = Line::to(redis.proxy()).await;
    redis.proxy().swallow_replies();
    line.send("SET k done\r\n").await;
    tests::wait_until(SOON, "the command is carried out", || async { redis.exists("k").await }).await;
    assert!(line.is_silent().await);
    redis.proxy().pass();
    assert_eq!(line.receive().await, "", "a connection that lost bytes is cut, not resumed");
    assert_eq!(Line::to(redis.proxy()).await.ask("GET k\r\n").await, "$4\r\ndone\r\n");
}

#[tokio::test]
async fn swallowed_request_is_not_carried_out() {
    let redis = Redis::start().await;
    let mut line = Line::to(redis.proxy()).await;
    redis.proxy().swallow_requests();
    let seen = redis.proxy().look_out_for("never");
    line.send("SET k never\r\n").await;
    seen.wait(SOON).await;
    assert!(line.is_silent().await);
    assert!(!redis.exists("k").await);
    assert_eq!(redis.proxy().counts().withheld_requests, 1);
    redis.proxy().pass();
    assert_eq!(line.receive().await, "", "a connection that lost bytes is cut, not resumed");
}

#[tokio::test]
async fn trapped_request_is_carried_out_and_its_reply_lost_once() {
    let redis = Redis::start().await;
    let mut line = Line::to(redis.proxy()).await;
    let lookout = redis.proxy().swallow_next_reply_then_cut("EVALSHA");
    assert_eq!(line.ask("SET k 0\r\n").await, "+OK\r\n", "other requests pass");
    let sha = redis.command(&["SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])"]).await;
    // What follows in the same segment does not go on.
    line.send(&format!("EVALSHA {sha} 1 k\r\nSET k 100\r\n")).await;
    assert_eq!(line.receive().await, "", "no reply, and the connection is cut");
    lookout.wait(SOON).await;
    redis.check_get("k", "1").await;
    let mut again = Line::to(redis.proxy()).await;
    assert_eq!(again.ask(&format!("EVALSHA {sha} 1 k\r\n")).await, ":2\r\n", "the trap is gone");
}

#[tokio::test]
async fn trap_sees_a_request_that_comes_in_pieces() {
    let redis = Redis::start().await;
    let mut line = Line::to(redis.proxy()).await;
    let lookout = redis.proxy().swallow_next_reply_then_cut("pattern");
    let seen = redis.proxy().look_out_for("SET");
    line.send("PING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$7\r\npat").await;
    assert_eq!(line.receive().await, "+PONG\r\n");
    line.send("tern\r\n").await;
    seen.wait(SOON).await;
    lookout.wait(SOON).await;
    assert_eq!(line.receive().await, "");
    redis.check_get("k", "pattern").await;
}

#[tokio::test]
async fn error_answers_come_in_their_turn() {
    let redis = Redis::start().await;
    let mut line = Line::to(redis.proxy()).await;
    // The server is busy with this one while the error is set for those behind it.
    line.send("BLPOP queue 0\r\n").await;
    redis.proxy().wait_for_counts(SOON, |counts| counts.requests == 1).await;
    redis.set_error(Some("MISCONF disk"));
    line.send("SET k v\r\n").await;
    redis.proxy().wait_for_counts(SOON, |counts| counts.withheld_requests == 1).await;
    redis.command(&["RPUSH", "queue", "x"]).await;
    let mut answers = line.receive().await;
    while !answers.contains("MISCONF") {
        answers += &line.receive().await;
    }
    assert_eq!(answers, "*2\r\n$5\r\nqueue\r\n$1\r\nx\r\n-MISCONF disk\r\n");
    assert!(!redis.exists("k").await);
}

#[tokio::test]
async fn proxy_of_any_protocol_cuts_after_the_first_reply_bytes() {
    let redis = Redis::start().await;
    let target = redis.url().replace("redis://", "");
    let proxy = FaultProxy::start(target, Protocol::Bytes).await;
    let mut line = Line::to(&proxy).await;
    assert_eq!(line.ask("PING\r\n").await, "+PONG\r\n");
    let lookout = proxy.swallow_next_reply_then_cut("INCR");
    line.send("INCR n\r\n").await;
    assert_eq!(line.receive().await, "");
    lookout.wait(SOON).await;
    redis.check_get("n", "1").await;
}

#[tokio::test]
async fn proxy_answers_a_status_in_the_servers_stead_until_healed() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.url().replace("redis://", ""), Protocol::Bytes).await;
    let mut line = Line::to(&proxy).await;
    assert_eq!(line.ask("PING\r\n").await, "+PONG\r\n");
    proxy.set(Fault::AnswerStatus(500));
    let answer = line.ask("INCR n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("content-length: 0\r\n"), "{answer}");
    assert_eq!(line.receive().await, "", "and the connection is closed");
    proxy.pass();
    assert_eq!(Line::to(&proxy).await.ask("INCR n\r\n").await, ":1\r\n", "the first never arrived");
}

#[tokio::test]
async fn proxy_closes_its_connection_when_the_server_is_gone() {
    let mut redis = Redis::start().await;
    let mut line = Line::to(redis.proxy()).await;
    assert_eq!(line.ask("PING\r\n").await, "+PONG\r\n");
    redis.kill().await;
    assert_eq!(line.receive().await, "");
    assert_eq!(Line::to(redis.proxy()).await.receive().await, "", "no server, no connection");
    redis.restart().await;
    assert_eq!(Line::to(redis.proxy()).await.ask("PING\r\n").await, "+PONG\r\n");
}
