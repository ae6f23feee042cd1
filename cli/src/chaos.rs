//! A fault campaign: a whole stack of real processes under a load, while a seeded schedule kills, stops and cuts off its
//! parts. At the end all heals, all channels close, and [`crate::history`] says whether everything that payers were
//! told can be true.
//!
//! # Layout
//!
//! * [`fault`]: what can be done to a stack. [`plan`]: what is done when, by seed. `inject`: doing it.
//! * `payers`: open channels, pay, close, and write down what they sent and were told. `watch`: looks into Redis.
//! * `ending`: heals, closes, gathers and checks. [`report`]: what came of it.

mod ending;
pub mod fault;
mod inject;
mod payers;
pub mod plan;
pub mod report;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::config::RedisConfig;
use common::store::Store;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::{issuer_client, relayer_client_within};
use crate::client::Transport;
use crate::history::History;
use crate::stack::process::Binary;
use crate::stack::redis::{AppendFsync, RedisOptions};
use crate::stack::{Stack, StackOptions};
use fault::FaultKind;
use inject::Injector;
use payers::{Payer, Shared};
use plan::Injection;
use report::Report;

/// How long a payer waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(2_500);

/// How long healing, closing and checking may take together, past the time under faults.
const ENDING_WITHIN: Duration = Duration::from_secs(180);

/// What to do.
#[derive(Clone, Debug)]
pub struct ChaosOptions {
    /// What the schedule and the payers' choices follow from.
    pub seed: u64,
    /// How long faults are injected.
    pub duration: Duration,
    /// Which faults.
    pub kinds: Vec<FaultKind>,
    /// How many relayers.
    pub relayers: usize,
    /// How many settlers.
    pub settlers: usize,
    /// How many payers.
    pub payers: usize,
    /// Keys, data, histories and logs. Must be new: what an earlier campaign left would be taken for this one's.
    pub dir: PathBuf,
    /// The programs.
    pub binary: Binary,
}

impl ChaosOptions {
    /// Every fault; two relayers, two settlers, eight payers.
    pub fn new(seed: u64, duration: Duration, dir: impl Into<PathBuf>, binary: Binary) -> Self {
        let kinds = FaultKind::all();
        ChaosOptions { seed, duration, kinds, relayers: 2, settlers: 2, payers: 8, dir: dir.into(), binary }
    }
}

/// A stack that is ready for its campaign.
#[derive(Debug)]
pub struct Campaign {
    options: ChaosOptions,
    stack: Stack,
    pay_through: Vec<String>,
}

/// Where progress is told, a line at a time.
pub type Tell<'a> = &'a (dyn Fn(&str) + Sync);

impl Campaign {
    /// Starts the stack.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(options: ChaosOptions) -> anyhow::Result<Campaign> {
        let mut stack = StackOptions::new(&options.dir, options.binary.clone());
        stack.relayers = options.relayers;
        stack.settlers = options.settlers;
        stack.redis = RedisOptions { appendfsync: AppendFsync::Always, ..RedisOptions::default() };
        stack.fault_proxies = true;
        let set = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        // Quick to notice and quick to repeat, so that a minute holds many faults and their healing.
        stack.config.relayer = set(&[
            ("redis.durability", "always"),
            ("redis.command_timeout_ms", "500"),
            ("issuer.request_timeout_ms", "1000"),
            ("drain_grace_ms", "100"),
            ("readiness_interval_ms", "100"),
        ]);
        stack.config.settler = set(&[
            ("redis.durability", "always"),
            ("redis.command_timeout_ms", "300"),
            ("issuer.request_timeout_ms", "1000"),
            ("lease.ttl_ms", "1500"),
            ("lease.standby_poll_ms", "100"),
            ("consumer.poll_ms", "20"),
            ("policy.idle_max_s", "2"),
            ("closes.retry_delay_min_ms", "50"),
            ("closes.retry_delay_max_ms", "1000"),
            ("readiness_interval_ms", "100"),
        ]);
        let stack = Stack::start(stack).await.context("the stack did not start")?;
        let pay_through = stack.relayer_urls();
        Ok(Campaign { options, stack, pay_through })
    }

    /// The stack, before anything is done to it.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Has the payers pay at these URLs instead of the relayers' own.
    pub fn pay_through(&mut self, urls: Vec<String>) {
        self.pay_through = urls;
    }

    /// Pays under faults, heals, closes, checks.
    ///
    /// # Errors
    /// Something failed that is neither the stack's fault nor a violation, such as a history that cannot be written.
    pub async fn run(self, tell: Tell<'_>) -> anyhow::Result<Report> {
        let within = self.options.duration.saturating_add(ENDING_WITHIN);
        match tokio::time::timeout(within, self.all_of_it(tell)).await {
            Ok(report) => report,
            Err(_) => anyhow::bail!("the campaign was not over after {} s", within.as_secs()),
        }
    }

    async fn all_of_it(mut self, tell: Tell<'_>) -> anyhow::Result<Report> {
        let plan = plan::make(&self.options);
        let store = self.store().await?;
        let issuer = issuer_client(&self.stack.issuer_url(), Some(self.stack.issuer_key()))?;
        let mut relayers = Vec::new();
        for url in &self.pay_through {
            let client = relayer_client_within(url, ANSWER_WITHIN)?;
            // Payers take these by turns: every other payment goes over a stream, which all of them share.
            if self.stack.relayer_urls().contains(url) {
                relayers.push(client.clone().over(Transport::Stream, 1));
            }
            relayers.push(client);
        }
        let shared = Arc::new(Shared::new(issuer, relayers, self.stack.payee(), self.stack.issuer_key()));
        let histories = self.stack.dir().join("histories");
        std::fs::create_dir_all(&histories)
            .with_context(|| format!("cannot make {}", histories.display()))?;
        let mut payers = JoinSet::new();
        let mut paths = Vec::new();
        for number in 0..self.options.payers {
            let path = histories.join(format!("payer-{number:03}.ndjson"));
            let payer = Payer::new(self.options.seed, number, Arc::clone(&shared), &path)?;
            paths.push(path);
            payers.spawn(payer.run());
        }
        let stop_watching = CancellationToken::new();
        let looks = histories.join("watcher.ndjson");
        let watcher = watch::start(store.clone(), &looks, stop_watching.clone())?;
        paths.push(looks);

        let mut report = Report::new(&self.options);
        let start = Instant::now();
        let mut injector = Injector::new(&mut self.stack, &shared, &mut report);
        inject_all(&mut injector, &plan, self.options.duration, start, &mut payers, tell).await?;
        tell("healing …");
        injector.heal().await;
        let ending =
            ending::Ending { stack: &mut self.stack, store: &store, shared: &shared, paths: &paths, tell };
        ending.run(payers, watcher, stop_watching, &mut report).await?;
        store.close().await;
        report.elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        for exit in self.stack.stop().await.exits {
            if !exit.status.is_some_and(|status| status.success()) {
                report.failures.push(format!("{} did not stop well: {:?}", exit.name, exit.status));
            }
        }
        Ok(report)
    }

    /// Redis, past all proxies.
    async fn store(&self) -> anyhow::Result<Store> {
        let redis = RedisConfig {
            url: self.stack.redis_url().to_owned(),
            prefix: self.stack.prefix().to_owned(),
            reconnect_delay_max_ms: 100,
            ..RedisConfig::default()
        };
        let store = Store::connect(&redis)?;
        store.wait_connected(Duration::from_secs(10)).await?;
        Ok(store)
    }
}

/// Goes through the plan until the time is up.
async fn inject_all(
    injector: &mut Injector<'_>,
    plan: &[Injection],
    duration: Duration,
    start: Instant,
    payers: &mut JoinSet<anyhow::Result<()>>,
    tell: Tell<'_>,
) -> anyhow::Result<()> {
    for event in plan::events(plan) {
        tokio::select! {
            () = tokio::time::sleep_until((start + event.at).into()) => {}
            ended = payers.join_next(), if !payers.is_empty() => give_up(ended)?,
        }
        if let Some(injection) = plan.get(event.injection) {
            if event.begins {
                tell(&format!("{:>6} ms  {injection}", start.elapsed().as_millis()));
                injector.begin(event.injection, injection).await;
            } else {
                injector.end(event.injection, injection).await;
            }
        }
    }
    tokio::select! {
        () = tokio::time::sleep_until((start + duration).into()) => Ok(()),
        ended = payers.join_next(), if !payers.is_empty() => give_up(ended),
    }
}

/// No payer ends before it is told to, unless it cannot go on.
fn give_up(ended: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>) -> anyhow::Result<()> {
    match ended {
        Some(Ok(Err(error))) => Err(error.context("a payer cannot go on")),
        Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
        Some(Ok(Ok(()))) | None => anyhow::bail!("a payer stopped before its time"),
    }
}

/// The history files as the check takes them.
fn read_histories(paths: &[PathBuf]) -> anyhow::Result<Vec<History>> {
    Ok(crate::history::gather::histories(paths)?)
}
