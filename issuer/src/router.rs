//! Every route of the issuer.

use std::sync::LazyLock;

use axum::Router;
use axum::middleware::from_fn_with_state;
use service::openapi::{self as described, Description, Routes};

use crate::handlers::{self, App};
use crate::openapi;

/// The public routes, with what the description says of each.
fn routes() -> Routes<App> {
    Routes::default()
        .get("/v1/issuer", handlers::info, openapi::info())
        .post("/v1/accounts", handlers::register, openapi::register())
        .get("/v1/accounts/{key}", handlers::account, openapi::account())
        .post("/v1/channels", handlers::open, openapi::open())
        .get("/v1/channels", handlers::channels, openapi::channels())
        .get("/v1/channels/{id}", handlers::channel, openapi::channel())
        .post("/v1/channels/{id}/refund", handlers::refund, openapi::refund())
        .post("/v1/channels/{id}/settlements", handlers::settle, openapi::settle())
        .post("/v1/settlements", handlers::settle_all, openapi::settle_all())
        .get("/v1/books", handlers::books, openapi::books())
        .get(described::PATH, handlers::description, openapi::itself())
}

/// The description of these routes, made once.
pub(crate) fn description() -> &'static Description {
    static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| routes().describe(&openapi::ABOUT));
    &DESCRIPTION
}

/// The public listener.
pub(crate) fn router(app: App) -> Router {
    let measured = from_fn_with_state(app.metrics.clone(), handlers::measured);
    routes().into_router(|router| router.route_layer(measured)).with_state(app)
}
