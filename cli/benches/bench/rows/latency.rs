//! Row 4: how long a payment takes. Alone, beside what it must wait for in any case; then at fixed rates up to what the
//! relayer can take, counted from when each was to be sent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cli::load::payers::PayingChannel;
use cli::payer;
use common::amount::Amount;
use common::channel::CheckedTerms;
use common::config::RedisConfig;
use common::store::accept::Verdict;
use common::voucher::{Payment, VerifiedVoucher};
use hdrhistogram::Histogram;

use crate::baseline::{EchoServer, VerifyLoop};
use crate::client::open_loop;
use crate::figure::{Chart, Figure, Findings, Target};
use crate::machine::Machine;
use crate::payers::Form;
use crate::rows::Bench;
use crate::stage::{Scene, Stage, StageOptions, connect};
use crate::stats::{Spread, as_f64, latencies, micros, millis, nanos, per_second, share_of_rate, sum};

/// Offered load, in percent of what the relayer can take.
const SHARES_PERCENT: [u32; 6] = [10, 25, 50, 75, 90, 100];

/// The load that the target is for, and the target: p99 in ms.
const TARGET_SHARE_PERCENT: u32 = 50;
const TARGET: Target = Target::AtMost(5.0);

/// What is shown of each load: name and quantile.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// The name of the quantile that the target is for.
const TARGET_QUANTILE: &str = "p99";

/// Connections that share a fixed rate, and channels, one each.
const CONNECTIONS: usize = 256;

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    checks: u64,
    /// Payments, echoes and calls of a round, one after the other.
    alone: u64,
    /// Payments of each round that finds out what the relayer can take.
    saturating: u64,
    /// For how long each rate is kept.
    rate_kept: Duration,
}

const FULL: Effort =
    Effort { rounds: 5, checks: 5_000, alone: 200, saturating: 30_000, rate_kept: Duration::from_secs(4) };
const BRIEF: Effort =
    Effort { rounds: 1, checks: 100, alone: 20, saturating: 500, rate_kept: Duration::from_millis(100) };

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Findings> {
    let effort = bench.choose(FULL, BRIEF);
    let machine = &bench.machine;
    let options = StageOptions { channels: CONNECTIONS + 1, ..StageOptions::default() };
    let (stage, mut channels) = Stage::start(machine, options).await?;
    let own = channels.pop().context("a channel for calls of our own")?;
    let (mut findings, stage, channels) = alone(machine, effort, stage, channels, own).await?;
    let mut scene = Scene::on(machine, stage, channels, CONNECTIONS, Form::Single).await?;
    at_fixed_rates(machine, effort, &mut scene, &mut findings).await?;
    scene.end().await?;
    Ok(findings)
}

/// One payment at a time, beside an echo, a call to Redis and a signature check, each one at a time.
async fn alone(
    machine: &Machine,
    effort: Effort,
    stage: Stage,
    channels: Vec<PayingChannel>,
    own: PayingChannel,
) -> anyhow::Result<(Findings, Stage, Vec<PayingChannel>)> {
    let mut caller = Caller::new(&stage, own).await?;
    let mut scene = Scene::on(machine, stage, channels, 1, Form::Single).await?;
    let mut echo = EchoServer::start(machine, scene.stage.dir(), 1).await?;
    let verify = VerifyLoop::new();
    let (mut payments, mut echoes, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    let p50 = |latency_ns: &Histogram<u64>| micros(latency_ns.value_at_quantile(0.5));
    for _ in 0..effort.rounds {
        let verify_us = verify.measure(machine, effort.checks)?;
        let echo_us = p50(&echo.measure(effort.alone).await?.0.latency_ns);
        let call_us = p50(&caller.measure(machine, effort.alone)?);
        let payment_us = p50(&scene.pay(machine, effort.alone).await?.run.latency_ns);
        payments.push((payment_us, sum(&[echo_us, call_us, verify_us])));
        echoes.push(echo_us);
        calls.push(call_us);
    }
    let (stage, channels) = scene.end_with([caller.channel]).await?;
    let figures = vec![
        Figure::new("echo round trip, p50", Spread::of(echoes), "us"),
        Figure::new("accept call to Redis, p50", Spread::of(calls), "us"),
        Figure::beside("lone payment, p50", "us", "echo + call + verify", &payments),
    ];
    Ok((Findings { figures, ..Findings::default() }, stage, channels))
}

/// Finds out what the relayer can take, and then offers it shares of that.
async fn at_fixed_rates(
    machine: &Machine,
    effort: Effort,
    scene: &mut Scene,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut speeds = Vec::new();
    for _ in 0..effort.rounds {
        let run = scene.pay(machine, effort.saturating).await?.run;
        speeds.push(per_second(run.payments, run.elapsed));
    }
    let saturated = Spread::of(speeds);
    findings.figures.push(Figure::new("saturated", saturated, "payments/s"));
    let mut curves: Vec<(String, Vec<(f64, f64)>)> =
        QUANTILES.iter().map(|(name, _)| ((*name).to_owned(), Vec::new())).collect();
    for share in SHARES_PERCENT {
        let rate = share_of_rate(saturated.median, share);
        let payments = u64::try_from(u128::from(rate) * effort.rate_kept.as_millis() / 1_000)?.max(1);
        scene.prepare(machine, payments)?;
        let (connections, queues) = scene.line_up();
        let run = open_loop(connections, queues, rate, payments).await?;
        ensure!(run.payments == payments, "{} of {payments} payments were made", run.payments);
        for ((name, quantile), (_, points)) in QUANTILES.iter().zip(&mut curves) {
            let ms = millis(run.latency_ns.value_at_quantile(*quantile));
            let target = (share == TARGET_SHARE_PERCENT && *name == TARGET_QUANTILE).then_some(TARGET);
            findings.figures.push(Figure { target, ..Figure::new(format!("{name} at {share} %"), ms, "ms") });
            points.push((as_f64(rate), ms));
        }
    }
    findings.charts.push(Chart {
        file: "latency".to_owned(),
        title: "How long a payment takes, by how many are offered (one relayer on one core)".to_owned(),
        x: "payments offered a second".to_owned(),
        y: "latency, ms".to_owned(),
        y_is_logarithmic: true,
        curves,
    });
    Ok(())
}

/// Calls Redis as a relayer does, one voucher a call, on the relayer's core.
struct Caller {
    config: RedisConfig,
    terms: CheckedTerms,
    channel: PayingChannel,
}

impl Caller {
    async fn new(stage: &Stage, channel: PayingChannel) -> anyhow::Result<Caller> {
        let terms = stage.terms(&channel.id).await?.check()?;
        let store = stage.store().await?;
        store.register_channel(&terms, None, 0).await?;
        store.close().await;
        Ok(Caller { config: stage.redis_config(), terms, channel })
    }

    /// Times of so many calls, in ns.
    fn measure(&mut self, machine: &Machine, calls: u64) -> anyhow::Result<Histogram<u64>> {
        let vouchers: Vec<_> = (0..calls).map(|_| self.next_voucher()).collect::<anyhow::Result<_>>()?;
        let config = &self.config;
        machine.beside_server(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let store = connect(config).await?;
                let mut latency_ns = latencies();
                for voucher in &vouchers {
                    let sent = Instant::now();
                    let verdicts = store.accept(std::slice::from_ref(voucher)).await?;
                    latency_ns.saturating_record(nanos(sent.elapsed()));
                    ensure!(verdicts == [Verdict::Accepted], "a voucher was not accepted: {verdicts:?}");
                }
                store.close().await;
                Ok(latency_ns)
            })
        })
    }

    fn next_voucher(&mut self) -> anyhow::Result<VerifiedVoucher> {
        let channel = &mut self.channel;
        channel.latest = channel.latest.checked_add(Amount::new(1)).context("an amount past the range")?;
        let payment = Payment::from(payer::voucher(&channel.key, channel.id, channel.latest, 0));
        Ok(VerifiedVoucher::verify(&self.terms, payment)?)
    }
}
