//! Row 8: what a payment costs the relayer where it takes hashes instead of a signature, beside one exchange of JSON over
//! HTTP and those hashes; and what a signed receipt adds.

use cli::payer::Scheme;

use crate::baseline::{EchoServer, HashLoop};
use crate::figure::{Figure, Findings, Target};
use crate::payers::Form;
use crate::rows::Bench;
use crate::stage::{Scene, StageOptions};
use crate::stats::{Spread, each, micros_each, per_second, percent, sum};

/// At most this, of echo server and hashes together.
const TARGET: Target = Target::AtMost(1.3);

const CONNECTIONS: usize = 64;

/// Units of each commitment: a tree of 65,536 leaves.
const UNITS: u32 = 65_535;
const DEPTH: u64 = 16;

/// Bytes of a token or secret, and of two nodes side by side.
const VALUE_BYTES: usize = 32;
const NODES_BYTES: usize = 64;

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    hashed: u64,
    echoes: u64,
    payments: u64,
}

const FULL: Effort = Effort { rounds: 5, hashed: 100_000, echoes: 60_000, payments: 60_000 };
const BRIEF: Effort = Effort { rounds: 1, hashed: 100, echoes: 300, payments: 300 };

/// What is measured: how payments are made, and the hashes that each takes for sure.
struct Case {
    name: &'static str,
    scheme: Scheme,
    complete: bool,
    hashes: HashLoop,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Findings> {
    let effort = bench.choose(FULL, BRIEF);
    let case = |name, scheme, complete, hashes| Case { name, scheme, complete, hashes };
    let cases = [
        // A step, from the token before.
        case("payword", Scheme::Payword, false, HashLoop::new(1, VALUE_BYTES)),
        // The leaf and, of one payment after the other, one node on average.
        case("paytree, compressed", Scheme::Paytree, false, HashLoop::new(2, NODES_BYTES)),
        // The leaf and each node up to the root.
        case("paytree, complete", Scheme::Paytree, true, HashLoop::new(1 + DEPTH, NODES_BYTES)),
    ];
    let mut findings = Findings::default();
    for case in cases {
        let found = measure(bench, effort, &case).await?;
        findings.figures.extend(found.figures);
        findings.notes.extend(found.notes);
    }
    findings.figures.extend(receipts(bench, effort).await?);
    Ok(findings)
}

async fn measure(bench: &Bench, effort: Effort, case: &Case) -> anyhow::Result<Findings> {
    let machine = &bench.machine;
    let Case { scheme, complete, .. } = *case;
    let options =
        StageOptions { channels: CONNECTIONS, scheme, units: UNITS, complete, ..StageOptions::default() };
    let mut scene = Scene::set(machine, options, CONNECTIONS, Form::Single).await?;
    let mut echo = EchoServer::start_for(machine, scene.stage.dir(), CONNECTIONS, scheme, complete).await?;
    let (mut beside, mut rates, mut bytes, mut redis) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut echo_busy, mut relayer_busy) = (Vec::new(), Vec::new());
    let calls_before = scene.stage.calls().await?;
    for _ in 0..effort.rounds {
        let hashes_us = case.hashes.measure(machine, effort.hashed)?;
        let (echoed, echo_cpu) = echo.measure(effort.echoes).await?;
        let paid = scene.pay(machine, effort.payments).await?;
        let payments = paid.run.payments;
        let baseline = sum(&[micros_each(echo_cpu, effort.echoes), hashes_us]);
        beside.push((micros_each(paid.relayer_cpu, payments), baseline));
        rates.push(per_second(payments, paid.run.elapsed));
        bytes.push(each(paid.run.sent_bytes, payments));
        redis.push(micros_each(paid.redis_cpu, payments));
        echo_busy.push(percent(echo_cpu, echoed.elapsed));
        relayer_busy.push(percent(paid.relayer_cpu, paid.run.elapsed));
    }
    let calls = scene.stage.calls().await?.since(calls_before);
    scene.end().await?;
    let name = |what: &str| format!("{what}, {}", case.name);
    let relayer = Figure::beside(name("relayer CPU"), "us/payment", "echo + hashes", &beside);
    Ok(Findings {
        figures: vec![
            Figure { target: Some(TARGET), ..relayer },
            Figure::new(name("payments"), Spread::of(rates), "payments/s"),
            Figure::new(name("to the relayer"), Spread::of(bytes), "bytes/payment"),
            Figure::new(name("vouchers in a call"), calls.size(), "vouchers"),
            Figure::new(name("Redis CPU"), Spread::of(redis), "us/payment"),
        ],
        notes: vec![format!(
            "{}: the echo server was at work for {:.0} % of its time, the relayer for {:.0} %",
            case.name,
            Spread::of(echo_busy).median,
            Spread::of(relayer_busy).median
        )],
        charts: Vec::new(),
    })
}

/// The same vouchers with and without a receipt in their answers.
async fn receipts(bench: &Bench, effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let machine = &bench.machine;
    let options = StageOptions { channels: CONNECTIONS, ..StageOptions::default() };
    let mut without = Scene::set(machine, options.clone(), CONNECTIONS, Form::Single).await?;
    let mut spread = Vec::new();
    for _ in 0..effort.rounds {
        let paid = without.pay(machine, effort.payments).await?;
        spread.push(micros_each(paid.relayer_cpu, paid.run.payments));
    }
    without.end().await?;
    let without = Spread::of(spread);
    let options = StageOptions { receipts: true, ..options };
    let mut with = Scene::set(machine, options, CONNECTIONS, Form::Single).await?;
    let mut beside = Vec::new();
    for _ in 0..effort.rounds {
        let paid = with.pay(machine, effort.payments).await?;
        beside.push((micros_each(paid.relayer_cpu, paid.run.payments), without.median));
    }
    with.end().await?;
    Ok(vec![Figure::beside(
        "relayer CPU, with receipts".to_owned(),
        "us/payment",
        "without receipts",
        &beside,
    )])
}
