//! How long channels wait for a new leader, and what payments see of it; docs/FAILOVER.md holds the figures of a run.
//!
//! ```text
//! cargo build --release -p issuer -p relayer -p settler
//! MILLRACE_BIN_DIR=target/release cargo run -p tests --example failover_time -- 20
//! ```
//!
//! A whole stack with the default config, two relayers and two settlers, under load: payers that each pay at fixed
//! times, and channels that are opened, paid from and closed all the while. Each round signals the leader and waits for
//! the first settlement by its successor. A payment's latency counts from when it was to be sent. As many rounds
//! without a signal show how much of a difference is the machine's own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cli::stack::process::Process;
use cli::stack::{Stack, StackOptions};
use common::ids::PublicKey;
use nix::sys::signal::Signal;
use service::issuer_client::IssuerClient;
use tests::payer::{Channel, Payer, issuer_client};
use tests::rig::{SOON, SettlerStatus};
use tests::{binaries, wait_for, wait_until};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

/// Payers, and how often each of them pays.
const PAYERS: usize = 20;
const PAY_EVERY: Duration = Duration::from_millis(100);

/// Those who open, pay and close a channel, and how often each of them does.
const CLOSERS: usize = 4;
const CLOSE_EVERY: Duration = Duration::from_millis(80);

/// What is looked at before each signal.
const QUIET: Duration = Duration::from_secs(2);

/// What is looked at after the first settlement by a successor: it catches up.
const AFTER: Duration = Duration::from_secs(1);

/// How long a round without a signal takes, about as long as one with SIGKILL.
const NOTHING: Duration = Duration::from_millis(4_500);

/// One payment.
struct Payment {
    planned_at: Instant,
    latency: Duration,
    /// What it was told, if it was not taken.
    refused: Option<String>,
}

/// One change of leader.
struct Round {
    signalled_at: Instant,
    took: Duration,
}

#[tokio::main]
async fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(20);
    let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
    let mut options = StackOptions::new(dir.path(), binaries::each());
    options.settlers = 2;
    let mut stack = Stack::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    let issuer = issuer_client(&stack.issuer_url());
    let stop = Arc::new(AtomicBool::new(false));
    let mut payers = JoinSet::new();
    for i in 0..PAYERS {
        let channel = open(&stack.issuer_url(), stack.payee()).await;
        payers.spawn(pay(channel, stack.relayer_url(i % 2), stop.clone()));
    }
    let mut closers = JoinSet::new();
    for i in 0..CLOSERS {
        let (issuer, relayer, payee) = (stack.issuer_url(), stack.relayer_url(i % 2), stack.payee());
        closers.spawn(close_channels(issuer, relayer, payee, stop.clone()));
    }
    let mut by_signal = Vec::new();
    for signal in [None, Some(Signal::SIGKILL), Some(Signal::SIGTERM)] {
        let mut moves = Vec::new();
        for _ in 0..rounds {
            moves.push(move_leader(&mut stack, &issuer, signal).await);
        }
        by_signal.push((signal, moves));
    }
    stop.store(true, Ordering::Relaxed);
    closers.join_all().await;
    let payments: Vec<Payment> = payers.join_all().await.into_iter().flatten().collect();
    let table = report(&by_signal, &payments);
    std::io::stdout().write_all(table.as_bytes()).expect("somebody reads the table");
    assert!(stack.stop().await.is_clean());
}

async fn open(issuer_url: &str, payee: PublicKey) -> Channel {
    Payer::register(issuer_url).await.channel(payee).capacity(1_000_000).open().await
}

/// Pays at fixed times, whatever became of the payment before.
async fn pay(channel: Channel, relayer: String, stop: Arc<AtomicBool>) -> Vec<Payment> {
    let mut payments = Vec::new();
    let mut planned_at = Instant::now();
    let mut amount = 0;
    while !stop.load(Ordering::Relaxed) {
        planned_at += PAY_EVERY;
        sleep_until(planned_at.into()).await;
        amount += 1;
        let refused = match channel.pay(&relayer, amount).await.map(|answer| answer.body) {
            Ok(Ok(_)) => None,
            Ok(Err(problem)) => Some(problem.code.to_string()),
            Err(error) => Some(error.to_string()),
        };
        payments.push(Payment { planned_at, latency: planned_at.elapsed(), refused });
    }
    payments
}

/// Opens a channel, pays, and asks for its close, again and again.
async fn close_channels(issuer_url: String, relayer: String, payee: PublicKey, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let next = Instant::now() + CLOSE_EVERY;
        let channel = open(&issuer_url, payee).await;
        channel.pay(&relayer, 1).await.expect("an answer").body.expect("taken");
        channel.close(&relayer).await.expect("an answer").body.expect("noted");
        sleep_until(next.into()).await;
    }
}

/// Signals the leader, and waits for the first settlement by its successor.
async fn move_leader(stack: &mut Stack, issuer: &IssuerClient, signal: Option<Signal>) -> Round {
    let payee = stack.payee();
    for settler in &mut stack.settlers {
        settler.wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    }
    let (leader, token) = leader(&stack.settlers).await;
    wait_until(SOON, "the leader settles", || async { token_at(issuer, &payee).await == token }).await;
    sleep(QUIET).await;

    let signalled_at = Instant::now();
    let Some(signal) = signal else {
        sleep(NOTHING + AFTER).await;
        return Round { signalled_at, took: NOTHING };
    };
    stack.settlers[leader].signal(signal).expect("it runs");
    while token_at(issuer, &payee).await == token {
        assert!(signalled_at.elapsed() < SOON, "no successor settles anything");
        sleep(Duration::from_millis(1)).await;
    }
    let took = signalled_at.elapsed();
    eprintln!("{signal}: {} ms", took.as_millis());
    sleep(AFTER).await;
    stack.settlers[leader].wait_exit(SOON).await.expect("it ends");
    stack.settlers[leader].restart().expect("the program runs");
    Round { signalled_at, took }
}

async fn leader(settlers: &[Process]) -> (usize, u64) {
    let http = reqwest::Client::builder().no_proxy().build().expect("no option that could be wrong");
    wait_for(SOON, "a settler leads", || async {
        for (i, settler) in settlers.iter().enumerate() {
            let answer = http.get(format!("{}/status", settler.admin_url())).send().await.ok()?;
            let status: SettlerStatus =
                serde_json::from_slice(&answer.bytes().await.ok()?).expect("a status");
            if let Some(token) = status.token {
                return Some((i, token));
            }
        }
        None
    })
    .await
}

/// The highest token that the issuer has seen: it rises with the first settlement of a new leader.
async fn token_at(issuer: &IssuerClient, payee: &PublicKey) -> u64 {
    issuer.account(payee).await.expect("the payee has an account").highest_fencing_token
}

fn report(by_signal: &[(Option<Signal>, Vec<Round>)], payments: &[Payment]) -> String {
    let mut table = String::new();
    let ms = |time: Duration| format!("{}.{:01}", time.as_millis(), time.as_micros() % 1_000 / 100);
    for (signal, rounds) in by_signal {
        let signal = signal.map_or("none", Signal::as_str);
        let mut took: Vec<Duration> = rounds.iter().map(|round| round.took).collect();
        took.sort();
        let within = |from: fn(&Round) -> (Instant, Instant)| {
            let mut latencies = Vec::new();
            let mut refused = Vec::new();
            for payment in payments {
                let is_within = rounds.iter().any(|round| {
                    let (from, to) = from(round);
                    (from..to).contains(&payment.planned_at)
                });
                if is_within {
                    latencies.push(payment.latency);
                    refused.extend(payment.refused.clone());
                }
            }
            latencies.sort();
            (latencies, refused)
        };
        let (quiet, quiet_refused) = within(|round| (round.signalled_at - QUIET, round.signalled_at));
        let (moving, moving_refused) =
            within(|round| (round.signalled_at, round.signalled_at + round.took + AFTER));
        let line = |table: &mut String, what: &str, times: &[Duration]| {
            let [p50, p99, max] = [at(times, 50), at(times, 99), at(times, 100)].map(ms);
            writeln!(table, "{signal} | {what} | {} | {p50} | {p99} | {max}", times.len())
                .expect("a string takes everything");
        };
        if signal != "none" {
            line(&mut table, "first settlement by the successor, ms", &took);
        }
        line(&mut table, "payments in quiet, ms", &quiet);
        line(&mut table, "payments while leadership moves, ms", &moving);
        let percent = at(&moving, 99).as_micros() * 100 / at(&quiet, 99).as_micros().max(1);
        let (before, during) = (quiet_refused.len(), moving_refused.len());
        writeln!(
            table,
            "{signal} | p99 while it moves is {percent} % of quiet; not taken: {before} in quiet, {during} while it \
             moves {moving_refused:?}"
        )
        .expect("a string takes everything");
    }
    format!("signal | what | count | p50 | p99 | max\n{table}")
}

/// The value that so many percent do not exceed; zero of none.
fn at(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
