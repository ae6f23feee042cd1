//! An audit at a click: every channel that the issuer has for this payee against what Redis holds, and channels that only
//! Redis holds, at a bounded pace and up to a bounded number. One at a time in each process. It changes nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::ids::{ChannelId, PublicKey};
use common::wire::IssuerChannel;
use service::audit::{ChannelFacts, Report, facts};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::channels::{self, ListError};
use crate::app::App;
use crate::history::{CHANNELS_PER_STEP, rest};

/// How often a channel is read before what does not fit together is taken for true.
const READINGS_MAX: u32 = 3;

/// Pause before a channel is read again.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Violations that are kept; the others are only counted.
pub(crate) const VIOLATIONS_KEPT: usize = 100;

/// The audits of one process: the one under way, or the last one.
#[derive(Debug)]
pub(crate) struct Audits {
    latest: Arc<Mutex<Option<Run>>>,
    /// With the console ends the audit.
    _end: DropGuard,
    ended: CancellationToken,
}

impl Default for Audits {
    fn default() -> Self {
        let ended = CancellationToken::new();
        Audits { latest: Arc::default(), _end: ended.clone().drop_guard(), ended }
    }
}

/// One audit, as far as it is.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// When it began, in ms since 1970.
    pub(crate) began_at_ms: u64,
    /// What it has found so far; of violations, the first [`VIOLATIONS_KEPT`].
    pub(crate) report: Report,
    /// How many violations there are in all.
    pub(crate) violations: u64,
    pub(crate) state: State,
}

/// How far an audit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// On its way.
    Running,
    /// It has looked at everything.
    Finished {
        /// In ms.
        took_ms: u64,
    },
    /// It has looked at as many channels as it may, in the order of their ids.
    Limited {
        /// In ms.
        took_ms: u64,
    },
    /// It broke off: half an audit is none.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Audits {
    /// The audit under way, or the last one.
    pub(crate) fn latest(&self) -> Option<Run> {
        lock(&self.latest).clone()
    }

    /// Begins an audit, unless one is under way.
    pub(crate) fn begin(&self, app: &Arc<App>) {
        let mut latest = lock(&self.latest);
        if latest.as_ref().is_some_and(|run| run.state == State::Running) {
            return;
        }
        let began_at_ms = app.clock.now_ms();
        *latest = Some(Run { began_at_ms, report: Report::default(), violations: 0, state: State::Running });
        let walk = Walk { app: app.clone(), run: self.latest.clone(), seen: HashSet::new() };
        tokio::spawn(self.ended.clone().run_until_cancelled_owned(walk.run()));
    }
}

fn lock(run: &Mutex<Option<Run>>) -> MutexGuard<'_, Option<Run>> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One channel, looked at now.
///
/// # Errors
/// Redis or issuer did not answer.
pub(crate) async fn one(app: &App, id: &ChannelId) -> Result<(ChannelFacts, Report), ListError> {
    let facts = settled_down(app, *id, READINGS_MAX).await?;
    let mut report = Report::default();
    report.add(&facts, false);
    Ok((facts, report))
}

/// Reads a channel, anew if what was read does not fit together: a payment or a settlement may have come in between.
async fn settled_down(app: &App, id: ChannelId, readings_max: u32) -> Result<ChannelFacts, ListError> {
    let key = issuer_key(app);
    let mut readings = 1;
    loop {
        let stored = app.store.channel(&id).await?;
        let issued = app.issuer.channel(&id).await?;
        let facts = fit(id, stored.map(facts::of_redis), issued, &key);
        if readings >= readings_max || facts.fit_together() {
            return Ok(facts);
        }
        readings = readings.saturating_add(1);
        tokio::time::sleep(READ_AGAIN_AFTER).await;
    }
}

fn issuer_key(app: &App) -> PublicKey {
    app.config.issuer.public_key.expect("no settler starts without: Config::validate")
}

fn fit(
    channel_id: ChannelId,
    stored: Option<service::audit::StoredFacts>,
    issued: Option<IssuerChannel>,
    key: &PublicKey,
) -> ChannelFacts {
    let issued = issued.map(|channel| facts::of_issuer(channel, key));
    ChannelFacts { channel_id, acknowledged: None, unknown: None, stored, issued }
}

struct Walk {
    app: Arc<App>,
    run: Arc<Mutex<Option<Run>>>,
    seen: HashSet<ChannelId>,
}

impl Walk {
    async fn run(mut self) {
        let began_at = Instant::now();
        let ended = self.walk().await;
        let took_ms = began_at.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        let state = match ended {
            Ok(true) => State::Finished { took_ms },
            Ok(false) => State::Limited { took_ms },
            Err(error) => State::Failed { reason: error.to_string() },
        };
        if let Some(run) = lock(&self.run).as_mut() {
            tracing::info!(
                channels = run.report.channels,
                violations = run.violations,
                took_ms,
                ?state,
                "an audit has ended"
            );
            run.state = state;
        }
    }

    /// True once everything was looked at, false at the bound.
    async fn walk(&mut self) -> Result<bool, ListError> {
        let app = self.app.clone();
        let mut after = None;
        loop {
            let page = channels::page(&app, after, CHANNELS_PER_STEP).await?;
            if !self.issued(page.channels).await? {
                return Ok(false);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        for partition in 0..app.store.partitions() {
            let mut cursor = None;
            loop {
                let (ids, next) =
                    app.store.live_scan(partition, cursor.as_deref(), CHANNELS_PER_STEP).await?;
                if !self.only_in_redis(ids).await? {
                    return Ok(false);
                }
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
        }
        let books = app.issuer.books().await?;
        self.note(|report| report.add_books(&books));
        Ok(true)
    }

    async fn issued(&mut self, channels: Vec<IssuerChannel>) -> Result<bool, ListError> {
        let app = self.app.clone();
        let key = issuer_key(&app);
        let ids: Vec<ChannelId> = channels.iter().map(|channel| channel.channel_id).collect();
        let found = app.store.channels_anywhere(&ids).await?;
        for (issued, stored) in channels.into_iter().zip(found) {
            if !self.may_look_at_one_more() {
                return Ok(false);
            }
            let id = issued.channel_id;
            self.seen.insert(id);
            let mut facts = fit(id, stored?.map(facts::of_redis), Some(issued), &key);
            if !facts.fit_together() {
                tokio::time::sleep(READ_AGAIN_AFTER).await;
                facts = settled_down(&app, id, READINGS_MAX.saturating_sub(1)).await?;
            }
            self.note(|report| report.add(&facts, false));
        }
        tokio::time::sleep(rest(ids.len(), app.config.console.walk_channels_per_s)).await;
        Ok(true)
    }

    /// Channels that the issuer did not list: opened since, or unknown to it.
    async fn only_in_redis(&mut self, ids: Vec<ChannelId>) -> Result<bool, ListError> {
        let app = self.app.clone();
        for id in &ids {
            if !self.seen.contains(id) {
                if !self.may_look_at_one_more() {
                    return Ok(false);
                }
                self.seen.insert(*id);
                let facts = settled_down(&app, *id, READINGS_MAX).await?;
                self.note(|report| report.add(&facts, false));
            }
        }
        tokio::time::sleep(rest(ids.len(), app.config.console.walk_channels_per_s)).await;
        Ok(true)
    }

    fn may_look_at_one_more(&self) -> bool {
        u64::try_from(self.seen.len()).unwrap_or(u64::MAX)
            < u64::from(self.app.config.console.audit_channels_max)
    }

    /// Changes the report, and keeps no more violations than are shown.
    fn note(&self, change: impl FnOnce(&mut Report)) {
        if let Some(run) = lock(&self.run).as_mut() {
            let before = run.report.violations.len();
            change(&mut run.report);
            let found = run.report.violations.len().saturating_sub(before);
            run.violations = run.violations.saturating_add(found.try_into().unwrap_or(u64::MAX));
            run.report.violations.truncate(VIOLATIONS_KEPT);
        }
    }
}
