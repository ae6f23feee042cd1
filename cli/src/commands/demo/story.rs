//! The story, and how it ends.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use common::amount::Amount;
use common::channel::Status;
use common::config::RedisConfig;
use common::ids::ChannelId;
use common::scheme::STEPS_MAX;
use common::store::Store;
use indicatif::ProgressBar;
use serde::Serialize;
use service::issuer_client::IssuerClient;
use tokio_util::sync::CancellationToken;

use super::DemoArgs;
use super::failover::{kill_leader, wait_leader};
use crate::args::{issuer_client, relayer_client};
use crate::audit::{self, audit, gather};
use crate::client::RelayerClient;
use crate::commands::load::watched;
use crate::ledger::LedgerWriter;
use crate::load::payers::{self, ChannelOptions, PayingChannel};
use crate::load::report::{Report, Summary};
use crate::load::schedule::Until;
use crate::load::{LoadOptions, Progress};
use crate::output::{Printer, figures, grouped, micros};
use crate::payer::Scheme;
use crate::stack::Stack;
use crate::stack::process::Process;

/// How long a step may take that takes a moment when all is well.
const WITHIN: Duration = Duration::from_secs(30);

/// How long all channels together may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);

/// Payments in flight at once, at most.
const CONCURRENCY: usize = 64;

/// What the story is told with.
pub(super) struct Story<'a> {
    pub(super) stack: Stack,
    pub(super) printer: &'a Printer,
    pub(super) args: &'a DemoArgs,
}

/// How it ended.
#[derive(Debug, Serialize)]
pub(super) struct Ending {
    payments: u64,
    channels: u64,
    load: Summary,
    failover_ms: u64,
    payments_during_failover: u64,
    close_ms: u64,
    audit: audit::Report,
}

impl Ending {
    /// True if every payment was made and every unit is where it belongs.
    pub(super) fn is_good(&self) -> bool {
        self.audit.is_clean()
            && self.load.acknowledged == self.payments
            && self.load.unresolved == 0
            && self.load.amount == self.audit.acknowledged.to_string()
            && self.audit.acknowledged == self.audit.accepted
            && self.audit.accepted == self.audit.settled
    }
}

impl Story<'_> {
    /// From the first channel to the audit.
    pub(super) async fn tell(&mut self) -> anyhow::Result<Ending> {
        let issuer = issuer_client(&self.stack.issuer_url(), Some(self.stack.issuer_key()))?;
        let relayers: Vec<RelayerClient> =
            self.stack.relayer_urls().iter().map(|url| relayer_client(url)).collect::<anyhow::Result<_>>()?;
        let redis = RedisConfig {
            url: self.stack.redis_url().to_owned(),
            prefix: self.stack.prefix().to_owned(),
            ..RedisConfig::default()
        };
        let store = Store::connect(&redis)?;
        store.wait_connected(WITHIN).await?;

        let channels = self.open(&issuer, &relayers).await?;
        let ids: Vec<ChannelId> = channels.iter().map(|channel| channel.id).collect();
        let ledger = self.stack.dir().join("ledger.ndjson");
        let leader = wait_leader(&mut self.stack.settlers, WITHIN).await?;
        self.say(format_args!(
            "{} leads; {} payments go through {} relayers. Halfway, its leader is killed.",
            self.stack.settlers[leader].name(),
            grouped(self.args.payments.into()),
            relayers.len()
        ));
        let (report, channels, failover) = self.pay(channels, &relayers, &ledger).await?;
        self.say(format_args!(
            "A standby took over {} ms after the kill; {} payments were taken meanwhile.",
            failover.time.as_millis(),
            grouped(failover.payments_meanwhile.into())
        ));

        let closing = Instant::now();
        self.close(&channels, &relayers, &store, &ids).await?;
        let close_time = closing.elapsed();
        self.say("Every channel is settled. Audit: ledger against Redis against issuer …");

        let known = gather::ledgers(&[ledger])?;
        let facts = gather::channels(known, &store, &issuer, &self.stack.issuer_key()).await?;
        let audit = audit(&facts, &issuer.books().await?, true);
        store.close().await;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ok(Ending {
            payments: self.args.payments,
            channels: self.args.payers,
            load: report.summary(),
            failover_ms: ms(failover.time),
            payments_during_failover: failover.payments_meanwhile,
            close_ms: ms(close_time),
            audit,
        })
    }

    fn say(&self, text: impl std::fmt::Display) {
        self.printer.note(text);
    }

    async fn open(
        &self,
        issuer: &IssuerClient,
        relayers: &[RelayerClient],
    ) -> anyhow::Result<Vec<PayingChannel>> {
        // Room for all payments on any one channel: chance decides which payer gets how many.
        let capacity = self.args.payments.checked_mul(self.args.step.units()).map(Amount::new);
        let options = ChannelOptions {
            payers: usize::try_from(self.args.payers)?,
            payee: self.stack.payee(),
            asset: "usd".to_owned(),
            capacity: capacity.context("--payments times --step is more than a channel can hold")?,
            expires_in_s: 86_400,
            schemes: Scheme::ALL.to_vec(),
            unit: self.args.step,
            // As on any one channel, as far as a tree has room.
            units: u32::try_from(self.args.payments).unwrap_or(u32::MAX).min(STEPS_MAX - 1),
            dir: None,
        };
        let names = Scheme::ALL.map(Scheme::name).join(", ");
        self.say(format_args!(
            "{} payers lock a deposit each and open a channel, by turns {names} …",
            self.args.payers
        ));
        let first = relayers.first().context("no relayers")?;
        let opened = AtomicU64::new(0);
        let bar = self.printer.progress("channels", self.args.payers);
        watched(bar, &opened, payers::ready(&options, issuer, first, &opened)).await
    }

    /// All payments, with the leader killed halfway.
    async fn pay(
        &mut self,
        channels: Vec<PayingChannel>,
        relayers: &[RelayerClient],
        ledger: &Path,
    ) -> anyhow::Result<(Report, Vec<PayingChannel>, Failover)> {
        let options = LoadOptions {
            relayers: relayers.to_vec(),
            concurrency: CONCURRENCY,
            rate: None,
            until: Until::Payments(self.args.payments),
            step: self.args.step,
            patience: WITHIN,
        };
        let ledger = Arc::new(LedgerWriter::append_to(ledger)?);
        let progress = Arc::new(Progress::default());
        let (half, bar) = (self.args.payments / 2, self.printer.progress("payments", self.args.payments));
        let watched = Arc::clone(&progress);
        let load = crate::load::run(options, channels, Some(ledger), progress, CancellationToken::new());
        let kill = kill_at(&mut self.stack.settlers, &watched, half, &bar);
        // Payments go on while the kill is waited for, and the kill is waited for once payments have ended.
        let follow = async {
            loop {
                bar.set_position(watched.acknowledged());
                tokio::time::sleep(POLL).await;
            }
        };
        let work = async { tokio::join!(load, kill) };
        let (paid, failover) = tokio::select! {
            done = work => done,
            () = follow => unreachable!("the bar is followed for ever"),
        };
        bar.finish_and_clear();
        let (report, channels) = paid?;
        Ok((report, channels, failover?))
    }

    /// The payers ask for the close of every channel; waits until Redis has every receipt.
    async fn close(
        &self,
        channels: &[PayingChannel],
        relayers: &[RelayerClient],
        store: &Store,
        ids: &[ChannelId],
    ) -> anyhow::Result<()> {
        self.say("The payers ask for their channels to be closed …");
        let asked = AtomicU64::new(0);
        payers::request_close(channels, relayers, &asked).await?;
        let bar = self.printer.progress("settled", self.args.payers);
        let start = Instant::now();
        let mut open: Vec<ChannelId> = ids.to_vec();
        while !open.is_empty() {
            ensure!(
                start.elapsed() < CLOSE_WITHIN,
                "{} channels were not settled within {} s",
                open.len(),
                CLOSE_WITHIN.as_secs()
            );
            let mut left = Vec::new();
            for id in open {
                let channel = store.channel(&id).await?;
                // A failed close does not end by itself: the audit says what is wrong with it.
                let ended = |status| matches!(status, Status::Closed | Status::Failed);
                if !channel.is_some_and(|channel| ended(channel.state.status)) {
                    left.push(id);
                }
            }
            open = left;
            bar.set_position(u64::try_from(ids.len().saturating_sub(open.len())).unwrap_or(u64::MAX));
            tokio::time::sleep(POLL).await;
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// The time without a leader.
struct Failover {
    time: Duration,
    payments_meanwhile: u64,
}

/// Kills the leader once `half` of the payments are acknowledged, and waits until its successor leads.
async fn kill_at(
    settlers: &mut [Process],
    progress: &Progress,
    half: u64,
    bar: &ProgressBar,
) -> anyhow::Result<Failover> {
    let start = Instant::now();
    while progress.acknowledged() < half {
        ensure!(start.elapsed() < CLOSE_WITHIN * 10, "the payments do not get on");
        tokio::time::sleep(POLL).await;
    }
    let mut before = 0;
    let time = kill_leader(settlers, WITHIN, |name, pid| {
        before = progress.acknowledged();
        bar.suspend(|| Printer::new(false).note(format_args!("kill -9 {pid} ({name}, the leader)")));
    })
    .await?;
    Ok(Failover { time, payments_meanwhile: progress.acknowledged().saturating_sub(before) })
}

pub(super) fn text(ending: &Ending) -> String {
    let Ending { load, audit, .. } = ending;
    let table = figures([
        ("payments".to_owned(), grouped(load.acknowledged.into())),
        ("payments/s".to_owned(), grouped(load.per_second.into())),
        ("latency p50".to_owned(), micros(load.latency_us.p50)),
        ("latency p99".to_owned(), micros(load.latency_us.p99)),
        ("failover, kill -9 to new leader".to_owned(), format!("{} ms", ending.failover_ms)),
        ("payments taken meanwhile".to_owned(), grouped(ending.payments_during_failover.into())),
        (format!("{} channels closed in", ending.channels), format!("{} ms", ending.close_ms)),
        ("paid (acknowledged to payers)".to_owned(), grouped(audit.acknowledged)),
        ("accepted (recorded in Redis)".to_owned(), grouped(audit.accepted)),
        ("settled (paid by the issuer)".to_owned(), grouped(audit.settled)),
        ("drift".to_owned(), grouped(audit.drift)),
    ]);
    if ending.is_good() {
        return format!("\n{table}\npaid = accepted = settled, drift 0");
    }
    let mut lines = vec![format!("\n{table}\nSOMETHING IS WRONG")];
    if load.acknowledged != ending.payments {
        lines.push(format!(
            "  {} of {} payments were made: {:?}",
            load.acknowledged, ending.payments, load.outcomes
        ));
    }
    let shown = audit.violations.iter().take(20);
    lines.extend(shown.map(|v| format!("  {:?} {:?}: {}", v.kind, v.channel_id, v.detail)));
    lines.join("\n")
}
