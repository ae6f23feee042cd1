//! The settler: reads what relayers accepted, decides when a channel is closed, and redeems its latest voucher with
//! the issuer. Of any number of settlers one leads; the others stand by.
//!
//! # Layout
//!
//! * [`config`]: every key, with `config.settler.yaml` at the project's root as its reference.
//! * `leader`: standby, leader, standby; the renewal of the lease. `leadership`: what the leader's tasks share, and
//!   how they end.
//! * `consumer`: from entries of accepted payments to what is known of a channel. One task a partition. `followed`:
//!   what their payers look for.
//! * `sweep`: another policy for all channels. `due`: channels whose time has come. One task a partition; every close begins here.
//! * `keyless`: channels that none of the configured keys can settle. `journal`: what is kept of payments and closes after they have left Redis.
//! * [`policy`]: when a channel is closed. Pure.
//! * `closer`: one close, step by step. [`settlement`]: its request, its receipt, its backoff. Pure.
//! * `batcher`: settlements of many closes on their way to the issuer. [`issuer_key`]: whose receipts count.
//! * `readiness`, `metrics`, `status`: what an operator sees. `console`: the same as a web page, and what a person may do
//!   there. `history`: what was unsettled when, for it.

mod app;
mod batcher;
mod closer;
pub mod config;
mod console;
mod consumer;
mod due;
mod followed;
mod history;
pub mod issuer_key;
mod journal;
mod keyless;
mod leader;
mod leadership;
mod metrics;
pub mod policy;
mod readiness;
pub mod settlement;
mod status;
mod sweep;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use common::clock::Clock;
use common::config::Config as _;
use common::store::Store;
use common::store::connect::ReleaseNotices;
use common::verify::usable_key;
use futures::FutureExt;
use service::admin::Readiness;
use service::issuer_client::{IssuerClient, IssuerClientConfig};
use service::process::bind;
use service::profiling::Profiling;
use service::reload::{Origin, Reloader};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use service::process::Args;

use crate::app::{App, Post, Pulse, random_process};
use crate::console::Console;
use crate::issuer_key::IssuerKey;
use crate::journal::writer::Trouble;
use crate::keyless::Keyless;
use crate::metrics::Metrics;
use crate::settlement::{Payee, Payees};
use crate::status::Admin;

/// How long to leave a loop alone that panicked.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// The command line of the `settler` program.
pub fn command() -> clap::Command {
    service::process::command("settler", "Millrace's settler: redeems vouchers with the issuer")
}

/// Runs the settler until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration is refused, the payee's key cannot be read, or the address cannot be listened on.
pub fn main(args: Args) -> anyhow::Result<()> {
    service::process::run(&args, async |config, origin, shutdown| {
        start_from(config, Some(origin), Clock::system(), shutdown).await?.wait().await;
        Ok(())
    })
}

/// A settler that is up.
#[derive(Debug)]
pub struct Running {
    /// Where its admin listener is.
    pub admin_addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Running {
    /// Waits until the settler was shut down: closes under way have ended, the lease is given back.
    pub async fn wait(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the settler failed");
        }
    }
}

/// Starts a settler inside the running runtime. It ends when `shutdown` is cancelled; see [`Running::wait`]. Redis and
/// the issuer need not be there yet.
///
/// # Errors
/// The configuration is refused, the payee's key cannot be read, or the address cannot be listened on.
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
    let secret = config.payee_key.as_ref().context("payee_key: required")?;
    let token = console::actions_token(&config.console)?;
    let payee = Payee::new(secret.read_signing_key().context("payee_key")?);
    let further = config.further_payee_keys.iter().map(|secret| secret.read_signing_key().map(Payee::new));
    let payees = Payees::new(payee, further.collect::<Result<_, _>>().context("further_payee_keys")?);
    let issuer_key = config.issuer.public_key.context("issuer.public_key: required")?;
    let issuer_key = IssuerKey::new(
        usable_key(&issuer_key).context("issuer.public_key: no key that signatures can be checked with")?,
    );
    // Receipts are checked once, where a close ends on them: `settlement::proves_close`.
    let issuer = IssuerClient::new(&IssuerClientConfig { public_key: None, ..config.issuer.clone() })?;
    let (listener, admin_addr) = bind(config.admin_listen, "admin_listen").await?;
    let registry = prometheus::Registry::new();
    let metrics = Metrics::new(&registry, clock.clone()).context("metrics")?;
    let store = Store::connect(&config.redis)?;
    Metrics::watch_connections(&registry, &store).context("metrics")?;
    let notices = ReleaseNotices::listen(&config.redis, store.keys()).await?;
    let journal = config.journal.store()?;
    if journal.is_none() {
        tracing::warn!("no journal is kept: accepted payments cannot be listed once they are in the books");
    }
    let app = Arc::new(App {
        live: ArcSwap::from_pointee(config.clone()),
        config,
        clock,
        store,
        issuer,
        issuer_key,
        payees,
        keyless: Keyless::default(),
        metrics,
        journal,
        journal_trouble: Trouble::default(),
        process: random_process(),
        terms: AtomicU64::new(0),
        post: Post::default(),
        pulse: Pulse::new(),
    });
    tracing::info!(
        %admin_addr, process = app.process, payees = ?app.payees.public(), issuer = app.config.issuer.url,
        "settler started"
    );

    let profiling = Profiling::new(&app.config.profiling, shutdown.clone());
    if let Some(origin) = origin {
        let (config, clock, for_reload) = (app.config.clone(), app.clock.clone(), app.clone());
        let profiling = profiling.clone();
        let take_up = move |config: &Config| {
            for_reload.live.store(Arc::new(config.clone()));
            profiling.take_up(&config.profiling);
        };
        let reloader = Reloader::new("settler", config, origin, &registry, clock, take_up)?;
        tokio::spawn(reloader.run(shutdown.clone()));
    }
    let readiness = Readiness::new("starting");
    service::admin::show_readiness(&registry, &readiness).context("metrics")?;
    let console = Console::new(&app, readiness.clone(), token);
    let admin = Admin { listener, registry, readiness, console, profiling };
    let task = tokio::spawn(run(app, notices, admin, shutdown));
    Ok(Running { admin_addr, task })
}

/// The process from start to end. The admin listener ends last, so that the drain can be watched.
async fn run(app: Arc<App>, mut notices: ReleaseNotices, admin: Admin, shutdown: CancellationToken) {
    let (fit_sender, fit) = watch::channel(false);
    let readiness = admin.readiness.clone();
    tokio::spawn(keyless::watch(app.clone(), shutdown.clone()));
    tokio::spawn(readiness::watch(app.clone(), readiness.clone(), fit_sender, shutdown.clone()));
    let draining = shutdown.clone();
    tokio::spawn(async move {
        draining.cancelled().await;
        readiness.begin_drain();
    });
    let drained = CancellationToken::new();
    let admin = tokio::spawn(admin.serve(app.clone(), drained.clone()));

    while let Err(_panic) =
        AssertUnwindSafe(leader::run(&app, &mut notices, fit.clone(), &shutdown)).catch_unwind().await
    {
        // What it held is released by dropping it; its lease in Redis is this process' own and is taken up again.
        tracing::error!("the settler's loop panicked, starting it again");
        tokio::time::sleep(PANIC_PAUSE).await;
    }
    let goodbye = async { tokio::join!(notices.close(), app.store.close()) };
    // A Redis that is away is not waited for.
    let _ = tokio::time::timeout(Duration::from_millis(app.config.redis.command_timeout_ms), goodbye).await;
    drained.cancel();
    if let Err(error) = admin.await {
        tracing::error!(%error, "the admin listener failed");
    }
}
