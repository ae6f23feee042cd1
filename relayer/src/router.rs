//! The routes of the public listener.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use service::error::with_fallbacks;

use crate::handlers::{self, App};

/// Every route that payers see.
pub(crate) fn public(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/v1/payments", post(handlers::payment))
        .route("/v1/payments/batch", post(handlers::batch))
        .route("/v1/payments/stream", get(handlers::stream))
        .route("/v1/channels/{id}", get(handlers::channel))
        .route("/v1/channels/{id}/close", post(handlers::close));
    with_fallbacks(routes).with_state(app)
}
