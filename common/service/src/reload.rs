//! A running process takes up a changed configuration: on SIGHUP, and, where it is asked to, when the file has other
//! content. All of what has changed is taken up, or nothing: a change that only a restart can take up refuses the rest
//! with it, so that nobody believes in a value that is not in effect.

use std::path::PathBuf;
use std::time::Duration;

use common::clock::Clock;
use common::config::{Change, Config, ConfigError, changes, load, needs_restart};
use common::telemetry::{FilterError, next_filter};
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// Where the configuration of a process came from, and so can be read from again.
#[derive(Clone, Debug)]
pub struct Origin {
    path: Option<PathBuf>,
    /// What the file held when it was read.
    content: Option<Vec<u8>>,
}

impl Origin {
    /// Reads a configuration, and remembers from where.
    ///
    /// # Errors
    /// As [`load`].
    pub fn read<C: Config>(path: Option<PathBuf>) -> Result<(C, Origin), ConfigError> {
        // Before the configuration: what changes between the two reads is noticed by the first look.
        let content = path.as_ref().and_then(|path| std::fs::read(path).ok());
        let config = load(path.as_deref())?;
        Ok((config, Origin { path, content }))
    }

    /// True if the file holds something else than when this was last asked.
    fn has_changed(&mut self) -> bool {
        // By content and not by time: a ConfigMap is a link that is turned to another file.
        let content = self.path.as_ref().and_then(|path| std::fs::read(path).ok());
        let changed = content != self.content;
        self.content = content;
        changed
    }
}

/// Why a configuration was not taken up.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error("{} can only be changed by a restart", .0.join(", "))]
    NeedsRestart(Vec<String>),
}

impl Refusal {
    const fn outcome(&self) -> &'static str {
        match self {
            Refusal::Filter(FilterError::Environment | FilterError::NotOurs) | Refusal::NeedsRestart(_) => {
                "refused"
            }
            Refusal::Config(_) | Refusal::Filter(FilterError::Parse(_)) => "invalid",
        }
    }
}

struct Metrics {
    reloads: IntCounterVec,
    since: IntGauge,
    hash: IntGauge,
}

impl Metrics {
    fn register(registry: &Registry, service: &str) -> Result<Self, prometheus::Error> {
        let name = |rest: &str| format!("millrace_{service}_config_{rest}");
        let reloads = IntCounterVec::new(
            Opts::new(
                name("reloads_total"),
                "Times that the configuration was read again, by outcome: applied, unchanged, refused, invalid.",
            ),
            &["outcome"],
        )?;
        for outcome in ["applied", "unchanged", "refused", "invalid"] {
            reloads.with_label_values(&[outcome]).reset();
        }
        let since =
            IntGauge::new(name("since_seconds"), "Unix time from which on the configuration is in effect.")?;
        let hash = IntGauge::new(
            name("hash"),
            "32 bits of the configuration in effect: processes with the same one have the same.",
        )?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(since.clone()))?;
        registry.register(Box::new(hash.clone()))?;
        Ok(Metrics { reloads, since, hash })
    }

    fn in_effect<C: Config>(&self, config: &C, clock: &Clock) {
        self.since.set(clock.now_s());
        let json = serde_json::to_vec(config).unwrap_or_default();
        let digest = Sha256::digest(json);
        self.hash.set(digest.iter().take(4).fold(0, |hash, byte| (hash << 8) | i64::from(*byte)));
    }
}

/// Takes up changes of a process' configuration.
pub struct Reloader<C> {
    origin: Origin,
    current: C,
    metrics: Metrics,
    clock: Clock,
    apply: Box<dyn Fn(&C) + Send + Sync>,
}

impl<C: Config + Clone + Send + Sync + 'static> Reloader<C> {
    /// What takes up changes of `current`, which came from `origin`, by `apply`: that is given a whole configuration in
    /// which only what is reloadable differs from the one before. `service` is what its metrics are named after.
    ///
    /// # Errors
    /// A metric's name is taken.
    pub fn new(
        service: &str,
        current: C,
        origin: Origin,
        registry: &Registry,
        clock: Clock,
        apply: impl Fn(&C) + Send + Sync + 'static,
    ) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::register(registry, service)?;
        metrics.in_effect(&current, &clock);
        Ok(Reloader { origin, current, metrics, clock, apply: Box::new(apply) })
    }

    /// Listens for SIGHUP and looks at the file until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut hangup = crate::signals::Hangup::listen();
        loop {
            // Another interval comes with a reload, and so with another round.
            let every = self.current.reload().watch_ms;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = hangup.next() => {
                    // What is read now need not be read again because it was new.
                    self.origin.has_changed();
                    self.reload("SIGHUP");
                }
                () = tokio::time::sleep(Duration::from_millis(every)), if every > 0 => {
                    if self.origin.has_changed() {
                        self.reload("file");
                    }
                }
            }
        }
    }

    fn reload(&mut self, because: &'static str) {
        let outcome = match self.attempt() {
            Ok(changes) if changes.is_empty() => {
                tracing::info!(because, "the configuration was read again: nothing has changed");
                "unchanged"
            }
            Ok(changes) => {
                for change in &changes {
                    tracing::info!(
                        because, key = change.key, old = %change.old, new = %change.new,
                        "the configuration has changed"
                    );
                }
                self.metrics.in_effect(&self.current, &self.clock);
                "applied"
            }
            Err(refusal) => {
                tracing::warn!(because, reason = %refusal, "the new configuration is refused: all stays as it was");
                refusal.outcome()
            }
        };
        self.metrics.reloads.with_label_values(&[outcome]).inc();
    }

    /// Reads the configuration anew and takes it up, if all of it can be.
    fn attempt(&mut self) -> Result<Vec<Change>, Refusal> {
        let next: C = load(self.origin.path.as_deref())?;
        let changes = changes(&self.current, &next);
        let fixed = needs_restart::<C>(&changes);
        if !fixed.is_empty() {
            return Err(Refusal::NeedsRestart(fixed));
        }
        if next.log().filter != self.current.log().filter {
            next_filter(&next.log().filter)?.put_in_place()?;
        }
        (self.apply)(&next);
        self.current = next;
        Ok(changes)
    }
}

impl<C> std::fmt::Debug for Reloader<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").field("origin", &self.origin.path).finish_non_exhaustive()
    }
}
