//! From a configuration to a ledger's connections.

use common::config::ConfigError;
use common::ids::PublicKey;
use common::secret::SecretError;

use super::postgres::{self, Session, Settings};
use super::worker::Worker;
use super::{Rules, sqlite};
use crate::config::{DatabaseConfig, Place};

/// Adding up the books may wait behind one that runs, and no more.
const AUDIT_QUEUE_MAX: usize = 2;

/// A look at whether the database answers waits for no other.
const WATCH_QUEUE_MAX: usize = 1;

/// A database that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer version of the issuer wrote it.
    #[error("the database has schema version {found}, this program knows {known}: upgrade the program")]
    TooNew {
        /// In the database.
        found: usize,
        /// In this program.
        known: usize,
    },
    /// Another issuer's channels are in it.
    #[error("the database belongs to issuer {owner}, signing_key is that of {configured}")]
    OtherIssuer {
        /// Whose database it is.
        owner: PublicKey,
        /// Who was about to open it.
        configured: PublicKey,
    },
    /// The file system cannot share the log between connections.
    #[error("the database cannot use a write-ahead log here (journal mode {mode})")]
    NoWriteAheadLog {
        /// What it uses instead.
        mode: String,
    },
    /// SQLite failed.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    /// PostgreSQL cannot be reached, or refuses.
    #[error("{detail}")]
    Server {
        /// What it said, or what became of the connection.
        detail: String,
    },
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The password cannot be had.
    #[error("database.password: {0}")]
    Password(SecretError),
    /// The system gives no thread to work on.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The connections of a ledger, by what they are for.
pub(super) struct Workers {
    pub(super) writer: Worker,
    pub(super) reader: Worker,
    pub(super) auditor: Worker,
    pub(super) watcher: Worker,
}

/// Opens whichever database the configuration names.
pub(super) fn open(config: &DatabaseConfig, rules: &Rules) -> Result<Workers, OpenError> {
    let limits = rules.limits.load();
    let (write_max, read_max) = (limits.write_queue_max, limits.read_queue_max);
    match config.place()? {
        Place::File(path) => {
            let writer = sqlite::open_for_writing(&path, &rules.public_key)?;
            let reader = || sqlite::open_for_reading(&path);
            Ok(Workers {
                writer: Worker::start("ledger-writer", vec![writer], write_max)?,
                reader: Worker::start("ledger-reader", vec![reader()?], read_max)?,
                auditor: Worker::start("ledger-auditor", vec![reader()?], AUDIT_QUEUE_MAX)?,
                watcher: Worker::start("ledger-watcher", vec![reader()?], WATCH_QUEUE_MAX)?,
            })
        }
        Place::Server(server) => {
            let settings = Settings::new(config, *server)?;
            postgres::open(&settings, &rules.public_key)?;
            let sessions =
                |count: u16| (0..count).map(|_| Session::new(&settings)).collect::<Result<Vec<_>, _>>();
            let patient = vec![Session::patient(&settings)?];
            Ok(Workers {
                writer: Worker::start("ledger-writer", sessions(config.write_connections)?, write_max)?,
                reader: Worker::start("ledger-reader", sessions(config.read_connections)?, read_max)?,
                auditor: Worker::start("ledger-auditor", patient, AUDIT_QUEUE_MAX)?,
                watcher: Worker::start("ledger-watcher", sessions(1)?, WATCH_QUEUE_MAX)?,
            })
        }
    }
}
