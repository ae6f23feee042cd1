//! The console's table of routes, and what every answer of it says to a browser.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;

use super::Console;
use super::handlers;

/// Nothing from elsewhere, nothing inline, nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The routes under `/console`.
pub(crate) fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(handlers::root))
        .route("/console", get(handlers::overview))
        .route("/console/style.css", get(handlers::style))
        .route("/console/script.js", get(handlers::script))
        .route("/console/channels", get(handlers::channels))
        .route("/console/channels/{id}", get(handlers::channel))
        .route("/console/channels/{id}/{action}", get(handlers::confirm).post(handlers::act))
        .route("/console/dead", get(handlers::dead))
        .route(
            "/console/dead/{partition}/{entry}/requeue",
            get(handlers::confirm_requeue).post(handlers::requeue),
        )
        .route("/console/audit", get(handlers::audit).post(handlers::begin_audit))
        .with_state(console)
        .layer(map_response(guarded))
}

/// What is shown is private, of this moment, and runs nothing but the one script.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
