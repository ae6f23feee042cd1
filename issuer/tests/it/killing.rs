//! The real program, killed without warning in the middle of settlements.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::amount::Amount;
use common::batch::ChannelSettlement;
use common::channel::{SchemeKind, Terms};
use common::clock::Clock;
use common::ids::ChannelId;
use common::secret::write_signing_key;
use common::verify::usable_key;
use common::wire::{IssuerStatus, Receipt, SettlementRequest};
use ed25519_dalek::SigningKey;
use futures::future::join_all;
use tempfile::TempDir;

use super::BACKEND;
use crate::harness::{Database, Party, Process, Settlement, issuer_key};

/// What outlives an issuer.
struct Scene {
    dir: TempDir,
    database: Database,
}

impl Scene {
    async fn start(&self) -> Process {
        Process::start(self.dir.path(), &self.database).await
    }
}

/// An issuer with sixty open channels, and the request that closes each for 7.
async fn sixty_channels_to_close() -> (Scene, Process, Vec<(ChannelId, SettlementRequest)>) {
    let dir = tempfile::tempdir().expect("a temp dir");
    let database = Database::new(BACKEND, dir.path()).await;
    let scene = Scene { dir, database };
    write_signing_key(&scene.dir.path().join("issuer.key"), &SigningKey::from_bytes(&[200; 32]))
        .expect("written");
    let (payer, payee) = (Party::new(1), Party::new(2));
    let process = scene.start().await;
    let mut ids = Vec::new();
    for party in [&payer, &payee] {
        process.client().register(&party.key()).await.expect("registered");
    }
    for salt in 0..60 {
        let terms = Terms {
            issuer: issuer_key(),
            payer: payer.key(),
            payer_authorizer: payer.key(),
            payee: payee.key(),
            asset: "usd".to_owned(),
            capacity: Amount::new(1_000),
            expires_at: Clock::system().now_s() + 3_600,
            salt,
            scheme: SchemeKind::Ed25519,
        };
        ids.push(process.client().open(&payer.opening(terms)).await.expect("opened").channel_id);
    }
    let requests =
        ids.iter().map(|id| (*id, Settlement::of(*id, 7).close().signed(&payer, &payee))).collect();
    (scene, process, requests)
}

#[tokio::test]
async fn a_killed_issuer_repeats_every_receipt_it_gave_and_pays_nothing_twice() {
    let (scene, mut process, requests) = sixty_channels_to_close().await;
    let mut receipts: Vec<Option<Vec<u8>>> = vec![None; requests.len()];
    for round in 0..3 {
        let answers = settle_until_killed(process, &requests, 10 * (round + 1)).await;
        for (kept, answer) in receipts.iter_mut().zip(answers) {
            let Some((status, body)) = answer else { continue };
            assert_eq!(status, 200);
            assert_eq!(kept.get_or_insert(body.clone()), &body, "the first receipt, byte for byte");
        }
        process = scene.start().await;
    }

    for ((id, request), kept) in requests.iter().zip(&receipts) {
        let (status, body) = process.settle(id, request).await.expect("an answer");
        assert_eq!(status, 200);
        assert!(kept.as_ref().is_none_or(|kept| *kept == body));
    }
    assert!(receipts.iter().flatten().count() >= 10, "some were answered before a kill");
    let account = process.client().account(&Party::new(2).key()).await.expect("an account");
    assert_eq!(account.balances.first().expect("usd").available.units(), 1_000_000_000 + 60 * 7);
    let books = process.client().books().await.expect("books");
    assert!(books.balanced, "{books:?}");
}

#[tokio::test]
async fn a_batch_that_an_issuer_was_killed_in_took_place_as_a_whole_or_not_at_all() {
    let (scene, mut process, requests) = sixty_channels_to_close().await;
    let issuer = usable_key(&issuer_key()).expect("an honest key");
    let batches: Vec<Vec<ChannelSettlement>> = requests
        .chunks(12)
        .map(|chunk| {
            let each = chunk.iter().cloned();
            each.map(|(channel_id, request)| ChannelSettlement { channel_id, request }).collect()
        })
        .collect();
    let mut first: Vec<Option<Vec<Receipt>>> = vec![None; batches.len()];
    for enough in 1..=3 {
        let answered = AtomicUsize::new(0);
        let client = process.client();
        let answers = join_all(batches.iter().map(async |batch| {
            let answer = client.settle_all(batch).await;
            if answered.fetch_add(1, Ordering::SeqCst) + 1 == enough {
                process.kill();
            }
            answer.ok()
        }));
        for (kept, answer) in first.iter_mut().zip(answers.await) {
            let Some(answer) = answer else { continue };
            let receipts: Vec<Receipt> = answer.into_iter().map(|result| result.expect("settled")).collect();
            assert_eq!(kept.get_or_insert(receipts.clone()), &receipts, "the first receipts");
        }
        process = scene.start().await;
    }
    assert!(first.iter().flatten().count() >= 1, "some were answered before a kill");

    for (batch, first) in batches.iter().zip(&first) {
        let mut open = 0;
        for settlement in batch {
            let channel = process.client().channel(&settlement.channel_id).await.expect("an answer");
            open += usize::from(channel.expect("known").status == IssuerStatus::Open);
        }
        assert!(open == 0 || open == batch.len(), "{open} of a batch of {} are open", batch.len());
        let answer = process.client().settle_all(batch).await.expect("an answer");
        let receipts: Vec<Receipt> = answer.into_iter().map(|result| result.expect("settled")).collect();
        assert!(first.as_ref().is_none_or(|first| *first == receipts));
        for (index, receipt) in (0u64..).zip(&receipts) {
            let inclusion = receipt.inclusion.as_ref().expect("every new receipt has its place");
            assert_eq!((inclusion.size, inclusion.index), (12, index), "whatever was settled when");
            assert_eq!(receipt.check_inclusion(&issuer), Ok(()));
        }
    }
    let books = process.client().books().await.expect("books");
    assert!(books.balanced, "{books:?}");
}

/// Sends all requests at once and kills the issuer when `enough` are answered, with the others on their way.
async fn settle_until_killed(
    process: Process,
    requests: &[(ChannelId, SettlementRequest)],
    enough: usize,
) -> Vec<Option<(u16, Vec<u8>)>> {
    let answered = AtomicUsize::new(0);
    let answers = join_all(requests.iter().map(async |(id, request)| {
        let answer = process.settle(id, request).await;
        if answered.fetch_add(1, Ordering::SeqCst) + 1 == enough {
            process.kill();
        }
        answer
    }));
    tokio::time::timeout(Duration::from_secs(20), answers).await.expect("cut off at once")
}
