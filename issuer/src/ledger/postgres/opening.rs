//! The tables, how a database comes to have them, and whose they are.

use common::ids::PublicKey;
use std::sync::Arc;
use tokio_postgres::Client;

use super::{Session, Settings, faults};
use crate::ledger::{LedgerError, OpenError};

/// One step a version; a released step never changes.
const MIGRATIONS: [&str; 1] = [include_str!("../schema/postgres/1.sql")];

/// Of all advisory locks of the database, the one under which its schema changes ("millrace" in ASCII).
const SCHEMA_LOCK: i64 = 0x6d69_6c6c_7261_6365;

/// Makes or upgrades the tables of `issuer` as needed. Of several that start at once, one does it and the others wait.
pub(in crate::ledger) fn open(settings: &Arc<Settings>, issuer: &PublicKey) -> Result<(), OpenError> {
    let session = Session::patient(settings)?;
    let live = session.connect().map_err(unreachable)?;
    let opened = session.runtime.block_on(async {
        live.client.batch_execute("BEGIN").await?;
        migrate(&live.client).await?;
        belong_to(&live.client, issuer).await?;
        live.client.batch_execute("COMMIT").await?;
        warn_of_losses(&live.client).await
    });
    session.give_up(live);
    opened
}

fn unreachable(error: LedgerError) -> OpenError {
    OpenError::Server { detail: error.to_string() }
}

impl From<tokio_postgres::Error> for OpenError {
    fn from(error: tokio_postgres::Error) -> Self {
        OpenError::Server { detail: faults::describe(&error) }
    }
}

async fn migrate(client: &Client) -> Result<(), OpenError> {
    client.query("SELECT pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK]).await?;
    // Looked for, and not made if absent: where the tables are there, a role that may make none can run the issuer.
    let there = client.query_one("SELECT to_regclass('millrace_schema') IS NOT NULL", &[]).await?;
    let found = if there.try_get(0)? {
        let found: i64 = client.query_one("SELECT version FROM millrace_schema", &[]).await?.try_get(0)?;
        usize::try_from(found).unwrap_or(usize::MAX)
    } else {
        client.batch_execute("CREATE TABLE millrace_schema (version BIGINT NOT NULL)").await?;
        client.batch_execute("INSERT INTO millrace_schema (version) VALUES (0)").await?;
        0
    };
    let known = MIGRATIONS.len();
    let Some(missing) = MIGRATIONS.get(found..) else {
        return Err(OpenError::TooNew { found, known });
    };
    if missing.is_empty() {
        return Ok(());
    }
    for step in missing {
        client.batch_execute(step).await?;
    }
    let version = i64::try_from(known).unwrap_or(i64::MAX);
    client.execute("UPDATE millrace_schema SET version = $1", &[&version]).await?;
    Ok(())
}

/// Writes down whose database it is, or refuses one of another issuer: its receipts would not fit its channels.
async fn belong_to(client: &Client, issuer: &PublicKey) -> Result<(), OpenError> {
    let sql = "INSERT INTO issuer (only_row, public_key) VALUES (1, $1) ON CONFLICT DO NOTHING";
    client.execute(sql, &[&issuer.0.as_slice()]).await?;
    let owner = client.query_one("SELECT public_key FROM issuer", &[]).await?;
    let owner: &[u8] = owner.try_get(0)?;
    if owner != issuer.0 {
        let owner = owner.try_into().map(PublicKey).unwrap_or(PublicKey([0; 32]));
        return Err(OpenError::OtherIssuer { owner, configured: *issuer });
    }
    Ok(())
}

/// A server that does not flush is the operator's choice, and none to be made unknowingly.
async fn warn_of_losses(client: &Client) -> Result<(), OpenError> {
    let fsync: String = client.query_one("SELECT current_setting('fsync')", &[]).await?.try_get(0)?;
    if fsync == "off" {
        tracing::warn!("the database does not flush (fsync = off): a crash of its machine loses settlements");
    }
    Ok(())
}
