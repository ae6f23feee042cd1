//! A whole Millrace on one machine: Redis, issuer, settlers and relayers, each as a process of its own.
//!
//! What `millrace dev` and the tests start. Nothing here is for production, where each part has its own machine.
//!
//! # Layout
//!
//! * [`Stack`]: all of it, started and stopped in order; [`StackSummary`] says where everything is.
//! * [`process`]: one service. [`redis`]: one Redis server. [`child`]: what both are, and any other program can be: killed
//!   when dropped, and when its owner dies.
//! * [`proxy`]: a TCP proxy that misbehaves on demand. [`Links`]: one on each way that a payment or a settlement takes.
//! * [`free_port`]: a port that stays free until a child has bound it.

pub mod child;
mod error;
mod links;
mod plan;
mod port;
pub mod process;
pub mod proxy;
pub mod redis;

pub use plan::PAYEE_KEY;

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use common::ids::PublicKey;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use service::issuer_client::{IssuerClient, IssuerClientConfig};

pub use error::StackError;
pub use links::{Links, ProcessLinks};
pub use port::free_port;

use plan::Plan;
use process::{Binary, Process, absolute_dir};
use redis::{RedisOptions, RedisServer};

/// How long all services together may take until they are ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// How long one service may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// Further config of the processes: key (`lease.ttl_ms`) and value. It wins over what the stack sets.
#[derive(Clone, Debug, Default)]
pub struct RoleConfig {
    /// For the issuer.
    pub issuer: Vec<(String, String)>,
    /// For every relayer.
    pub relayer: Vec<(String, String)>,
    /// For every settler.
    pub settler: Vec<(String, String)>,
}

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// How many relayers.
    pub relayers: usize,
    /// How many settlers; one leads, the others stand by.
    pub settlers: usize,
    /// A Redis that exists; without it a private server is started.
    pub redis_url: Option<String>,
    /// How the private server keeps its data.
    pub redis: RedisOptions,
    /// What every key in Redis starts with.
    pub prefix: String,
    /// Keys, data and logs. A directory that an earlier stack used goes on where that one stopped.
    pub dir: PathBuf,
    /// First of the ports; without it free ones are taken. With N: issuer N, its admin listener N+1, relayer i
    /// N+10+2i and N+11+2i, settler i N+100+i, Redis N+200.
    pub port_base: Option<u16>,
    /// Further config.
    pub config: RoleConfig,
    /// The programs.
    pub binary: Binary,
    /// Puts a fault proxy of its own between each relayer and settler and each of Redis and the issuer.
    pub fault_proxies: bool,
}

impl StackOptions {
    /// Two relayers, one settler, a private Redis, free ports.
    pub fn new(dir: impl Into<PathBuf>, binary: Binary) -> Self {
        StackOptions {
            relayers: 2,
            settlers: 1,
            redis_url: None,
            redis: RedisOptions::default(),
            prefix: "mr".to_owned(),
            dir: dir.into(),
            port_base: None,
            config: RoleConfig::default(),
            binary,
            fault_proxies: false,
        }
    }
}

impl StackOptions {
    /// Where the settlers keep their journal.
    fn journal(&self) -> String {
        self.dir.join("journal").display().to_string()
    }
}

/// A running stack. Dropping it kills every process of it.
#[derive(Debug)]
pub struct Stack {
    // Dropped in this order, which is that of `stop`.
    /// The relayers.
    pub relayers: Vec<Process>,
    /// The settlers.
    pub settlers: Vec<Process>,
    /// The issuer.
    pub issuer: Process,
    /// The private Redis server, unless one was given.
    pub redis: Option<RedisServer>,
    /// The fault proxies, where they were asked for.
    pub links: Option<Links>,
    plan: Plan,
}

impl Stack {
    /// Starts everything and waits until all of it is ready.
    ///
    /// # Errors
    /// Something did not come up; what had been started is killed again.
    pub async fn start(mut options: StackOptions) -> Result<Stack, StackError> {
        options.dir = absolute_dir(&options.dir)?;
        let redis = match &options.redis_url {
            Some(_) => None,
            None => {
                let port = options.port_base.map(|base| plan::nth(base, 200, 0, 0)).transpose()?;
                Some(RedisServer::start(&options.dir.join("redis"), port, options.redis.clone()).await?)
            }
        };
        let redis_url = match (&options.redis_url, &redis) {
            (Some(url), _) => url.clone(),
            (None, Some(server)) => server.url(),
            (None, None) => return Err(StackError::RedisMissing),
        };
        let mut plan = Plan::make(options, redis_url)?;
        let links = if plan.options().fault_proxies { Some(Links::start(&plan).await?) } else { None };
        if let Some(links) = &links {
            plan.go_through(links);
        }

        let start = Instant::now();
        let left = || READY_DEADLINE.saturating_sub(start.elapsed());
        let mut issuer = Process::spawn(plan.issuer())?;
        issuer.wait_ready(left()).await?;
        register(plan.issuer_url(), plan.payee()).await?;
        let mut settlers = plan.settlers().map(Process::spawn).collect::<Result<Vec<_>, _>>()?;
        let mut relayers = plan.relayers().map(Process::spawn).collect::<Result<Vec<_>, _>>()?;
        for process in settlers.iter_mut().chain(&mut relayers) {
            process.wait_ready(left()).await?;
        }
        Ok(Stack { relayers, settlers, issuer, redis, links, plan })
    }

    /// Base URL of the `i`th relayer's public listener.
    ///
    /// # Panics
    /// There are not that many relayers.
    pub fn relayer_url(&self, i: usize) -> String {
        self.plan.relayer_url(i)
    }

    /// Base URLs of all relayers' public listeners.
    pub fn relayer_urls(&self) -> Vec<String> {
        (0..self.relayers.len()).map(|i| self.relayer_url(i)).collect()
    }

    /// Base URL of the issuer.
    pub fn issuer_url(&self) -> String {
        self.plan.issuer_url()
    }

    /// The Redis that relayers and settlers share.
    pub fn redis_url(&self) -> &str {
        self.plan.redis_url()
    }

    /// What every key in Redis starts with.
    pub fn prefix(&self) -> &str {
        &self.plan.options().prefix
    }

    /// Keys, data and logs.
    pub fn dir(&self) -> &std::path::Path {
        &self.plan.options().dir
    }

    /// Where the settlers keep their journal.
    pub fn journal(&self) -> String {
        self.plan.options().journal()
    }

    /// The payee's key, as the relayers know it.
    pub fn payee(&self) -> PublicKey {
        self.plan.payee()
    }

    /// The payee's signing key, as the settlers hold it.
    pub fn payee_key(&self) -> &SigningKey {
        self.plan.payee_key()
    }

    /// The issuer's public key.
    pub fn issuer_key(&self) -> PublicKey {
        self.plan.issuer_key()
    }

    /// Where everything is, as `millrace dev` prints it.
    pub fn summary(&self) -> StackSummary {
        let pid = |process: &Process| process.pid();
        StackSummary {
            redis_url: self.redis_url().to_owned(),
            issuer_url: self.issuer_url(),
            relayers: self
                .relayers
                .iter()
                .zip(self.relayer_urls())
                .map(|(relayer, url)| RelayerSummary {
                    url,
                    admin_url: relayer.admin_url().to_owned(),
                    pid: pid(relayer),
                })
                .collect(),
            settlers: self
                .settlers
                .iter()
                .map(|settler| SettlerSummary {
                    admin_url: settler.admin_url().to_owned(),
                    pid: pid(settler),
                })
                .collect(),
            issuer: ProcessSummary { pid: Some(pid(&self.issuer)) },
            redis: ProcessSummary { pid: self.redis.as_ref().map(RedisServer::pid) },
            payee: self.payee(),
        }
    }

    /// Stops everything with SIGTERM: relayers, settlers, issuer, Redis, each group once the one before has ended.
    /// What does not stop in time is killed, and says so in the report.
    pub async fn stop(mut self) -> StopReport {
        let mut exits = Vec::new();
        for process in self.relayers.iter_mut().chain(&mut self.settlers).chain([&mut self.issuer]) {
            let status = process.stop(STOP_DEADLINE).await.ok();
            exits.push(RoleExit { name: process.name().to_owned(), status });
        }
        if let Some(mut server) = self.redis.take() {
            exits.push(RoleExit { name: "redis".to_owned(), status: server.stop().await.ok() });
        }
        StopReport { exits }
    }
}

/// How the processes of a stack ended, in the order in which they were stopped.
#[derive(Debug)]
pub struct StopReport {
    /// One entry a process.
    pub exits: Vec<RoleExit>,
}

impl StopReport {
    /// True if each process stopped when asked, with exit code 0.
    pub fn is_clean(&self) -> bool {
        self.exits.iter().all(|exit| exit.status.is_some_and(|status| status.success()))
    }
}

/// How one process ended.
#[derive(Debug)]
pub struct RoleExit {
    /// The process, such as `relayer-0`.
    pub name: String,
    /// Its exit status; `None` if it did not stop in time and was killed.
    pub status: Option<ExitStatus>,
}

/// Where the parts of a stack are: one line of JSON for scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackSummary {
    /// The Redis that relayers and settlers share.
    pub redis_url: String,
    /// Base URL of the issuer.
    pub issuer_url: String,
    /// The relayers.
    pub relayers: Vec<RelayerSummary>,
    /// The settlers.
    pub settlers: Vec<SettlerSummary>,
    /// The issuer.
    pub issuer: ProcessSummary,
    /// The private Redis server; no process id where a URL was given.
    pub redis: ProcessSummary,
    /// The payee's key.
    pub payee: PublicKey,
}

/// Where a relayer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayerSummary {
    /// Base URL of its public listener.
    pub url: String,
    /// Base URL of its admin listener.
    pub admin_url: String,
    /// Its process id.
    pub pid: u32,
}

/// Where a settler is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlerSummary {
    /// Base URL of its admin listener.
    pub admin_url: String,
    /// Its process id.
    pub pid: u32,
}

/// A process that needs no more than its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSummary {
    /// Its process id, if it is one of ours.
    pub pid: Option<u32>,
}

/// A client that goes straight to 127.0.0.1, whatever proxy the environment names.
fn http() -> reqwest::Client {
    // Only a broken TLS set-up can fail here, and then the plain client fails where it is used, with a message.
    reqwest::Client::builder().no_proxy().build().unwrap_or_default()
}

/// Registers the payee's account; a known one stays as it is.
async fn register(issuer_url: String, payee: PublicKey) -> Result<(), StackError> {
    let failed = |error: &dyn std::fmt::Display| StackError::Account { detail: error.to_string() };
    let config = IssuerClientConfig { url: issuer_url, ..IssuerClientConfig::default() };
    let client = IssuerClient::new(&config).map_err(|error| failed(&error))?;
    client.register(&payee).await.map(drop).map_err(|error| failed(&error))
}
