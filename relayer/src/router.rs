//! The routes of the public listener.

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use service::error::with_fallbacks;
use service::http::{Front, Incoming};
use service::trail;
use tracing::Instrument as _;

use crate::handlers::{self, App};
use crate::trip::is_looked_for;

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
            return self.router.answer(incoming).await;
        }
        let peer = incoming.peer();
        let taken = async { handlers::take(&self.app, peer, incoming.body().await).await.into_response() };
        match trail::current().filter(|trail| is_looked_for(trail)) {
            // A span costs as much as a hash: only for who may look for its lines.
            Some(trail) => taken.instrument(trail.log_span()).await,
            None => taken.await,
        }
    }
}
