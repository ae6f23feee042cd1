//! Row 1: what one payment a request costs the relayer, beside what it cannot do without: one strict signature check and
//! one exchange of JSON over HTTP.

use crate::baseline::{EchoServer, VerifyLoop};
use crate::figure::{Figure, Findings, Target};
use crate::payers::Form;
use crate::rows::Bench;
use crate::stage::{Scene, StageOptions};
use crate::stats::{Spread, each, micros_each, per_second, percent, sum};

/// At most this, of signature check and echo server together.
const TARGET: Target = Target::AtMost(1.25);

/// Connections that the target is for, and those that are looked at besides.
const CONNECTIONS: usize = 64;
const MORE_CONNECTIONS: usize = 256;

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    channels: usize,
    /// Each has its own baseline, measured right before.
    rounds: usize,
    checks: u64,
    echoes: u64,
    payments: u64,
}

const FULL: Effort = Effort { channels: 256, rounds: 7, checks: 15_000, echoes: 60_000, payments: 40_000 };
const BRIEF: Effort = Effort { channels: 256, rounds: 1, checks: 100, echoes: 300, payments: 300 };

/// What one round gave, CPU in us each.
struct Round {
    verify: f64,
    echo: f64,
    relayer: f64,
    payments_per_second: f64,
    bytes_to_relayer: f64,
    bytes_from_relayer: f64,
    /// Of the time, how much the server was at work: the rest it waited for the load.
    echo_busy_percent: f64,
    relayer_busy_percent: f64,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Findings> {
    let effort = bench.choose(FULL, BRIEF);
    let options = StageOptions { channels: effort.channels, ..StageOptions::default() };
    let scene = Scene::set(&bench.machine, options, CONNECTIONS, Form::Single).await?;
    let (mut findings, scene) = measure(bench, effort, scene, CONNECTIONS, Some(TARGET)).await?;
    let (stage, channels) = scene.end().await?;
    let scene = Scene::on(&bench.machine, stage, channels, MORE_CONNECTIONS, Form::Single).await?;
    let (more, scene) = measure(bench, effort, scene, MORE_CONNECTIONS, None).await?;
    scene.end().await?;
    findings.figures.extend(more.figures);
    findings.notes.extend(more.notes);
    Ok(findings)
}

async fn measure(
    bench: &Bench,
    effort: Effort,
    mut scene: Scene,
    connections: usize,
    target: Option<Target>,
) -> anyhow::Result<(Findings, Scene)> {
    let machine = &bench.machine;
    let verify = VerifyLoop::new();
    let mut echo = EchoServer::start(machine, scene.stage.dir(), connections).await?;
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        let verify_us = verify.measure(machine, effort.checks)?;
        let (echoed, echo_cpu) = echo.measure(effort.echoes).await?;
        let paid = scene.pay(machine, effort.payments).await?;
        rounds.push(Round {
            verify: verify_us,
            echo: micros_each(echo_cpu, effort.echoes),
            relayer: micros_each(paid.relayer_cpu, paid.run.payments),
            payments_per_second: per_second(paid.run.payments, paid.run.elapsed),
            bytes_to_relayer: each(paid.run.sent_bytes, paid.run.payments),
            bytes_from_relayer: each(paid.run.received_bytes, paid.run.payments),
            echo_busy_percent: percent(echo_cpu, echoed.elapsed),
            relayer_busy_percent: percent(paid.relayer_cpu, paid.run.elapsed),
        });
    }
    let spread = |value: fn(&Round) -> f64| Spread::of(rounds.iter().map(value));
    let with_baseline: Vec<_> =
        rounds.iter().map(|round| (round.relayer, sum(&[round.verify, round.echo]))).collect();
    let name = |what: &str| format!("{what}, {connections} connections");
    let relayer = Figure::beside(name("relayer CPU"), "us/payment", "verify + echo", &with_baseline);
    let findings = Findings {
        figures: vec![
            Figure::new(name("verify loop"), spread(|round| round.verify), "us/check"),
            Figure::new(name("echo server CPU"), spread(|round| round.echo), "us/request"),
            Figure { target, ..relayer },
            Figure::new(name("payments"), spread(|round| round.payments_per_second), "payments/s"),
            Figure::new(name("to the relayer"), spread(|round| round.bytes_to_relayer), "bytes/payment"),
            Figure::new(name("from the relayer"), spread(|round| round.bytes_from_relayer), "bytes/payment"),
        ],
        notes: vec![format!(
            "{connections} connections: the echo server was at work for {:.0} % of its time, the relayer for {:.0} %",
            spread(|round| round.echo_busy_percent).median,
            spread(|round| round.relayer_busy_percent).median
        )],
        charts: Vec::new(),
    };
    Ok((findings, scene))
}
