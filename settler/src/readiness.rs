//! Whether this process may lead: Redis keeps its promises, holds its data, and the loop is alive.

use std::sync::Arc;
use std::time::Duration;

use service::admin::Readiness;
use service::fitness::{Fitness, Unfit};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Between two looks while something is wrong: what was waited for is noticed soon.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// Looks again and again, and tells `readiness` and, through `fit`, whoever seeks the lease.
pub(crate) async fn watch(
    app: Arc<App>,
    readiness: Readiness,
    fit: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let every = Duration::from_millis(app.config.readiness_interval_ms);
    let first_wait = Duration::from_millis(app.config.redis.connect_timeout_ms);
    // What comes of it shows in the first look.
    let _ = app.store.wait_connected(first_wait).await;
    let mut fitness = Fitness::to_settle();
    let payees = app.payees.public();
    loop {
        let looked = fitness.examine(&app.store, &app.issuer, &payees).await;
        app.metrics.lost_data.set(i64::from(matches!(looked, Err(Unfit::LostData(_)))));
        let store = looked.map_err(|unfit| unfit.to_string());
        fit.send_if_modified(|fit| std::mem::replace(fit, store.is_ok()) != store.is_ok());
        match store
            .and_then(|()| alive(&app))
            .and_then(|()| app.keyless.reason())
            .and_then(|()| journal(&app))
        {
            Ok(()) => {
                if !readiness.is_ready() {
                    tracing::info!("ready");
                }
                readiness.set_ready();
            }
            Err(reason) => {
                if readiness.reason().as_deref() != Some(&reason) {
                    tracing::warn!(reason, "not ready");
                }
                readiness.set_not_ready(reason);
            }
        }
        let pause = if readiness.is_ready() { every } else { every.min(RETRY_EVERY) };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.store.look_wanted() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What is wrong with Redis, if anything.
///
/// # Errors
/// All that is wrong, in one line.
pub(crate) async fn check(app: &App) -> Result<(), String> {
    let findings = app.store.preflight().await.map_err(|error| error.to_string())?;
    Fitness::to_settle().sum_up(&findings)
}

/// A leader that cannot keep its journal goes on leading, and says so: Redis' memory is what it costs.
fn journal(app: &App) -> Result<(), String> {
    app.journal_trouble.reason().map_or(Ok(()), |reason| Err(format!("the journal cannot be kept: {reason}")))
}

/// The loop beats at each attempt to lead and at each renewal; a call to Redis in between takes a timeout at most.
fn alive(app: &App) -> Result<(), String> {
    let call = Duration::from_millis(app.config.redis.command_timeout_ms);
    let drain = Duration::from_millis(app.config.drain_timeout_ms);
    let longest = app.ttl().saturating_add(call.saturating_mul(2)).saturating_add(drain);
    let age = app.pulse.age();
    if age > longest {
        return Err(format!("the settler's loop has shown no sign of life for {} ms", age.as_millis()));
    }
    Ok(())
}
