//! Redis over TLS with the documented users: everything works with no more rights than that.

use common::amount::Amount;
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
    let log = guarded.redis.command(&["ACL", "LOG"]).await;
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    let denied: Vec<&str> = lines.windows(2).filter(|pair| pair[0] == "object").map(|pair| pair[1]).collect();
    assert_eq!(denied, ["config|get", "config|get"], "one of each user: {log}");
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
