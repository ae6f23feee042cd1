//! What the client makes of answers, good and bad.

use super::*;
use axum::Router;
use axum::http::header;
use axum::routing::{get, post};
use common::ids::Signature;
use common::message;
use common::testing::{key, public, terms};
use common::wire::IssuerStatus;

use crate::error::ApiError;
use crate::http::{HttpConfig, serve};

async fn client_of(router: Router) -> IssuerClient {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move { serve(listener, router, &HttpConfig::default(), Default::default()).await });
    let config = IssuerClientConfig { url, public_key: Some(public(1)), ..IssuerClientConfig::default() };
    IssuerClient::new(&config).expect("a valid config")
}

fn channel(salt: u64) -> IssuerChannel {
    let terms = Terms { capacity: Amount::new(10), ..terms(salt) };
    IssuerChannel {
        channel_id: terms.id(),
        terms,
        status: IssuerStatus::Open,
        settled_amount: Amount::ZERO,
        refunded_amount: Amount::ZERO,
        settled: None,
        receipt: None,
        opened_at_ms: 0,
    }
}

fn is_unavailable<T: std::fmt::Debug>(result: Result<T, IssuerError>) -> bool {
    matches!(result, Err(IssuerError::Unavailable { .. }))
}

#[tokio::test]
async fn only_a_client_error_with_a_code_about_the_request_is_final() {
    for (code, is_final) in [
        (Code::Malformed, true),
        (Code::StaleFencingToken, true),
        (Code::ChannelClosed, true),
        (Code::RateLimited, false),
        (Code::NotFound, false),
        (Code::MethodNotAllowed, false),
        (Code::Internal, false),
        (Code::Overloaded, false),
        (Code::OutcomeUnknown, false),
    ] {
        let answer = async move || ApiError::new(code);
        let client = client_of(Router::new().route("/v1/accounts", post(answer))).await;
        let refused = client.register(&public(2)).await;
        assert_eq!(
            refused.as_ref().err().and_then(IssuerError::code),
            is_final.then_some(code),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn answers_that_cannot_be_read_leave_the_outcome_unknown() {
    let huge = "x".repeat(ANSWER_MAX_BYTES + 1);
    let router = Router::new()
        .route("/v1/issuer", get(async || "hello"))
        .route("/v1/accounts", post((reqwest::StatusCode::BAD_REQUEST, "a proxy's page")))
        .route("/v1/channels", get(async move || huge))
        .route("/v1/accounts/{id}", get((reqwest::StatusCode::FOUND, [(header::LOCATION, "/v1/issuer")])));
    let client = client_of(router).await;
    assert!(is_unavailable(client.info().await));
    assert!(is_unavailable(client.register(&public(2)).await));
    assert!(is_unavailable(client.channels(&ChannelQuery::default()).await));
    assert!(is_unavailable(client.account(&public(2)).await), "a redirect is not followed");
    let nowhere =
        IssuerClientConfig { url: "http://127.0.0.1:1".to_owned(), ..IssuerClientConfig::default() };
    assert!(is_unavailable(IssuerClient::new(&nowhere).expect("valid").info().await));
    assert!(IssuerClient::new(&IssuerClientConfig { url: "nowhere".to_owned(), ..nowhere }).is_err());
}

#[tokio::test]
async fn a_channel_that_is_not_the_one_asked_for_is_not_believed() {
    let asked = channel(1).channel_id;
    let relabelled = IssuerChannel { channel_id: asked, ..channel(2) };
    for (answer, believed) in [(channel(1), true), (channel(2), false), (relabelled, false)] {
        let answer = serde_json::to_string(&answer).expect("JSON");
        let client = client_of(Router::new().route("/v1/channels/{id}", get(async move || answer))).await;
        assert_eq!(client.channel(&asked).await.is_ok(), believed);
    }
    let unknown = client_of(
        Router::new().route("/v1/channels/{id}", get(async || ApiError::new(Code::UnknownChannel))),
    );
    assert_eq!(unknown.await.channel(&asked).await, Ok(None));
}

#[tokio::test]
async fn a_receipt_for_something_else_or_of_someone_else_is_not_believed() {
    let channel_id = channel(1).channel_id;
    let receipt = |amount: u64, signer: u8| {
        let settled_amount = Amount::new(amount);
        let message = message::receipt(&channel_id, settled_amount, Amount::ZERO, false, 7);
        Receipt {
            channel_id,
            settled_amount,
            refunded_amount: Amount::ZERO,
            closed: false,
            settled_at_ms: 7,
            signature: Signature::of(&key(signer), &message),
            inclusion: None,
        }
    };
    let request = SettlementRequest::unsigned(Amount::new(5), None, false, 1);
    for (answer, believed) in [(receipt(5, 1), true), (receipt(4, 1), false), (receipt(5, 2), false)] {
        let answer = serde_json::to_string(&answer).expect("JSON");
        let route = post(async move || answer);
        let client = client_of(Router::new().route("/v1/channels/{id}/settlements", route)).await;
        assert_eq!(client.settle(&channel_id, &request).await.is_ok(), believed);
    }
}
