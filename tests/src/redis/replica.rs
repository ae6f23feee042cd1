//! A replica of a test's Redis: it follows, is frozen, is promoted.

use std::time::Duration;

use cli::stack::redis::{RedisOptions, RedisServer};
use fred::clients::Client;
use fred::interfaces::ClientLike as _;
use fred::types::{ClusterHash, CustomCommand, InfoKind, Value};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{Redis, Snapshot, connect};
use crate::wait_until;

/// How long a replica may take to copy a primary.
const DEADLINE: Duration = Duration::from_secs(20);

/// A server that follows another.
#[derive(Debug)]
pub struct Replica {
    client: Client,
    server: RedisServer,
    _dir: TempDir,
}

impl Redis {
    /// A server that follows this one, and has copied it. Of the process tier only.
    ///
    /// # Panics
    /// The server is in another tier, or the replica does not come up.
    pub async fn replica(&mut self) -> Replica {
        let primary = self.server.process().port();
        let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
        // A snapshot that waits for more replicas makes every test five seconds longer.
        let options = RedisOptions {
            extra: vec![("repl-diskless-sync-delay".to_owned(), "0".to_owned())],
            ..RedisOptions::default()
        };
        let server = RedisServer::start(dir.path(), None, options)
            .await
            .unwrap_or_else(|error| panic!("no replica for this test: {error}"));
        let client = connect(&server.url()).await;
        let replica = Replica { client, server, _dir: dir };
        replica.command("REPLICAOF", &["127.0.0.1", &primary.to_string()]).await;
        wait_until(DEADLINE, "the replica follows", || async {
            replica.replication().await.contains("master_link_status:up")
        })
        .await;
        replica
    }
}

impl Replica {
    /// Its address.
    pub fn url(&self) -> String {
        self.server.url()
    }

    async fn command(&self, name: &'static str, args: &[&str]) {
        let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let _: Value = self.client.custom(command, args).await.expect("a live server does as it is told");
    }

    async fn replication(&self) -> String {
        self.client.info(Some(InfoKind::Replication)).await.unwrap_or_default()
    }

    /// Freezes it: it stays connected, and takes nothing.
    ///
    /// # Panics
    /// It does not run.
    pub fn pause(&mut self) {
        self.server.signal(Signal::SIGSTOP).expect("the replica runs");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// It does not run.
    pub fn resume(&mut self) {
        self.server.signal(Signal::SIGCONT).expect("the replica runs");
    }

    /// Stops following, whatever it has not got yet, and answers with the data it has. Where the address of a primary
    /// moves to the promoted replica, that data is what stands behind the address from then on.
    ///
    /// # Panics
    /// It does not run.
    pub async fn promote(&mut self) -> Snapshot {
        self.command("REPLICAOF", &["NO", "ONE"]).await;
        Snapshot::of(self.server.dir())
    }

    /// Waits until a sentinel has made it the primary.
    ///
    /// # Panics
    /// None does in time.
    pub async fn is_promoted(&self) {
        wait_until(DEADLINE, "the replica is the primary", || async {
            self.replication().await.contains("role:master")
        })
        .await;
    }
}
