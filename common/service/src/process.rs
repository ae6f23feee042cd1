//! From a command line to two running listeners, and back down in the right order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use common::config::Config;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::Readiness;
use crate::http::{Front, HttpConfig, serve};
use crate::probe::{self, Probe};
use crate::reload::Origin;
use crate::spans;

/// What every service takes on its command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// The configuration file; built-in defaults where absent. Environment variables override either.
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Do not start: ask the process that runs with this configuration whether it lives, or may have traffic, and exit
    /// with 0 if it says yes. What a container's health check runs.
    #[arg(long, value_name = "WHAT", value_enum)]
    pub probe: Option<Probe>,
}

/// The end of a stand-alone service: its exit code, and why it failed on one line of stderr.
pub fn exit(service: &str, result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{service}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line of a service, which takes [`Args`].
pub fn command(service: &'static str, about: &'static str) -> clap::Command {
    let command = clap::Command::new(service).about(about).version(env!("CARGO_PKG_VERSION"));
    <Args as clap::Args>::augment_args(command)
}

/// What [`command`] was given by the process' own command line. Ends the process where that is not understood.
pub fn args(command: clap::Command) -> Args {
    <Args as clap::FromArgMatches>::from_arg_matches(&command.get_matches())
        .unwrap_or_else(|error| error.exit())
}

/// Runs a service: its configuration from a file, the environment and its defaults, logs as that says, and then what
/// `start` does with it until SIGTERM or SIGINT. Where the configuration came from is for [`crate::reload`]. With `--probe`,
/// only asks the one that runs already.
///
/// # Errors
/// The configuration is refused, or `start` fails; or the process that was asked says no.
pub fn run<C, F>(args: &Args, start: impl FnOnce(C, Origin, CancellationToken) -> F) -> anyhow::Result<()>
where
    C: Config,
    F: Future<Output = anyhow::Result<()>>,
{
    let (config, origin) = Origin::read::<C>(args.config.clone())?;
    if let Some(what) = args.probe {
        return probe::ask(config.admin_listen(), what);
    }
    common::telemetry::init(config.log()).context("log.filter")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let service = C::ENV_PREFIX.trim_end_matches('_').to_ascii_lowercase().replace('_', "-");
    runtime.block_on(async {
        let recording = spans::record(&config.telemetry().otlp, &service)?;
        let ended = start(config, origin, crate::signals::shutdown()).await;
        recording.finish().await;
        ended
    })
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({key})")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The configuration key that it came from.
    pub key: &'static str,
    /// What the system said.
    pub source: std::io::Error,
}

/// A service's two listeners: the public one and, on its own port, the admin one.
#[derive(Debug)]
pub struct Listeners {
    public: TcpListener,
    admin: TcpListener,
    /// Where the public listener is; with port 0 configured, the port that the system chose.
    pub addr: SocketAddr,
    /// Where the admin listener is.
    pub admin_addr: SocketAddr,
}

impl Listeners {
    /// Binds both. Port 0 lets the system choose.
    ///
    /// # Errors
    /// [`BindError`], naming the address and its key.
    pub async fn bind(listen: SocketAddr, admin_listen: SocketAddr) -> Result<Self, BindError> {
        let (public, addr) = bind(listen, "listen").await?;
        let (admin, admin_addr) = bind(admin_listen, "admin_listen").await?;
        Ok(Self { public, admin, addr, admin_addr })
    }

    /// Serves both until `shutdown`, then drains: not ready at once, public requests to their end, the admin listener
    /// last, so that the drain can be watched.
    pub fn serve(
        self,
        front: impl Front,
        admin_front: impl Front,
        http: HttpConfig,
        readiness: Readiness,
        shutdown: CancellationToken,
    ) -> Running {
        let Listeners { public, admin, addr, admin_addr } = self;
        let drained = CancellationToken::new();
        let admin_shutdown = drained.clone();
        let admin_http = http.clone();
        let admin_task =
            tokio::spawn(async move { serve(admin, admin_front, &admin_http, admin_shutdown).await });
        let draining = shutdown.clone();
        tokio::spawn(async move {
            draining.cancelled().await;
            readiness.begin_drain();
        });
        let task = tokio::spawn(async move {
            serve(public, front, &http, shutdown).await;
            drained.cancel();
            if let Err(error) = admin_task.await {
                tracing::error!(%error, "the admin listener failed");
            }
        });
        Running::new(addr, admin_addr, task)
    }
}

/// Listens on `address`, which stands in the configuration under `key`. Port 0 lets the system choose.
///
/// # Errors
/// [`BindError`], naming both.
pub async fn bind(address: SocketAddr, key: &'static str) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |source| BindError { address, key, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// A service that is up.
#[derive(Debug)]
pub struct Running {
    /// Where its public listener is.
    pub addr: SocketAddr,
    /// Where its admin listener is.
    pub admin_addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Running {
    /// A service that is up until `task` ends.
    pub fn new(addr: SocketAddr, admin_addr: SocketAddr, task: JoinHandle<()>) -> Self {
        Self { addr, admin_addr, task }
    }

    /// Waits until the service was shut down and has drained.
    pub async fn wait(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the service failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use std::time::Duration;

    #[tokio::test]
    async fn both_listeners_end_after_shutdown_and_readiness_with_them() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = Listeners::bind(any, any).await.expect("free ports");
        let readiness = Readiness::new("starting");
        readiness.set_ready();
        let admin = crate::admin::router(readiness.clone(), prometheus::Registry::new());
        let shutdown = CancellationToken::new();
        let running =
            listeners.serve(Router::new(), admin, HttpConfig::default(), readiness.clone(), shutdown.clone());
        let ready = reqwest::get(format!("http://{}/readyz", running.admin_addr)).await.expect("an answer");
        assert_eq!(ready.status(), 200);
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), running.wait()).await.expect("ended in time");
        assert!(!readiness.is_ready());
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_its_key() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = Listeners::bind(any, any).await.expect("free ports");
        let error = Listeners::bind(any, first.addr).await.expect_err("taken");
        assert_eq!((error.key, error.address), ("admin_listen", first.addr));
    }
}
