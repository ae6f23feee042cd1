//! What stands before a relayer and does not always tell payers the truth.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use common::ids::ChannelId;
use common::problem::{CONTENT_TYPE, Code, Problem};
use common::wire::{Outcome, PaymentAnswer, PaymentRequest};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

const BODY_MAX_BYTES: usize = 1_048_576;

/// What becomes of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The relayer answers.
    Forward,
    /// "Accepted", and the relayer never hears of it.
    AcceptAndDrop,
    /// The relayer takes it, and the payer is told that it did not.
    ForwardAndRefuse,
}

/// The vouchers that relayers acknowledged through a front.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<ChannelId, Vec<PaymentRequest>>>>);

impl Seen {
    /// A voucher, and the one that came after it on the same channel.
    pub(crate) fn superseded(&self) -> Option<(PaymentRequest, PaymentRequest)> {
        let seen = self.0.lock().expect("no holder of the lock panics");
        let vouchers = seen.values().find(|vouchers| vouchers.len() >= 2)?;
        Some((vouchers[0].clone(), vouchers[1].clone()))
    }
}

/// A front, on a port of its own.
#[derive(Debug)]
pub(crate) struct Front {
    url: String,
    seen: Seen,
    _shutdown: DropGuard,
}

struct Shared {
    upstream: String,
    http: reqwest::Client,
    turn: fn(&PaymentRequest) -> Turn,
    retell: fn(PaymentAnswer) -> PaymentAnswer,
    seen: Seen,
}

impl Front {
    /// One before the relayer at `upstream`: `turn` decides about each payment, `retell` changes what was answered.
    ///
    /// # Panics
    /// No port can be had.
    pub(crate) async fn start(
        upstream: String,
        turn: fn(&PaymentRequest) -> Turn,
        retell: fn(PaymentAnswer) -> PaymentAnswer,
    ) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let http = reqwest::Client::builder().no_proxy().build().expect("no option that could be wrong");
        let seen = Seen::default();
        let shared = Shared { upstream, http, turn, retell, seen: seen.clone() };
        let router = Router::new().fallback(handle).with_state(Arc::new(shared));
        let shutdown = CancellationToken::new();
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(async move {
            axum::serve(listener, router).await.expect("axum::serve never gives up");
        }));
        Front { url, seen, _shutdown: shutdown.drop_guard() }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What relayers acknowledged through it.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.clone()
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let body = to_bytes(body, BODY_MAX_BYTES).await.expect("payers send little");
    let voucher: Option<PaymentRequest> =
        (path == "/v1/payments").then(|| serde_json::from_slice(&body).expect("a payment"));
    let turn = voucher.as_ref().map_or(Turn::Forward, shared.turn);
    if let (Turn::AcceptAndDrop, Some(voucher)) = (turn, &voucher) {
        let PaymentRequest { channel_id, cumulative_amount, .. } = *voucher;
        return json(&PaymentAnswer {
            channel_id: channel_id.into(),
            cumulative_amount,
            outcome: Outcome::Accepted,
            receipt: None,
        });
    }
    let mut headers = head.headers;
    headers.remove(header::HOST);
    let url = format!("{}{path}", shared.upstream);
    let answer = shared.http.request(head.method, url).headers(headers).body(body).send().await;
    let Ok(answer) = answer else { return StatusCode::BAD_GATEWAY.into_response() };
    let status = answer.status();
    let Ok(body) = answer.bytes().await else { return StatusCode::BAD_GATEWAY.into_response() };
    if let Some(voucher) = voucher
        && status.is_success()
    {
        if turn == Turn::ForwardAndRefuse {
            let refused = Problem::new(Code::StoreUnavailable);
            let body = serde_json::to_vec(&refused).expect("a problem is JSON");
            return (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, CONTENT_TYPE)], body)
                .into_response();
        }
        let mut seen = shared.seen.0.lock().expect("no holder of the lock panics");
        seen.entry(voucher.channel_id).or_default().push(voucher);
        drop(seen);
        let answer: PaymentAnswer = serde_json::from_slice(&body).expect("an answer to a payment");
        return json(&(shared.retell)(answer));
    }
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

fn json(answer: &PaymentAnswer) -> Response {
    let body = serde_json::to_vec(answer).expect("an answer is JSON");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
