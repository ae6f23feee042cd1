//! The Redis handle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cli::stack::redis::{AppendFsync, RedisOptions};
use fred::interfaces::{ClientLike as _, KeysInterface as _, StreamsInterface as _};
use fred::types::Expiration;
use tests::redis::{Redis, Tier};
use tests::wait_until;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn tier_is_the_one_that_was_asked_for() {
    let redis = Redis::start().await;
    assert_eq!(redis.tier(), Tier::of_this_machine().await);
    assert_eq!(redis.command(&["PING"]).await, "PONG");
}

#[tokio::test]
async fn two_servers_of_one_test_do_not_share_keys() {
    let (one, other) = tokio::join!(Redis::start(), Redis::start());
    one.command(&["SET", "k", "1"]).await;
    assert_eq!(other.get("k").await, None);
    assert_ne!(one.url(), other.url());
}

#[tokio::test]
async fn server_keeps_what_millrace_asks_of_a_redis() {
    let redis = Redis::start().await;
    let settings = redis.command(&["CONFIG", "GET", "maxmemory-policy"]).await;
    assert_eq!(settings, "maxmemory-policy\nnoeviction");
    assert_eq!(redis.command(&["CONFIG", "GET", "appendonly"]).await, "appendonly\nyes");
    assert_eq!(redis.command(&["CONFIG", "GET", "appendfsync"]).await, "appendfsync\neverysec");
    assert_eq!(redis.command(&["CONFIG", "GET", "save"]).await, "save\n");

    let weak = RedisOptions {
        appendonly: false,
        maxmemory_policy: "allkeys-lru".to_owned(),
        extra: vec![("maxmemory".to_owned(), "64mb".to_owned())],
        ..RedisOptions::default()
    };
    let redis = Redis::start_with(weak).await;
    assert_eq!(redis.command(&["CONFIG", "GET", "appendonly"]).await, "appendonly\nno");
    assert_eq!(redis.command(&["CONFIG", "GET", "maxmemory-policy"]).await, "maxmemory-policy\nallkeys-lru");
    assert_eq!(redis.command(&["CONFIG", "GET", "maxmemory"]).await, "maxmemory\n67108864");
}

#[tokio::test]
async fn fast_forward_moves_every_ttl_and_nothing_else() {
    let redis = Redis::start().await;
    for (key, expires) in [("short", Some(30)), ("exact", Some(60)), ("long", Some(3_600)), ("forever", None)]
    {
        let () = redis
            .client()
            .await
            .set(key, "v", expires.map(Expiration::EX), None, false)
            .await
            .expect("SET on a live server");
    }
    redis.fast_forward(Duration::from_secs(60)).await;

    assert_eq!(redis.keys("*").await, ["forever", "long"], "what would be past is gone");
    let left: i64 = redis.client().await.pttl("long").await.expect("PTTL on a live server");
    assert!((3_500_000..=3_540_000).contains(&left), "{left} ms left");
    let left: i64 = redis.client().await.pttl("forever").await.expect("PTTL on a live server");
    assert_eq!(left, -1, "no TTL");
}

#[tokio::test]
async fn values_can_be_read_checked_listed_and_flushed() {
    let redis = Redis::start().await;
    redis.command(&["SET", "b:1", "one"]).await;
    redis.command(&["SET", "a:1", "two"]).await;
    redis.command(&["SET", "a:2", ""]).await;
    assert_eq!(redis.get("b:1").await.as_deref(), Some("one"));
    assert_eq!(redis.get("none").await, None);
    assert!(redis.exists("a:2").await && !redis.exists("none").await);
    redis.check_get("a:1", "two").await;
    assert_eq!(redis.keys("a:*").await, ["a:1", "a:2"]);
    redis.flush_all().await;
    assert_eq!(redis.keys("*").await, Vec::<String>::new());
}

#[tokio::test]
#[should_panic(expected = r#"k: expected "two", found Some("one"); keys: ["k"]"#)]
async fn failed_check_shows_both_values() {
    let redis = Redis::start().await;
    redis.command(&["SET", "k", "one"]).await;
    redis.check_get("k", "two").await;
}

#[tokio::test]
async fn dump_shows_every_type_sorted() {
    let redis = Redis::start().await;
    redis.command(&["SET", "{mr:07}:state", "O1\u{1}"]).await;
    redis.command(&["HSET", "h", "z", "1", "a", "2"]).await;
    redis.command(&["RPUSH", "l", "second", "first"]).await;
    redis.command(&["SADD", "s", "b", "a"]).await;
    redis.command(&["ZADD", "z", "2", "late", "1", "early"]).await;
    redis.command(&["XADD", "x", "5-0", "channel", "c1", "amount", "7"]).await;
    redis.command(&["XGROUP", "CREATE", "x", "settlers", "0"]).await;
    let _: fred::types::Value = redis
        .client()
        .await
        .xreadgroup("settlers", "me", None, None, false, "x", ">")
        .await
        .expect("XREADGROUP on a live server");

    let dump = redis.dump().await;
    let expected = "h (hash)\n  a: 2\n  z: 1\n\
                    l (list)\n  second\n  first\n\
                    s (set)\n  a\n  b\n\
                    x (stream)\n  5-0 channel=c1 amount=7\n  \
                    group name=settlers consumers=1 pending=1 last-delivered-id=5-0 entries-read=1 lag=0\n\
                    z (zset)\n  early: 1\n  late: 2\n\
                    {mr:07}:state (string)\n  O1\\x01\n";
    assert_eq!(dump, expected);

    redis.flush_all().await;
    redis.command(&["SET", "k", "v", "PX", "100000"]).await;
    assert_eq!(redis.dump().await, "k (string, expires)\n  v\n");
}

#[tokio::test]
async fn restart_keeps_data_and_address() {
    let mut redis = Redis::start().await;
    let url = redis.url();
    redis.command(&["SET", "k", "kept"]).await;
    redis.restart().await;
    assert_eq!(redis.url(), url);
    redis.check_get("k", "kept").await;
}

#[tokio::test]
async fn restart_without_append_only_file_loses_everything() {
    let mut redis = Redis::start_with(RedisOptions { appendonly: false, ..RedisOptions::default() }).await;
    redis.command(&["SET", "k", "lost"]).await;
    redis.restart().await;
    assert_eq!(redis.get("k").await, None);
}

#[tokio::test]
async fn acknowledged_writes_survive_a_kill_with_appendfsync_always() {
    let options = RedisOptions { appendfsync: AppendFsync::Always, ..RedisOptions::default() };
    let mut redis = Redis::start_with(options).await;
    let client = redis.client().await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn({
        let acknowledged = Arc::clone(&acknowledged);
        async move {
            while let Ok(n) = client.incr::<u64, _>("n").await {
                acknowledged.store(n, Ordering::SeqCst);
            }
        }
    });
    wait_until(SOON, "some writes are acknowledged", || async { acknowledged.load(Ordering::SeqCst) > 100 })
        .await;
    redis.kill().await;
    writer.abort();
    let acknowledged = acknowledged.load(Ordering::SeqCst);
    redis.restart().await;
    let kept: u64 = redis.client().await.get("n").await.expect("GET on a live server");
    assert!(kept >= acknowledged, "{acknowledged} writes were acknowledged, {kept} kept");
}

#[tokio::test]
async fn paused_server_answers_after_it_resumes() {
    let mut redis = Redis::start().await;
    let client = redis.client().await;
    redis.pause().await;
    let mut asked = tokio::spawn(async move { client.set::<(), _, _>("k", "late", None, None, false).await });
    let early = tokio::time::timeout(Duration::from_millis(200), &mut asked).await;
    assert!(early.is_err(), "a paused server does not answer");
    redis.resume().await;
    asked.await.expect("the task ends").expect("the answer comes");
    redis.check_get("k", "late").await;
}

#[tokio::test]
async fn paused_server_can_be_killed_and_restarted() {
    let mut redis = Redis::start().await;
    redis.command(&["SET", "k", "v"]).await;
    redis.pause().await;
    redis.restart().await;
    redis.check_get("k", "v").await;
    redis.pause().await;
    redis.kill().await;
    redis.restart().await;
    assert_eq!(redis.command(&["PING"]).await, "PONG");
}

#[tokio::test]
async fn set_error_answers_every_command_and_forwards_none() {
    let redis = Redis::start().await;
    let client = redis.proxied_client().await;
    let () = client.set("k", "before", None, None, false).await.expect("the proxy passes");

    redis.set_error(Some("OOM command not allowed when used memory > 'maxmemory'."));
    let mut refused = Vec::new();
    for n in 0..20 {
        let client = client.clone();
        refused.push(tokio::spawn(async move {
            client.set::<(), _, _>("k", format!("during {n}"), None, None, false).await
        }));
    }
    for answer in refused {
        let error = answer.await.expect("the task ends").expect_err("every command is refused");
        assert_eq!(error.details(), "OOM command not allowed when used memory > 'maxmemory'.");
    }
    redis.check_get("k", "before").await;
    assert!(redis.proxy().counts().withheld_requests >= 20);

    redis.set_error(None);
    let () = client.set("k", "after", None, None, false).await.expect("the proxy is healed");
    redis.check_get("k", "after").await;
    client.quit().await.expect("the connection is open");
}
