//! A Redis that is away for a while, and one that runs out of memory: relayers refuse quickly, hold nothing back, and go
//! on by themselves; nothing is acknowledged that was not recorded (promise I2).

use std::time::{Duration, Instant};

use cli::stack::process::Process;
use cli::stack::redis::RedisOptions;
use common::wire::Outcome;
use tests::load::Load;
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;

/// How long an answer may take: the relayers' `redis.command_timeout_ms`, and as much again for a small machine.
const QUICK: Duration = Duration::from_secs(2);

/// Payers that never pause: what each is refused, it presents again.
const PAYERS: usize = 24;

/// How much a relayer may grow while Redis is away, in KiB. What waits is bounded; the allocator keeps some of it.
const GROWTH_MAX_KIB: u64 = 32 * 1_024;

/// What a process has in memory, in KiB.
fn resident_kib(process: &Process) -> u64 {
    let path = format!("/proc/{}/status", process.pid());
    let status = std::fs::read_to_string(path).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line for what is resident");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse().expect("a number")
}

async fn channels(rig: &Rig, count: usize) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..count {
        channels.push(rig.channel(1_000_000).await);
    }
    channels
}

/// Takes Redis away for this long under full load.
async fn redis_is_away_for(down: Duration) {
    let mut rig = Rig::start(RigOptions { relayers: 2, settlers: 1, ..RigOptions::default() }).await;
    let channels = channels(&rig, PAYERS).await;
    let probe = rig.channel(1_000).await;
    probe.pay(rig.relayer(0), 1).await.expect("an answer").body.expect("taken");
    let load = Load::start(&channels, &[rig.relayer(0), rig.relayer(1)]);
    load.wait_for(1_000, SOON).await;
    let before: Vec<u64> = rig.relayers.iter().map(resident_kib).collect();

    rig.redis.kill().await;
    let killed = Instant::now();
    let (mut slowest, mut grown, mut probes) = (Duration::ZERO, 0, 0u64);
    while killed.elapsed() < down {
        for (i, before) in before.iter().enumerate() {
            let start = Instant::now();
            let answer = probe.pay(rig.relayer(i), 2).await.expect("an answer");
            slowest = slowest.max(start.elapsed());
            let code = answer.code().expect("nothing is taken").to_owned();
            assert!(["store_unavailable", "outcome_unknown"].contains(&code.as_str()), "{code}");
            grown = grown.max(resident_kib(&rig.relayers[i]).saturating_sub(*before));
        }
        probes += 1;
    }
    for relayer in &rig.relayers {
        rig.not_ready(relayer, "").await;
    }
    rig.redis.restart().await;
    let back = Instant::now();
    load.wait_for(1, SOON).await;
    let first = back.elapsed();
    load.wait_for(500, SOON).await;
    eprintln!(
        "away for {down:?}: {probes} probes, slowest answer {slowest:?}, grown by {grown} KiB of {before:?}, \
         first payment {first:?} after Redis was back"
    );
    assert!(slowest < QUICK, "{slowest:?}");
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB more than {before:?}");
    for process in rig.relayers.iter_mut().chain(&mut rig.settlers) {
        process.wait_ready(SOON).await.expect("it is ready again, by itself");
    }

    let mut earned = 0;
    for paid in load.stop().await {
        let recorded = rig.stored(&paid.channel).await.state.amount.units();
        assert!((paid.acknowledged..=paid.presented).contains(&recorded), "{paid:?}: recorded {recorded}");
        paid.channel.close(rig.relayer(1)).await.expect("an answer").body.expect("noted");
        rig.closed(&paid.channel, recorded).await;
        earned += recorded;
    }
    assert_eq!(rig.earned().await, earned, "settled is exactly what was recorded");
    rig.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_away_for_a_second_under_full_load() {
    redis_is_away_for(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_away_for_ten_seconds_under_full_load() {
    redis_is_away_for(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes over a minute: cargo nextest run -p tests --test redis_away --run-ignored only"]
async fn redis_away_for_a_minute_under_full_load() {
    redis_is_away_for(Duration::from_secs(60)).await;
}

/// One step of filling a Redis, in bytes, as text.
const FILL: &str = "2000000";

async fn used_percent(rig: &Rig) -> u64 {
    let info = rig.redis.command(&["INFO", "memory"]).await;
    let number = |name: &str| {
        let at = info.find(name).unwrap_or_else(|| panic!("no {name} in {info}"));
        let digits: String = info[at + name.len()..].chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().expect("a number")
    };
    number("used_memory:") * 100 / number("maxmemory:")
}

#[tokio::test]
async fn a_redis_that_runs_out_of_memory_is_left_alone_before_it_refuses() {
    let redis =
        RedisOptions { extra: vec![("maxmemory".to_owned(), "64mb".to_owned())], ..RedisOptions::default() };
    let mut rig = Rig::start(RigOptions { redis, settlers: 1, ..RigOptions::default() }).await;
    let channel = rig.channel(1_000).await;
    let pay = async |amount| channel.pay(rig.relayer(0), amount).await.expect("an answer");
    assert_eq!(pay(1).await.body.expect("taken").outcome, Outcome::Accepted);
    let load = Load::start(&[rig.channel(1_000_000).await], &[rig.relayer(0)]);
    load.wait_for(50, SOON).await;
    let mut fillers = 0;
    while used_percent(&rig).await < 91 {
        fillers += 1;
        rig.redis.command(&["SETRANGE", &format!("filler:{fillers}"), FILL, "x"]).await;
    }
    let reason = rig.not_ready(&rig.relayers[0], "% of maxmemory").await;
    assert!(reason.contains("raise maxmemory"), "{reason}");
    let refused = pay(2).await;
    assert_eq!(refused.code(), Some("store_unavailable"));
    let gauge = "millrace_relayer_redis_memory_percent";
    let percent = || rig.metric(rig.relayers[0].admin_url(), gauge);
    assert!(percent().await >= Some(90));

    // Somewhat less is not enough: it would be short again at once.
    while used_percent(&rig).await >= 88 {
        rig.redis.command(&["DEL", &format!("filler:{fillers}")]).await;
        fillers -= 1;
    }
    wait_until(SOON, "the relayer has looked", || async { percent().await.is_some_and(|p| p < 90) }).await;
    assert_eq!(pay(2).await.code(), Some("store_unavailable"), "not yet");
    rig.not_ready(&rig.relayers[0], "% of maxmemory").await;
    // A settler works on: it is what makes room.
    assert!(rig.settler_status(0).await.expect("it answers").leader);

    while used_percent(&rig).await >= 79 {
        rig.redis.command(&["DEL", &format!("filler:{fillers}")]).await;
        fillers -= 1;
    }
    wait_until(SOON, "payments are taken again", || async { pay(2).await.body.is_ok() }).await;
    load.wait_for(50, SOON).await;
    for paid in load.stop().await {
        let recorded = rig.stored(&paid.channel).await.state.amount.units();
        assert!((paid.acknowledged..=paid.presented).contains(&recorded));
    }
    rig.relayers[0].wait_ready(SOON).await.expect("it is ready again");
    let errors = rig.redis.command(&["INFO", "errorstats"]).await;
    assert!(!errors.contains("OOM"), "Redis itself never had to refuse: {errors}");
}
