//! One HTTP/1.1 listener, with a bound on everything a client can make it hold, and an end that loses no request.
//!
//! # Layout
//!
//! * [`serve`]: a listener and its bounds.
//! * [`Front`]: who answers, a router as a rule.
//! * `connection`: one connection, parked, with hyper, or taken over. `progress`: when it may be taken from hyper. `bell`:
//!   when its task is woken.
//! * `takeover`: who has it after an answer 101.

mod bell;
mod connection;
mod front;
mod progress;
mod takeover;

use std::any::Any;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use common::config::{ConfigError, positive};
use common::problem::Code;
use futures::FutureExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::ApiError;
use crate::spans::{self, Kind, Span};
use crate::trail::{self, RequestTrail};
use connection::{MayPart, Rules, converse};
use progress::Progress;

pub use front::{Front, Incoming};
pub(crate) use takeover::Takeover;

/// How long to leave the accept queue alone after the system refused a connection (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Connections served at once; more wait in the system's accept queue.
    pub connections_max: usize,
    /// Milliseconds in which a request's head must arrive, and for which an idle connection is kept.
    pub header_timeout_ms: u64,
    /// Milliseconds of quiet after which a connection gives its buffers back until something comes. With as many as
    /// `header_timeout_ms`, none ever does.
    pub park_after_ms: u64,
    /// Milliseconds in which a request must be answered, reading its body included.
    pub request_timeout_ms: u64,
    /// Largest body, in bytes.
    pub body_max_bytes: usize,
    /// Milliseconds that requests in flight have to end once shutdown was asked.
    pub drain_timeout_ms: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_timeout_ms: 65_000,
            park_after_ms: 100,
            request_timeout_ms: 10_000,
            body_max_bytes: 262_144,
            drain_timeout_ms: 10_000,
        }
    }
}

impl HttpConfig {
    /// Whether anyone could be served within these bounds.
    ///
    /// # Errors
    /// One of them is 0, by its key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        positive("http.connections_max", self.connections_max)?;
        positive("http.header_timeout_ms", self.header_timeout_ms)?;
        positive("http.park_after_ms", self.park_after_ms)?;
        positive("http.request_timeout_ms", self.request_timeout_ms)?;
        positive("http.body_max_bytes", self.body_max_bytes)
    }
}

/// Serves `front` on `listener` until `shutdown`, then stops accepting, lets requests in flight end with
/// `Connection: close`, and returns once all have ended or `drain_timeout_ms` have passed.
///
/// A handler that panics answers `internal`, one that takes too long `outcome_unknown`.
pub async fn serve(
    listener: TcpListener,
    front: impl Front,
    config: &HttpConfig,
    shutdown: CancellationToken,
) {
    serve_parting(listener, front, config, shutdown, Arc::new(Progress::is_idle)).await;
}

/// [`serve`], with what decides whether a connection may be taken from hyper.
async fn serve_parting(
    listener: TcpListener,
    front: impl Front,
    config: &HttpConfig,
    shutdown: CancellationToken,
    may_part: MayPart,
) {
    let slots = Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS)));
    // Dropped when this function ends, however it ends: what is still connected then is cut off.
    let mut connections = JoinSet::new();
    let rules = Arc::new(Rules::new(front, config, may_part));

    loop {
        tokio::select! {
            accepted = accept(&listener, &slots, &shutdown) => match accepted {
                Some((stream, peer, permit)) => {
                    connections.spawn(converse(stream, peer, Arc::clone(&rules), permit));
                }
                None => break,
            },
            // Forgotten as it ends.
            Some(_) = connections.join_next() => {}
        }
    }

    drop(listener);
    rules.stop.ask();
    let drain = Duration::from_millis(config.drain_timeout_ms);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, drained).await.is_err() {
        let connections = connections.len();
        tracing::warn!(
            connections,
            drain_timeout_ms = config.drain_timeout_ms,
            "cutting off connections that did not end"
        );
    }
}

/// The next connection, once there is room for it; `None` on shutdown.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // The semaphore is never closed, so `ok` only ends the loop on shutdown.
    let permit = shutdown.run_until_cancelled(slots.clone().acquire_owned()).await?.ok()?;
    loop {
        match shutdown.run_until_cancelled(listener.accept()).await? {
            Ok((stream, peer)) => return Some((stream, peer, permit)),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                shutdown.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await?;
            }
        }
    }
}

/// Answers a request, in time and whatever its handler does. Here and not as layers of the router: each layer would box
/// every request and its answer once more. Whoever polls this does so again at `deadline`: a timer of its own would have to
/// be set for each request, to go off for none. The answer says what the request is called.
async fn answer(front: &impl Front, incoming: Incoming, deadline: Instant) -> Response {
    let trail = incoming.trail();
    let mut span = server_span(&incoming, &trail);
    let trail = Arc::new(trail.within(&span));
    let answered = trail::follow(Arc::clone(&trail), front.answer(incoming));
    let mut answered = pin!(AssertUnwindSafe(answered).catch_unwind());
    let mut has_waited = false;
    let in_time = poll_fn(|context| match answered.as_mut().poll(context) {
        Poll::Ready(answered) => Poll::Ready(Some(answered)),
        Poll::Pending if std::mem::replace(&mut has_waited, true) && Instant::now() >= deadline => {
            Poll::Ready(None)
        }
        Poll::Pending => Poll::Pending,
    });
    let mut answer = match in_time.await {
        Some(Ok(answer)) => answer,
        Some(Err(panic)) => answer_to_panic(&trail, panic.as_ref()),
        None => ApiError::new(Code::OutcomeUnknown).into_response(),
    };
    answer.headers_mut().insert(trail::REQUEST_ID, trail.id_header());
    span.note("http.response.status_code", || answer.status().as_u16());
    if answer.status().is_server_error() {
        span.fail(answer.status());
    }
    answer
}

/// Called after the method: a path may hold anything.
fn server_span(incoming: &Incoming, trail: &RequestTrail) -> Span {
    let (method, path) = incoming.route();
    let mut span = Span::begin(spans::method_name(method), Kind::Server, trail.trace());
    span.note("url.path", || path);
    span.note("request_id", || trail.id());
    span
}

fn answer_to_panic(trail: &RequestTrail, panic: &(dyn Any + Send)) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown");
    tracing::error!(request_id = %trail.id(), panic = message, "a handler panicked");
    ApiError::new(Code::Internal).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::ConnectInfo;
    use axum::routing::{get, post};
    use common::problem::Problem;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    const DEADLINE: Duration = Duration::from_secs(10);

    struct Served {
        url: String,
        shutdown: CancellationToken,
        task: JoinHandle<()>,
    }

    async fn start(router: Router, config: HttpConfig) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { serve(listener, router, &config, stop).await });
        Served { url, shutdown, task }
    }

    async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
        tokio::time::timeout(DEADLINE, future)
            .await
            .unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
    }

    async fn code_of(response: reqwest::Response) -> Code {
        let body = response.bytes().await.expect("a body");
        serde_json::from_slice::<Problem>(&body).expect("a problem").code
    }

    #[tokio::test]
    async fn a_request_in_flight_ends_well_after_shutdown_was_asked() {
        let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (arrives, waits) = (arrived.clone(), release.clone());
        let router = Router::new().route(
            "/",
            get(async move || {
                arrives.notify_one();
                waits.notified().await;
                "done"
            }),
        );
        let served = start(router, HttpConfig::default()).await;
        let request = tokio::spawn(reqwest::get(served.url.clone()));
        within("the request arrives", arrived.notified()).await;
        served.shutdown.cancel();
        let refused = async {
            while tokio::net::TcpStream::connect(served.url.trim_start_matches("http://")).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        within("new connections are refused", refused).await;
        assert!(!served.task.is_finished(), "the server waits for the request");
        release.notify_one();
        let response = within("the answer", request).await.expect("no panic").expect("an answer");
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(response.text().await.expect("a body"), "done");
        within("the server ends", served.task).await.expect("no panic");
    }

    #[tokio::test]
    async fn a_request_that_never_ends_is_cut_off_at_the_drain_timeout() {
        let arrived = Arc::new(Notify::new());
        let arrives = arrived.clone();
        let router = Router::new().route(
            "/",
            get(async move || {
                arrives.notify_one();
                std::future::pending::<()>().await;
            }),
        );
        let served = start(router, HttpConfig { drain_timeout_ms: 50, ..HttpConfig::default() }).await;
        let request = tokio::spawn(reqwest::get(served.url.clone()));
        within("the request arrives", arrived.notified()).await;
        served.shutdown.cancel();
        within("the server ends", served.task).await.expect("no panic");
        assert!(within("the connection is cut", request).await.expect("no panic").is_err());
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_the_shutdown() {
        let router = Router::new().route("/", get(async || "ok"));
        let served = start(router, HttpConfig { header_timeout_ms: 60_000, ..HttpConfig::default() }).await;
        let client = reqwest::Client::new();
        let answer = client.get(&served.url).send().await.expect("an answer");
        assert_eq!(answer.text().await.expect("a body"), "ok");
        served.shutdown.cancel();
        within("the server ends", served.task).await.expect("no panic");
    }

    #[tokio::test]
    async fn panics_and_large_bodies_are_problems() {
        async fn panics() -> &'static str {
            panic!("on purpose")
        }
        let router =
            Router::new().route("/panics", get(panics)).route("/body", post(async |_: crate::body::Raw| ()));
        let config = HttpConfig { body_max_bytes: 4, ..HttpConfig::default() };
        let served = start(router, config).await;
        let client = reqwest::Client::new();
        let get =
            async |path: &str| client.get(format!("{}{path}", served.url)).send().await.expect("an answer");
        assert_eq!(code_of(get("/panics").await).await, Code::Internal);
        let large =
            client.post(format!("{}/body", served.url)).body("12345").send().await.expect("an answer");
        assert_eq!(code_of(large).await, Code::PayloadTooLarge);
    }

    /// Whatever else the connection's timer is set to.
    #[tokio::test]
    async fn late_answers_are_given_up_in_time() {
        let router =
            Router::new().route("/late", get(std::future::pending::<()>)).route("/", get(async || "ok"));
        for (request_timeout_ms, park_after_ms) in [(50, 60_000), (150, 10), (50, 50)] {
            let config = HttpConfig { request_timeout_ms, park_after_ms, ..HttpConfig::default() };
            let served = start(router.clone(), config).await;
            let client = reqwest::Client::new();
            for path in ["/late", "/", "/late", "/late"] {
                let started = Instant::now();
                let answer = client.get(format!("{}{path}", served.url)).send();
                let answer = within("an answer", answer).await.expect("an answer");
                if path == "/late" {
                    assert_eq!(code_of(answer).await, Code::OutcomeUnknown);
                    assert!(started.elapsed() >= Duration::from_millis(request_timeout_ms), "not early");
                } else {
                    assert_eq!(answer.status(), 200);
                }
            }
        }
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_their_turn() {
        let (active, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, highest) = (active.clone(), peak.clone());
        let router = Router::new().route(
            "/",
            get(async move || {
                highest.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Long enough for requests to overlap, if they may.
                tokio::time::sleep(Duration::from_millis(5)).await;
                counted.fetch_sub(1, Ordering::SeqCst);
            }),
        );
        let served = start(router, HttpConfig { connections_max: 2, ..HttpConfig::default() }).await;
        let requests = futures::future::join_all((0..16).map(|_| async {
            // A client each, so that each is a connection; closed after its answer, so that the next gets its turn.
            let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
            client.get(&served.url).send().await.map(|answer| answer.status().as_u16())
        }));
        for status in within("all are served", requests).await {
            assert_eq!(status.expect("an answer"), 200);
        }
        assert!(peak.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn handlers_see_the_peer_address() {
        let router = Router::new()
            .route("/", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string()));
        let served = start(router, HttpConfig::default()).await;
        let answer = reqwest::get(&served.url).await.expect("an answer");
        assert_eq!(answer.text().await.expect("a body"), "127.0.0.1");
    }
}
