//! What stands before a relayer and spoils its answers.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::runtime::Runtime;

/// What becomes of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Payments {
    /// The relayer never hears of it, and nobody answers.
    Vanish,
    /// The relayer takes it, and the answer is lost.
    AreTaken,
    /// As before, once; after that, the relayer answers.
    AreTakenOnce,
    /// The relayer answers.
    Pass,
}

/// A front before the relayer at `upstream`, on a port and threads of its own.
pub(crate) struct Front {
    pub(crate) url: String,
    turn: Arc<AtomicU8>,
    lie: Arc<Mutex<Option<String>>>,
    _runtime: Runtime,
}

#[derive(Clone)]
struct Shared {
    upstream: String,
    http: reqwest::Client,
    turn: Arc<AtomicU8>,
    lie: Arc<Mutex<Option<String>>>,
}

impl Front {
    pub(crate) fn start(upstream: &str) -> Front {
        let runtime = Runtime::new().expect("threads can be had");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let http = reqwest::Client::builder().no_proxy().build().expect("no option that could be wrong");
        let turn = Arc::new(AtomicU8::new(Payments::Pass as u8));
        let lie = Arc::default();
        let shared =
            Shared { upstream: upstream.to_owned(), http, turn: Arc::clone(&turn), lie: Arc::clone(&lie) };
        let router = Router::new().fallback(handle).with_state(shared);
        runtime.spawn(async move { axum::serve(listener, router).await });
        Front { url, turn, lie, _runtime: runtime }
    }

    pub(crate) fn turn(&self, payments: Payments) {
        self.turn.store(payments as u8, Ordering::SeqCst);
    }

    /// Answers every question about a channel with this.
    pub(crate) fn lie(&self, channel: String) {
        *self.lie.lock().expect("no holder of the lock panics") = Some(channel);
    }
}

async fn handle(State(shared): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let lost = (StatusCode::BAD_GATEWAY, "the answer is lost").into_response();
    let is_payment = head.method == Method::POST;
    let turn = shared.turn.load(Ordering::SeqCst);
    if is_payment && turn == Payments::Vanish as u8 {
        return lost;
    }
    let lie = shared.lie.lock().expect("no holder of the lock panics").clone();
    if let (false, Some(lie)) = (is_payment, lie) {
        return ([(header::CONTENT_TYPE, "application/json")], lie).into_response();
    }
    let url = format!("{}{}", shared.upstream, head.uri.path());
    let mut headers = head.headers;
    headers.remove(header::HOST);
    let body = to_bytes(body, 1_048_576).await.expect("payers send little");
    let answer = shared.http.request(head.method, url).headers(headers).body(body).send().await;
    let Ok(answer) = answer else { return lost };
    let status = answer.status();
    let Ok(body) = answer.bytes().await else { return lost };
    if is_payment && turn == Payments::AreTakenOnce as u8 {
        shared.turn.store(Payments::Pass as u8, Ordering::SeqCst);
        return lost;
    }
    if is_payment && turn == Payments::AreTaken as u8 {
        return lost;
    }
    (status, Body::from(body)).into_response()
}
