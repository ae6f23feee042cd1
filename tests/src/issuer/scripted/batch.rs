//! A batch of settlements: what is told of settlements holds for each of them.

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::{BODY_MAX_BYTES, Route, Shared, Step, count};

pub(super) const PATH: &str = "/v1/settlements";

/// Deals with a batch. Each of its settlements takes a step of its own. A step that is about the whole answer (a status,
/// none at all) holds for all of them, if it is that of any; a JSON is the result of its own settlement alone, of which
/// the real issuer hears nothing.
pub(super) async fn handle(shared: &Shared, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_MAX_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let settlements = settlements(&body);
    shared.batches.send_modify(|batches| batches.push(settlements.len()));
    if !shared.takes_batches.load(std::sync::atomic::Ordering::SeqCst) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let times = |settlements: &[Value]| u64::try_from(settlements.len()).expect("a batch is short");
    count(&shared.counts, Route::Settle, times(&settlements));
    let steps: Vec<Step> = settlements.iter().map(|_| shared.step(Route::Settle)).collect();
    let status = |code| StatusCode::from_u16(code).expect("a test names statuses that exist").into_response();
    let of_the_whole = steps.iter().find(|step| !matches!(step, Step::Forward | Step::Json(..))).cloned();
    match of_the_whole {
        Some(Step::Hang) => return shared.hang().await,
        Some(Step::Status(code)) => return status(code),
        Some(Step::ForwardThenHang) => {
            shared.pass_on(Route::Settle, times(&settlements), head, body).await;
            return shared.hang().await;
        }
        Some(Step::ForwardThenStatus(code)) => {
            shared.pass_on(Route::Settle, times(&settlements), head, body).await;
            return status(code);
        }
        Some(Step::Forward | Step::Json(..)) | None => {}
    }
    let forwarded: Vec<Value> = settlements
        .iter()
        .zip(&steps)
        .filter(|(_, step)| **step == Step::Forward)
        .map(|(settlement, _)| settlement.clone())
        .collect();
    if forwarded.len() == settlements.len() {
        return shared.pass_on(Route::Settle, times(&settlements), head, body).await;
    }
    let mut answered = Vec::new();
    if !forwarded.is_empty() {
        let body = json!({ "settlements": forwarded }).to_string();
        let answer = shared.pass_on(Route::Settle, times(&forwarded), head, Bytes::from(body)).await;
        let (status, answer) = (answer.status(), to_bytes(answer.into_body(), BODY_MAX_BYTES).await);
        answered = answer.ok().and_then(|answer| results(&answer)).unwrap_or_default();
        if answered.len() != forwarded.len() {
            return status.into_response();
        }
    }
    let mut answered = answered.into_iter();
    let results: Vec<Value> = steps
        .into_iter()
        .map(|step| match step {
            Step::Json(_, result) => serde_json::from_str(&result).expect("a test writes JSON"),
            _ => answered.next().expect("a result for each that was passed on"),
        })
        .collect();
    ([(header::CONTENT_TYPE, "application/json")], json!({ "results": results }).to_string()).into_response()
}

fn settlements(body: &[u8]) -> Vec<Value> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["settlements"].as_array().cloned().unwrap_or_default()
}

fn results(answer: &[u8]) -> Option<Vec<Value>> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    answer["results"].as_array().cloned()
}
