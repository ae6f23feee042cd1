//! From HTTP to what a relayer does, and back.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::ids::ChannelId;
use common::problem::{Code, Problem};
use common::wire::{BatchResult, CloseAnswer, CloseRequest, PaymentAnswer, RelayerChannel};
use service::body::{Json, Path, Raw, json_answer};
use service::error::ApiError;
use service::openapi::Description;
use service::openapi::operation::LINES;
use service::trail;
use service::websocket::Upgrade;

use crate::accept::{Acceptor, refuse};
use crate::error::Refusal;
use crate::metrics::Ending;
use crate::router;
use crate::split::{Form, form_of, split};
use crate::stream::{self, Streams};

/// What every handler works with.
pub(crate) struct App {
    pub(crate) acceptor: Acceptor,
    pub(crate) streams: Streams,
}

type AppState = State<Arc<App>>;
type Peer = ConnectInfo<SocketAddr>;
type Body = Result<Raw, ApiError>;

/// `POST /v1/payments`
pub(crate) async fn payment(
    State(app): AppState,
    ConnectInfo(peer): Peer,
    body: Body,
) -> Result<Taken, ApiError> {
    take(&app, peer, body.map(|Raw(body)| body)).await
}

/// The answer to a payment that was taken.
pub(crate) struct Taken(PaymentAnswer);

impl IntoResponse for Taken {
    fn into_response(self) -> Response {
        json_answer(self.0.to_json())
    }
}

/// One payment, however it was routed.
pub(crate) async fn take(
    app: &App,
    peer: SocketAddr,
    body: Result<Bytes, ApiError>,
) -> Result<Taken, ApiError> {
    let ticket = app.acceptor.receive()?;
    let body = match body {
        Ok(body) => body,
        Err(error) => {
            ticket.end(Ending::Refused(error.0.code));
            return Err(error);
        }
    };
    if let Err(too_many) = app.acceptor.tuning.limits.check_address(peer.ip(), 1).await {
        return Err(refuse([ticket], Refusal::RateLimited(too_many)).into());
    }
    Ok(Taken(app.acceptor.accept(ticket, &body).await?))
}

/// `POST /v1/payments/batch`
pub(crate) async fn batch(
    State(app): AppState,
    ConnectInfo(peer): Peer,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let split = match &body {
        Ok(Raw(body)) => elements(&app, &headers, body).map_err(ApiError::from),
        Err(error) => Err(error.clone()),
    };
    let (form, elements) = match split {
        Ok(split) => split,
        Err(error) => {
            // What cannot be split counts as one.
            app.acceptor.receive()?.end(Ending::Refused(error.0.code));
            return Err(error);
        }
    };
    let tickets = app.acceptor.receive_batch(elements.len())?;
    if let Err(too_many) = app.acceptor.tuning.limits.check_address(peer.ip(), elements.len()).await {
        return Err(refuse(tickets, Refusal::RateLimited(too_many)).into());
    }
    let results = app.acceptor.accept_batch(tickets, &elements).await;
    let results = results.into_iter().enumerate().map(|(index, result)| match result {
        Ok(answer) => BatchResult::Taken(answer),
        Err(refusal) => BatchResult::Refused(in_element(index, refusal.into())),
    });
    Ok(written(form, results.collect()))
}

/// `GET /v1/payments/stream`
pub(crate) async fn stream(
    State(app): AppState,
    ConnectInfo(peer): Peer,
    upgrade: Result<Upgrade, ApiError>,
) -> Result<Response, ApiError> {
    limit(&app, peer).await?;
    let (frames, opened_by) = (app.streams.frames(), trail::current());
    Ok(upgrade?.then(frames, move |socket| stream::converse(app, peer, opened_by, socket)))
}

/// `GET /v1/channels/{id}`
pub(crate) async fn channel(
    State(app): AppState,
    ConnectInfo(peer): Peer,
    Path(id): Path<ChannelId>,
) -> Result<Json<RelayerChannel>, ApiError> {
    limit(&app, peer).await?;
    Ok(Json(app.acceptor.view(&id).await?))
}

/// `POST /v1/channels/{id}/close`
pub(crate) async fn close(
    State(app): AppState,
    ConnectInfo(peer): Peer,
    Path(id): Path<ChannelId>,
    Json(request): Json<CloseRequest>,
) -> Result<(StatusCode, Json<CloseAnswer>), ApiError> {
    limit(&app, peer).await?;
    let answer = app.acceptor.request_close(&id, &request).await?;
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// `GET /openapi.json`
pub(crate) async fn description(
    State(app): AppState,
    ConnectInfo(peer): Peer,
) -> Result<&'static Description, ApiError> {
    limit(&app, peer).await?;
    Ok(router::description())
}

async fn limit(app: &App, peer: SocketAddr) -> Result<(), Refusal> {
    app.acceptor.tuning.limits.check_address(peer.ip(), 1).await.map_err(Refusal::RateLimited)
}

fn elements<'body>(
    app: &App,
    headers: &HeaderMap,
    body: &'body Bytes,
) -> Result<(Form, Vec<&'body [u8]>), Refusal> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next()).map(str::trim);
    let declared = essence.and_then(|essence| match essence.to_ascii_lowercase().as_str() {
        LINES => Some(Form::Lines),
        "application/json" => Some(Form::Array),
        // People with curl forget it.
        _ => None,
    });
    let form = form_of(body, declared)?;
    Ok((form, split(body, form, app.acceptor.tuning.bounds().batch_max)?))
}

/// Says which element of a batch a field is in.
fn in_element(index: usize, mut problem: Problem) -> Problem {
    problem.field = match problem.field {
        Some(field) => Some(format!("[{index}].{field}")),
        None if problem.code == Code::Malformed => Some(format!("[{index}]")),
        None => None,
    };
    problem
}

fn written(form: Form, results: Vec<BatchResult>) -> Response {
    match form {
        Form::Array => Json(results).into_response(),
        Form::Lines => {
            let mut lines = Vec::new();
            for result in &results {
                // Only a map with keys that are no texts could fail to become JSON.
                let _ = serde_json::to_writer(&mut lines, result);
                lines.push(b'\n');
            }
            ([(header::CONTENT_TYPE, LINES)], lines).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_batch_are_named_with_their_element() {
        let field = |problem| in_element(3, problem).field;
        let signature = Problem::new(Code::Malformed).field("signature");
        assert_eq!(field(signature).as_deref(), Some("[3].signature"));
        assert_eq!(field(Problem::new(Code::Malformed)).as_deref(), Some("[3]"));
        assert_eq!(field(Problem::new(Code::StaleAmount)), None);
    }
}
