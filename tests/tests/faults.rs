//! Relayers that stop and die, and a Redis that dies, hangs, forgets or promises too little: what was acknowledged is
//! kept, and what cannot be kept is not acknowledged (promises I2, I7).

use std::time::{Duration, Instant};

use cli::stack::redis::{AppendFsync, RedisOptions};
use common::amount::Amount;
use common::problem::Code;
use common::store::loss::Seq;
use common::wire::Outcome;
use nix::sys::signal::Signal;
use tests::load::Load;
use tests::payer::{Answer, Channel};
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;

/// How long a relayer may take to say that Redis is away: nobody waits for a timeout.
const QUICK: Duration = Duration::from_secs(2);

async fn rig(relayers: usize) -> Rig {
    Rig::start(RigOptions { relayers, ..RigOptions::default() }).await
}

async fn channels(rig: &Rig, count: usize) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..count {
        channels.push(rig.channel(1_000_000).await);
    }
    channels
}

async fn pay(rig: &Rig, channel: &Channel, amount: u64) -> Outcome {
    let answer = channel.pay(rig.relayer(0), amount).await.expect("an answer");
    answer.body.expect("taken").outcome
}

fn refused<T>(answer: Answer<T>, code: Code) {
    let problem = answer.body.err().expect("refused");
    assert_eq!((problem.code, answer.status), (code, code.status()), "{problem:?}");
}

#[tokio::test]
async fn payments_in_flight_at_sigterm_are_answered_and_the_relayer_ends_well() {
    const IN_FLIGHT: usize = 20;
    let relayer = vec![("redis.command_timeout_ms", "10000".to_owned())];
    let mut rig = Rig::start(RigOptions { relayer, ..RigOptions::default() }).await;
    let channels = channels(&rig, IN_FLIGHT).await;
    // The others make their first payment, which takes several calls to Redis: most are yet to be sent then.
    for channel in &channels[..IN_FLIGHT / 2] {
        assert_eq!(pay(&rig, channel, 1).await, Outcome::Accepted);
    }
    rig.redis.proxy().delay(Duration::from_millis(250));
    let url = rig.relayer(0).to_owned();
    let payments: Vec<_> = channels
        .iter()
        .cloned()
        .map(|channel| {
            let url = url.clone();
            tokio::spawn(async move { channel.pay(&url, 2).await })
        })
        .collect();
    let admin = rig.relayers[0].admin_url().to_owned();
    wait_until(SOON, "all payments are in flight", || async {
        rig.metric(&admin, "millrace_relayer_payments_in_flight").await == Some(20)
    })
    .await;
    rig.relayers[0].signal(Signal::SIGTERM).expect("it runs");
    for payment in payments {
        let answer = payment.await.expect("no panic").expect("a payment in flight is answered");
        assert_eq!(answer.body.expect("taken").outcome, Outcome::Accepted);
    }
    let status = rig.relayers[0].wait_exit(SOON).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
    for channel in &channels {
        assert_eq!(rig.stored(channel).await.state.amount, Amount::new(2));
    }
}

#[tokio::test]
async fn relayer_that_is_asked_to_stop_under_load_says_so_first_and_loses_nothing() {
    let relayer = vec![("drain_grace_ms", "1500".to_owned())];
    let mut rig = Rig::start(RigOptions { relayer, ..RigOptions::default() }).await;
    let channels = channels(&rig, 10).await;
    let load = Load::start(&channels, &[rig.relayer(0)]);
    load.wait_for(200, SOON).await;
    rig.relayers[0].signal(Signal::SIGTERM).expect("it runs");
    rig.not_ready(&rig.relayers[0], "draining").await;
    // Load balancers have seen it or not: whoever still comes is served.
    load.wait_for(20, SOON).await;
    let status = rig.relayers[0].wait_exit(SOON).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
    rig.assert_kept(&load.stop().await).await;
}

#[tokio::test]
async fn relayer_killed_under_load_loses_nothing_that_it_acknowledged() {
    let mut rig = rig(2).await;
    let channels = channels(&rig, 10).await;
    let load = Load::start(&channels, &[rig.relayer(0), rig.relayer(1)]);
    for _ in 0..3 {
        load.wait_for(100, SOON).await;
        rig.relayers[0].kill();
        load.wait_for(100, SOON).await;
        rig.relayers[0].restart().expect("the program runs");
        rig.relayers[0].wait_ready(SOON).await.expect("it comes back");
    }
    load.wait_for(100, SOON).await;
    rig.assert_kept(&load.stop().await).await;
}

#[tokio::test]
async fn redis_killed_under_load_loses_nothing_that_was_acknowledged_and_relayers_find_back() {
    let redis = RedisOptions { appendfsync: AppendFsync::Always, ..RedisOptions::default() };
    let relayer = vec![("redis.durability", "always".to_owned())];
    let options = RigOptions { relayers: 2, redis, relayer, ..RigOptions::default() };
    let mut rig = Rig::start(options).await;
    let channels = channels(&rig, 10).await;
    let load = Load::start(&channels, &[rig.relayer(0), rig.relayer(1)]);
    for _ in 0..2 {
        load.wait_for(100, SOON).await;
        rig.redis.kill().await;
        rig.not_ready(&rig.relayers[0], "").await;
        rig.redis.restart().await;
        let start = Instant::now();
        load.wait_for(100, SOON).await;
        eprintln!("a hundred payments {} ms after Redis was back", start.elapsed().as_millis());
    }
    let paid = load.stop().await;
    rig.assert_kept(&paid).await;
    for relayer in &mut rig.relayers {
        assert!(relayer.is_alive(), "it has found back by itself");
        relayer.wait_ready(SOON).await.expect("it is ready again");
    }
}

#[tokio::test]
async fn relayer_without_redis_refuses_quickly_and_takes_payments_as_soon_as_it_is_back() {
    let mut rig = rig(1).await;
    let channel = rig.channel(1_000).await;
    assert_eq!(pay(&rig, &channel, 1).await, Outcome::Accepted);
    rig.redis.proxy().cut();
    let start = Instant::now();
    // The first may meet the cut itself: then nobody knows what became of it.
    wait_until(SOON, "payments are refused", || async {
        let answer = channel.pay(rig.relayer(0), 2).await.expect("an answer");
        answer.code() == Some("store_unavailable")
    })
    .await;
    assert!(start.elapsed() < QUICK, "{:?}", start.elapsed());
    rig.not_ready(&rig.relayers[0], "").await;
    let start = Instant::now();
    let answer = channel.pay(rig.relayer(0), 2).await.expect("an answer");
    assert_eq!(answer.body.as_ref().expect_err("refused").retry_after_s, Some(1));
    refused(answer, Code::StoreUnavailable);
    assert!(start.elapsed() < QUICK, "{:?}", start.elapsed());
    assert_eq!(rig.stored(&channel).await.state.amount, Amount::new(1), "refused is not recorded");

    rig.redis.proxy().pass();
    rig.relayers[0].wait_ready(SOON).await.expect("it is ready again");
    assert_eq!(pay(&rig, &channel, 2).await, Outcome::Accepted);
}

#[tokio::test]
async fn relayer_whose_redis_hangs_does_not_claim_to_know_and_does_not_charge_twice() {
    let relayer = vec![("redis.command_timeout_ms", "500".to_owned())];
    let mut rig = Rig::start(RigOptions { relayer, ..RigOptions::default() }).await;
    let channel = rig.channel(1_000).await;
    assert_eq!(pay(&rig, &channel, 1).await, Outcome::Accepted);
    rig.redis.pause().await;
    let start = Instant::now();
    let answer = channel.pay(rig.relayer(0), 2).await.expect("an answer");
    refused(answer, Code::OutcomeUnknown);
    assert!(start.elapsed() < QUICK, "{:?}", start.elapsed());
    rig.not_ready(&rig.relayers[0], "").await;
    rig.redis.resume().await;
    rig.relayers[0].wait_ready(SOON).await.expect("it is ready again");
    // The script may have reached the server before it froze, or not.
    pay(&rig, &channel, 2).await;
    assert_eq!(amounts_recorded(&rig, &channel).await, [1, 2]);
}

/// Every amount of a channel in the streams, in the order of their recording.
async fn amounts_recorded(rig: &Rig, channel: &Channel) -> Vec<u64> {
    rig.in_streams().await.remove(&channel.id()).unwrap_or_default()
}

#[tokio::test]
async fn payment_whose_answer_from_redis_was_lost_is_taken_once_however_often_it_is_sent() {
    let mut rig = rig(1).await;
    let channel = rig.channel(1_000).await;
    assert_eq!(pay(&rig, &channel, 3).await, Outcome::Accepted);
    let lost = rig.redis.proxy().swallow_next_reply_then_cut("EVALSHA");
    let answer = channel.pay(rig.relayer(0), 9).await.expect("an answer");
    lost.wait(SOON).await;
    assert_eq!(rig.stored(&channel).await.state.amount, Amount::new(9), "Redis has taken it");
    refused(answer, Code::OutcomeUnknown);

    wait_until(SOON, "the same voucher is taken", || async {
        let again = channel.pay(rig.relayer(0), 9).await.expect("an answer");
        match again.body {
            Ok(answer) => {
                assert_eq!(answer.outcome, Outcome::Duplicate);
                true
            }
            Err(problem) => {
                assert_eq!(
                    problem.code,
                    Code::StoreUnavailable,
                    "the connection is not back yet: {problem:?}"
                );
                false
            }
        }
    })
    .await;
    assert_eq!(pay(&rig, &channel, 9).await, Outcome::Duplicate);
    assert_eq!(amounts_recorded(&rig, &channel).await, [3, 9]);
    rig.spawn_settler(&[]);
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    rig.closed(&channel, 9).await;
    assert_eq!(rig.earned().await, 9);
}

/// Asserts that a relayer has noticed a loss, says so, and takes nothing any more.
async fn assert_loss_is_noticed(rig: &Rig, channel: &Channel, amount: u64) {
    // Marks of the halt aside, which stop everyone else.
    let channels = async || rig.redis.keys("*:state:*").await;
    let before = channels().await;
    wait_until(SOON, "payments are refused", || async {
        let answer = channel.pay(rig.relayer(0), amount).await.expect("an answer");
        assert!(answer.body.is_err(), "an old voucher is not new because Redis forgot: {answer:?}");
        answer.code() == Some("store_unavailable")
    })
    .await;
    let reason = rig.not_ready(&rig.relayers[0], "lost data").await;
    assert!(reason.contains("millrace recover"), "{reason}");
    assert_eq!(channels().await, before, "and nothing was written");
    wait_until(SOON, "everyone is halted", || async {
        let seqs = rig.store().await.seqs().await.expect("Redis answers");
        seqs.iter().all(|seq| matches!(seq, Seq::Halted { .. }))
    })
    .await;
}

#[tokio::test]
async fn relayer_whose_redis_forgot_everything_takes_no_old_voucher_for_new() {
    let rig = rig(1).await;
    let channel = rig.channel(1_000).await;
    for amount in [3, 9] {
        assert_eq!(pay(&rig, &channel, amount).await, Outcome::Accepted);
    }
    rig.redis.flush_all().await;
    assert_loss_is_noticed(&rig, &channel, 3).await;
    // Not even after somebody has made this Redis look like new: this relayer knows better.
    rig.store().await.initialise(0).await.expect("marked");
    assert_loss_is_noticed(&rig, &channel, 3).await;
}

#[tokio::test]
async fn relayer_whose_redis_went_back_in_time_takes_no_old_voucher_for_new() {
    let rig = rig(1).await;
    let channel = rig.channel(1_000).await;
    assert_eq!(pay(&rig, &channel, 3).await, Outcome::Accepted);
    let store = rig.store().await;
    let seq = store.keys().seq(0);
    // What an older copy of the append-only file holds.
    let then = rig.redis.get(&seq).await.expect("counted");
    let copy = store.keys().state(&channel.id());
    rig.redis.command(&["COPY", &copy, "then"]).await;
    for amount in [5, 9] {
        assert_eq!(pay(&rig, &channel, amount).await, Outcome::Accepted);
    }
    rig.redis.command(&["COPY", "then", &copy, "REPLACE"]).await;
    rig.redis.command(&["SET", &seq, &then]).await;
    assert_loss_is_noticed(&rig, &channel, 5).await;
    assert_eq!(rig.stored(&channel).await.state.amount, Amount::new(3));
}

/// Starts a relayer and a settler, and asserts that both refuse to work for a reason that names what was found and what
/// to do, and that nothing is taken.
async fn assert_refused(mut rig: Rig, config: &[(&'static str, String)], found: &str, remedy: &str) {
    let relayer = rig.relayers.len();
    rig.spawn_relayer(config);
    rig.spawn_settler(config);
    for process in [&rig.relayers[relayer], &rig.settlers[0]] {
        let reason = rig.not_ready(process, found).await;
        assert!(reason.contains(remedy), "{reason}");
    }
    let channel = rig.channel(1_000).await;
    let answer = channel.pay(rig.relayer(relayer), 5).await.expect("an answer");
    refused(answer, Code::StoreUnavailable);
    assert!(!rig.settler_status(0).await.expect("it answers").leader, "nor is it led on");
    assert_eq!(rig.store().await.channel(&channel.id()).await, Ok(None));
}

fn on(redis: RedisOptions) -> RigOptions {
    RigOptions { relayers: 0, redis, ..RigOptions::default() }
}

#[tokio::test]
async fn redis_that_drops_keys_when_memory_runs_short_is_refused() {
    let redis = RedisOptions { maxmemory_policy: "allkeys-lru".to_owned(), ..RedisOptions::default() };
    assert_refused(Rig::start(on(redis)).await, &[], "allkeys-lru", "set maxmemory-policy noeviction").await;
}

#[tokio::test]
async fn redis_without_an_append_only_file_is_refused() {
    let redis = RedisOptions { appendonly: false, ..RedisOptions::default() };
    let config = [("redis.durability", "everysec".to_owned())];
    assert_refused(Rig::start(on(redis)).await, &config, "appendonly no", "set appendonly yes").await;
}

#[tokio::test]
async fn redis_that_writes_to_disk_later_than_it_was_told_is_refused() {
    let config = [("redis.durability", "always".to_owned())];
    let rig = Rig::start(on(RedisOptions::default())).await;
    assert_refused(rig, &config, "appendfsync everysec", "set appendfsync always").await;
}

#[tokio::test]
async fn redis_that_was_started_with_other_partitions_is_refused() {
    let config = [("redis.partitions", "8".to_owned())];
    let found = "16 partitions, configured are 8";
    assert_refused(rig(1).await, &config, found, "set redis.partitions").await;
}
