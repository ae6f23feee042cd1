//! Redis over TLS with the documented users: everything works with no more rights than that.

use common::amount::Amount;
use common::problem::{Code, Problem};
use tests::issuer::{Route, Step};
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;

use super::guarded::Guarded;

/// A rig without processes; what it is given joins the guarded Redis.
async fn rig() -> Rig {
    Rig::start(RigOptions { relayers: 0, ..RigOptions::default() }).await
}

#[tokio::test]
async fn payments_and_settlements_need_no_more_than_the_documented_users_over_tls() {
    let (guarded, mut rig) = (Guarded::start().await, rig().await);
    let ready = rig.spawn_settler(&guarded.config("settler")).wait_ready(SOON).await;
    ready.unwrap_or_else(|error| panic!("{error}"));
    let ready = rig.spawn_relayer(&guarded.config("relayer")).wait_ready(SOON).await;
    ready.unwrap_or_else(|error| panic!("{error}"));

    let channel = rig.channel(1_000).await;
    for amount in [5, 6, 7] {
        assert_eq!(rig.pay(0, &channel, amount).await.status, 200);
    }
    assert_eq!(rig.pay(0, &channel, 6).await.problem().code.as_str(), "stale_amount");
    let read = channel.read(rig.relayer(0)).await.expect("an answer");
    assert_eq!(read.status, 200);
    let asked = channel.close(rig.relayer(0)).await.expect("an answer");
    assert_eq!(asked.status, 202);
    assert_eq!(rig.settled(&channel).await.settled_amount, Amount::new(7));
    wait_until(SOON, "the relayer reads the receipt", || async {
        let read = channel.read(rig.relayer(0)).await.expect("an answer");
        read.body.is_ok_and(|channel| channel.receipt.is_some())
    })
    .await;
    // A leader that is asked to stop gives its lease back, and the next one hears of it.
    let mut next = guarded.config("settler");
    next.push(("lease.ttl_ms", "60000".to_owned()));
    rig.settlers[0].stop(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    let ready = rig.spawn_settler(&next).wait_ready(SOON).await;
    ready.unwrap_or_else(|error| panic!("{error}"));
    wait_until(SOON, "the next settler leads", || async {
        rig.settler_status(1).await.is_some_and(|status| status.leader)
    })
    .await;

    // Only a look at appendfsync, without which preflight takes the server at its word (docs/acl/README.md).
    assert_eq!(denied(&guarded).await, ["config|get", "config|get"], "one of each user");
}

/// What the server refused anyone.
async fn denied(guarded: &Guarded) -> Vec<String> {
    let log = guarded.redis.command(&["ACL", "LOG"]).await;
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    lines.windows(2).filter(|pair| pair[0] == "object").map(|pair| pair[1].to_owned()).collect()
}

#[tokio::test]
async fn the_console_needs_no_more_than_the_documented_user() {
    let (guarded, mut rig) = (Guarded::start().await, rig().await);
    let token = rig.dir().join("actions.token");
    std::fs::write(&token, "sixteen letters!").expect("a new file");
    let mut config = guarded.config("settler");
    config.push(("console.actions_token", format!("file:{}", token.display())));
    config.push(("console.history_every_ms", "100".to_owned()));
    config.push(("console.refresh_ms", "100".to_owned()));
    let ready = rig.spawn_settler(&config).wait_ready(SOON).await;
    ready.unwrap_or_else(|error| panic!("{error}"));
    let ready = rig.spawn_relayer(&guarded.config("relayer")).wait_ready(SOON).await;
    ready.unwrap_or_else(|error| panic!("{error}"));
    let console = format!("{}/console", rig.settlers[0].admin_url());
    let says = async |path: &str, words: &str| {
        wait_until(SOON, &format!("{path} says {words}"), || async {
            rig.http.get(&format!("{console}{path}")).await.body.contains(words)
        })
        .await;
    };

    let channel = rig.channel(1_000).await;
    assert_eq!(rig.pay(0, &channel, 7).await.status, 200);
    let refusal = serde_json::to_string(&Problem::new(Code::WrongPayee)).expect("a problem is JSON");
    rig.front.always(Route::Settle, Step::Json(Code::WrongPayee.status(), refusal));
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    says("/dead", "wrong_payee").await;
    says("", "1 failed; summed up").await;
    rig.front.heal();
    let partition = channel.id().partition(16);
    let dead = format!("{{mr:{partition:02}}}:dead");
    let (id, payment) = (channel.id().to_string(), format!("{:020}{}", 7, "x".repeat(72)));
    let letter =
        ["XADD", &dead, "*", "kind", "entry", "id", "1-1", "reason", "another version", &id, &payment];
    let entry = guarded.redis.command(&letter).await;
    for path in [format!("/dead/{partition}/{entry}/requeue"), format!("/channels/{id}/retry")] {
        let form = "application/x-www-form-urlencoded";
        let reply = rig.http.post_as(&format!("{console}{path}"), form, "token=sixteen+letters!").await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(rig.settled(&channel).await.settled_amount, Amount::new(7));
    says("/dead", "Nothing was given up on").await;
    for path in ["/channels?status=open", "/channels?status=all", &format!("/channels/{id}?audit=now")] {
        assert_eq!(rig.http.get(&format!("{console}{path}")).await.status, 200, "{path}");
    }
    rig.http.post(&format!("{console}/audit"), "").await;
    says("/audit", "nothing is missing").await;
    assert_eq!(denied(&guarded).await, ["config|get", "config|get"], "one of each user");
}

#[tokio::test]
async fn a_redis_that_shows_a_certificate_of_another_authority_is_not_talked_to() {
    let (guarded, mut rig) = (Guarded::start().await, rig().await);
    let mut config = guarded.config("relayer");
    config.push(("redis.tls_ca_file", guarded.file("stranger.pem").display().to_string()));
    rig.spawn_relayer(&config);
    wait_until(SOON, "the relayer says why it does not connect", || async {
        rig.log(&rig.relayers[0]).to_lowercase().contains("certificate")
    })
    .await;
    let clients = guarded.redis.command(&["CLIENT", "LIST"]).await;
    assert!(!clients.contains("user=relayer"), "no password was sent: {clients}");
}
