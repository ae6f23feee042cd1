//! A relayer: takes vouchers, checks them, and has Redis record them. It holds no secret, and nothing that it cannot
//! lose: any number of them run side by side, and any may be killed at any moment.
//!
//! # Layout
//!
//! * [`start`]: from a [`Config`] to two listeners, and back down.
//! * `router`, `handlers`: HTTP. `openapi`: what is said of each route. `split`: the elements of a batch. `error`: the only map from errors to problem codes.
//! * `stream`: payments over a WebSocket connection, many on their way at once.
//! * `accept`: what happens to a payment. `proof`: whether it holds, with what is known of its channel. `requests`: reading a channel, and asking for its close.
//! * `receipts`: the payee's signed word for a payment, where it is asked for.
//! * `channels`: terms, from memory, Redis or issuer. `batcher`: vouchers on their way into Redis.
//! * `trip`: a payment that someone looks for.
//! * `tuning`: what a running relayer can be told anew. `limits`, `readiness`, `metrics`: how much, whether at all, and what came of it.

mod accept;
mod batcher;
mod channels;
mod config;
mod error;
mod handlers;
mod limits;
mod metrics;
mod openapi;
mod proof;
mod readiness;
mod receipts;
mod requests;
mod router;
mod split;
mod stream;
#[cfg(test)]
mod testing;
mod trip;
mod tuning;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use common::clock::Clock;
use common::config::Config as _;
use common::store::Store;
use prometheus::Registry;
use service::admin::{self, Readiness};
use service::issuer_client::IssuerClient;
use service::process::Listeners;
use service::profiling::Profiling;
use service::reload::{Origin, Reloader};
use tokio_util::sync::CancellationToken;

use accept::Acceptor;
use batcher::Batchers;
use channels::{Channels, Parties, StoreAndIssuer};
use handlers::App;
use metrics::Metrics;
use readiness::{Health, Watch};
use receipts::Receipts;
use router::Public;
use stream::Streams;
use tuning::Tuning;

pub use config::{BatcherConfig, ChannelsConfig, Config, LimitsConfig, StreamConfig};
pub use service::process::{Args, Running};
#[doc(hidden)]
pub use split::split_batch;

/// The command line of the `relayer` program.
pub fn command() -> clap::Command {
    service::process::command("relayer", "Checks payments and has Redis record them")
}

/// The OpenAPI description of the public listener, as it is served at `/openapi.json`.
pub fn openapi() -> &'static serde_json::Value {
    router::description().tree()
}

/// Runs a relayer until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration is refused, or an address cannot be listened on.
pub fn main(args: Args) -> anyhow::Result<()> {
    service::process::run(&args, async |config, origin, shutdown| {
        start_from(config, Some(origin), Clock::system(), shutdown).await?.wait().await;
        Ok(())
    })
}

/// Starts a relayer. It listens at once, and takes payments once Redis is found to promise what it must.
///
/// # Errors
/// The configuration is wrong, or an address cannot be listened on.
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
    let parties =
        Parties { payees: config.payees(), issuer: config.issuer.public_key.context("issuer.public_key")? };
    let receipts = Receipts::new(&config.receipts, &parties.payees, clock.now_s())?;
    let registry = Registry::new();
    let metrics = Metrics::register(&registry)?;
    let issuer = IssuerClient::new(&config.issuer)?;
    let listeners = Listeners::bind(config.listen, config.admin_listen).await?;
    let store = Store::connect(&config.redis)?;
    Metrics::watch_connections(&registry, &store)?;
    let readiness = Readiness::new("starting: Redis was not looked at yet");
    admin::show_readiness(&registry, &readiness)?;
    let health = Health::new(readiness.clone(), Arc::clone(&metrics));

    let watch = Watch {
        health: Arc::clone(&health),
        store: store.clone(),
        issuer: issuer.clone(),
        payees: parties.payees.clone(),
        interval: Duration::from_millis(config.readiness_interval_ms),
    };
    let watching = tokio::spawn(watch.run(shutdown.clone()));

    let terms_from = StoreAndIssuer { store: store.clone(), issuer };
    let acceptor = Acceptor {
        channels: Channels::new(&config.channels, parties.clone(), terms_from, Arc::clone(&metrics)),
        batchers: Batchers::start(&config.batcher, store.clone(), &health, &metrics),
        store,
        tuning: Tuning::new(&config),
        health,
        metrics,
        clock,
        receipts,
    };
    let closing = CancellationToken::new();
    let drain = Duration::from_millis(config.http.drain_timeout_ms);
    let streams = Streams::new(config.stream.clone(), drain, closing.clone());
    let app = Arc::new(App { acceptor, streams });

    let profiling = Profiling::new(&config.profiling, shutdown.clone());
    if let Some(origin) = origin {
        let (app, profiling) = (Arc::clone(&app), profiling.clone());
        let clock = app.acceptor.clock.clone();
        let take_up = move |config: &Config| {
            app.acceptor.tuning.take_up(config);
            profiling.take_up(&config.profiling);
        };
        let reloader = Reloader::new("relayer", config.clone(), origin, &registry, clock, take_up)?;
        tokio::spawn(reloader.run(shutdown.clone()));
    }
    let admin = profiling.before(admin::router(readiness.clone(), registry));
    let public = Public::new(Arc::clone(&app));
    let served = listeners.serve(public, admin, config.http, readiness.clone(), closing.clone());
    let (addr, admin_addr) = (served.addr, served.admin_addr);
    tracing::info!(%addr, %admin_addr, payees = ?parties.payees, "relayer listens");

    let grace = Duration::from_millis(config.drain_grace_ms);
    let task = tokio::spawn(async move {
        shutdown.cancelled().await;
        // Load balancers see this first, and send no more; until they do, payments are still taken.
        readiness.begin_drain();
        tokio::time::sleep(grace).await;
        closing.cancel();
        served.wait().await;
        app.acceptor.batchers.close().await;
        app.acceptor.store.close().await;
        if let Err(error) = watching.await {
            tracing::error!(%error, "the watch over Redis failed");
        }
        tracing::info!("relayer stopped");
    });
    Ok(Running::new(addr, admin_addr, task))
}
