//! A stand-in issuer in a process of its own: it answers every request to settle, of one channel or of several, after a
//! fixed time with receipts that it has signed, the same ones for a repeat, and keeps books to be looked at in the end.
//! Receipts are committed to as the reference issuer does it. No database, no checks of vouchers: its time is not what is
//! measured.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as PathParam, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use common::amount::Amount;
use common::batch::{ChannelSettlement, SettlementsRequest, commit};
use common::ids::{ChannelId, PublicKey, Signature};
use common::message;
use common::secret::read_signing_key;
use common::wire::{Account, Receipt, SettlementRequest, from_json};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

/// How long it takes to answer a request to settle.
pub(super) const ANSWERS_IN: Duration = Duration::from_millis(5);

/// Where a bare client gets an answer of a receipt's size after the same time, with nothing done for it.
pub(super) const BARE_ROUTE: &str = "/bench/bare";

const BOOKS_ROUTE: &str = "/bench/books";

/// Every channel's deposit, in atomic units: far more than is paid from it.
pub(super) const CAPACITY: Amount = Amount::new(1_000_000_000);

/// What it has settled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Books {
    /// Each channel with every different amount that it was closed for.
    pub(super) closed: Vec<(ChannelId, Vec<Amount>)>,
    /// Requests to settle.
    pub(super) requests: u64,
    /// Settlements in them, repeats included.
    pub(super) settlements: u64,
    /// Those under a token below the highest.
    pub(super) stale: u64,
}

impl Books {
    /// Those of the issuer at `url`.
    pub(super) async fn fetch(url: &str) -> anyhow::Result<Books> {
        let body = reqwest::get(format!("{url}{BOOKS_ROUTE}")).await?.error_for_status()?.bytes().await?;
        Ok(serde_json::from_slice(&body)?)
    }
}

struct Shared {
    key: SigningKey,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    closed: HashMap<ChannelId, Vec<(Amount, Bytes)>>,
    requests: u64,
    settlements: u64,
    highest: u64,
    stale: u64,
}

/// Serves at `address`, with the key in this file, until the process ends.
///
/// # Errors
/// It cannot listen, or the file holds no key.
pub(crate) fn serve(address: &str, key: &Path) -> anyhow::Result<()> {
    let key = read_signing_key(key)?;
    let shared = Arc::new(Shared { key, ledger: Mutex::default() });
    let router = Router::new()
        .route("/v1/accounts/{key}", get(account))
        .route("/v1/channels/{id}/settlements", post(settle))
        .route("/v1/settlements", post(settle_all))
        .route(BARE_ROUTE, post(bare))
        .route(BOOKS_ROUTE, get(books))
        .with_state(shared);
    // The runtime that the services have.
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        axum::serve(listener, router).await?;
        Ok(())
    })
}

fn json(body: impl Into<Bytes>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

async fn account(State(shared): State<Arc<Shared>>, PathParam(key): PathParam<PublicKey>) -> Response {
    let highest_fencing_token = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).highest;
    let account = Account { public_key: key, balances: Vec::new(), highest_fencing_token };
    json(serde_json::to_vec(&account).expect("an account is JSON"))
}

async fn settle(
    State(shared): State<Arc<Shared>>,
    PathParam(id): PathParam<ChannelId>,
    body: Bytes,
) -> Response {
    let until = tokio::time::Instant::now() + ANSWERS_IN;
    let Ok(request) = serde_json::from_slice::<SettlementRequest>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut receipts = shared.settle(&[ChannelSettlement { channel_id: id, request }]);
    tokio::time::sleep_until(until).await;
    json(receipts.pop().unwrap_or_default())
}

async fn settle_all(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let until = tokio::time::Instant::now() + ANSWERS_IN;
    let settlements: Result<Vec<ChannelSettlement>, _> = from_json::<SettlementsRequest>(&body)
        .and_then(|request| request.settlements.into_iter().map(ChannelSettlement::from_value).collect());
    let Ok(settlements) = settlements else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let receipts = shared.settle(&settlements);
    tokio::time::sleep_until(until).await;
    json([b"{\"results\":[".as_slice(), &receipts.join(&b","[..]), b"]}"].concat())
}

async fn bare(_body: Bytes) -> Response {
    tokio::time::sleep(ANSWERS_IN).await;
    json(vec![b'0'; 330])
}

async fn books(State(shared): State<Arc<Shared>>) -> Response {
    let ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let amounts = |receipts: &Vec<(Amount, Bytes)>| receipts.iter().map(|(amount, _)| *amount).collect();
    let books = Books {
        closed: ledger.closed.iter().map(|(id, receipts)| (*id, amounts(receipts))).collect(),
        requests: ledger.requests,
        settlements: ledger.settlements,
        stale: ledger.stale,
    };
    drop(ledger);
    json(serde_json::to_vec(&books).expect("books are JSON"))
}

impl Shared {
    /// The text of a receipt for each.
    fn settle(&self, settlements: &[ChannelSettlement]) -> Vec<Bytes> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.requests += 1;
        let mut fresh = Vec::new();
        for ChannelSettlement { channel_id, request } in settlements {
            ledger.settlements += 1;
            if request.fencing_token < ledger.highest {
                ledger.stale += 1;
            }
            ledger.highest = ledger.highest.max(request.fencing_token);
            let amount = request.cumulative_amount;
            let receipts = ledger.closed.entry(*channel_id).or_default();
            if receipts.iter().all(|(settled, _)| *settled != amount) {
                receipts.push((amount, Bytes::new()));
                fresh.push(self.receipt(*channel_id, amount, at_ms));
            }
        }
        commit(&mut fresh, &self.key);
        for receipt in fresh {
            let text = Bytes::from(serde_json::to_vec(&receipt).expect("a receipt is JSON"));
            let receipts = ledger.closed.entry(receipt.channel_id).or_default();
            if let Some((_, kept)) =
                receipts.iter_mut().find(|(settled, _)| *settled == receipt.settled_amount)
            {
                *kept = text;
            }
        }
        let text = |settlement: &ChannelSettlement| {
            let receipts = ledger.closed.get(&settlement.channel_id)?;
            let amount = settlement.request.cumulative_amount;
            receipts.iter().find(|(settled, _)| *settled == amount).map(|(_, text)| text.clone())
        };
        settlements.iter().map(|settlement| text(settlement).unwrap_or_default()).collect()
    }

    fn receipt(&self, id: ChannelId, settled_amount: Amount, settled_at_ms: i64) -> Receipt {
        let refunded_amount = CAPACITY.checked_sub(settled_amount).unwrap_or_default();
        let message = message::receipt(&id, settled_amount, refunded_amount, true, settled_at_ms);
        Receipt {
            channel_id: id,
            settled_amount,
            refunded_amount,
            closed: true,
            settled_at_ms,
            signature: Signature::of(&self.key, &message),
            inclusion: None,
        }
    }
}
