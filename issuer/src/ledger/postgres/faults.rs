//! What an error of PostgreSQL means for the one who asked. Before COMMIT, whatever it is, nothing has taken place.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::ledger::LedgerError;

/// What `error` means.
pub(super) fn meaning(error: &Error) -> LedgerError {
    let detail = describe(error);
    let Some(state) = error.code() else {
        // Nothing that the server said: the way there is at fault.
        return LedgerError::Unavailable { detail };
    };
    match *state {
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => LedgerError::Contended,
        // It waited longer than a statement may: for a lock, or for a server with too much to do.
        SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => LedgerError::Overloaded,
        // A server that was a primary once.
        SqlState::READ_ONLY_SQL_TRANSACTION => LedgerError::Unavailable { detail },
        // 08 connection, 28 authorization, 3D no such database, 53 out of resources, 57P going down or coming up.
        _ if ["08", "28", "3D", "53", "57P"].iter().any(|class| state.code().starts_with(class)) => {
            LedgerError::Unavailable { detail }
        }
        _ => LedgerError::Database(detail.into()),
    }
}

/// The error with what is behind it. No error of the driver holds a password.
pub(super) fn describe(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
