//! How requests are read: bodies, ids in paths, and queries, each failing with a problem that names what is wrong.

use std::pin::pin;
use std::str::FromStr;

use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use common::problem::{Code, Problem};
use common::wire;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The media type of an answer that is no problem.
const JSON: &str = "application/json";

/// The limit that holds for a request, in bytes.
#[derive(Clone, Copy, Debug)]
struct BodyMax(usize);

impl Default for BodyMax {
    fn default() -> Self {
        BodyMax(64 * 1024)
    }
}

/// Limits the body of a request to `max_bytes`.
pub(crate) fn limit(request: &mut Request, max_bytes: usize) {
    request.extensions_mut().insert(BodyMax(max_bytes));
}

/// The raw bytes of a body within the limit.
#[derive(Clone, Debug)]
pub struct Raw(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let BodyMax(max_bytes) = request.extensions().get().copied().unwrap_or_default();
        read(request.into_body(), max_bytes).await.map(Raw)
    }
}

/// The bytes of a body of at most `max_bytes`.
pub(crate) async fn read<B>(body: B, max_bytes: usize) -> Result<Bytes, ApiError>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    // A body that says itself that it is too large is not waited for.
    if usize::try_from(body.size_hint().lower()).is_ok_and(|bytes| bytes > max_bytes) {
        return Err(too_large(max_bytes));
    }
    whole(Limited::new(body, max_bytes))
        .await
        .map_err(|error| if error.is::<LengthLimitError>() { too_large(max_bytes) } else { ended_early() })
}

/// All of a body. Most come in one piece, which says itself that it is the last: whoever waits to hear that nothing follows
/// is woken once more for it.
async fn whole(body: impl HttpBody<Data = Bytes, Error = BoxError>) -> Result<Bytes, BoxError> {
    let mut body = pin!(body);
    let Some(first) = body.frame().await else { return Ok(Bytes::new()) };
    // Trailers say nothing here.
    let first = first?.into_data().unwrap_or_default();
    if body.is_end_stream() {
        return Ok(first);
    }
    let rest = Box::pin(body.collect()).await?.to_bytes();
    Ok(if rest.is_empty() { first } else { [first, rest].concat().into() })
}

fn too_large(max_bytes: usize) -> ApiError {
    Problem::new(Code::PayloadTooLarge).detail(format_args!("the limit is {max_bytes} bytes")).into()
}

fn ended_early() -> ApiError {
    Problem::new(Code::Malformed).detail("the body ended early").into()
}

/// A JSON body, in and out. Coming in, the media type is not looked at: people with curl forget it.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Raw(body) = Raw::from_request(request, state).await?;
        Ok(Json(wire::from_json(&body)?))
    }
}

impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(json) => json_answer(json),
            // Only a map with keys that are no texts could.
            Err(_) => ApiError::new(Code::Internal).into_response(),
        }
    }
}

/// A good answer of this JSON.
pub fn json_answer(json: impl Into<Body>) -> Response {
    let mut response = Response::new(json.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// The id or key in a route's `{id}`: base58, or `malformed` naming the parameter.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: FromStr<Err: std::fmt::Display>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::malformed("id", error))?;
        let (name, text) = params.iter().next().unwrap_or(("id", ""));
        text.parse().map(Path).map_err(|error| ApiError::malformed(name, error))
    }
}

/// A query string, or `malformed` saying why it cannot be read.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|query| Query(query.0))
            .map_err(|error| Problem::new(Code::Malformed).detail(error.body_text()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::routing::post;
    use common::ids::ChannelId;
    use common::wire::AccountRequest;
    use tower::ServiceExt;

    async fn refusal(router: &Router, path: &str, max_bytes: usize, body: &str) -> Problem {
        let mut request = Request::post(path).body(Body::from(body.to_owned())).expect("a request");
        limit(&mut request, max_bytes);
        let response = router.clone().oneshot(request).await.expect("infallible");
        let body = to_bytes(response.into_body(), 10_000).await.expect("a short body");
        serde_json::from_slice(&body).expect("a problem")
    }

    #[tokio::test]
    async fn bodies_are_refused_by_size_then_by_shape() {
        let router = Router::new().route("/", post(|_: Json<AccountRequest>| async {}));
        let large = refusal(&router, "/", 100, &"x".repeat(101)).await;
        assert_eq!(
            (large.code, large.detail.as_deref()),
            (Code::PayloadTooLarge, Some("the limit is 100 bytes"))
        );
        let shape = refusal(&router, "/", 100, r#"{"public_key": 1}"#).await;
        assert_eq!((shape.code, shape.field.as_deref()), (Code::Malformed, Some("public_key")));
    }

    #[tokio::test]
    async fn a_bad_id_in_the_path_names_the_parameter() {
        let router = Router::new().route("/{id}/x", post(|_: Path<ChannelId>| async {}));
        let bad = refusal(&router, "/0/x", 100, "").await;
        assert_eq!((bad.code, bad.field.as_deref()), (Code::Malformed, Some("id")));
    }
}
