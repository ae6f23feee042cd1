//! The tables, and how a database comes to have them.
//!
//! Amounts and fencing tokens are unsigned 64-bit numbers, which SQLite's integers are not: they are kept as 8 bytes,
//! big-endian, so that the order of the bytes is the order of the numbers.

use std::path::Path;
use std::time::Duration;

use common::amount::Amount;
use common::ids::PublicKey;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

/// How long to wait for another process that holds the write lock (a backup, a second issuer by mistake).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// One step a version; a released step never changes.
const MIGRATIONS: [&str; 2] = [include_str!("schema/1.sql"), include_str!("schema/2.sql")];

/// A database that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer version of the issuer wrote it.
    #[error("the database has schema version {found}, this program knows {known}: upgrade the program")]
    TooNew {
        /// In the file.
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
    /// The system gives no thread to work on.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Opens the database of `issuer`, making or upgrading it as needed.
pub(super) fn open_for_writing(path: &Path, issuer: &PublicKey) -> Result<Connection, OpenError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog { mode });
    }
    // FULL flushes the log at each commit: what was answered survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    migrate(&mut connection)?;
    belong_to(&connection, issuer)?;
    Ok(connection)
}

/// Opens a second connection that cannot write.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let found: i64 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    let known = MIGRATIONS.len();
    let Some(missing) = MIGRATIONS.get(found..) else {
        return Err(OpenError::TooNew { found, known });
    };
    for step in missing {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", i64::try_from(known).unwrap_or(i64::MAX))?;
    tx.commit()?;
    Ok(())
}

/// Writes down whose database it is, or refuses one of another issuer: its receipts would not fit its channels.
fn belong_to(connection: &Connection, issuer: &PublicKey) -> Result<(), OpenError> {
    connection.execute(
        "INSERT INTO issuer (only_row, public_key) VALUES (1, ?1) ON CONFLICT DO NOTHING",
        [issuer.0],
    )?;
    let owner = PublicKey(connection.query_row("SELECT public_key FROM issuer", [], |row| row.get(0))?);
    if owner != *issuer {
        return Err(OpenError::OtherIssuer { owner, configured: *issuer });
    }
    Ok(())
}

/// An unsigned number as it is stored.
pub(super) fn stored(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// An unsigned number as it was stored.
pub(super) fn number(stored: [u8; 8]) -> u64 {
    u64::from_be_bytes(stored)
}

/// An amount as it was stored.
pub(super) fn amount(stored: [u8; 8]) -> Amount {
    Amount::new(number(stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_opens_again_and_only_for_its_issuer_and_version() {
        let dir = tempfile::tempdir().expect("a temp dir");
        let path = dir.path().join("ledger.db");
        let (mine, other) = (PublicKey([1; 32]), PublicKey([2; 32]));
        drop(open_for_writing(&path, &mine).expect("made"));
        let again = open_for_writing(&path, &mine).expect("opened again");
        let setting = |name: &str| -> i64 {
            again.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).expect("a setting")
        };
        assert_eq!((setting("synchronous"), setting("foreign_keys")), (2, 1));
        assert!(matches!(open_for_writing(&path, &other), Err(OpenError::OtherIssuer { .. })));
        again.pragma_update(None, "user_version", 99).expect("set");
        assert!(matches!(open_for_writing(&path, &mine), Err(OpenError::TooNew { found: 99, .. })));
    }

    #[test]
    fn history_cannot_be_rewritten_and_amounts_have_one_form() {
        let dir = tempfile::tempdir().expect("a temp dir");
        let connection = open_for_writing(&dir.path().join("ledger.db"), &PublicKey([1; 32])).expect("made");
        connection
            .execute_batch(
                "INSERT INTO operations (id, kind, at_ms) VALUES (1, 'issue', 0);
                 INSERT INTO accounts (id, kind, owner, asset) VALUES (1, 'issuance', x'', 'usd'), (2, 'issuance', x'', 'eur');
                 INSERT INTO postings (operation_id, from_account, to_account, asset, amount)
                 VALUES (1, 1, 2, 'usd', x'0000000000000001');",
            )
            .expect("inserted");
        for refused in [
            "UPDATE postings SET amount = x'0000000000000002'",
            "DELETE FROM postings",
            "DELETE FROM operations",
            "UPDATE accounts SET balance = 5",
            "UPDATE accounts SET balance = x'05'",
            "INSERT INTO postings (operation_id, from_account, to_account, asset, amount) VALUES (1, 1, 1, 'usd', x'0000000000000001')",
            "INSERT INTO postings (operation_id, from_account, to_account, asset, amount) VALUES (9, 1, 2, 'usd', x'0000000000000001')",
        ] {
            assert!(connection.execute_batch(refused).is_err(), "{refused}");
        }
    }
}
