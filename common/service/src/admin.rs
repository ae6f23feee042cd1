//! The admin listener's routes: is the process alive, may it have traffic, what are its numbers. What else is asked of a
//! running process comes before them, see [`crate::profiling`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use common::problem::{Code, Problem};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use serde::Serialize;

use crate::error::{ApiError, with_fallbacks};
use crate::metrics::{Family, Kind, register_read_at_scrape};

/// Whether the process may be sent traffic, and if not, why. Clones share one state.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Ready,
    NotReady(String),
    /// On the way out: nothing makes it ready again.
    Draining,
}

impl Readiness {
    /// Not ready yet, for this reason.
    pub fn new(initial_reason: impl Into<String>) -> Self {
        Readiness(Arc::new(Mutex::new(State::NotReady(initial_reason.into()))))
    }

    /// May have traffic. Without effect once draining.
    pub fn set_ready(&self) {
        self.set(State::Ready);
    }

    /// May not have traffic, for this reason. Without effect once draining.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.set(State::NotReady(reason.into()));
    }

    /// Not ready for good: the process is on its way out.
    pub fn begin_drain(&self) {
        *self.state() = State::Draining;
    }

    /// True if traffic may come.
    pub fn is_ready(&self) -> bool {
        *self.state() == State::Ready
    }

    /// Why traffic may not come; `None` if it may.
    pub fn reason(&self) -> Option<String> {
        match &*self.state() {
            State::Ready => None,
            State::NotReady(reason) => Some(reason.clone()),
            State::Draining => Some("draining".to_owned()),
        }
    }

    fn set(&self, next: State) {
        let mut state = self.state();
        if *state != State::Draining {
            *state = next;
        }
    }

    /// A state is written whole, so one left behind by a panic is as good as any.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Body of `/readyz`.
#[derive(Debug, Serialize)]
struct ReadyAnswer {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

const READY: &[Family] = &[Family {
    name: "millrace_ready",
    help: "1 while the process may be sent traffic, or may lead; /readyz says why not.",
    kind: Kind::Gauge,
    label: None,
}];

/// Shows `readiness` under `registry` as well.
///
/// # Errors
/// It is shown there already.
pub fn show_readiness(registry: &Registry, readiness: &Readiness) -> prometheus::Result<()> {
    let readiness = readiness.clone();
    register_read_at_scrape(registry, READY, move || vec![vec![("", readiness.is_ready().into())]])
}

/// `/livez`, `/readyz` and `/metrics`. Further routes are merged in by the caller.
pub fn router(readiness: Readiness, registry: Registry) -> Router {
    with_fallbacks(
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(async move || ready_answer(&readiness)))
            .route("/metrics", get(async move || metrics_answer(&registry))),
    )
}

fn ready_answer(readiness: &Readiness) -> Response {
    let reason = readiness.reason();
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(ReadyAnswer { ready: reason.is_none(), reason })).into_response()
}

fn metrics_answer(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => ApiError::from(Problem::new(Code::Internal).detail(error)).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use prometheus::IntCounter;
    use tower::ServiceExt;

    async fn get_text(router: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router.clone().oneshot(request).await.expect("infallible");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 100_000).await.expect("a short body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn readiness_says_why_not_and_draining_is_final() {
        let readiness = Readiness::new("starting");
        let router = router(readiness.clone(), Registry::new());
        let not_ready = |reason: &str| (503, format!(r#"{{"ready":false,"reason":"{reason}"}}"#));
        assert_eq!(get_text(&router, "/readyz").await, not_ready("starting"));
        readiness.set_ready();
        assert_eq!(get_text(&router, "/readyz").await, (200, r#"{"ready":true}"#.to_owned()));
        readiness.set_not_ready("no store");
        assert_eq!(get_text(&router, "/readyz").await, not_ready("no store"));
        readiness.begin_drain();
        readiness.set_ready();
        assert_eq!(get_text(&router, "/readyz").await, not_ready("draining"));
        assert!(!readiness.is_ready());
        assert_eq!(get_text(&router, "/livez").await.0, 200, "a draining process is alive");
    }

    #[tokio::test]
    async fn metrics_are_those_of_the_registry() {
        let registry = Registry::new();
        let counter = IntCounter::new("settled_total", "Settlements.").expect("a valid name");
        registry.register(Box::new(counter.clone())).expect("a new name");
        counter.inc();
        let readiness = Readiness::new("starting");
        show_readiness(&registry, &readiness).expect("a new name");
        let router = router(readiness.clone(), registry);
        let (status, text) = get_text(&router, "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("settled_total 1") && text.contains("millrace_ready 0"), "{text}");
        readiness.set_ready();
        assert!(get_text(&router, "/metrics").await.1.contains("millrace_ready 1"));
    }
}
