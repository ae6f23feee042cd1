//! Row 3: what a payment costs Redis, by which of its threads, and what it costs to wait for the disk.

use std::collections::BTreeMap;
use std::time::Duration;

use cli::stack::redis::AppendFsync;

use crate::figure::{Figure, Findings, Target};
use crate::machine::cpu_by_thread;
use crate::payers::Form;
use crate::rows::Bench;
use crate::stage::{Paid, Scene, StageOptions, redis};
use crate::stats::{Spread, each, micros_each, per_second, percent};

/// CPU of Redis for a payment, in us.
const CPU_TARGET: Target = Target::AtMost(4.0);

/// Payments a second with `appendfsync always`, of those with `everysec`.
const ALWAYS_TARGET: Target = Target::AtLeast(0.5);

/// Payments on their way at once; the target of `always` is for the larger one.
const CONNECTIONS: usize = 64;
const MORE_CONNECTIONS: usize = 256;

/// What goes through Redis, as its `INFO` counts it: over the network, and to disk.
const TRAFFIC: [(&str, &str); 3] = [
    ("stats", "total_net_input_bytes"),
    ("stats", "total_net_output_bytes"),
    ("persistence", "aof_current_size"),
];
const TRAFFIC_NAMES: [&str; 3] = ["to Redis", "from Redis", "append-only file"];

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    payments: u64,
}

const FULL: Effort = Effort { rounds: 5, payments: 30_000 };
const BRIEF: Effort = Effort { rounds: 1, payments: 300 };

/// As many channels as connections, so that one stage does for both counts.
const CHANNELS: usize = MORE_CONNECTIONS;

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Findings> {
    let effort = bench.choose(FULL, BRIEF);
    let mut findings = Findings::default();
    let scene = set(bench, AppendFsync::EverySec, 0, CONNECTIONS).await?;
    let scene = cost(bench, effort, scene, CONNECTIONS, &mut findings).await?;
    let (stage, channels) = scene.end().await?;
    let scene = Scene::on(&bench.machine, stage, channels, MORE_CONNECTIONS, Form::Single).await?;
    let scene = cost(bench, effort, scene, MORE_CONNECTIONS, &mut findings).await?;
    findings.figures.push(always(bench, effort, scene).await?);
    findings.figures.push(with_settler(bench, effort).await?);
    Ok(findings)
}

async fn set(
    bench: &Bench,
    appendfsync: AppendFsync,
    settlers: usize,
    connections: usize,
) -> anyhow::Result<Scene> {
    let options =
        StageOptions { channels: CHANNELS, settlers, redis: redis(appendfsync), ..Default::default() };
    Scene::set(&bench.machine, options, connections, Form::Single).await
}

/// CPU of Redis, whole and by thread, and how many vouchers share a call.
async fn cost(
    bench: &Bench,
    effort: Effort,
    mut scene: Scene,
    connections: usize,
    findings: &mut Findings,
) -> anyhow::Result<Scene> {
    let mut cpu = Vec::new();
    let threads_before = by_name(&scene)?;
    let calls_before = scene.stage.calls().await?;
    let traffic_before = scene.stage.redis_info(TRAFFIC).await?;
    for _ in 0..effort.rounds {
        let paid = scene.pay(&bench.machine, effort.payments).await?;
        cpu.push(redis_us(&paid));
    }
    let calls = scene.stage.calls().await?.since(calls_before);
    let traffic = scene.stage.redis_info(TRAFFIC).await?;
    let name = |what: &str| format!("{what}, {connections} connections");
    findings.figures.extend([
        Figure::new(name("Redis CPU"), Spread::of(cpu), "us/payment").target(CPU_TARGET),
        Figure::new(name("vouchers in a call"), calls.size(), "vouchers"),
    ]);
    for (what, (before, after)) in TRAFFIC_NAMES.into_iter().zip(traffic_before.into_iter().zip(traffic)) {
        let bytes = each(after.saturating_sub(before), calls.vouchers);
        findings.figures.push(Figure::new(name(what), bytes, "bytes/payment"));
    }
    let used: Vec<(String, Duration)> = by_name(&scene)?
        .into_iter()
        .map(|(thread, after)| {
            let before = threads_before.get(&thread).copied().unwrap_or_default();
            (thread, after.saturating_sub(before))
        })
        .collect();
    let whole = used.iter().map(|(_, used)| *used).sum();
    let shares: Vec<String> = used
        .iter()
        .filter(|(_, used)| !used.is_zero())
        .map(|(thread, used)| format!("{thread} {:.1} %", percent(*used, whole)))
        .collect();
    findings.notes.push(format!("{connections} connections: Redis' CPU by thread: {}", shares.join(", ")));
    Ok(scene)
}

/// Throughput with `appendfsync always` beside `everysec`, by turns.
async fn always(bench: &Bench, effort: Effort, mut everysec: Scene) -> anyhow::Result<Figure> {
    let mut always = set(bench, AppendFsync::Always, 0, MORE_CONNECTIONS).await?;
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        let baseline = everysec.pay(&bench.machine, effort.payments).await?;
        let paid = always.pay(&bench.machine, effort.payments).await?;
        rounds.push((speed(&paid), speed(&baseline)));
    }
    everysec.end().await?;
    always.end().await?;
    let name = format!("payments, appendfsync always, {MORE_CONNECTIONS} connections");
    Ok(Figure::beside(name, "payments/s", "everysec", &rounds).target(ALWAYS_TARGET))
}

/// CPU of Redis where a settler consumes what is accepted.
async fn with_settler(bench: &Bench, effort: Effort) -> anyhow::Result<Figure> {
    let mut scene = set(bench, AppendFsync::EverySec, 1, CONNECTIONS).await?;
    let mut cpu = Vec::new();
    for _ in 0..effort.rounds {
        cpu.push(redis_us(&scene.pay(&bench.machine, effort.payments).await?));
    }
    scene.end().await?;
    let name = format!("Redis CPU, {CONNECTIONS} connections, a settler reading");
    Ok(Figure::new(name, Spread::of(cpu), "us/payment"))
}

fn redis_us(paid: &Paid) -> f64 {
    micros_each(paid.redis_cpu, paid.run.payments)
}

fn speed(paid: &Paid) -> f64 {
    per_second(paid.run.payments, paid.run.elapsed)
}

/// CPU of Redis' threads; those of one name together.
fn by_name(scene: &Scene) -> anyhow::Result<BTreeMap<String, Duration>> {
    let mut threads = BTreeMap::new();
    for (name, used) in cpu_by_thread(scene.stage.redis_pid()?)? {
        *threads.entry(name).or_default() += used;
    }
    Ok(threads)
}
