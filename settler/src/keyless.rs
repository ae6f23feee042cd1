//! Channels that pay a key which is not configured here. Nobody can settle them but whoever has that key, so they are not
//! closed, and not given up either: they wait, the process says that it is not ready and for which key, and a roll-out of
//! settlers without that key stops at its first one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::ids::PublicKey;
use common::store::census::Census;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::metrics::gauge_value;

/// Channels that are looked at in one count. With more of them, a missing key is noticed when one of its channels is due.
const COUNT_MAX: u64 = 100_000;

/// Between two counts while a key is missing.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Before another attempt where Redis did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What is known of such channels.
#[derive(Debug, Default)]
pub(crate) struct Keyless {
    by_payee: Mutex<BTreeMap<PublicKey, u64>>,
    /// Set once they were counted: before that nobody knows.
    were_counted: AtomicBool,
    was_met: Notify,
}

impl Keyless {
    /// Notes that a channel of this payee has come up.
    pub(crate) fn met(&self, payee: PublicKey) {
        let mut by_payee = self.by_payee.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(place) = by_payee.entry(payee) {
            place.insert(1);
            self.was_met.notify_one();
        }
    }

    /// `Err` with the keys that are missing.
    pub(crate) fn reason(&self) -> Result<(), String> {
        let by_payee = self.by_payee.lock().unwrap_or_else(PoisonError::into_inner);
        if by_payee.is_empty() {
            return match self.were_counted.load(Ordering::Acquire) {
                true => Ok(()),
                false => Err("whether every key that is needed is configured is not known yet".to_owned()),
            };
        }
        let each = by_payee.iter().map(|(payee, count)| format!("{count} of {payee}"));
        Err(format!(
            "channels that have not ended pay a key that is not configured ({}): put it back under \
             further_payee_keys, nobody settles them meanwhile",
            each.collect::<Vec<_>>().join(", ")
        ))
    }

    fn counted(&self, app: &App, census: Census) {
        let foreign = census.by_payee.into_iter().filter(|(payee, _)| app.payees.of(payee).is_none());
        let foreign: BTreeMap<PublicKey, u64> = foreign.collect();
        app.metrics.keyless.set(gauge_value(foreign.values().copied().fold(0, u64::saturating_add)));
        let mut by_payee = self.by_payee.lock().unwrap_or_else(PoisonError::into_inner);
        for (payee, channels) in &foreign {
            if !by_payee.contains_key(payee) {
                tracing::error!(
                    %payee, channels, "channels pay a key that is not configured: they wait until it is"
                );
            }
        }
        // What was met beyond the count stays noted.
        if census.is_complete {
            *by_payee = foreign;
        } else {
            by_payee.extend(foreign);
        }
        self.were_counted.store(true, Ordering::Release);
    }
}

/// Counts at the start, and again when such a channel has come up, for as long as there are any.
pub(crate) async fn watch(app: Arc<App>, shutdown: CancellationToken) {
    loop {
        let census = app.store.census(COUNT_MAX);
        let Some(census) = shutdown.run_until_cancelled(census).await else { return };
        let again = match census {
            Ok(census) => {
                app.keyless.counted(&app, census);
                app.keyless.reason().is_err()
            }
            // It is told where it matters; here it is only asked again.
            Err(_) => {
                if shutdown.run_until_cancelled(tokio::time::sleep(RETRY_AFTER)).await.is_none() {
                    return;
                }
                continue;
            }
        };
        let pause = async {
            match again {
                true => tokio::time::sleep(AGAIN_AFTER).await,
                false => app.keyless.was_met.notified().await,
            }
        };
        if shutdown.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}
