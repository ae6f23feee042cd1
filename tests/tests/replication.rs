//! Replicas and sentinels: with `redis.replicas_min` nothing is acknowledged that a replica does not have, and a failover
//! loses none of it; without, a replica that lagged is a loss, and everyone notices (promises I2, I7).

use std::time::{Duration, Instant};

use cli::stack::redis::RedisOptions;
use common::channel::Status;
use common::config::RedisConfig;
use common::store::Store;
use common::wire::Outcome;
use tests::load::Load;
use tests::payer::Channel;
use tests::recover::Recover;
use tests::redis::{Redis, Tier};
use tests::rig::{Rig, RigOptions, SOON};
use tests::{wait_for, wait_until};

/// How long a failover may take until payments go on: sentinels that notice, agree and promote, on a small machine.
const FAILOVER: Duration = Duration::from_secs(60);

async fn primary() -> Redis {
    Redis::start_in(Tier::Process, RedisOptions::default()).await
}

async fn channels(rig: &Rig, count: usize) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..count {
        channels.push(rig.channel(1_000_000).await);
    }
    channels
}

fn with_replicas(relayers: usize, settlers: usize) -> RigOptions {
    let config = vec![("redis.replicas_min", "1".to_owned())];
    RigOptions { relayers, settlers, relayer: config.clone(), settler: config, ..RigOptions::default() }
}

#[tokio::test]
async fn nothing_is_acknowledged_that_a_paused_replica_does_not_have() {
    let mut redis = primary().await;
    let mut replica = redis.replica().await;
    let relayer = vec![
        ("redis.replicas_min", "1".to_owned()),
        // Longer than the test: what is seen is the payment's own answer, not what the readiness says.
        ("readiness_interval_ms", "60000".to_owned()),
    ];
    let mut rig = Rig::start_on(redis, RigOptions { relayer, ..RigOptions::default() }).await;
    let channel = rig.channel(1_000).await;
    let pay = async |amount| channel.pay(rig.relayer(0), amount).await.expect("an answer");
    assert_eq!(pay(1).await.body.expect("taken").outcome, Outcome::Accepted);
    replica.pause();
    for _ in 0..2 {
        // The second time the primary has it already: a duplicate that is not confirmed is no acknowledgement either.
        assert_eq!(pay(2).await.code(), Some("outcome_unknown"));
    }
    assert_eq!(rig.stored(&channel).await.state.amount.units(), 2, "the primary has recorded it");
    replica.resume();
    wait_until(SOON, "the replica has it", || async {
        pay(2).await.body.is_ok_and(|answer| answer.outcome == Outcome::Duplicate)
    })
    .await;
    assert_eq!(pay(3).await.body.expect("taken").outcome, Outcome::Accepted);

    // A relayer that looks more often says so before it is asked.
    rig.spawn_relayer(&[("redis.replicas_min", "1".to_owned())]).wait_ready(SOON).await.expect("ready");
    replica.pause();
    let reason = rig.not_ready(&rig.relayers[1], "not confirmed by 1 replicas").await;
    assert!(reason.contains("replicas:"), "{reason}");
    let refused = channel.pay(rig.relayer(1), 4).await.expect("an answer");
    assert_eq!(refused.code(), Some("store_unavailable"));
    replica.resume();
    rig.relayers[1].wait_ready(SOON).await.expect("it is ready again");
}

#[tokio::test]
async fn a_relayer_that_needs_more_replicas_than_there_are_does_not_start() {
    let redis = primary().await;
    let mut rig = Rig::start_on(redis, RigOptions { relayers: 0, ..RigOptions::default() }).await;
    rig.spawn_relayer(&[("redis.replicas_min", "1".to_owned())]);
    let reason = rig.not_ready(&rig.relayers[0], "0 connected, 1 needed").await;
    assert!(reason.contains("redis.replicas_min"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_replica_asked_for_a_failover_loses_nothing_that_was_acknowledged() {
    let mut redis = primary().await;
    let mut replica = redis.replica().await;
    let mut rig = Rig::start_on(redis, with_replicas(2, 0)).await;
    let channels = channels(&rig, 10).await;
    let load = Load::start(&channels, &[rig.relayer(0), rig.relayer(1)]);
    load.wait_for(300, SOON).await;
    rig.redis.kill().await;
    let paid = load.stop().await;
    // The address moves to the replica.
    let promoted = replica.promote().await;
    rig.redis.restore(&promoted).await;
    rig.assert_kept(&paid).await;
    // Nobody takes what was never promised for a loss; what is missing is a replica for the new primary.
    for relayer in &rig.relayers {
        rig.not_ready(relayer, "0 connected, 1 needed").await;
    }
    let _second = rig.redis.replica().await;
    let load = Load::start(&[rig.channel(1_000).await], &[rig.relayer(0), rig.relayer(1)]);
    load.wait_for(20, SOON).await;
    rig.assert_kept(&load.stop().await).await;
}

#[tokio::test]
async fn without_one_a_replica_that_lagged_is_a_loss_and_everyone_notices() {
    let mut redis = primary().await;
    let mut replica = redis.replica().await;
    let mut rig =
        Rig::start_on(redis, RigOptions { relayers: 2, settlers: 1, ..RigOptions::default() }).await;
    let channel = rig.channel(1_000).await;
    let pay = async |amount| channel.pay(rig.relayer(0), amount).await.expect("an answer").body;
    for amount in 1..=10 {
        pay(amount).await.expect("taken");
    }
    wait_until(SOON, "the replica has the first payments", || async {
        let config = RedisConfig { url: replica.url(), ..RedisConfig::default() };
        let store = Store::connect(&config).expect("a private server's URL is valid");
        store.wait_connected(SOON).await.expect("the replica is up");
        let found = store.channel(&channel.id()).await.expect("it answers");
        found.is_some_and(|found| found.state.amount.units() == 10)
    })
    .await;
    let lagging = replica.promote().await;
    for amount in 11..=20 {
        pay(amount).await.expect("taken");
    }
    rig.redis.restore(&lagging).await;
    for process in rig.relayers.iter().chain(&rig.settlers) {
        rig.not_ready(process, "lost data").await;
    }
    for i in 0..2 {
        let answer = channel.pay(rig.relayer(i), 15).await.expect("an answer");
        assert_eq!(answer.code(), Some("store_unavailable"), "it was paid for already");
    }
    let recover = Recover::of(&rig);
    let ledger = recover.ledger(&[(&channel, 20)]);
    let done = recover.run(&["--ledger", &ledger, "--take-back", "--yes"]).await;
    assert_eq!(done["taken_back"]["from_ledger_units"], "10", "{done}");
    for process in rig.relayers.iter_mut().chain(&mut rig.settlers) {
        process.wait_ready(SOON).await.expect("it is ready again");
    }
    let again = channel.pay(rig.relayer(0), 15).await.expect("an answer");
    assert_eq!(again.code(), Some("stale_amount"));
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    rig.closed(&channel, 20).await;
    assert_eq!(rig.earned().await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn stack_sentinels_promote_a_replica_and_everyone_goes_on_with_nothing_lost() {
    let mut redis = primary().await;
    // Two: after the failover the new primary still has one that confirms.
    let (first, second) = (redis.replica().await, redis.replica().await);
    let sentinels = redis.sentinels(2).await;
    let mut options = with_replicas(2, 1);
    for config in [&mut options.relayer, &mut options.settler] {
        config.push(("redis.url", sentinels.url()));
    }
    let mut rig = Rig::start_on(redis, options).await;
    let channels = channels(&rig, 10).await;
    let load = Load::start(&channels, &[rig.relayer(0), rig.relayer(1)]);
    load.wait_for(300, SOON).await;
    rig.redis.kill().await;
    let killed = Instant::now();
    load.wait_for(1, FAILOVER).await;
    eprintln!("the next payment was taken {} ms after the primary was killed", killed.elapsed().as_millis());
    tokio::select! {
        () = first.is_promoted() => {}
        () = second.is_promoted() => {}
    }
    load.wait_for(300, FAILOVER).await;
    let paid = load.stop().await;
    for process in rig.relayers.iter_mut().chain(&mut rig.settlers) {
        process.wait_ready(SOON).await.expect("it has found the new primary by itself");
    }
    let config = RedisConfig { url: sentinels.url(), ..RedisConfig::default() };
    let store = Store::connect(&config).expect("sentinels by URL");
    store.wait_connected(SOON).await.expect("they name a primary");
    let mut earned = 0;
    for paid in paid {
        let id = paid.channel.id();
        let found = store.channel(&id).await.expect("the new primary answers").expect("it knows the channel");
        let recorded = found.state.amount.units();
        assert!((paid.acknowledged..=paid.presented).contains(&recorded), "{paid:?}: recorded {recorded}");
        paid.channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
        wait_for(SOON, "the channel is closed", || async {
            let found = store.channel(&id).await.expect("the new primary answers")?;
            (found.state.status == Status::Closed).then_some(())
        })
        .await;
        assert_eq!(rig.settled(&paid.channel).await.settled_amount.units(), recorded);
        earned += recorded;
    }
    assert_eq!(rig.earned().await, earned);
}
