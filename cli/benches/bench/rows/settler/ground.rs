//! What the row needs around it: Redis, the stand-in issuer and one settler, whose core is its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use cli::stack::child::Supervised;
use cli::stack::free_port;
use cli::stack::process::{Binary, Process, ProcessSpec, Role, wait_until_ready};
use cli::stack::redis::{AppendFsync, RedisServer};
use common::config::RedisConfig;
use common::ids::PublicKey;
use common::secret::write_signing_key;
use common::store::Store;
use common::store::diagnose::Probe;
use ed25519_dalek::SigningKey;
use tempfile::TempDir;

use super::issuer;
use crate::machine::{Machine, cpu_of};
use crate::stage;

/// How long anything may take until it is up.
pub(super) const READY_DEADLINE: Duration = Duration::from_secs(30);

/// Everything but channels.
pub(super) struct Ground {
    pub(super) settler: Process,
    pub(super) store: Store,
    pub(super) issuer_url: String,
    pub(super) issuer_key: PublicKey,
    pub(super) payee: PublicKey,
    redis: RedisServer,
    _issuer: Supervised,
    _dir: TempDir,
}

/// Memory of a process in RAM.
pub(super) struct Memory {
    pub(super) bytes: u64,
    /// The most that it ever was.
    pub(super) peak_bytes: u64,
}

impl Ground {
    /// Starts all of it.
    pub(super) async fn prepare(machine: &Machine) -> anyhow::Result<Ground> {
        let dir = tempfile::Builder::new().prefix("millrace-bench-").tempdir()?;
        let redis =
            RedisServer::start(&dir.path().join("redis"), None, stage::redis(AppendFsync::EverySec)).await?;
        let key_file = |name: &str| dir.path().join(name);
        let (issuer_secret, payee_secret) =
            (SigningKey::from_bytes(&rand::random()), SigningKey::from_bytes(&rand::random()));
        write_signing_key(&key_file("issuer.key"), &issuer_secret)?;
        write_signing_key(&key_file("payee.key"), &payee_secret)?;

        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command =
            Command::new(std::env::current_exe().context("cannot find this program's own file")?);
        command.arg("--settling-issuer").arg(address.to_string()).arg(key_file("issuer.key"));
        let mut issuer = Supervised::spawn("issuer", command, &key_file("issuer.log"))?;
        let issuer_url = format!("http://{address}");
        wait_until_ready(&mut issuer, READY_DEADLINE, || async {
            issuer::Books::fetch(&issuer_url).await.map(drop).map_err(|error| format!("{error:#}"))
        })
        .await?;

        let config = RedisConfig { url: redis.url(), ..RedisConfig::default() };
        let first = Store::connect(&config)?;
        first.wait_connected(READY_DEADLINE).await?;
        first.initialise(0).await?;
        first.close().await;
        let store = stage::connect(&config).await?;

        let issuer_key = PublicKey::of(&issuer_secret);
        let admin = format!("127.0.0.1:{}", free_port()?);
        let set = [
            ("admin_listen", admin.clone()),
            ("payee_key", format!("file:{}", key_file("payee.key").display())),
            ("redis.url", redis.url()),
            ("issuer.url", issuer_url.clone()),
            ("issuer.public_key", issuer_key.to_string()),
        ];
        let spec = ProcessSpec {
            name: "settler".to_owned(),
            role: Role::Settler,
            binary: Binary::Millrace(PathBuf::from(env!("CARGO_BIN_EXE_millrace"))),
            config: set.map(|(key, value)| (key.to_owned(), value)).into(),
            file: None,
            admin_url: format!("http://{admin}"),
            dir: dir.path().to_owned(),
        };
        let settler = machine.on(&[machine.server_core()], || Process::spawn(spec))??;
        let payee = PublicKey::of(&payee_secret);
        Ok(Ground { settler, store, issuer_url, issuer_key, payee, redis, _issuer: issuer, _dir: dir })
    }

    /// Starts the settler anew, without waiting for anything.
    pub(super) fn start_settler_again(&mut self, machine: &Machine) -> anyhow::Result<()> {
        machine.on(&[machine.server_core()], || self.settler.restart())??;
        Ok(())
    }

    /// How to reach Redis.
    pub(super) fn redis_config(&self) -> RedisConfig {
        RedisConfig { url: self.redis.url(), ..RedisConfig::default() }
    }

    pub(super) fn redis_cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(self.redis.pid())
    }

    pub(super) fn settler_cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(self.settler.pid())
    }

    /// Bytes that Redis has allocated.
    pub(super) async fn redis_memory(&self) -> anyhow::Result<u64> {
        let probe = Probe::connect(&self.redis_config(), READY_DEADLINE).await?;
        let info = probe.info("memory").await?;
        Ok(info.get("used_memory").context("INFO memory has no used_memory")?.parse()?)
    }

    pub(super) fn settler_memory(&self) -> anyhow::Result<Memory> {
        let path = format!("/proc/{}/status", self.settler.pid());
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib: Option<u64> = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
            anyhow::Ok(kib.with_context(|| format!("no {name} in {path}"))?.saturating_mul(1024))
        };
        Ok(Memory { bytes: bytes("VmRSS:")?, peak_bytes: bytes("VmHWM:")? })
    }

    /// The sum of a settler's counters whose lines begin so; 0 while there is none, or no answer.
    pub(super) async fn metric(&self, line_start: &str) -> u64 {
        let Ok(answer) = reqwest::get(format!("{}/metrics", self.settler.admin_url())).await else {
            return 0;
        };
        let text = answer.text().await.unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with(line_start));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}
