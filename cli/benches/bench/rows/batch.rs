//! Row 2: many vouchers a request, or a connection that is a stream of them, where the exchange over HTTP hardly counts:
//! what is left to do without is the signature check alone.

use crate::baseline::VerifyLoop;
use crate::figure::{Figure, Findings, Target};
use crate::payers::Form;
use crate::rows::Bench;
use crate::stage::{Scene, StageOptions};
use crate::stats::{Spread, each, micros_each, per_second};

/// At most this, of the signature check.
const TARGET: Target = Target::AtMost(1.15);

/// Vouchers in a batch, and on their way at once on a stream.
const VOUCHERS: u64 = 64;

/// Batches on their way at once, one a connection: as many vouchers as a relayer gladly has in flight.
const CONNECTIONS: usize = 16;

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    channels: usize,
    rounds: usize,
    checks: u64,
    payments: u64,
}

const FULL: Effort = Effort { channels: 256, rounds: 7, checks: 15_000, payments: 64_000 };
const BRIEF: Effort = Effort { channels: 64, rounds: 1, checks: 100, payments: 2_048 };

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Findings> {
    let effort = bench.choose(FULL, BRIEF);
    let mut findings = Findings::default();
    let forms = [
        (Form::Array(VOUCHERS), "array"),
        (Form::Lines(VOUCHERS), "lines"),
        (Form::Stream(VOUCHERS), "stream"),
    ];
    for (form, what) in forms {
        findings.figures.extend(measure(bench, effort, form, what).await?);
    }
    Ok(findings)
}

async fn measure(bench: &Bench, effort: Effort, form: Form, what: &str) -> anyhow::Result<Vec<Figure>> {
    let machine = &bench.machine;
    let verify = VerifyLoop::new();
    let options = StageOptions { channels: effort.channels, ..StageOptions::default() };
    let mut scene = Scene::set(machine, options, CONNECTIONS, form).await?;
    let (mut cpu, mut speed, mut sent, mut received) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let verify_us = verify.measure(machine, effort.checks)?;
        let paid = scene.pay(machine, effort.payments).await?;
        cpu.push((micros_each(paid.relayer_cpu, paid.run.payments), verify_us));
        speed.push(per_second(paid.run.payments, paid.run.elapsed));
        sent.push(each(paid.run.sent_bytes, paid.run.payments));
        received.push(each(paid.run.received_bytes, paid.run.payments));
    }
    scene.end().await?;
    let name = |figure: &str| format!("{figure}, {what} of {VOUCHERS}");
    Ok(vec![
        Figure::beside(name("relayer CPU"), "us/payment", "verify", &cpu).target(TARGET),
        Figure::new(name("payments"), Spread::of(speed), "payments/s"),
        Figure::new(name("to the relayer"), Spread::of(sent), "bytes/payment"),
        Figure::new(name("from the relayer"), Spread::of(received), "bytes/payment"),
    ])
}
