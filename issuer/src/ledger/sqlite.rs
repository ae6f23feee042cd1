//! The embedded database. It lets one writer in at a time, so that a transaction which may write is alone with all that
//! it reads from its beginning on: there is nothing further to lock.

use std::path::Path;
use std::time::Duration;

use common::ids::PublicKey;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection as Database, OpenFlags, ToSql, TransactionBehavior, params_from_iter};

use super::sql::{Cell, Connection, Lock, Purpose, Row, Tx, Value, Work};
use super::{LedgerError, OpenError};

/// How long to wait for another process that holds the write lock (a backup, a second issuer by mistake).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// One step a version; a released step never changes.
const MIGRATIONS: [&str; 2] = [include_str!("schema/sqlite/1.sql"), include_str!("schema/sqlite/2.sql")];

/// Opens the database of `issuer`, making or upgrading it as needed.
pub(super) fn open_for_writing(path: &Path, issuer: &PublicKey) -> Result<Database, OpenError> {
    let mut connection = Database::open(path)?;
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
pub(super) fn open_for_reading(path: &Path) -> Result<Database, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Database::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn migrate(connection: &mut Database) -> Result<(), OpenError> {
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
fn belong_to(connection: &Database, issuer: &PublicKey) -> Result<(), OpenError> {
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

impl Connection for Database {
    fn transact(&mut self, purpose: Purpose, work: &mut Work<'_>) -> Result<(), LedgerError> {
        let behavior = match purpose {
            // What is read in here cannot change before it is written.
            Purpose::Write => TransactionBehavior::Immediate,
            Purpose::Read => TransactionBehavior::Deferred,
        };
        let tx = self.transaction_with_behavior(behavior)?;
        work(&tx)?;
        Ok(tx.commit()?)
    }
}

impl Tx for rusqlite::Transaction<'_> {
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, LedgerError> {
        let changed = self.prepare_cached(sql)?.execute(params_from_iter(values))?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }

    fn each(
        &self,
        sql: &str,
        values: &[Value<'_>],
        take: &mut dyn FnMut(Row) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let mut statement = self.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            let cells: Result<_, LedgerError> =
                (0..columns).map(|column| cell(row.get_ref(column)?)).collect();
            take(Row(cells?))?;
        }
        Ok(())
    }

    fn lock(&self, _: Lock<'_>) -> Result<(), LedgerError> {
        Ok(())
    }

    fn check_held(&self, _: &PublicKey) -> Result<(), LedgerError> {
        Ok(())
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Int(value) => ValueRef::Integer(*value),
            Value::Bool(value) => ValueRef::Integer((*value).into()),
            Value::Number(bytes) => ValueRef::Blob(bytes),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Null => ValueRef::Null,
        }))
    }
}

fn cell(value: ValueRef<'_>) -> Result<Cell, LedgerError> {
    Ok(match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Int(value),
        ValueRef::Text(text) => {
            Cell::Text(std::str::from_utf8(text).map_err(LedgerError::inconsistent)?.to_owned())
        }
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_owned()),
        ValueRef::Real(_) => return Err(LedgerError::inconsistent("a column holds a floating-point number")),
    })
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
