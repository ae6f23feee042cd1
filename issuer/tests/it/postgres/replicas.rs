//! Several issuers on one database: every promise of one is kept by all of them together.

use std::sync::Arc;

use common::batch::ChannelSettlement;
use common::channel::SchemeKind;
use common::client::Purse;
use common::ids::{ChannelId, Hash};
use common::problem::Code;
use common::secret::write_signing_key;
use common::wire::SettlementRequest;
use ed25519_dalek::SigningKey;
use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use super::BACKEND;
use crate::harness::{Bank, Database, Party, Process, Settlement, issuer_key};

const PAYEES: [u8; 2] = [2, 3];
const EACH: usize = 20;
const PAID: u64 = 7;

fn dir_with_key() -> TempDir {
    let dir = tempfile::tempdir().expect("a temp dir");
    write_signing_key(&dir.path().join("issuer.key"), &SigningKey::from_bytes(&[200; 32])).expect("written");
    dir
}

/// A second issuer on the database of `bank`, at the same time by the clock.
async fn beside(bank: &Bank, locks: bool) -> Bank {
    let dir = tempfile::tempdir().expect("a temp dir");
    let play = bank.config().development.clone();
    Bank::start_on(dir, bank.database.clone(), |config| {
        config.development = play;
        config.database.locks_nothing = !locks;
    })
    .await
}

/// Two issuers, and the closes of channels for two payees.
struct Scene {
    first: Bank,
    second: Bank,
    closes: Vec<(ChannelId, SettlementRequest)>,
}

impl Scene {
    async fn new(locks: bool) -> Scene {
        let first = Bank::start_with(BACKEND, |config| {
            config.development.enabled = true;
            config.database.locks_nothing = !locks;
        })
        .await;
        let second = beside(&first, locks).await;
        let payer = first.party(1).await;
        let mut closes = Vec::new();
        for seed in PAYEES {
            let payee = second.party(seed).await;
            for _ in 0..EACH {
                let id = first.channel(&payer, &payee, 100).await;
                closes.push((id, Settlement::of(id, PAID).close().signed(&payer, &payee)));
            }
        }
        // Slow in the middle, so that two that do not wait for one another meet there.
        first
            .database
            .execute(
                "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$;
                 CREATE TRIGGER dawdles BEFORE INSERT ON postings FOR EACH ROW EXECUTE FUNCTION dawdle()",
            )
            .await;
        Scene { first, second, closes }
    }

    /// Sends every close to both issuers at once, alone and in a batch. What is wrong afterwards, in words.
    async fn hammer(&self) -> Vec<String> {
        let both = [&self.first, &self.second];
        let alone = join_all(self.closes.iter().flat_map(|(id, request)| {
            both.map(|bank| async move { (*id, bank.settle_raw(id, request).await) })
        }));
        let batch: Vec<ChannelSettlement> = self
            .closes
            .iter()
            .rev()
            .map(|(id, request)| ChannelSettlement { channel_id: *id, request: request.clone() })
            .collect();
        let batches = join_all(both.map(|bank| bank.client.settle_all(&batch)));
        let (alone, batches) = tokio::join!(alone, batches);

        let mut faults = Vec::new();
        for (id, request) in &self.closes {
            let last = self.first.settle_raw(id, request).await;
            for (_, answer) in alone.iter().filter(|(of, _)| of == id) {
                if *answer != last || answer.0 != 200 {
                    faults.push(format!("{id}: {answer:?}, and then {last:?}"));
                }
            }
        }
        faults.extend(batches.iter().filter_map(|batch| batch.as_ref().err()).map(ToString::to_string));
        for batch in batches.iter().flatten() {
            let refused = batch.iter().filter_map(|result| result.as_ref().err());
            faults.extend(refused.map(|problem| format!("{problem:?}")));
        }
        let start = self.first.config().development.starting_balance.units();
        for seed in PAYEES {
            let (found, expected) = (self.first.usd(&Party::new(seed)).await.0, start + PAID * EACH as u64);
            if found != expected {
                faults.push(format!("payee {seed} has {found}, not {expected}"));
            }
        }
        let books = self.second.client.books().await.expect("books");
        faults.extend(books.fault);
        faults
    }
}

#[tokio::test]
async fn the_same_settlements_at_two_issuers_at_once_are_paid_once_and_answered_with_the_same_bytes() {
    let scene = Scene::new(true).await;
    assert_eq!(scene.hammer().await, Vec::<String>::new());
}

/// The test above must be able to fail: this is what it finds where nobody locks whom a change concerns.
#[tokio::test]
async fn without_its_locks_the_ledger_does_not_stand_two_issuers() {
    assert_ne!(Scene::new(false).await.hammer().await, Vec::<String>::new());
}

#[tokio::test]
async fn one_opening_at_two_issuers_at_once_is_one_channel_and_a_commitment_opens_one_ever() {
    let first = Bank::start(BACKEND).await;
    let second = beside(&first, true).await;
    let (payer, payee) = (first.party(1).await, second.party(2).await);
    let both = [&first, &second];

    let same = payer.opening(first.terms(&payer, &payee, 100));
    let answers = join_all(both.iter().cycle().take(8).map(|bank| bank.client.open(&same))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(first.usd(&payer).await, (900, 100), "one deposit");

    let purse = Purse::payword(Hash([9; 32]), common::amount::Amount::new(1), 100).expect("a length");
    let scheme: SchemeKind = purse.scheme();
    let openings: Vec<_> = (0..8)
        .map(|_| payer.opening(common::channel::Terms { scheme, ..first.terms(&payer, &payee, 100) }))
        .collect();
    let answers = join_all(openings.iter().zip(both.iter().cycle()).map(|(opening, bank)| {
        let body = serde_json::to_vec(opening).expect("JSON");
        async move { bank.post("/v1/channels", body).await.0 }
    }))
    .await;
    let opened = answers.iter().filter(|status| **status == 201).count();
    let reused = answers.iter().filter(|status| **status == Code::CommitmentReused.status()).count();
    assert_eq!((opened, reused), (1, 7), "{answers:?}");
    assert_eq!(first.usd(&payer).await, (800, 200), "one more deposit");
    second.assert_balanced().await;
}

#[tokio::test]
async fn a_token_seen_by_one_issuer_is_known_to_the_other_and_none_ever_falls() {
    let first = Bank::start(BACKEND).await;
    let second = beside(&first, true).await;
    let (payer, payee) = (first.party(1).await, second.party(2).await);
    let id = first.channel(&payer, &payee, 900).await;
    let both = [&first, &second];
    // Whatever order they come in: what was taken under a token was taken before a higher one was seen.
    let sent = (1..=40u64).map(|step| (step * 7 % 41, Settlement::of(id, step).token(step * 7 % 41)));
    let answers = join_all(sent.zip(both.iter().cycle()).map(|((token, settlement), bank)| {
        let request = settlement.signed(&payer, &payee);
        async move { (token, bank.refusal(&id, &request).await) }
    }))
    .await;
    let fenced = [None, Some(Code::StaleAmount), Some(Code::StaleFencingToken)];
    assert!(answers.iter().all(|(_, code)| fenced.contains(code)), "{answers:?}");
    for bank in both {
        let account = bank.client.account(&payee.key()).await.expect("an account");
        assert_eq!(account.highest_fencing_token, 40);
        let below = Settlement::of(id, 800).token(39).signed(&payer, &payee);
        assert_eq!(bank.refusal(&id, &below).await, Some(Code::StaleFencingToken));
    }
    second.assert_balanced().await;
}

#[tokio::test]
async fn issuers_that_start_at_once_on_an_empty_database_all_get_ready_and_one_of_another_key_does_not() {
    let dir = dir_with_key();
    let database = Database::new(BACKEND, dir.path()).await;
    let processes = join_all((0..4).map(|_| Process::start(dir.path(), &database))).await;
    for process in &processes {
        assert_eq!(process.client().info().await.expect("an answer").public_key, issuer_key());
    }
    let other = SigningKey::from_bytes(&[201; 32]);
    let refused = super::refusal_to_start(&database, &other).await;
    assert!(refused.contains("the database belongs to issuer"), "{refused}");
}

/// A frozen process keeps its connections: only the server can end what it began.
#[tokio::test]
async fn an_issuer_that_is_killed_or_frozen_in_the_middle_keeps_nobody_waiting_for_long() {
    let dir = dir_with_key();
    let database = Database::new(BACKEND, dir.path()).await;
    let quick = [("MILLRACE_ISSUER__DATABASE__STATEMENT_TIMEOUT_MS", "1500")];
    let healthy = Process::start(dir.path(), &database).await;
    let (payer, payee) = (Party::new(1), Party::new(2));
    for party in [&payer, &payee] {
        healthy.client().register(&party.key()).await.expect("registered");
    }
    for (round, signal) in (0u64..).zip([Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGKILL, Signal::SIGSTOP])
    {
        let unlucky = Arc::new(Process::start_with(dir.path(), &database, &quick).await);
        let mut closes = Vec::new();
        for salt in 0..20 {
            let terms = super::terms(&payer, &payee, round * 100 + salt);
            let id = healthy.client().open(&payer.opening(terms)).await.expect("opened").channel_id;
            closes.push((id, Settlement::of(id, PAID).close().signed(&payer, &payee)));
        }
        let sent: Vec<_> = closes
            .iter()
            .cloned()
            .map(|(id, request)| {
                let unlucky = unlucky.clone();
                tokio::spawn(async move { unlucky.settle(&id, &request).await })
            })
            .collect();
        // In the middle: some are answered, others are not.
        while !sent.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        kill(unlucky.pid(), signal).expect("it is there");
        let repeated =
            join_all(closes.iter().map(|(id, request)| super::settled(&healthy, id, request))).await;
        for (sent, repeated) in sent.into_iter().zip(repeated) {
            if sent.is_finished()
                && let Some((200, body)) = sent.await.expect("no panic")
            {
                assert_eq!(body, repeated, "the first receipt, byte for byte");
            }
        }
    }
    let books = healthy.client().books().await.expect("books");
    assert!(books.balanced, "{books:?}");
    let account = healthy.client().account(&payee.key()).await.expect("an account");
    assert_eq!(account.balances.first().expect("usd").available.units(), 1_000_000_000 + 80 * PAID);
}
