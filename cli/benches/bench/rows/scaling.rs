//! Row 6: one, two and four relayers on one Redis, as far as the cores go. Where they end, docs/CAPACITY.md goes on by
//! arithmetic.

use crate::figure::{Chart, Figure, Findings};
use crate::payers::Form;
use crate::rows::Bench;
use crate::stage::{Scene, StageOptions};
use crate::stats::{Spread, as_f64, micros_each, per_second};

/// Relayers, each on one core; where there are fewer cores, some share one.
const RELAYERS: [usize; 3] = [1, 2, 4];

/// Connections over all relayers, and channels, one each.
const CONNECTIONS: usize = 256;

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    payments: u64,
}

const FULL: Effort = Effort { rounds: 5, payments: 40_000 };
const BRIEF: Effort = Effort { rounds: 1, payments: 500 };

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Findings> {
    let effort = bench.choose(FULL, BRIEF);
    let machine = &bench.machine;
    let mut findings = Findings::default();
    let (mut speeds, mut relayer_cpus, mut redis_cpus) = (Vec::new(), Vec::new(), Vec::new());
    for relayers in RELAYERS {
        let options = StageOptions { relayers, channels: CONNECTIONS, ..StageOptions::default() };
        let mut scene = Scene::set(machine, options, CONNECTIONS, Form::Single).await?;
        let (mut speed, mut relayer_cpu, mut redis_cpu) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            let paid = scene.pay(machine, effort.payments).await?;
            speed.push(per_second(paid.run.payments, paid.run.elapsed));
            relayer_cpu.push(micros_each(paid.relayer_cpu, paid.run.payments));
            redis_cpu.push(micros_each(paid.redis_cpu, paid.run.payments));
        }
        scene.end().await?;
        let x = as_f64(u64::try_from(relayers)?);
        let plural = if relayers == 1 { "" } else { "s" };
        let name = |what: &str| format!("{what}, {relayers} relayer{plural}");
        for (values, what, unit, points) in [
            (speed, "payments", "payments/s", &mut speeds),
            (relayer_cpu, "relayer CPU", "us/payment", &mut relayer_cpus),
            (redis_cpu, "Redis CPU", "us/payment", &mut redis_cpus),
        ] {
            let value = Spread::of(values);
            points.push((x, value.median));
            findings.figures.push(Figure::new(name(what), value, unit));
        }
    }
    findings.notes.push(format!(
        "relayers take the cores {:?} in turn; the load generator and Redis run on {:?} with those that are there",
        machine.cores(),
        machine.load_cores()
    ));
    let chart = |file: &str, title: &str, y: &str, curves| Chart {
        file: file.to_owned(),
        title: title.to_owned(),
        x: "relayers".to_owned(),
        y: y.to_owned(),
        y_is_logarithmic: false,
        curves,
    };
    let cores = machine.cores().len();
    findings.charts = vec![
        chart(
            "scaling",
            &format!("Payments a second, by relayers ({cores} cores carry them, Redis and the load)"),
            "payments a second",
            vec![("payments/s".to_owned(), speeds)],
        ),
        chart(
            "scaling-cpu",
            "CPU of a payment, by relayers",
            "us a payment",
            vec![("relayers".to_owned(), relayer_cpus), ("Redis".to_owned(), redis_cpus)],
        ),
    ];
    Ok(findings)
}
