//! What lasts, what is noticed, and what surrounds the ledger.

use common::problem::{Code, Problem};

use super::BACKEND;
use crate::harness::{Bank, Database, Party, Settlement};

#[tokio::test]
async fn a_restart_keeps_balances_channels_tokens_and_receipts() {
    let bank = Bank::start(BACKEND).await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    let (open, closed) = (bank.channel(&payer, &payee, 100).await, bank.channel(&payer, &payee, 100).await);
    let partial = Settlement::of(open, 30).token(4).signed(&payer, &payee);
    let close = Settlement::of(closed, 60).close().token(4).signed(&payer, &payee);
    let receipts = (bank.settle_raw(&open, &partial).await, bank.settle_raw(&closed, &close).await);
    let channels = (bank.read(&open).await, bank.read(&closed).await);
    let money = (bank.usd(&payer).await, bank.usd(&payee).await);
    let books = bank.client.books().await;

    let bank = bank.restart_with(|_| ()).await;
    assert_eq!((bank.settle_raw(&open, &partial).await, bank.settle_raw(&closed, &close).await), receipts);
    assert_eq!((bank.read(&open).await, bank.read(&closed).await), channels);
    assert_eq!((bank.usd(&payer).await, bank.usd(&payee).await), money);
    assert_eq!(bank.client.books().await, books);
    let deposed = Settlement::of(open, 40).token(3).signed(&payer, &payee);
    assert_eq!(bank.refusal(&open, &deposed).await, Some(Code::StaleFencingToken));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn the_books_name_what_is_issued_held_and_locked() {
    let bank = Bank::start(BACKEND).await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    let id = bank.channel(&payer, &payee, 100).await;
    bank.client.settle(&id, &Settlement::of(id, 30).signed(&payer, &payee)).await.expect("settled");
    let (status, text) = bank.get(&format!("{}/v1/books", bank.url)).await;
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let expected = serde_json::json!({
        "balanced": true, "accounts": 4, "postings": 4,
        "assets": [{"asset": "usd", "issued": "2000", "held": "1930", "locked": "70"}],
    });
    assert_eq!((status, found), (200, expected));
}

/// The check must be able to fail: each of these is what a ledger without transactions would leave behind.
#[tokio::test]
async fn books_that_were_tampered_with_do_not_balance() {
    let bank = Bank::start(BACKEND).await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    let id = bank.channel(&payer, &payee, 100).await;
    bank.client.settle(&id, &Settlement::of(id, 30).signed(&payer, &payee)).await.expect("settled");
    bank.assert_balanced().await;
    let database = &bank.database;
    let five = database.amount(5);
    for (what, tampering) in [
        ("a lost credit", format!("UPDATE accounts SET balance = {five} WHERE kind = 'party'")),
        ("a drained escrow", format!("UPDATE accounts SET balance = {five} WHERE kind = 'escrow'")),
        ("a forgotten lock", format!("UPDATE accounts SET locked = {five} WHERE kind = 'party'")),
        ("money from nowhere", format!("UPDATE accounts SET balance = {five} WHERE kind = 'issuance'")),
        ("a settlement without its posting", format!("UPDATE channels SET settled_amount = {five}")),
        ("a channel that ended without its money", "UPDATE channels SET status = 'closed'".to_owned()),
        (
            "a posting without its balance",
            format!(
                "INSERT INTO postings (operation_id, from_account, to_account, asset, amount)
                 SELECT 1, min(id), max(id), 'usd', {five} FROM accounts WHERE kind = 'party'"
            ),
        ),
    ] {
        database.execute(&tampering).await;
        let books = bank.client.books().await.expect("books");
        assert!(!books.balanced && books.fault.is_some(), "{what}: {books:?}");
        undo(database).await;
        if what != "a posting without its balance" {
            bank.assert_balanced().await;
        }
    }
}

/// Puts back what the channel and its parties held before the tampering.
async fn undo(database: &Database) {
    let stored = |units| database.amount(units);
    let [payer, payee] = [1, 2].map(|seed| database.bytes(&Party::new(seed).key().0));
    database
        .execute(&format!(
            "UPDATE accounts SET balance = {}, locked = {} WHERE owner = {payer};
             UPDATE accounts SET balance = {}, locked = {} WHERE owner = {payee};
             UPDATE accounts SET balance = {} WHERE kind = 'escrow';
             UPDATE accounts SET balance = {} WHERE kind = 'issuance';
             UPDATE channels SET settled_amount = {}, status = 'open';",
            stored(900),
            stored(70),
            stored(1_030),
            stored(0),
            stored(70),
            stored(2_000),
            stored(30),
        ))
        .await;
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let bank = Bank::start(BACKEND).await;
    let problem = |(status, body): (u16, Vec<u8>)| {
        let problem: Problem = serde_json::from_slice(&body).expect("a problem");
        assert_eq!(status, problem.status);
        (problem.code, problem.field)
    };
    assert_eq!(problem(bank.post("/v1/accounts", "{").await).0, Code::Malformed);
    assert_eq!(
        problem(bank.post("/v1/accounts", "{\"public_key\":\"x\"}").await).1.as_deref(),
        Some("public_key")
    );
    assert_eq!(problem(bank.post("/v1/accounts", vec![b'x'; 262_145]).await).0, Code::PayloadTooLarge);
    assert_eq!(problem(bank.post("/v1/nothing", "{}").await).0, Code::NotFound);
    assert_eq!(problem(bank.post("/v1/issuer", "{}").await).0, Code::MethodNotAllowed);
    for (path, code, field) in [
        ("/v1/channels/0OIl", Code::Malformed, Some("id")),
        ("/v1/accounts/0OIl", Code::Malformed, Some("key")),
        ("/v1/channels?limit=many", Code::Malformed, None),
        ("/v1/channels?owner=me", Code::Malformed, None),
    ] {
        let (status, body) = bank.get(&format!("{}{path}", bank.url)).await;
        assert_eq!(problem((status, body.into_bytes())), (code, field.map(str::to_owned)), "{path}");
    }
}

#[tokio::test]
async fn the_admin_listener_tells_readiness_and_counts_outcomes() {
    let bank = Bank::start(BACKEND).await;
    assert_eq!(bank.get(&format!("{}/livez", bank.admin_url)).await.0, 200);
    assert_eq!(bank.get(&format!("{}/readyz", bank.admin_url)).await, (200, "{\"ready\":true}".to_owned()));
    bank.party(1).await;
    bank.post("/v1/accounts", "{").await;
    let (_, metrics) = bank.get(&format!("{}/metrics", bank.admin_url)).await;
    for line in [
        "millrace_issuer_operations_total{operation=\"register\",outcome=\"ok\"} 1",
        "millrace_issuer_operations_total{operation=\"register\",outcome=\"malformed\"} 1",
        "millrace_issuer_operation_seconds_count{operation=\"register\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}
