//! Whether payments may be taken: only while the latest look at Redis found everything that it must promise.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::ids::PublicKey;
use common::store::{Store, StoreError};
use service::admin::Readiness;
use service::fitness::{Fitness, Unfit};
use service::issuer_client::IssuerClient;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// What the gate of payments goes by. `/readyz` says the same.
#[derive(Debug)]
pub(crate) struct Health {
    readiness: Readiness,
    accepting: AtomicBool,
    /// Set while Redis is known to have lost data; only a recovery ends it.
    lost: Mutex<Option<String>>,
    metrics: Arc<Metrics>,
    said_unknown: Seldom,
    said_odd: Seldom,
}

/// Between two lines that say the same of calls to Redis; the metric counts every one.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// When something was last worth a line that people see: what goes wrong with every payment is not said of each.
#[derive(Debug, Default)]
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// True once in a while.
    fn may(&self) -> bool {
        let mut said_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY);
        if may {
            *said_at = Some(Instant::now());
        }
        may
    }
}

impl Health {
    pub(crate) fn new(readiness: Readiness, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            readiness,
            accepting: AtomicBool::new(false),
            lost: Mutex::new(None),
            metrics,
            said_unknown: Seldom::default(),
            said_odd: Seldom::default(),
        })
    }

    /// True while payments may be taken.
    pub(crate) fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire)
    }

    /// Takes no payments any more, until Redis was recovered or the process is started anew: to go on would be to act
    /// as if what Redis lost had never been paid.
    pub(crate) fn lose(&self, detail: &str) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.is_none() {
            tracing::error!(detail, "Redis lost data that it had acknowledged; no more payments are taken");
        }
        let detail = lost.get_or_insert_with(|| detail.to_owned());
        self.accepting.store(false, Ordering::Release);
        self.metrics.lost_data.set(1);
        self.readiness.set_not_ready(Unfit::LostData(detail.clone()).to_string());
    }

    /// Counts and logs a call to Redis that failed, and draws the consequence where there is one.
    pub(crate) fn store_failed(&self, error: &StoreError, doing: &'static str) {
        self.metrics.store_failed(error);
        match error {
            StoreError::LostData { detail } => self.lose(detail),
            // The connection and the readiness say so once; every call would say it again.
            StoreError::Unavailable { .. } => tracing::debug!(%error, doing, "Redis did not do it"),
            StoreError::OutcomeUnknown { .. } if self.said_unknown.may() => {
                tracing::warn!(%error, doing, "Redis may have done it");
            }
            StoreError::OutcomeUnknown { .. } => tracing::debug!(%error, doing, "Redis may have done it"),
            StoreError::Corrupt { .. } | StoreError::Fenced { .. } | StoreError::LeaseExpired => {
                if self.said_odd.may() {
                    tracing::error!(%error, doing, "Redis holds or says what it should not");
                } else {
                    tracing::debug!(%error, doing, "Redis holds or says what it should not");
                }
            }
        }
    }

    /// Takes payments. `recovered`: a loss that was known is made good.
    fn open(&self, recovered: bool) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.is_some() && !recovered {
            return;
        }
        *lost = None;
        self.metrics.lost_data.set(0);
        self.accepting.store(true, Ordering::Release);
        if !self.readiness.is_ready() {
            tracing::info!("ready: payments are taken");
        }
        self.readiness.set_ready();
    }

    fn shut(&self, reason: String) {
        self.accepting.store(false, Ordering::Release);
        if self.readiness.reason().as_deref() != Some(reason.as_str()) {
            tracing::warn!(reason, "not ready: no payments are taken");
        }
        self.readiness.set_not_ready(reason);
    }
}

/// Looks at Redis again and again.
pub(crate) struct Watch {
    pub(crate) health: Arc<Health>,
    pub(crate) store: Store,
    pub(crate) issuer: IssuerClient,
    pub(crate) payees: Vec<PublicKey>,
    pub(crate) interval: Duration,
}

impl Watch {
    /// Looks at every interval until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        // Whether it stands in time shows in the first look.
        let _ = self.store.wait_connected(self.interval).await;
        let mut fitness = Fitness::to_take_payments();
        loop {
            // Between an answer that tells of a loss and the loss itself being noted no look may come to its end.
            let known_lost = self.store.lost_data().is_some();
            let looking = fitness.examine(&self.store, &self.issuer, &self.payees);
            let Some(looked) = shutdown.run_until_cancelled(looking).await else { return };
            self.health.metrics.memory(self.store.memory_percent());
            match looked {
                Ok(()) => self.health.open(known_lost && self.store.lost_data().is_none()),
                Err(Unfit::LostData(detail)) => self.health.lose(&detail),
                Err(Unfit::NotNow(reason)) => self.health.shut(reason),
            }
            let pause = async {
                tokio::select! {
                    () = self.store.look_wanted() => {}
                    () = tokio::time::sleep(self.interval) => {}
                }
            };
            if shutdown.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_data_is_final_until_it_is_made_good() {
        let readiness = Readiness::new("starting");
        let health = Health::new(
            readiness.clone(),
            Metrics::register(&prometheus::Registry::new()).expect("new names"),
        );
        assert!(!health.is_accepting(), "nothing is taken before the first look");
        health.open(false);
        assert!(health.is_accepting() && readiness.is_ready());
        health.shut("away".to_owned());
        assert!(!health.is_accepting());
        assert_eq!(readiness.reason().as_deref(), Some("away"));
        health.open(false);
        health.lose("seq went back");
        health.open(false);
        assert!(!health.is_accepting() && !readiness.is_ready());
        let reason = readiness.reason().expect("not ready");
        assert!(reason.contains("seq went back") && reason.contains("millrace recover"), "{reason}");
        health.open(true);
        assert!(health.is_accepting() && readiness.is_ready());
    }
}
