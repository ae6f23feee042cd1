//! Standby, leader, standby: who works is decided by one lease in Redis.

use std::sync::Arc;
use std::time::Duration;

use common::fault_point;
use common::store::StoreError;
use common::store::connect::ReleaseNotices;
use common::store::lease::{Acquired, Lease};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::leadership::{Leadership, StepDown};
use crate::metrics::gauge_value;
use crate::{consumer, due, history, readiness, sweep};

/// Past the end of another's lease, so that Redis has ended it when it is asked again.
const AFTER_EXPIRY: Duration = Duration::from_millis(3);

/// Between two looks at how much waits in Redis.
const OBSERVE_EVERY: Duration = Duration::from_secs(2);

/// Seeks the lease, leads while it lasts, and seeks it again, until `shutdown`. Only a Redis that is `fit` is led on.
pub(crate) async fn run(
    app: &Arc<App>,
    notices: &mut ReleaseNotices,
    mut fit: watch::Receiver<bool>,
    shutdown: &CancellationToken,
) {
    // Highest token of others that was met, to tell a successor from a count that Redis lost.
    let mut met = 0;
    while let Some(lease) = stand_by(app, notices, &mut fit, shutdown).await {
        fault_point::reach("lease_granted");
        if let Err(reason) = qualify(app, &lease, met).await {
            tracing::warn!(reason, "the lease was there to be had, but cannot be led on: given back");
            give_back(app, &lease).await;
            sleep(poll(app)).await;
            continue;
        }
        let reason = lead(app, lease, shutdown).await;
        match reason {
            StepDown::Shutdown => return,
            StepDown::Fenced(by) => {
                met = met.max(by);
                sleep(poll(app)).await;
            }
            // Whatever panicked may do so again: not as fast as it can.
            StepDown::Failed => sleep(poll(app)).await,
            StepDown::Expired | StepDown::Lost | StepDown::DataLost => {}
        }
    }
}

fn poll(app: &App) -> Duration {
    Duration::from_millis(app.config.lease.standby_poll_ms)
}

/// Waits for the lease; `None` on shutdown. Asks again as soon as the holder gives it back, it runs out, or a while
/// has passed, whichever comes first.
async fn stand_by(
    app: &Arc<App>,
    notices: &mut ReleaseNotices,
    fit: &mut watch::Receiver<bool>,
    shutdown: &CancellationToken,
) -> Option<Arc<Lease>> {
    let term = app.next_term();
    let mut failing = false;
    while !shutdown.is_cancelled() {
        app.pulse.beat();
        if !*fit.borrow_and_update() {
            tokio::select! {
                () = shutdown.cancelled() => return None,
                _ = fit.changed() => {}
                () = sleep(poll(app)) => {}
            }
            continue;
        }
        let pause = match app.store.acquire_lease(&app.process, term, app.ttl()).await {
            Ok(Acquired::Held(lease)) => return Some(lease),
            Ok(Acquired::HeldByOther { expires_in }) => {
                failing = false;
                expires_in.saturating_add(AFTER_EXPIRY).min(poll(app))
            }
            // Asking again is safe even if it was granted: what was granted for this term is kept.
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "cannot ask for the lease, trying again");
                }
                failing = true;
                poll(app)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = notices.next() => {}
            () = sleep(pause) => {}
        }
    }
    None
}

/// Looks at Redis once more before anything is written: a lease is also free where Redis has just lost it with all
/// else. If a token was `met` that is not below the one given, Redis has lost its count alone, and the token is lifted.
async fn qualify(app: &App, lease: &Lease, met: u64) -> Result<(), String> {
    readiness::check(app).await?;
    let text = |error: StoreError| error.to_string();
    if lease.token().map_err(text)?.get() <= met && !app.store.raise_token(lease, met).await.map_err(text)? {
        return Err("someone else has taken it meanwhile".to_owned());
    }
    Ok(())
}

/// Gives back a lease that may still be ours in Redis, so that the next leader has a new token at once.
async fn give_back(app: &App, lease: &Lease) {
    if let Err(error) = app.store.release_lease(lease).await {
        tracing::warn!(%error, "cannot give the lease back: it runs out by itself");
    }
}

/// Leads until the lease ends or `shutdown`, and leaves nothing of it running.
async fn lead(app: &Arc<App>, lease: Arc<Lease>, shutdown: &CancellationToken) -> StepDown {
    let token = lease.token().map_or(0, |token| token.get());
    tracing::info!(holder = lease.holder(), token, "leading");
    app.post.set(Some(lease.clone()));
    app.metrics.terms.inc();
    app.metrics.leader.set(1);
    app.metrics.token.set(gauge_value(token));
    fault_point::reach("lease_taken");

    let leadership = Leadership::new(app.clone(), lease.clone());
    let _nothing_outlives_this = leadership.end_when_dropped();
    let reason = tokio::select! {
        // The clock first: what is over is over, whatever else is ready.
        biased;
        reason = expire(&lease) => reason,
        reason = renew(app, &lease) => reason,
        reason = work(&leadership, shutdown) => reason,
    };
    leadership.end(reason);
    leadership.abandon().await;
    app.post.set(None);
    app.metrics.hand_over();
    app.metrics.step_down(reason.as_str());
    tracing::info!(holder = lease.holder(), reason = reason.as_str(), "leading no more");

    if matches!(reason, StepDown::Shutdown | StepDown::Fenced(_) | StepDown::Failed) {
        fault_point::reach("drained");
        give_back(app, &lease).await;
        fault_point::reach("lease_released");
    }
    reason
}

/// Returns when the lease is over by this process' own clock.
async fn expire(lease: &Lease) -> StepDown {
    loop {
        let left = lease.remaining();
        if left.is_zero() {
            return StepDown::Expired;
        }
        sleep(left).await;
    }
}

/// Prolongs the lease again and again; returns when it is lost.
async fn renew(app: &App, lease: &Lease) -> StepDown {
    let every = app.ttl() / 3;
    let mut next = Instant::now() + every;
    loop {
        sleep_until(next).await;
        let sent_at = Instant::now();
        let left = lease.remaining();
        if left.is_zero() {
            return StepDown::Expired;
        }
        app.pulse.beat();
        next = match app.store.renew_lease(lease).await {
            Ok(true) => {
                app.metrics.renewal("renewed");
                app.metrics.lease_margin_ms.set(gauge_value(left.as_millis().try_into().unwrap_or(u64::MAX)));
                sent_at + every
            }
            Ok(false) => {
                app.metrics.renewal("lost");
                return StepDown::Lost;
            }
            Err(error) => {
                // The lease stands as it stood, and asking again is safe.
                app.metrics.renewal("error");
                tracing::warn!(%error, left_ms = left.as_millis(), "cannot renew the lease, trying again");
                Instant::now() + every / 10
            }
        };
    }
}

/// The leader's work: shuts older leaders out, then runs two loops a partition until the end or `shutdown`.
async fn work(leadership: &Arc<Leadership>, shutdown: &CancellationToken) -> StepDown {
    let taken = tokio::select! {
        taken = leadership.take_partitions() => taken,
        () = shutdown.cancelled() => return StepDown::Shutdown,
    };
    if let Err(error) = taken {
        return StepDown::of(&error).unwrap_or(StepDown::Failed);
    }
    fault_point::reach("partitions_fenced");
    // Only now: an older leader acknowledges nothing any more, so what it has not stored is all here to be read.
    if let Some(journal) = &leadership.journal {
        journal.start(leadership);
    }
    for partition in 0..leadership.app.store.partitions() {
        leadership.spawn(consumer::run(leadership.clone(), partition));
        leadership.spawn(due::run(leadership.clone(), partition));
    }
    leadership.spawn(sweep::run(leadership.clone()));
    leadership.spawn(leadership.clone().observe(OBSERVE_EVERY));
    if leadership.app.config.console.enabled {
        leadership.spawn(history::run(leadership.clone()));
    }
    tokio::select! {
        reason = leadership.ended() => reason,
        () = shutdown.cancelled() => {
            leadership.drain(Duration::from_millis(leadership.app.config.drain_timeout_ms)).await;
            StepDown::Shutdown
        }
    }
}
