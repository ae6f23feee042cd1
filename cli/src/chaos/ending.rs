//! The end of a campaign: payers finish, channels close, and everything is laid side by side.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::channel::Status;
use common::ids::ChannelId;
use common::store::Store;
use service::journal::JournalStore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::payers::{self, Shared};
use super::report::Report;
use super::{Tell, read_histories};
use crate::args::issuer_client;
use crate::audit::{self, gather};
use crate::history::{self, Recorded};
use crate::load::payers::request_close;
use crate::stack::Stack;

/// How long payers may take to finish what they were at.
const PAYERS_WITHIN: Duration = Duration::from_secs(45);

/// How long all channels together may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(60);

/// How often closing channels are looked at.
const POLL: Duration = Duration::from_millis(100);

/// What is needed to come to an end.
pub(super) struct Ending<'a> {
    pub(super) stack: &'a mut Stack,
    pub(super) store: &'a Store,
    pub(super) shared: &'a Shared,
    pub(super) paths: &'a [PathBuf],
    pub(super) tell: Tell<'a>,
}

impl Ending<'_> {
    /// Lets everything finish, and checks it.
    pub(super) async fn run(
        self,
        mut payers: JoinSet<anyhow::Result<()>>,
        watcher: JoinHandle<anyhow::Result<Vec<Recorded>>>,
        stop_watching: CancellationToken,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        self.shared.stop();
        let finish = async {
            while let Some(ended) = payers.join_next().await {
                ended.context("a payer panicked")?.context("a payer cannot go on")?;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(PAYERS_WITHIN, finish).await {
            Ok(finished) => finished?,
            Err(_) => report.failures.push("payers did not come to an end".to_owned()),
        }
        (self.tell)("closing every channel …");
        self.close(report).await?;
        stop_watching.cancel();
        let stream = watcher.await.context("the watcher panicked")??;
        (self.tell)("checking …");
        self.check(stream, report).await
    }

    /// Asks for every close that is not under way yet, and waits for all of them.
    async fn close(&self, report: &mut Report) -> anyhow::Result<()> {
        let channels = self.shared.opened().clone();
        let start = Instant::now();
        let asked = AtomicU64::new(0);
        while let Err(error) = request_close(&channels, &self.shared.relayers, &asked).await {
            if start.elapsed() > CLOSE_WITHIN {
                report.failures.push(format!("closes cannot be asked for: {error:#}"));
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        let mut open: Vec<ChannelId> = payers::ids(&channels);
        loop {
            let mut left = Vec::new();
            for id in open {
                let status = self.store.channel(&id).await.ok().flatten().map(|channel| channel.state.status);
                // A failed close does not end by itself: the check says what is wrong with it.
                if !matches!(status, Some(Status::Closed | Status::Failed)) {
                    left.push(id);
                }
            }
            open = left;
            if open.is_empty() {
                return Ok(());
            }
            if start.elapsed() > CLOSE_WITHIN {
                let shown: Vec<String> = open.iter().take(5).map(ToString::to_string).collect();
                let count = open.len();
                report.failures.push(format!("{count} channels did not close, such as {}", shown.join(", ")));
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until nothing is on its way into the journal.
    async fn all_is_journaled(&self, report: &mut Report) {
        let start = Instant::now();
        loop {
            let mut waiting = 0;
            for partition in 0..self.store.partitions() {
                let info = self.store.partition_info(partition).await;
                waiting += info.map_or(1, |info| info.entries);
            }
            if waiting == 0 {
                return;
            }
            if start.elapsed() > CLOSE_WITHIN {
                report.failures.push(format!("{waiting} entries did not come into the journal"));
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn check(&self, stream: Vec<Recorded>, report: &mut Report) -> anyhow::Result<()> {
        let histories = read_histories(self.paths)?;
        let key = self.stack.issuer_key();
        let issuer = issuer_client(&self.stack.issuer_url(), Some(key))?;
        let mut redis = history::gather::redis(self.store).await.context("Redis cannot be read")?;
        redis.stream = stream;
        let database = self.stack.dir().join("issuer.db");
        let books = history::gather::issuer(&issuer, key, &database).await?;
        report.violations = history::check(&histories, &redis, &books);

        // The audit asks the same of the last state alone, by other code.
        let known = gather::ledgers(self.paths)?;
        let facts = gather::channels(known, self.store, &issuer, &key).await?;
        let mut audit = audit::audit(&facts, &issuer.books().await?, true);
        self.all_is_journaled(report).await;
        let kept = JournalStore::at(&self.stack.journal())?;
        audit::journal::check(&facts, &audit::journal::read(&kept, &key).await?, u64::MAX, &mut audit);
        report.audited(&audit);
        report.lines = histories.iter().map(|history| history.len() as u64).sum();
        report.stream_records = redis.stream.len() as u64;
        report.acknowledged = self.shared.acknowledged();
        report.unknown = self.shared.unknown();
        report.refused = self.shared.refused();
        report.unresolved = self.shared.unresolved();
        report.closes_requested = self.shared.closes();
        report.channels = self.shared.opened().len() as u64;
        Ok(())
    }
}
