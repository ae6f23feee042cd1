//! Settlements that travel together.

use common::batch::{ChannelSettlement, SettlementResult, SettlementsAnswer};
use common::wire::Receipt;
use reqwest::{Method, StatusCode};
use serde::Serialize;

use super::{IssuerClient, IssuerError, bounded, chain, judged};

/// Why a batch as a whole came to nothing. None of these is final for any of its settlements.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// No answer that can be believed: all, some or none of them took place. Repeat the same.
    #[error("the issuer is not available: {detail}")]
    Unavailable {
        /// What went wrong, for a person.
        detail: String,
    },
    /// The issuer does not take this batch, and has looked at none of its settlements: send smaller ones, or each alone.
    #[error("the issuer does not take a batch: {detail}")]
    NotTaken {
        /// What it said, for a person.
        detail: String,
    },
    /// The issuer takes no batches: send each settlement alone.
    #[error("the issuer has no route for batches")]
    NoRoute,
}

impl BatchError {
    fn unavailable(detail: impl std::fmt::Display) -> Self {
        BatchError::Unavailable { detail: detail.to_string() }
    }
}

/// [`common::batch::SettlementsRequest`], without a detour through untyped JSON.
#[derive(Serialize)]
struct Body<'a> {
    settlements: &'a [ChannelSettlement],
}

impl IssuerClient {
    /// Redeems several vouchers in one request; gives for each what [`IssuerClient::settle`] would have given, in order.
    ///
    /// # Errors
    /// [`BatchError`], which says nothing final about any of them.
    pub async fn settle_all(
        &self,
        settlements: &[ChannelSettlement],
    ) -> Result<Vec<Result<Receipt, IssuerError>>, BatchError> {
        let request = self.request(Method::POST, &["settlements"]).json(&Body { settlements });
        let (response, _until_read) =
            request.send().await.map_err(|error| BatchError::unavailable(chain(&error)))?;
        let status = response.status();
        let body = bounded(response).await.map_err(BatchError::unavailable)?;
        if !status.is_success() {
            return Err(refused_whole(status, &body));
        }
        let answer: SettlementsAnswer = serde_json::from_slice(&body)
            .map_err(|error| BatchError::unavailable(format_args!("unreadable answer: {error}")))?;
        let (asked, answered) = (settlements.len(), answer.results.len());
        if answered != asked {
            return Err(BatchError::unavailable(format_args!("{answered} results for {asked} settlements")));
        }
        let judge = |(result, settlement): (SettlementResult, &ChannelSettlement)| match result {
            SettlementResult::Settled(receipt) => {
                self.believable_receipt(receipt, &settlement.channel_id, &settlement.request)
            }
            SettlementResult::Refused(problem) => {
                let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_GATEWAY);
                Err(judged(status, problem))
            }
        };
        Ok(answer.results.into_iter().zip(settlements).map(judge).collect())
    }
}

/// A status that is no success is about the request, never about one of its settlements: whether it comes from an
/// issuer that takes fewer at a time, from one of another kind, or from a proxy, only alone can a settlement be refused.
fn refused_whole(status: StatusCode, body: &[u8]) -> BatchError {
    let told = serde_json::from_slice::<common::problem::Problem>(body).ok();
    let told = told.map(|problem| format!(", {}: {}", problem.code, problem.detail.unwrap_or_default()));
    let detail = format!("status {status}{}", told.unwrap_or_default());
    match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            BatchError::NoRoute
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => BatchError::Unavailable { detail },
        _ if status.is_client_error() => BatchError::NotTaken { detail },
        _ => BatchError::Unavailable { detail },
    }
}
