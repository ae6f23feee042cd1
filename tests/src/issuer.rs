//! Issuers for tests: the reference issuer in this process, and one that fails on demand.

mod scripted;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::clock::Clock;
use common::ids::PublicKey;
use common::secret::{SecretRef, read_signing_key, write_signing_key};
use ed25519_dalek::SigningKey;
use issuer::config::DatabaseConfig;
use issuer::{Config, Running};
use service::issuer_client::IssuerClient;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::payer::issuer_client;

pub use scripted::{Route, ScriptedIssuer, Step};

/// The reference issuer inside this process, in development mode: accounts start with play money.
///
/// Its clock starts at the time of day and then stands still until [`Clock::advance`].
#[derive(Debug)]
pub struct TestIssuer {
    // Ends the issuer's tasks; the directory under its database goes last.
    _shutdown: tokio_util::sync::DropGuard,
    running: Running,
    clock: Clock,
    key: SigningKey,
    _dir: TempDir,
}

impl TestIssuer {
    /// Starts one with a fresh key and an empty ledger.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start() -> TestIssuer {
        Self::start_with(|_| ()).await
    }

    /// Starts one with changes to its configuration.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> TestIssuer {
        let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
        let key_file = dir.path().join("issuer.key");
        write_signing_key(&key_file, &SigningKey::from_bytes(&rand::random())).expect("a new file");
        let key = read_signing_key(&key_file).expect("just written");
        let any_port = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config {
            listen: any_port,
            admin_listen: any_port,
            database: DatabaseConfig::file(&dir.path().join("issuer.db")),
            signing_key: Some(SecretRef::File(key_file.display().to_string())),
            ..Config::default()
        };
        config.development.enabled = true;
        change(&mut config);

        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        let clock = Clock::manual(u64::try_from(now.as_millis()).expect("the time of day fits"));
        let shutdown = CancellationToken::new();
        let running = issuer::start(config, clock.clone(), shutdown.clone())
            .await
            .unwrap_or_else(|error| panic!("the issuer does not start: {error:#}"));
        TestIssuer { _shutdown: shutdown.drop_guard(), running, clock, key, _dir: dir }
    }

    /// Base URL of its public listener.
    pub fn url(&self) -> String {
        format!("http://{}", self.running.addr)
    }

    /// Base URL of its admin listener.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.running.admin_addr)
    }

    /// The key that signs its receipts.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::of(&self.key)
    }

    /// A client of it.
    pub fn client(&self) -> IssuerClient {
        issuer_client(&self.url())
    }

    /// Moves its clock: channels expire without waiting.
    pub fn fast_forward(&self, by: Duration) {
        self.clock.advance(by);
    }
}
