//! Real relayers and settlers as processes, with everything around them in a test's hands: a Redis behind a fault
//! proxy, an issuer whose clock moves by hand, and a scripted front before it.

mod audit;
mod config_file;
mod fault_point;
mod requests;

use std::time::Duration;

use cli::stack::free_port;
use cli::stack::process::{Process, ProcessSpec, Role};
use common::config::RedisConfig;
use common::ids::PublicKey;
use common::secret::write_signing_key;
use common::store::Store;
use common::wire::{IssuerChannel, IssuerStatus};
use ed25519_dalek::SigningKey;
use serde::Deserialize;
use tempfile::TempDir;

use crate::binaries;
use crate::http::Http;
use crate::issuer::{ScriptedIssuer, TestIssuer};
use crate::payer::{Channel, Payer, issuer_client};
use crate::redis::Redis;
use crate::wait::wait_for;
use cli::stack::redis::RedisOptions;

pub use config_file::ConfigFile;
pub use fault_point::FaultPoint;

/// How long anything may take that should happen soon.
pub const SOON: Duration = Duration::from_secs(20);

/// What to start. The defaults make everything quick: a lease of a second and a half, polls of a few ms.
#[derive(Clone, Debug)]
pub struct RigOptions {
    /// How many relayers.
    pub relayers: usize,
    /// How many settlers.
    pub settlers: usize,
    /// How Redis keeps its data.
    pub redis: RedisOptions,
    /// Changes to the issuer's config.
    pub issuer: fn(&mut issuer::Config),
    /// Further config of every relayer, key (`limits.payments_in_flight_max`) and value.
    pub relayer: Vec<(&'static str, String)>,
    /// Further config of every settler.
    pub settler: Vec<(&'static str, String)>,
}

impl Default for RigOptions {
    fn default() -> Self {
        RigOptions {
            relayers: 1,
            settlers: 0,
            redis: RedisOptions::default(),
            issuer: |_| (),
            relayer: Vec::new(),
            settler: Vec::new(),
        }
    }
}

/// Everything that a payment travels through. Dropping it ends all of it.
#[derive(Debug)]
pub struct Rig {
    /// The relayers, connected to Redis through its proxy and to the issuer through `front`.
    pub relayers: Vec<Process>,
    /// The settlers, likewise.
    pub settlers: Vec<Process>,
    /// Redis, with its fault proxy.
    pub redis: Redis,
    /// What relayers and settlers take for the issuer.
    pub front: ScriptedIssuer,
    /// The issuer itself. Payers talk to it directly.
    pub issuer: TestIssuer,
    /// A client for requests that are made by hand.
    pub http: Http,
    urls: Vec<String>,
    payee: SigningKey,
    _dir: TempDir,
}

/// A settler's `GET /status`.
#[derive(Clone, Debug, Deserialize)]
pub struct SettlerStatus {
    /// Whether it leads.
    pub leader: bool,
    /// Its token, while it leads.
    pub token: Option<u64>,
}

impl Rig {
    /// Starts everything and waits until it is ready.
    ///
    /// # Panics
    /// Something does not get ready; the message shows the end of its log.
    pub async fn start(options: RigOptions) -> Rig {
        let redis = Redis::start_with(options.redis.clone()).await;
        Self::start_on(redis, options).await
    }

    /// Starts everything on a server that is there already.
    ///
    /// # Panics
    /// As [`Rig::start`].
    pub async fn start_on(redis: Redis, options: RigOptions) -> Rig {
        let issuer = TestIssuer::start_with(options.issuer).await;
        let front = ScriptedIssuer::start(issuer.url()).await;
        let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
        let payee = SigningKey::from_bytes(&rand::random());
        write_signing_key(&dir.path().join("payee.key"), &payee).expect("a new file");
        issuer.client().register(&PublicKey::of(&payee)).await.expect("the issuer registers any key");
        let mut rig = Rig {
            relayers: Vec::new(),
            settlers: Vec::new(),
            redis,
            front,
            issuer,
            http: Http::default(),
            urls: Vec::new(),
            payee,
            _dir: dir,
        };
        for _ in 0..options.relayers {
            rig.spawn_relayer(&options.relayer);
        }
        for _ in 0..options.settlers {
            rig.spawn_settler(&options.settler);
        }
        for process in rig.settlers.iter_mut().chain(&mut rig.relayers) {
            process.wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
        }
        rig
    }

    /// Starts another relayer, without waiting until it is ready.
    ///
    /// # Panics
    /// It cannot be run.
    pub fn spawn_relayer(&mut self, config: &[(&'static str, String)]) -> &mut Process {
        self.spawn_relayer_from(None, config)
    }

    /// As [`Rig::spawn_relayer`], with a file whose keys are set by nothing else.
    ///
    /// # Panics
    /// It cannot be run.
    pub fn spawn_relayer_from(
        &mut self,
        file: Option<&ConfigFile>,
        config: &[(&'static str, String)],
    ) -> &mut Process {
        let (port, admin) = (port(), port());
        self.urls.push(format!("http://127.0.0.1:{port}"));
        let mut all = vec![
            ("listen", format!("127.0.0.1:{port}")),
            ("payee", self.payee().to_string()),
            ("drain_grace_ms", "0".to_owned()),
            ("readiness_interval_ms", "50".to_owned()),
        ];
        all.extend(config.iter().cloned());
        let name = format!("relayer-{}", self.relayers.len());
        let process = self.spawn(Role::Relayer, name, admin, all, file);
        self.relayers.push(process);
        self.relayers.last_mut().expect("just pushed")
    }

    /// Starts another settler, without waiting until it is ready.
    ///
    /// # Panics
    /// It cannot be run.
    pub fn spawn_settler(&mut self, config: &[(&'static str, String)]) -> &mut Process {
        self.spawn_settler_from(None, config)
    }

    /// As [`Rig::spawn_settler`], with a file whose keys are set by nothing else.
    ///
    /// # Panics
    /// It cannot be run.
    pub fn spawn_settler_from(
        &mut self,
        file: Option<&ConfigFile>,
        config: &[(&'static str, String)],
    ) -> &mut Process {
        let mut all = vec![
            ("payee_key", format!("file:{}", self._dir.path().join("payee.key").display())),
            ("redis.command_timeout_ms", "300".to_owned()),
            ("issuer.request_timeout_ms", "1000".to_owned()),
            ("lease.ttl_ms", "1500".to_owned()),
            ("lease.standby_poll_ms", "100".to_owned()),
            ("consumer.poll_ms", "10".to_owned()),
            ("closes.retry_delay_min_ms", "20".to_owned()),
            ("closes.retry_delay_max_ms", "200".to_owned()),
            ("readiness_interval_ms", "50".to_owned()),
        ];
        all.extend(config.iter().cloned());
        let name = format!("settler-{}", self.settlers.len());
        let process = self.spawn(Role::Settler, name, port(), all, file);
        self.settlers.push(process);
        self.settlers.last_mut().expect("just pushed")
    }

    fn spawn(
        &self,
        role: Role,
        name: String,
        admin: u16,
        further: Vec<(&'static str, String)>,
        file: Option<&ConfigFile>,
    ) -> Process {
        let mut config = vec![
            ("admin_listen".to_owned(), format!("127.0.0.1:{admin}")),
            ("redis.url".to_owned(), self.redis.proxy_url()),
            ("issuer.url".to_owned(), self.front.url().to_owned()),
            ("issuer.public_key".to_owned(), self.issuer.public_key().to_string()),
        ];
        config.extend(further.into_iter().map(|(key, value)| (key.to_owned(), value)));
        config.retain(|(key, _)| !file.is_some_and(|file| file.has(key)));
        let spec = ProcessSpec {
            name,
            role,
            binary: binaries::each(),
            config,
            file: file.map(|file| file.path().to_owned()),
            admin_url: format!("http://127.0.0.1:{admin}"),
            dir: self._dir.path().to_owned(),
        };
        Process::spawn(spec).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The working directory of every process.
    pub fn dir(&self) -> &std::path::Path {
        self._dir.path()
    }

    /// Base URL of the `i`th relayer.
    ///
    /// # Panics
    /// There are not that many.
    pub fn relayer(&self, i: usize) -> &str {
        &self.urls[i]
    }

    /// The payee's public key.
    pub fn payee(&self) -> PublicKey {
        PublicKey::of(&self.payee)
    }

    /// The payee's signing key, as the settlers hold it.
    pub fn payee_key(&self) -> &SigningKey {
        &self.payee
    }

    /// A fresh payer with play money.
    pub async fn payer(&self) -> Payer {
        Payer::register(&self.issuer.url()).await
    }

    /// An open channel of a fresh payer for the payee, with this capacity.
    pub async fn channel(&self, capacity: u64) -> Channel {
        self.payer().await.channel(self.payee()).capacity(capacity).open().await
    }

    /// The store behind the relayers, past the proxy.
    ///
    /// # Panics
    /// Redis does not answer.
    pub async fn store(&self) -> Store {
        let config = RedisConfig { url: self.redis.url(), ..RedisConfig::default() };
        let store = Store::connect(&config).expect("a private server's URL is valid");
        store.wait_connected(SOON).await.expect("the server is up");
        // It writes as the relayers do, where one has been there already.
        let _ = store.look_at_schema().await;
        store
    }

    /// Status of the `i`th settler; `None` while it does not answer.
    ///
    /// # Panics
    /// There are not that many, or its answer cannot be read.
    pub async fn settler_status(&self, i: usize) -> Option<SettlerStatus> {
        let url = format!("{}/status", self.settlers[i].admin_url());
        let answer = reqwest::Client::new().get(url).timeout(Duration::from_secs(1)).send().await.ok()?;
        let body = answer.bytes().await.ok()?;
        Some(serde_json::from_slice(&body).expect("a settler's status"))
    }

    /// Waits until one of the settlers leads, and says which.
    ///
    /// # Panics
    /// None does in time.
    pub async fn leader(&self) -> usize {
        wait_for(SOON, "a settler leads", || async {
            for i in 0..self.settlers.len() {
                if self.settler_status(i).await.is_some_and(|status| status.leader) {
                    return Some(i);
                }
            }
            None
        })
        .await
    }

    /// Waits until the issuer has closed a channel, and gives back how it stands there.
    ///
    /// # Panics
    /// It does not in time.
    pub async fn settled(&self, channel: &Channel) -> IssuerChannel {
        let issuer = issuer_client(&self.issuer.url());
        wait_for(SOON, "the issuer has closed the channel", || async {
            let found = issuer.channel(&channel.id()).await.expect("the issuer answers")?;
            (found.status == IssuerStatus::Closed).then_some(found)
        })
        .await
    }

    /// A counter or gauge of a process, by the start of its line in `/metrics`, or several that begin so together;
    /// `None` if there is no such line.
    pub async fn metric(&self, admin_url: &str, line_start: &str) -> Option<u64> {
        let text = reqwest::get(format!("{admin_url}/metrics")).await.ok()?.text().await.ok()?;
        let lines = text.lines().filter(|line| line.starts_with(line_start));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).reduce(|sum, value| sum + value)
    }
}

fn port() -> u16 {
    free_port().expect("loopback has a free port")
}
