//! The reference issuer: keeps accounts, opens channels against locked deposits, and redeems vouchers.
//!
//! # Layout
//!
//! * `router`, `handlers`, `error`: HTTP, and nothing but HTTP. `openapi`: what is said of each route.
//! * [`ledger`]: where money moves. One database transaction an operation, double-entry postings in each.
//! * [`config`]: every key, with `config.issuer.yaml` beside this crate as its reference.
//! * `metrics`: what `/metrics` counts.

pub mod config;
mod error;
mod handlers;
pub mod ledger;
mod metrics;
mod openapi;
mod router;

use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use common::clock::Clock;
use common::config::Config as _;
use common::ids::PublicKey;
use service::admin::Readiness;
use service::process::Listeners;
use service::profiling::Profiling;
use service::reload::{Origin, Reloader};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use service::process::{Args, Running};

use crate::handlers::App;
use crate::ledger::{Ledger, Rules};
use crate::metrics::Metrics;

/// The command line of the `issuer` program.
pub fn command() -> clap::Command {
    service::process::command("issuer", "Millrace's reference issuer")
}

/// The OpenAPI description of the public listener, as it is served at `/openapi.json`.
pub fn openapi() -> &'static serde_json::Value {
    router::description().tree()
}

/// Runs the issuer until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration is refused, the database cannot be opened, or an address cannot be listened on.
pub fn main(args: Args) -> anyhow::Result<()> {
    service::process::run(&args, async |config, origin, shutdown| {
        start_from(config, Some(origin), Clock::system(), shutdown).await?.wait().await;
        Ok(())
    })
}

/// Starts an issuer inside the running runtime. It ends when `shutdown` is cancelled; see [`Running::wait`].
///
/// # Errors
/// The configuration is refused, the database cannot be opened, or an address cannot be listened on.
pub async fn start(config: Config, clock: Clock, shutdown: CancellationToken) -> anyhow::Result<Running> {
    start_from(config, None, clock, shutdown).await
}

/// As [`start`]; what can be changed in `config` is taken up anew from where it came from, if that is given.
///
/// # Errors
/// As [`start`].
pub async fn start_from(
    config: Config,
    origin: Option<Origin>,
    clock: Clock,
    shutdown: CancellationToken,
) -> anyhow::Result<Running> {
    config.validate()?;
    let secret = config.signing_key.as_ref().context("signing_key: required")?;
    let signing_key = secret.read_signing_key().context("signing_key")?;
    let public_key = PublicKey::of(&signing_key);
    let rules = Rules {
        signing_key,
        public_key,
        development: config.development.clone(),
        limits: ArcSwap::from_pointee(config.limits.clone()),
        clock: clock.clone(),
    };
    let database = config.database.clone();
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(&database, rules))
        .await?
        .with_context(|| format!("database: cannot open {}", config.database.url))?;

    let listeners = Listeners::bind(config.listen, config.admin_listen).await?;
    let readiness = Readiness::new("starting");
    let registry = prometheus::Registry::new();
    service::admin::show_readiness(&registry, &readiness).context("metrics")?;
    let metrics = Metrics::new(&registry).context("metrics")?;
    let profiling = Profiling::new(&config.profiling, shutdown.clone());
    if let Some(origin) = origin {
        let (for_reload, profiling) = (ledger.clone(), profiling.clone());
        let take_up = move |config: &Config| {
            for_reload.take_up(&config.limits);
            profiling.take_up(&config.profiling);
        };
        let reloader = Reloader::new("issuer", config.clone(), origin, &registry, clock, take_up)?;
        tokio::spawn(reloader.run(shutdown.clone()));
    }
    let admin = profiling.before(service::admin::router(readiness.clone(), registry));
    let check_every = Duration::from_millis(config.database.check_interval_ms);
    let watching = watch(ledger.clone(), check_every, readiness.clone());
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(watching));
    let router = router::router(App { ledger, metrics });
    let running = listeners.serve(router, admin, config.http.clone(), readiness.clone(), shutdown);
    readiness.set_ready();
    tracing::info!(
        listen = %running.addr,
        admin_listen = %running.admin_addr,
        %public_key,
        database = config.database.url,
        development = config.development.enabled,
        "issuer ready"
    );
    Ok(running)
}

/// Tells `/readyz`, and once the log, whether the database answers.
async fn watch(ledger: Ledger, every: Duration, readiness: Readiness) {
    let mut is_away = false;
    loop {
        tokio::time::sleep(every).await;
        match ledger.check().await {
            Ok(()) => {
                if std::mem::take(&mut is_away) {
                    tracing::info!("the database answers again");
                }
                readiness.set_ready();
            }
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::error!(%error, "the database does not answer: nothing is settled until it does");
                }
                readiness.set_not_ready(error.to_string());
            }
        }
    }
}
