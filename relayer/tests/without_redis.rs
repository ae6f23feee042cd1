//! A relayer whose Redis and issuer are away: it is up, says why it takes nothing, and goes down in order.

use std::net::SocketAddr;
use std::time::Duration;

use common::clock::Clock;
use common::ids::{ChannelId, PublicKey, Signature};
use common::problem::{Code, Problem};
use ed25519_dalek::SigningKey;
use relayer::{Config, LimitsConfig, Running, start};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A port that nothing listens on.
const NOWHERE: &str = "127.0.0.1:1";

fn config() -> Config {
    let key = PublicKey::of(&SigningKey::from_bytes(&[1; 32]));
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config =
        Config { listen: any_port, admin_listen: any_port, payee: Some(key), ..Config::default() };
    config.redis.url = format!("redis://{NOWHERE}");
    config.issuer.url = format!("http://{NOWHERE}");
    config.issuer.public_key = Some(key);
    config.drain_grace_ms = 0;
    config
}

struct Relayer {
    running: Running,
    shutdown: CancellationToken,
    client: Client,
}

async fn up(config: Config) -> Relayer {
    let shutdown = CancellationToken::new();
    let running = start(config, Clock::system(), shutdown.clone()).await.expect("starts");
    let client = Client::builder().no_proxy().build().expect("a plain client");
    Relayer { running, shutdown, client }
}

impl Relayer {
    async fn send(&self, method: Method, path: &str, body: String) -> Response {
        let url = format!("http://{}{path}", self.running.addr);
        self.client.request(method, url).body(body).send().await.expect("an answer")
    }

    async fn refused(&self, method: Method, path: &str, body: String) -> (Code, Option<String>) {
        let response = self.send(method, path, body).await;
        let retry_after = response.headers().get("retry-after").cloned();
        let problem: Problem = response.json().await.expect("a problem");
        let told = retry_after.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        assert_eq!(told, problem.retry_after_s);
        (problem.code, problem.field)
    }

    async fn admin(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.running.admin_addr);
        let response = self.client.get(url).send().await.expect("an answer");
        (response.status().as_u16(), response.text().await.expect("a body"))
    }
}

fn payment(amount: &str) -> Value {
    json!({
        "channel_id": ChannelId([1; 32]),
        "cumulative_amount": amount,
        "signature": Signature([1; 64]),
    })
}

#[tokio::test]
async fn without_redis_a_relayer_is_up_and_takes_nothing() {
    let relayer = up(config()).await;
    assert_eq!(relayer.admin("/livez").await.0, 200);
    let (status, reason) = relayer.admin("/readyz").await;
    assert!(status == 503 && reason.contains("Redis"), "{reason}");
    let refused = relayer.refused(Method::POST, "/v1/payments", payment("5").to_string()).await;
    assert_eq!(refused, (Code::StoreUnavailable, None));
    let path = format!("/v1/channels/{}", ChannelId([1; 32]));
    assert_eq!(relayer.refused(Method::GET, &path, String::new()).await, (Code::StoreUnavailable, None));
    relayer.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), relayer.running.wait()).await.expect("ended in time");
}

#[tokio::test]
async fn the_form_of_a_request_is_checked_before_anything_is_asked() {
    let relayer = up(config()).await;
    let field = |name: &str| (Code::Malformed, Some(name.to_owned()));
    for (path, body, expected) in [
        ("/v1/payments", payment("0").to_string(), field("cumulative_amount")),
        ("/v1/payments", payment("05").to_string(), field("cumulative_amount")),
        ("/v1/payments", "[".to_owned(), (Code::Malformed, None)),
        ("/v1/payments/batch", "5".to_owned(), (Code::Malformed, None)),
        ("/v1/payments", " ".repeat(300_000), (Code::PayloadTooLarge, None)),
        ("/v1/payments/batch", format!("[{}1]", "1,".repeat(256)), (Code::PayloadTooLarge, None)),
        ("/v1/nothing", String::new(), (Code::NotFound, None)),
        ("/v1/channels/0/close", "{}".to_owned(), field("id")),
    ] {
        assert_eq!(relayer.refused(Method::POST, path, body).await, expected, "{path}");
    }
    let wrong_method = relayer.refused(Method::GET, "/v1/payments", String::new()).await;
    assert_eq!(wrong_method, (Code::MethodNotAllowed, None));
}

#[tokio::test]
async fn a_batch_is_answered_in_the_form_it_came_in() {
    let relayer = up(config()).await;
    let batch = [payment("5"), payment("0"), json!(7)];
    let expected = [
        ("store_unavailable", Value::Null),
        ("malformed", json!("[1].cumulative_amount")),
        ("malformed", json!("[2]")),
    ];
    let check = |results: Vec<Value>| {
        let found: Vec<_> =
            results.iter().map(|r| (r["code"].as_str().unwrap_or("none"), r["field"].clone())).collect();
        assert_eq!(found, expected);
    };
    let array = relayer.send(Method::POST, "/v1/payments/batch", json!(batch).to_string()).await;
    assert_eq!(array.status(), 200);
    check(array.json().await.expect("an array"));

    let lines: String = batch.iter().map(|payment| format!("{payment}\n")).collect();
    let answer = relayer.send(Method::POST, "/v1/payments/batch", lines).await;
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let text = answer.text().await.expect("a body");
    check(text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect());
}

#[tokio::test]
async fn addresses_are_limited_and_every_payment_is_counted_once() {
    let limits = LimitsConfig { per_address_per_s: Some(3), ..LimitsConfig::default() };
    let relayer = up(Config { limits, ..config() }).await;
    let batch = json!([payment("5"), payment("0")]).to_string();
    assert_eq!(relayer.send(Method::POST, "/v1/payments/batch", batch.clone()).await.status(), 200);
    let refused = relayer.refused(Method::POST, "/v1/payments/batch", batch).await;
    assert_eq!(refused, (Code::RateLimited, None));
    let (_, text) = relayer.admin("/metrics").await;
    let sum_of = |name: &str| -> u64 {
        let value = |line: &str| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<u64>().ok();
        text.lines().filter_map(value).sum()
    };
    let (received, ended) =
        (sum_of("millrace_relayer_payments_received_total"), sum_of("millrace_relayer_payments_total{"));
    assert_eq!((received, ended), (4, 4), "{text}");
    assert!(text.contains(r#"millrace_relayer_payments_total{outcome="rate_limited"} 2"#), "{text}");
}
