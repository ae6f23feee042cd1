//! How requests are read: bodies, ids in paths, and queries, each failing with a problem that names what is wrong.

use std::str::FromStr;

use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use common::problem::{Code, Problem};
use common::wire;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The limit that holds for a request, so that a refusal can name it.
#[derive(Clone, Copy, Debug)]
struct BodyMax(usize);

/// Limits every body on `router` to `max_bytes`. A limit set on an inner router wins over an outer one.
pub fn limited<S: Clone + Send + Sync + 'static>(router: Router<S>, max_bytes: usize) -> Router<S> {
    router.layer(DefaultBodyLimit::max(max_bytes)).layer(axum::Extension(BodyMax(max_bytes)))
}

/// The raw bytes of a body within the limit.
#[derive(Clone, Debug)]
pub struct Raw(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let limit = request.extensions().get::<BodyMax>().copied();
        // A body that says itself that it is too large is not waited for.
        let announced = request.body().size_hint().lower();
        if limit.is_some_and(|BodyMax(max)| usize::try_from(announced).is_ok_and(|bytes| bytes > max)) {
            return Err(too_large(limit));
        }
        Bytes::from_request(request, state).await.map(Raw).map_err(|rejection| match rejection {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => too_large(limit),
            _ => Problem::new(Code::Malformed).detail("the body ended early").into(),
        })
    }
}

/// `payload_too_large`, naming the limit where it is known.
fn too_large(limit: Option<BodyMax>) -> ApiError {
    let problem = Problem::new(Code::PayloadTooLarge);
    match limit {
        Some(BodyMax(bytes)) => problem.detail(format_args!("the limit is {bytes} bytes")),
        None => problem,
    }
    .into()
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
        axum::Json(self.0).into_response()
    }
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
    use axum::body::{Body, to_bytes};
    use axum::routing::post;
    use common::ids::ChannelId;
    use common::wire::AccountRequest;
    use tower::ServiceExt;

    async fn refusal(router: &Router, path: &str, body: &str) -> Problem {
        let request = Request::post(path).body(Body::from(body.to_owned())).expect("a request");
        let response = router.clone().oneshot(request).await.expect("infallible");
        let body = to_bytes(response.into_body(), 10_000).await.expect("a short body");
        serde_json::from_slice(&body).expect("a problem")
    }

    #[tokio::test]
    async fn bodies_are_refused_by_size_then_by_shape() {
        let inner = limited(Router::new().route("/small", post(|_: Json<AccountRequest>| async {})), 8);
        let outer = inner.route("/large", post(|_: Json<AccountRequest>| async {}));
        let router = limited(outer, 100);
        let large = refusal(&router, "/large", &"x".repeat(101)).await;
        assert_eq!(
            (large.code, large.detail.as_deref()),
            (Code::PayloadTooLarge, Some("the limit is 100 bytes"))
        );
        let small = refusal(&router, "/small", "{       }").await;
        assert_eq!(
            (small.code, small.detail.as_deref()),
            (Code::PayloadTooLarge, Some("the limit is 8 bytes"))
        );
        let shape = refusal(&router, "/large", r#"{"public_key": 1}"#).await;
        assert_eq!((shape.code, shape.field.as_deref()), (Code::Malformed, Some("public_key")));
    }

    #[tokio::test]
    async fn a_bad_id_in_the_path_names_the_parameter() {
        let router = Router::new().route("/{id}/x", post(|_: Path<ChannelId>| async {}));
        let bad = refusal(&router, "/0/x", "").await;
        assert_eq!((bad.code, bad.field.as_deref()), (Code::Malformed, Some("id")));
    }
}
