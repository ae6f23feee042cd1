//! The settler's row: on a core of its own it works off the backlog of an outage while payments go on, then closes every
//! channel with an issuer that answers each request in 5 ms. Beside it, what reading the same entries and asking the same issuer cost
//! with nothing else done. A run in which not every channel was closed once, for its latest amount, has no figures.

mod bare;
mod check;
mod ground;
mod issuer;
mod payments;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use tokio_util::sync::CancellationToken;

use crate::figure::{Figure, Findings, Target};
use crate::rows::Bench;
use crate::stats::{mib, micros_each, per_second};
use ground::Ground;
use payments::Channels;
use watch::{Span, until};

pub(crate) use issuer::serve as serve_issuer;

/// Stream entries a second that a settler must work off.
const ENTRIES_TARGET: Target = Target::AtLeast(20_000.0);

/// Channels a second that it must close.
const CLOSES_TARGET: Target = Target::AtLeast(2_000.0);

/// Most memory that it may have at any time, in MiB, however long the backlog.
const MEMORY_TARGET: Target = Target::AtMost(64.0);

/// What may be left in Redis of a backlog that is gone, in MiB: buffers, and the ends of streams.
const LEFT_IN_REDIS_TARGET: Target = Target::AtMost(8.0);

/// Closes under way at once, as shipped: what the bare client has under way too.
const IN_FLIGHT: usize = 64;

/// Entries of a page, as shipped: what is read at once where nothing else is done.
const PAGE: u64 = 128;

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    /// Entries that wait when the outage ends.
    backlog: u64,
    /// Channels that they are of, each of which is closed in the end.
    channels: usize,
    /// Payments a second that arrive meanwhile, an entry each.
    arrivals_per_s: u64,
    bare_requests: u64,
}

const FULL: Effort =
    Effort { backlog: 1_000_000, channels: 20_000, arrivals_per_s: 2_000, bare_requests: 20_000 };
const BRIEF: Effort = Effort { backlog: 5_000, channels: 300, arrivals_per_s: 500, bare_requests: 300 };

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Findings> {
    let effort = bench.choose(FULL, BRIEF);
    let mut ground = Ground::prepare(&bench.machine).await?;
    let channels = Channels::open(&ground, effort.channels).await?;
    let all = u64::try_from(channels.len())?;
    let mut findings = Findings::default();

    // Every channel has paid once and is down for later, as in a stack that has run for a while.
    ground.settler.wait_ready(ground::READY_DEADLINE).await?;
    channels.pay(&bench.machine, &ground, all)?;
    until(&ground, watch::ENTRIES, || all).await?;
    let redis_base = ground.redis_memory().await?;

    // The outage.
    ground.settler.kill();
    let accepting = ground.redis_cpu()?;
    channels.pay(&bench.machine, &ground, effort.backlog)?;
    let accepting = Cost { count: effort.backlog, cpu: ground.redis_cpu()?.saturating_sub(accepting) };
    let redis_full = ground.redis_memory().await?;
    let read = bare::read_all(&bench.machine, &ground, PAGE)?;
    ensure!(read.count == effort.backlog, "{} entries wait of {}", read.count, effort.backlog);

    // It ends.
    ground.start_settler_again(&bench.machine)?;
    let (paid, end) = (AtomicU64::new(0), CancellationToken::new());
    let steady = channels.pay_steadily(&ground.store, effort.arrivals_per_s, &paid, &end);
    let drained = async {
        // Something is always on its way: the backlog is gone once less waits than arrives in half a second.
        let on_its_way = effort.arrivals_per_s / 2;
        let goal = || effort.backlog + paid.load(Ordering::Acquire).saturating_sub(on_its_way);
        let drained = until(&ground, watch::ENTRIES, goal).await;
        end.cancel();
        drained
    };
    let (arrived, drained) = tokio::join!(steady, drained);
    let (arrived, drained) = (arrived?, drained?);
    until(&ground, watch::ENTRIES, || effort.backlog + arrived).await?;
    let redis_after = ground.redis_memory().await?;
    of_entries(&mut findings, &drained, &read, accepting.of(arrived));

    let asked = bare::ask(&bench.machine, &ground, effort.bare_requests, IN_FLIGHT)?;
    let closed = until(&ground, watch::CLOSED, || all);
    let (asked_for, closed) = tokio::join!(channels.ask_to_close(&ground.store), closed);
    let ((), closed) = (asked_for?, closed?);
    of_closes(&mut findings, &closed, &asked);

    let books = check::everything(&ground, &channels).await?;
    let now = ground.settler_memory()?;
    findings.figures.extend([
        Figure::new("settler's memory, at most", mib(now.peak_bytes), "MiB").target(MEMORY_TARGET),
        Figure::new("settler's memory, when it began", mib(drained.memory_at_first), "MiB"),
        Figure::new("settler's memory, when all was done", mib(now.bytes), "MiB"),
        Figure::new("Redis' memory, with the backlog", mib(redis_full), "MiB"),
        Figure::new("Redis' memory, before it", mib(redis_base), "MiB"),
        Figure::new("Redis' memory, left of it", mib(redis_after.saturating_sub(redis_base)), "MiB")
            .target(LEFT_IN_REDIS_TARGET),
    ]);
    findings
        .notes
        .push(format!("{} settlements went to the issuer in {} requests", books.settlements, books.requests));
    findings.notes.push(format!(
        "{} entries waited and {arrived} arrived while they were worked off; all {all} channels were closed once, for \
         their latest amount, and nothing was left",
        effort.backlog
    ));
    Ok(findings)
}

/// CPU that so many of something took.
struct Cost {
    count: u64,
    cpu: Duration,
}

impl Cost {
    /// For another count of the same.
    fn of(&self, count: u64) -> Duration {
        let nanos = self.cpu.as_nanos() * u128::from(count) / u128::from(self.count.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// `arriving`: what Redis did for those that arrived meanwhile, which is not for the settler.
fn of_entries(findings: &mut Findings, drained: &Span, read: &bare::Reading, arriving: Duration) {
    let settler_us = micros_each(drained.settler_cpu, drained.count);
    let redis_us = micros_each(drained.redis_cpu.saturating_sub(arriving), drained.count);
    let read_us = micros_each(read.cpu, read.count);
    let (speed, reading) = (per_second(drained.count, drained.elapsed), per_second(read.count, read.elapsed));
    findings.figures.extend([
        Figure::new("entries of a backlog", speed, "entries/s").target(ENTRIES_TARGET),
        Figure::beside(
            "entries of a backlog, beside reading",
            "entries/s",
            "XRANGE alone",
            &[(speed, reading)],
        ),
        Figure::beside("settler CPU an entry", "us/entry", "XRANGE alone", &[(settler_us, read_us)]),
        Figure::new("Redis CPU an entry", redis_us, "us/entry"),
    ]);
}

fn of_closes(findings: &mut Findings, closed: &Span, asked: &bare::Reading) {
    let cpu = (micros_each(closed.settler_cpu, closed.count), micros_each(asked.cpu, asked.count));
    let speed = (per_second(closed.count, closed.elapsed), per_second(asked.count, asked.elapsed));
    findings.figures.extend([
        Figure::new("closes, issuer answering in 5 ms", speed.0, "closes/s").target(CLOSES_TARGET),
        Figure::beside("closes, beside bare requests", "closes/s", "HTTP client alone", &[speed]),
        Figure::beside("settler CPU a close", "us/close", "HTTP client alone", &[cpu]),
        Figure::new("Redis CPU a close", micros_each(closed.redis_cpu, closed.count), "us/close"),
    ]);
}
