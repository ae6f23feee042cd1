//! The routes of the public listener.

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use service::error::with_fallbacks;
use service::http::{Front, Incoming};

use crate::handlers::{self, App};

/// Where a payment is sent.
const PAYMENTS: &str = "/v1/payments";

/// Every route that payers see, and a short way to the one that they ask all the time: what a router does for any route
/// costs as much as a payment's hash.
#[derive(Clone)]
pub(crate) struct Public {
    app: Arc<App>,
    router: Router,
}

impl Public {
    pub(crate) fn new(app: Arc<App>) -> Self {
        let routes = Router::new()
            .route(PAYMENTS, post(handlers::payment))
            .route("/v1/payments/batch", post(handlers::batch))
            .route("/v1/payments/stream", get(handlers::stream))
            .route("/v1/channels/{id}", get(handlers::channel))
            .route("/v1/channels/{id}/close", post(handlers::close));
        Self { router: with_fallbacks(routes).with_state(Arc::clone(&app)), app }
    }
}

impl Front for Public {
    async fn answer(&self, incoming: Incoming) -> Response {
        if !incoming.is_for(&Method::POST, PAYMENTS) {
            return Box::pin(self.router.answer(incoming)).await;
        }
        let peer = incoming.peer();
        handlers::take(&self.app, peer, incoming.body().await).await.into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of what is done for a request. hyper moves all of it, for each of them.
    const AT_MOST: usize = 2048;

    fn bytes_of<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_is_done_for_a_payment_takes_little_room() {
        let bytes = bytes_of(|(front, incoming): (&'static Public, Incoming)| front.answer(incoming));
        assert!(bytes <= AT_MOST, "{bytes}: what payments seldom need is boxed");
    }
}
