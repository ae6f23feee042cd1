//! Who answers a listener's requests: a router, or somebody who stands in front of one.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Method;
use axum::response::Response;
use bytes::Bytes;
use tower::ServiceExt as _;
use tracing::Instrument as _;

use super::progress::Asked;
use crate::body::{limit, read};
use crate::error::ApiError;
use crate::trail::{self, RequestTrail};

/// Answers every request of a listener. A router does; so may whoever has a short way for a route that is asked all the
/// time, and gives everything else to a router.
pub trait Front: Clone + Send + Sync + 'static {
    /// Whether a request is worked on to its end though its client may have left. To look for that costs a read of the
    /// socket and a buffer for each request, which is much where an answer takes a millisecond. A client that has only
    /// ended what it sends is answered.
    const OUTLASTS_CLIENTS: bool = false;

    /// Answers one request.
    fn answer(&self, incoming: Incoming) -> impl Future<Output = Response> + Send;

    /// In what time it is to be answered, where `usual` is `http.request_timeout_ms`.
    fn within(&self, _: &Incoming, usual: Duration) -> Duration {
        usual
    }
}

/// A request as it came from its connection.
pub struct Incoming {
    request: hyper::Request<Asked>,
    peer: SocketAddr,
    body_max_bytes: usize,
}

impl Incoming {
    pub(super) fn new(request: hyper::Request<Asked>, peer: SocketAddr, body_max_bytes: usize) -> Self {
        Self { request, peer, body_max_bytes }
    }

    /// True if the request is for this route, whatever its query.
    pub fn is_for(&self, method: &Method, path: &str) -> bool {
        self.request.method() == method && self.request.uri().path() == path
    }

    /// What it is called.
    pub(super) fn trail(&self) -> RequestTrail {
        RequestTrail::of(self.request.headers())
    }

    /// Its method and path.
    pub(super) fn route(&self) -> (&Method, &str) {
        (self.request.method(), self.request.uri().path())
    }

    /// The address it came from.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Its body.
    ///
    /// # Errors
    /// `payload_too_large` beyond `http.body_max_bytes`; `malformed` if it ended early.
    pub fn body(self) -> impl Future<Output = Result<Bytes, ApiError>> + Send {
        read(self.request.into_body(), self.body_max_bytes)
    }
}

impl Front for Router {
    /// Handlers find the peer's address as `ConnectInfo<SocketAddr>`.
    async fn answer(&self, incoming: Incoming) -> Response {
        let mut request = incoming.request.map(Body::new);
        limit(&mut request, incoming.body_max_bytes);
        request.extensions_mut().insert(ConnectInfo(incoming.peer));
        let span = trail::current().map_or_else(tracing::Span::none, |trail| trail.log_span());
        let asked = tracing::enabled!(tracing::Level::DEBUG)
            .then(|| (request.method().clone(), request.uri().clone()));
        async move {
            let Ok(answer) = self.clone().oneshot(request).await;
            if let Some((method, uri)) = asked {
                tracing::debug!(%method, path = uri.path(), status = answer.status().as_u16(), "answered");
            }
            answer
        }
        .instrument(span)
        .await
    }
}
