//! What a test's Redis runs in, and which of the two this machine can have.

use cli::stack::redis::{RedisOptions, RedisServer};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::container::{self, Container};

/// What a test's Redis runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// A container of the image that `tests/redis-image.sh` makes.
    Docker,
    /// A redis-server or valkey-server process of this machine.
    Process,
}

impl Tier {
    /// The tier that `MILLRACE_TEST_REDIS` (`docker` or `process`) names; else a container where a Docker engine
    /// answers and has the image, else a process.
    ///
    /// # Panics
    /// The variable names no tier.
    pub async fn of_this_machine() -> Tier {
        match std::env::var("MILLRACE_TEST_REDIS").ok().as_deref() {
            Some("docker") => Tier::Docker,
            Some("process") => Tier::Process,
            None | Some("") => match container::is_available().await {
                Ok(()) => Tier::Docker,
                Err(_) => Tier::Process,
            },
            Some(other) => panic!("MILLRACE_TEST_REDIS: expected docker or process, found {other:?}"),
        }
    }
}

/// A server in one tier or the other.
#[derive(Debug)]
pub(super) enum Server {
    Docker(Box<Container>),
    // The directory outlives the server that writes into it: fields are dropped in this order.
    Process { server: Box<RedisServer>, _dir: TempDir },
}

impl Server {
    pub(super) async fn start(tier: Tier, options: RedisOptions) -> Server {
        match tier {
            Tier::Docker => Server::Docker(Box::new(Container::start(&options).await)),
            Tier::Process => {
                let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
                let server = RedisServer::start(dir.path(), None, options)
                    .await
                    .unwrap_or_else(|error| panic!("no Redis for this test: {error}"));
                Server::Process { server: Box::new(server), _dir: dir }
            }
        }
    }

    pub(super) fn tier(&self) -> Tier {
        match self {
            Server::Docker(_) => Tier::Docker,
            Server::Process { .. } => Tier::Process,
        }
    }

    /// `host:port`.
    pub(super) fn address(&self) -> String {
        match self {
            Server::Docker(container) => container.address(),
            Server::Process { server, .. } => format!("127.0.0.1:{}", server.port()),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The process; snapshots, replicas and sentinels are of this tier alone.
    pub(super) fn process(&mut self) -> &mut RedisServer {
        match self {
            Server::Docker(_) => {
                panic!("a container's data cannot be reached: Redis::start_in(Tier::Process, …)")
            }
            Server::Process { server, .. } => server,
        }
    }

    pub(super) async fn pause(&mut self) {
        match self {
            Server::Docker(container) => container.pause().await,
            Server::Process { server, .. } => server.signal(Signal::SIGSTOP).expect("the server runs"),
        }
    }

    pub(super) async fn resume(&mut self) {
        match self {
            Server::Docker(container) => container.resume().await,
            Server::Process { server, .. } => server.signal(Signal::SIGCONT).expect("the server runs"),
        }
    }

    pub(super) async fn kill(&mut self) {
        match self {
            Server::Docker(container) => container.kill().await,
            Server::Process { server, .. } => server.kill(),
        }
    }

    pub(super) async fn restart(&mut self) {
        match self {
            Server::Docker(container) => container.restart().await,
            Server::Process { server, .. } => {
                server.restart().await.unwrap_or_else(|error| panic!("Redis did not come back: {error}"));
            }
        }
    }
}
