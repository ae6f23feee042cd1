//! The routes of the public listener.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use service::http::{Front, Incoming};
use service::openapi::{self as described, Description, Routes};
use service::trail;
use tracing::Instrument as _;

use crate::handlers::{self, App};
use crate::openapi;
use crate::trip::is_looked_for;

/// Where a payment is sent.
const PAYMENTS: &str = "/v1/payments";

/// Every route that payers see, with what the description says of it.
fn routes() -> Routes<Arc<App>> {
    Routes::default()
        .post(PAYMENTS, handlers::payment, openapi::payment())
        .post("/v1/payments/batch", handlers::batch, openapi::batch())
        .get("/v1/payments/stream", handlers::stream, openapi::stream())
        .get("/v1/channels/{id}", handlers::channel, openapi::channel())
        .post("/v1/channels/{id}/close", handlers::close, openapi::close())
        .get(described::PATH, handlers::description, openapi::itself())
}

/// The description of these routes, made once.
pub(crate) fn description() -> &'static Description {
    static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| routes().describe(&openapi::ABOUT));
    &DESCRIPTION
}

/// The routes, and a short way to the one that payers ask all the time: what a router does for any route costs as much
/// as a payment's hash.
#[derive(Clone)]
pub(crate) struct Public {
    app: Arc<App>,
    router: Router,
}

impl Public {
    pub(crate) fn new(app: Arc<App>) -> Self {
        let router = routes().into_router(|router| router).with_state(Arc::clone(&app));
        Self { router, app }
    }

    fn take(&self, incoming: Incoming) -> impl Future<Output = Response> + Send {
        let (peer, body) = (incoming.peer(), incoming.body());
        async move { handlers::take(&self.app, peer, body.await).await.into_response() }
    }
}

impl Front for Public {
    /// What has come of a payment is recorded whether or not its payer waits.
    const OUTLASTS_CLIENTS: bool = true;

    async fn answer(&self, incoming: Incoming) -> Response {
        if !incoming.is_for(&Method::POST, PAYMENTS) {
            return Box::pin(self.router.answer(incoming)).await;
        }
        match trail::current_if(is_looked_for) {
            None => self.take(incoming).await,
            // A span costs as much as a hash: only for who may look for its lines.
            Some(trail) => Box::pin(self.take(incoming)).instrument(trail.log_span()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of what is done for a request: made anew for each, and in memory until it is answered.
    const AT_MOST: usize = 2304;

    fn bytes_of<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_is_done_for_a_payment_takes_little_room() {
        let bytes = bytes_of(|(front, incoming): (&'static Public, Incoming)| front.answer(incoming));
        assert!(bytes <= AT_MOST, "{bytes}: what payments seldom need is boxed");
    }
}
