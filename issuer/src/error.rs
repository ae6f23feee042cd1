//! The one map from what the ledger says to what leaves over HTTP.

use common::problem::{Code, Problem};
use service::error::ApiError;

use crate::ledger::LedgerError;

/// Seconds after which an overloaded issuer is worth another try.
const RETRY_AFTER_S: u64 = 1;

/// Carries a [`LedgerError`] to its HTTP form; exists because neither type is this module's own.
pub(crate) fn to_api(error: LedgerError) -> ApiError {
    match error {
        LedgerError::Refused(problem) => {
            tracing::debug!(code = %problem.code, detail = ?problem.detail, field = ?problem.field, "refused");
            ApiError(problem)
        }
        LedgerError::Overloaded | LedgerError::Contended => {
            Problem::new(Code::Overloaded).retry_after_s(RETRY_AFTER_S).into()
        }
        // Not logged one by one: `crate::watch` says once that the database is away.
        LedgerError::Unavailable { .. } => {
            tracing::debug!(%error, "not carried out");
            Problem::new(Code::StoreUnavailable).retry_after_s(RETRY_AFTER_S).into()
        }
        LedgerError::OutcomeUnknown { .. } => {
            tracing::warn!(%error, "an outcome is not known");
            Problem::new(Code::OutcomeUnknown).into()
        }
        LedgerError::Database(_) | LedgerError::Inconsistent { .. } | LedgerError::Stopped => {
            tracing::error!(%error, "the ledger failed");
            Problem::new(Code::Internal).into()
        }
    }
}
