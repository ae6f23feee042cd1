//! Every route of the issuer.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use service::error::with_fallbacks;

use crate::handlers::{self, App};

/// The public routes.
pub(crate) fn router(app: App) -> Router {
    let routes = Router::new()
        .route("/v1/issuer", get(handlers::info))
        .route("/v1/accounts", post(handlers::register))
        .route("/v1/accounts/{key}", get(handlers::account))
        .route("/v1/channels", post(handlers::open).get(handlers::channels))
        .route("/v1/channels/{id}", get(handlers::channel))
        .route("/v1/channels/{id}/refund", post(handlers::refund))
        .route("/v1/channels/{id}/settlements", post(handlers::settle))
        .route("/v1/settlements", post(handlers::settle_all))
        .route("/v1/books", get(handlers::books))
        .route_layer(from_fn_with_state(app.metrics.clone(), handlers::measured));
    with_fallbacks(routes).with_state(app)
}
