//! An issuer that fails as a test tells it to, in front of a real one.

mod batch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Largest body that is passed on.
const BODY_MAX_BYTES: usize = 1_048_576;

/// A route of the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// `GET /v1/issuer`
    Info,
    /// `POST /v1/accounts`
    Register,
    /// `GET /v1/accounts/{key}`
    Account,
    /// `POST /v1/channels`
    Open,
    /// `GET /v1/channels/{id}`
    Channel,
    /// `GET /v1/channels`
    Channels,
    /// `POST /v1/channels/{id}/refund`
    Refund,
    /// `POST /v1/channels/{id}/settlements`, and each settlement of `POST /v1/settlements`.
    Settle,
    /// Anything else.
    Other,
}

impl Route {
    fn of(method: &Method, path: &str) -> Route {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match (method.as_str(), parts.as_slice()) {
            ("GET", ["v1", "issuer"]) => Route::Info,
            ("POST", ["v1", "accounts"]) => Route::Register,
            ("GET", ["v1", "accounts", _]) => Route::Account,
            ("POST", ["v1", "channels"]) => Route::Open,
            ("GET", ["v1", "channels"]) => Route::Channels,
            ("GET", ["v1", "channels", _]) => Route::Channel,
            ("POST", ["v1", "channels", _, "refund"]) => Route::Refund,
            ("POST", ["v1", "channels", _, "settlements"]) => Route::Settle,
            _ => Route::Other,
        }
    }
}

/// What becomes of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The real issuer answers.
    Forward,
    /// This status, with a body that is no problem document; the real issuer hears nothing.
    Status(u16),
    /// This status and this JSON; the real issuer hears nothing.
    Json(u16, String),
    /// No answer ever; the real issuer hears nothing.
    Hang,
    /// The real issuer does it, but no answer ever comes.
    ForwardThenHang,
    /// The real issuer does it, but the answer is this status.
    ForwardThenStatus(u16),
}

/// An issuer that does as it is told, and what it is not told about, the real issuer behind it does.
#[derive(Debug)]
pub struct ScriptedIssuer {
    url: String,
    shared: Arc<Shared>,
    _shutdown: DropGuard,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    http: reqwest::Client,
    script: Mutex<BTreeMap<Route, VecDeque<Step>>>,
    always: Mutex<BTreeMap<Route, Step>>,
    /// Requests that arrived.
    counts: watch::Sender<BTreeMap<Route, u64>>,
    /// Requests that the real issuer has answered.
    forwarded: watch::Sender<BTreeMap<Route, u64>>,
    /// Settlements of each batch that arrived.
    batches: watch::Sender<Vec<usize>>,
    /// What stood above the requests that arrived, with their paths.
    heads: Mutex<Vec<(String, HeaderMap)>>,
    /// Whether there is a route for batches.
    takes_batches: AtomicBool,
    shutdown: CancellationToken,
}

impl ScriptedIssuer {
    /// One in front of the issuer at `upstream`.
    ///
    /// # Panics
    /// No port can be had.
    pub async fn start(upstream: impl Into<String>) -> ScriptedIssuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let http = reqwest::Client::builder().no_proxy().build();
        let shutdown = CancellationToken::new();
        let shared = Arc::new(Shared {
            upstream: upstream.into(),
            http: http.expect("a client without options that could be wrong"),
            script: Mutex::default(),
            always: Mutex::default(),
            counts: watch::Sender::default(),
            forwarded: watch::Sender::default(),
            batches: watch::Sender::default(),
            heads: Mutex::default(),
            takes_batches: AtomicBool::new(true),
            shutdown: shutdown.clone(),
        });
        let router = Router::new().fallback(handle).with_state(Arc::clone(&shared));
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(async move {
            axum::serve(listener, router).await.expect("axum::serve never gives up");
        }));
        ScriptedIssuer { url, shared, _shutdown: shutdown.drop_guard() }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Does `step` with the next `times` requests of `route`, after what was told before.
    pub fn next(&self, route: Route, times: usize, step: Step) {
        self.script().entry(route).or_default().extend(std::iter::repeat_n(step, times));
    }

    /// Does `step` with every request of `route` that no [`ScriptedIssuer::next`] is left for.
    pub fn always(&self, route: Route, step: Step) {
        self.shared.always.lock().expect("no holder of the lock panics").insert(route, step);
    }

    /// Answers the next `times` requests of `route` with 500.
    pub fn fail_next(&self, route: Route, times: usize) {
        self.next(route, times, Step::Status(500));
    }

    /// The next settlement takes place, and is never answered.
    pub fn hang_after_settling(&self) {
        self.next(Route::Settle, 1, Step::ForwardThenHang);
    }

    /// Forgets what it was told; requests that hang go on hanging.
    pub fn heal(&self) {
        self.script().clear();
        self.shared.always.lock().expect("no holder of the lock panics").clear();
    }

    /// From now on there is no route for batches, as with an issuer of before they were thought of.
    pub fn take_no_batches(&self) {
        self.shared.takes_batches.store(false, Ordering::SeqCst);
    }

    /// How many settlements each batch had that arrived so far, in order; also of those that were not taken.
    pub fn batches(&self) -> Vec<usize> {
        self.shared.batches.borrow().clone()
    }

    /// The headers of the requests that arrived, in order, whose path ends so.
    pub fn headers(&self, path_end: &str) -> Vec<HeaderMap> {
        let heads = self.shared.heads.lock().expect("no holder of the lock panics");
        let those = heads.iter().filter(|(path, _)| path.ends_with(path_end));
        those.map(|(_, headers)| headers.clone()).collect()
    }

    /// How many requests of `route` have arrived; each settlement of a batch counts as one.
    pub fn count(&self, route: Route) -> u64 {
        self.shared.counts.borrow().get(&route).copied().unwrap_or(0)
    }

    /// How many requests of `route` the real issuer has answered.
    pub fn forwarded(&self, route: Route) -> u64 {
        self.shared.forwarded.borrow().get(&route).copied().unwrap_or(0)
    }

    /// Waits until `times` requests of `route` have arrived.
    ///
    /// # Panics
    /// Fewer arrive within `deadline`.
    pub async fn wait_for_count(&self, route: Route, times: u64, deadline: Duration) {
        wait(&self.shared.counts, route, times, deadline, "arrived").await;
    }

    /// Waits until the real issuer has answered `times` requests of `route`.
    ///
    /// # Panics
    /// It answers fewer within `deadline`.
    pub async fn wait_for_forwarded(&self, route: Route, times: u64, deadline: Duration) {
        wait(&self.shared.forwarded, route, times, deadline, "were answered by the real issuer").await;
    }

    fn script(&self) -> MutexGuard<'_, BTreeMap<Route, VecDeque<Step>>> {
        self.shared.script.lock().expect("no holder of the lock panics")
    }
}

async fn wait(
    counts: &watch::Sender<BTreeMap<Route, u64>>,
    route: Route,
    times: u64,
    deadline: Duration,
    what: &str,
) {
    let mut watched = counts.subscribe();
    let reached = watched.wait_for(|counts| counts.get(&route).is_some_and(|&count| count >= times));
    if tokio::time::timeout(deadline, reached).await.is_err() {
        let ms = deadline.as_millis();
        panic!("waited {ms} ms in vain until {times} requests {route:?} {what}: {:?}", *counts.borrow());
    }
}

impl Shared {
    fn step(&self, route: Route) -> Step {
        let next = self
            .script
            .lock()
            .expect("no holder of the lock panics")
            .get_mut(&route)
            .and_then(VecDeque::pop_front);
        next.or_else(|| self.always.lock().expect("no holder of the lock panics").get(&route).cloned())
            .unwrap_or(Step::Forward)
    }

    /// Has the real issuer answer. A 502 where it does not.
    async fn forward(&self, route: Route, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let Ok(body) = to_bytes(body, BODY_MAX_BYTES).await else {
            return StatusCode::PAYLOAD_TOO_LARGE.into_response();
        };
        self.pass_on(route, 1, head, body).await
    }

    /// Has the real issuer answer a request that counts as so many.
    async fn pass_on(&self, route: Route, times: u64, head: Parts, body: Bytes) -> Response {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = head.headers;
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        let url = format!("{}{path}", self.upstream);
        let request = self.http.request(head.method, url).headers(headers).body(body);
        let answer: Result<(StatusCode, HeaderMap, Bytes), reqwest::Error> = async {
            let response = request.send().await?;
            Ok((response.status(), response.headers().clone(), response.bytes().await?))
        }
        .await;
        match answer {
            Ok((status, mut headers, body)) => {
                headers.remove(header::TRANSFER_ENCODING);
                count(&self.forwarded, route, times);
                (status, headers, Body::from(body)).into_response()
            }
            Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        }
    }

    async fn hang(&self) -> Response {
        self.shutdown.cancelled().await;
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}

fn count(counts: &watch::Sender<BTreeMap<Route, u64>>, route: Route, times: u64) {
    counts.send_modify(|counts| *counts.entry(route).or_default() += times);
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let head = (request.uri().path().to_owned(), request.headers().clone());
    shared.heads.lock().expect("no holder of the lock panics").push(head);
    if request.method() == Method::POST && request.uri().path() == batch::PATH {
        return batch::handle(&shared, request).await;
    }
    let route = Route::of(request.method(), request.uri().path());
    count(&shared.counts, route, 1);
    let status = |code| StatusCode::from_u16(code).expect("a test names statuses that exist").into_response();
    match shared.step(route) {
        Step::Forward => shared.forward(route, request).await,
        Step::Status(code) => status(code),
        Step::Json(code, body) => {
            let headers = [(header::CONTENT_TYPE, "application/problem+json")];
            let code = StatusCode::from_u16(code).expect("a test names statuses that exist");
            (code, headers, body).into_response()
        }
        Step::Hang => shared.hang().await,
        Step::ForwardThenHang => {
            shared.forward(route, request).await;
            shared.hang().await
        }
        Step::ForwardThenStatus(code) => {
            shared.forward(route, request).await;
            status(code)
        }
    }
}
