//! The databases that the suite runs on, and a way past the issuer into each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use issuer::config::DatabaseConfig;

use super::server::Server;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// A database of a test's own, empty at first.
#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(PathBuf),
    Postgres { server: Arc<Server>, name: String },
}

impl Database {
    /// `dir`: where a file is made, if one is needed.
    pub(crate) async fn new(backend: Backend, dir: &Path) -> Database {
        match backend {
            Backend::Sqlite => Database::Sqlite(dir.join("ledger.db")),
            Backend::Postgres => {
                let server = tokio::task::spawn_blocking(Server::shared).await.expect("a server");
                Database::on(server).await
            }
        }
    }

    /// On a server of the test's own.
    pub(crate) async fn on(server: Arc<Server>) -> Database {
        let name = server.database().await;
        Database::Postgres { server, name }
    }

    /// How an issuer finds it.
    pub(crate) fn config(&self) -> DatabaseConfig {
        DatabaseConfig { url: self.url(), ..DatabaseConfig::default() }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Database::Sqlite(path) => format!("sqlite:{}", path.display()),
            Database::Postgres { server, name } => server.url(name),
        }
    }

    /// Runs statements past the issuer, which may be up.
    pub(crate) async fn try_execute(&self, sql: &str) -> Result<(), String> {
        match self {
            Database::Sqlite(path) => rusqlite::Connection::open(path)
                .and_then(|connection| connection.execute_batch(sql))
                .map_err(|error| error.to_string()),
            Database::Postgres { server, name } => {
                server.client(name).await.batch_execute(sql).await.map_err(|error| error.to_string())
            }
        }
    }

    /// As [`Database::try_execute`], where nothing should fail.
    pub(crate) async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// Bytes as this database's SQL writes them.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> String {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Database::Sqlite(_) => format!("x'{digits}'"),
            Database::Postgres { .. } => format!("'\\x{digits}'::bytea"),
        }
    }

    /// An amount as it is stored.
    pub(crate) fn amount(&self, units: u64) -> String {
        self.bytes(&units.to_be_bytes())
    }

    /// From now on the settlement of this channel cannot be kept: the database fails, and not the settlement.
    pub(crate) async fn fail_on_settlement_of(&self, channel_id: &[u8]) {
        let id = self.bytes(channel_id);
        self.execute(&match self {
            Database::Sqlite(_) => format!(
                "CREATE TRIGGER fails BEFORE INSERT ON settlements WHEN NEW.channel_id = {id}
                 BEGIN SELECT RAISE(ABORT, 'on purpose'); END"
            ),
            Database::Postgres { .. } => format!(
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'on purpose'; END $$;
                 CREATE TRIGGER fails BEFORE INSERT ON settlements FOR EACH ROW
                 WHEN (NEW.channel_id = {id}) EXECUTE FUNCTION fail()"
            ),
        })
        .await;
    }

    /// It can again.
    pub(crate) async fn fail_no_more(&self) {
        self.execute(match self {
            Database::Sqlite(_) => "DROP TRIGGER fails",
            Database::Postgres { .. } => "DROP TRIGGER fails ON settlements",
        })
        .await;
    }
}
