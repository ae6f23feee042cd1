//! A process asked how it is by its own program. An image that holds nothing but the program has no other client to ask
//! with, and the program knows from the configuration where to ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// Longest wait for the answer: shorter than what platforms give a health check, so that the reason is still written.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// `/livez`: is it running at all?
    Live,
    /// `/readyz`: may it have traffic?
    Ready,
}

impl Probe {
    const fn path(self) -> &'static str {
        match self {
            Probe::Live => "livez",
            Probe::Ready => "readyz",
        }
    }
}

/// Asks the admin listener at `listen`, as it stands in the configuration.
///
/// # Errors
/// Nobody answers there in time, or the answer is no; the message carries what was said.
pub fn ask(listen: SocketAddr, what: Probe) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(get(&format!("http://{}/{}", reachable(listen), what.path())))
}

async fn get(url: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let answer = client.get(url).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let said = answer.text().await.unwrap_or_default();
    bail!("{url} answered {}: {}", status.as_u16(), said.trim())
}

/// Where a listener is reached from its own machine: one on every address is reached by loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{self, Readiness};
    use tokio::net::TcpListener;

    async fn served(readiness: Readiness) -> SocketAddr {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let router = admin::router(readiness, prometheus::Registry::new());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    async fn asked(address: SocketAddr, what: Probe) -> anyhow::Result<()> {
        tokio::task::spawn_blocking(move || ask(address, what)).await.expect("no panic")
    }

    #[tokio::test]
    async fn a_process_that_waits_for_redis_lives_and_is_not_ready() {
        let readiness = Readiness::new("starting: Redis was not looked at yet");
        let address = served(readiness.clone()).await;
        asked(address, Probe::Live).await.expect("it lives");
        let reason = asked(address, Probe::Ready).await.expect_err("not ready").to_string();
        assert!(reason.contains("503") && reason.contains("Redis was not looked at yet"), "{reason}");
        readiness.set_ready();
        asked(address, Probe::Ready).await.expect("ready");
    }

    #[tokio::test]
    async fn nobody_there_is_no_health() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let error = asked(address, Probe::Live).await.expect_err("nobody listens");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
