//! From HTTP to the ledger and back. What may and may not be is decided in [`crate::ledger`].

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use common::batch::{ChannelSettlement, SettlementsRequest};
use common::ids::{ChannelId, PublicKey};
use common::problem::{Code, Problem};
use common::wire::{
    Account, AccountRequest, IssuerChannel, IssuerChannelPage, IssuerInfo, OpenRequest, RefundRequest,
    SettlementRequest,
};
use service::body::{Json, Path, Query};
use service::error::ApiError;
use service::issuer_client::{Books, ChannelQuery};
use service::openapi::Description;

use crate::error::to_api;
use crate::ledger::{Ledger, LedgerError, Opened};
use crate::metrics::Metrics;
use crate::router;

/// What handlers work with.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) ledger: Ledger,
    pub(crate) metrics: Metrics,
}

type Answer<T> = Result<T, ApiError>;

pub(crate) async fn info(State(app): State<App>) -> Json<IssuerInfo> {
    Json(app.ledger.info())
}

pub(crate) async fn register(
    State(app): State<App>,
    Json(request): Json<AccountRequest>,
) -> Answer<Json<Account>> {
    app.ledger.register(request.public_key).await.map(Json).map_err(to_api)
}

pub(crate) async fn account(State(app): State<App>, Path(key): Path<PublicKey>) -> Answer<Json<Account>> {
    app.ledger.account(key).await.map(Json).map_err(to_api)
}

pub(crate) async fn open(State(app): State<App>, Json(request): Json<OpenRequest>) -> Answer<Response> {
    Ok(match app.ledger.open_channel(request).await.map_err(to_api)? {
        Opened::New(channel) => (StatusCode::CREATED, Json(*channel)).into_response(),
        Opened::Before(channel) => Json(*channel).into_response(),
    })
}

pub(crate) async fn channel(
    State(app): State<App>,
    Path(id): Path<ChannelId>,
) -> Answer<Json<IssuerChannel>> {
    app.ledger.channel(id).await.map(Json).map_err(to_api)
}

pub(crate) async fn channels(
    State(app): State<App>,
    Query(query): Query<ChannelQuery>,
) -> Answer<Json<IssuerChannelPage>> {
    app.ledger.channels(query).await.map(Json).map_err(to_api)
}

pub(crate) async fn refund(
    State(app): State<App>,
    Path(id): Path<ChannelId>,
    Json(request): Json<RefundRequest>,
) -> Answer<Json<IssuerChannel>> {
    app.ledger.refund(id, request).await.map(Json).map_err(to_api)
}

/// Answers with the stored text of the receipt, so that a repeat gets the same bytes.
pub(crate) async fn settle(
    State(app): State<App>,
    Path(id): Path<ChannelId>,
    Json(request): Json<SettlementRequest>,
) -> Answer<Response> {
    let receipt = app.ledger.settle(id, request).await.map_err(to_api)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], receipt).into_response())
}

/// Answers with a receipt or a problem for each, in order; receipts byte for byte, as [`settle`] does.
pub(crate) async fn settle_all(
    State(app): State<App>,
    Json(request): Json<SettlementsRequest>,
) -> Answer<Response> {
    let (given, most) = (request.settlements.len(), app.ledger.limits().settlements_batch_max);
    if given == 0 {
        return Err(ApiError::malformed("settlements", format_args!("1 to {most} settlements")));
    }
    if given > most {
        let detail = format_args!("{given} settlements, the limit is {most}");
        return Err(Problem::new(Code::PayloadTooLarge).field("settlements").detail(detail).into());
    }
    let mut readable = Vec::with_capacity(given);
    let unreadable: Vec<Option<Problem>> = request
        .settlements
        .into_iter()
        .map(|value| match ChannelSettlement::from_value(value) {
            Ok(settlement) => {
                readable.push(settlement);
                None
            }
            Err(error) => Some(Problem::malformed(&error)),
        })
        .collect();
    let mut settled = app.ledger.settle_all(readable).await.map_err(to_api)?.into_iter();
    let mut texts = Vec::with_capacity(given);
    for unreadable in unreadable {
        let result = match unreadable {
            Some(problem) => Err(problem.into()),
            None => settled.next().unwrap_or(Err(LedgerError::Stopped)).map_err(to_api),
        };
        app.metrics.count("settle", result.as_ref().map_or_else(|error| error.0.code.as_str(), |_| "ok"));
        texts.push(match result {
            Ok(receipt) => receipt,
            Err(ApiError(problem)) => {
                serde_json::to_string(&problem).map_err(|_| ApiError::new(Code::Internal))?
            }
        });
    }
    let body = format!("{{\"results\":[{}]}}", texts.join(","));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

pub(crate) async fn books(State(app): State<App>) -> Answer<Json<Books>> {
    app.ledger.verify_books().await.map(Json).map_err(to_api)
}

pub(crate) async fn description() -> &'static Description {
    router::description()
}

/// Counts each request under its operation and the code of its answer.
pub(crate) async fn measured(
    State(metrics): State<Metrics>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let operation = operation(request.method(), path.as_str());
    let start = Instant::now();
    let response = next.run(request).await;
    let outcome = response.extensions().get::<Code>().map_or("ok", |code| code.as_str());
    metrics.observe(operation, outcome, start.elapsed());
    response
}

/// The label of a route: one of a fixed few, whatever is asked for.
fn operation(method: &Method, path: &str) -> &'static str {
    match (method, path) {
        (&Method::GET, "/v1/issuer") => "info",
        (&Method::POST, "/v1/accounts") => "register",
        (&Method::GET, "/v1/accounts/{key}") => "account",
        (&Method::POST, "/v1/channels") => "open",
        (&Method::GET, "/v1/channels") => "channels",
        (&Method::GET, "/v1/channels/{id}") => "channel",
        (&Method::POST, "/v1/channels/{id}/refund") => "refund",
        (&Method::POST, "/v1/channels/{id}/settlements") => "settle",
        (&Method::POST, "/v1/settlements") => "settle_all",
        (&Method::GET, "/v1/books") => "books",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::OPERATIONS;

    #[test]
    fn whatever_is_asked_for_is_one_of_the_operations() {
        let routes =
            ["/v1/issuer", "/v1/accounts", "/v1/accounts/{key}", "/v1/channels", "/v1/channels/{id}"];
        let more = [
            "/v1/channels/{id}/refund",
            "/v1/channels/{id}/settlements",
            "/v1/settlements",
            "/v1/books",
            "/x",
        ];
        let mut named: Vec<&str> = routes
            .iter()
            .chain(&more)
            .flat_map(|path| [Method::GET, Method::POST, Method::PUT].map(|method| operation(&method, path)))
            .collect();
        named.sort_unstable();
        named.dedup();
        let mut all = OPERATIONS;
        all.sort_unstable();
        assert_eq!(named, all);
    }
}
