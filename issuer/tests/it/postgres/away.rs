//! A PostgreSQL that goes away, comes back, keeps a request waiting, or cuts a commit short.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::amount::Amount;
use common::problem::{Code, Problem};
use futures::future::join_all;

use crate::harness::{Bank, Database, Party, Server, Settlement};

const WITHIN: Duration = Duration::from_secs(60);

async fn bank_on(server: &Arc<Server>) -> (Bank, Party, Party) {
    let database = Database::on(server.clone()).await;
    let bank = Bank::start_on(tempfile::tempdir().expect("a temp dir"), database, |config| {
        config.development.enabled = true;
        config.development.starting_balance = Amount::new(1_000);
        config.database.statement_timeout_ms = 400;
        config.database.check_interval_ms = 20;
    })
    .await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    (bank, payer, payee)
}

async fn own_server() -> Arc<Server> {
    Arc::new(tokio::task::spawn_blocking(Server::start).await.expect("a server"))
}

/// Waits until `/readyz` answers with this status; gives its body.
async fn until_readyz_says(bank: &Bank, status: u16) -> String {
    let deadline = Instant::now() + WITHIN;
    loop {
        let (found, body) = bank.get(&format!("{}/readyz", bank.admin_url)).await;
        if found == status {
            return body;
        }
        assert!(Instant::now() < deadline, "still {found}: {body}");
        tokio::task::yield_now().await;
    }
}

fn problem(answer: &(u16, Vec<u8>)) -> Problem {
    let problem: Problem = serde_json::from_slice(&answer.1).expect("a problem");
    assert_eq!(problem.status, answer.0);
    problem
}

#[tokio::test]
async fn a_server_that_restarts_under_load_costs_answers_but_no_receipt_and_no_unit() {
    let server = own_server().await;
    let (bank, payer, payee) = bank_on(&server).await;
    let mut closes = Vec::new();
    for _ in 0..30 {
        let id = bank.channel(&payer, &payee, 20).await;
        closes.push((id, Settlement::of(id, 7).close().signed(&payer, &payee)));
    }
    // Each is sent until it is settled, and then again and again: the receipt must stay what it was.
    let enough = std::sync::atomic::AtomicBool::new(false);
    let failed = std::sync::atomic::AtomicUsize::new(0);
    let load = join_all(closes.iter().map(|(id, request)| {
        let (bank, enough, failed) = (&bank, &enough, &failed);
        async move {
            let mut receipt = None;
            while receipt.is_none() || !enough.load(std::sync::atomic::Ordering::SeqCst) {
                let answer = bank.settle_raw(id, request).await;
                if answer.0 == 200 {
                    assert_eq!(receipt.get_or_insert(answer.1.clone()), &answer.1);
                } else {
                    let code = problem(&answer).code;
                    let passing = [Code::StoreUnavailable, Code::OutcomeUnknown, Code::Overloaded];
                    assert!(passing.contains(&code), "{code}");
                    failed.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
            }
        }
    }));
    let restarts = async {
        for _ in 0..3 {
            tokio::task::spawn_blocking({
                let server = server.clone();
                move || server.stop()
            })
            .await
            .expect("it stops");
            let body = until_readyz_says(&bank, 503).await;
            assert!(body.contains("the database is not available"), "{body}");
            tokio::task::spawn_blocking({
                let server = server.clone();
                move || server.run()
            })
            .await
            .expect("it starts");
            until_readyz_says(&bank, 200).await;
        }
        enough.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    tokio::join!(load, restarts);
    assert!(failed.into_inner() > 0, "the load met the restarts");
    assert_eq!((bank.usd(&payer).await, bank.usd(&payee).await), ((1_000 - 210, 0), (1_210, 0)));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn while_the_server_is_away_requests_are_answered_at_once_with_a_code_that_says_so() {
    let server = own_server().await;
    let (bank, payer, payee) = bank_on(&server).await;
    let id = bank.channel(&payer, &payee, 20).await;
    let request = Settlement::of(id, 7).close().signed(&payer, &payee);
    let stopping = server.clone();
    tokio::task::spawn_blocking(move || stopping.stop()).await.expect("it stops");
    let answer = bank.settle_raw(&id, &request).await;
    assert_eq!(problem(&answer).code, Code::StoreUnavailable);
    let (status, body) = bank.get(&format!("{}/v1/channels/{id}", bank.url)).await;
    assert_eq!(problem(&(status, body.into_bytes())).code, Code::StoreUnavailable);
    let starting = server.clone();
    tokio::task::spawn_blocking(move || starting.run()).await.expect("it starts");
    assert_eq!(bank.settle_raw(&id, &request).await.0, 200, "without a restart of the issuer");
    bank.assert_balanced().await;
}

#[tokio::test]
async fn what_waits_longer_than_a_statement_may_is_not_carried_out() {
    let server = own_server().await;
    let (bank, payer, payee) = bank_on(&server).await;
    let id = bank.channel(&payer, &payee, 20).await;
    let request = Settlement::of(id, 7).close().signed(&payer, &payee);
    let Database::Postgres { name, .. } = &bank.database else { panic!("not a file") };
    let stranger = server.client(name).await;
    stranger.batch_execute("BEGIN; LOCK TABLE parties IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let answer = bank.settle_raw(&id, &request).await;
    assert_eq!(problem(&answer).code, Code::Overloaded);
    stranger.batch_execute("ROLLBACK").await.expect("let go");
    assert_eq!(bank.usd(&payee).await, (1_000, 0));
    assert_eq!(bank.settle_raw(&id, &request).await.0, 200);
    bank.assert_balanced().await;
}

#[tokio::test]
async fn a_commit_without_an_answer_is_unknown_and_its_repeat_is_safe() {
    let (bank, payer, payee) = bank_on(&Server::shared()).await;
    let id = bank.channel(&payer, &payee, 20).await;
    let request = Settlement::of(id, 7).close().signed(&payer, &payee);
    // Runs when the transaction commits, and ends the connection there.
    bank.database
        .execute(
            "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER cuts AFTER INSERT ON settlements DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION cut()",
        )
        .await;
    let answer = bank.settle_raw(&id, &request).await;
    assert_eq!(problem(&answer).code, Code::OutcomeUnknown);
    bank.database.execute("DROP TRIGGER cuts ON settlements").await;
    let first = bank.settle_raw(&id, &request).await;
    assert_eq!(first.0, 200);
    assert_eq!(bank.settle_raw(&id, &request).await, first);
    assert_eq!(bank.usd(&payee).await, (1_007, 0));
    bank.assert_balanced().await;
}
