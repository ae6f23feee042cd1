//! The real program, killed without warning in the middle of settlements.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
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
use service::issuer_client::{IssuerClient, IssuerClientConfig};
use tempfile::TempDir;

use crate::harness::{Party, Settlement, issuer_key};

/// An issuer in a process of its own. Killed when dropped.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    /// Starts it on the database in `dir` and waits until it says that it is ready.
    async fn start(dir: &Path) -> Process {
        let dir = dir.to_owned();
        tokio::task::spawn_blocking(move || {
            let mut child = Command::new(env!("CARGO_BIN_EXE_issuer"))
                .env("MILLRACE_ISSUER__LISTEN", "127.0.0.1:0")
                .env("MILLRACE_ISSUER__ADMIN_LISTEN", "127.0.0.1:0")
                .env("MILLRACE_ISSUER__DATABASE", dir.join("ledger.db"))
                .env("MILLRACE_ISSUER__SIGNING_KEY", format!("file:{}", dir.join("issuer.key").display()))
                .env("MILLRACE_ISSUER__DEVELOPMENT__ENABLED", "true")
                .env("MILLRACE_ISSUER__LOG__FORMAT", "json")
                .env("RUST_LOG", "info")
                .stderr(Stdio::piped())
                .spawn()
                .expect("the program starts");
            let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
            let ready = lines
                .by_ref()
                .map(|line| line.expect("a line"))
                .find(|line| line.contains("issuer ready"))
                .expect("it gets ready");
            let ready: serde_json::Value = serde_json::from_str(&ready).expect("a JSON line");
            let url = format!("http://{}", ready["listen"].as_str().expect("an address"));
            // Someone must go on reading, or the next line logged would fail.
            std::thread::spawn(move || lines.for_each(drop));
            Process { child, url }
        })
        .await
        .expect("no panic")
    }

    fn client(&self) -> IssuerClient {
        let config = IssuerClientConfig { url: self.url.clone(), ..IssuerClientConfig::default() };
        IssuerClient::new(&config).expect("a valid config")
    }

    /// Status and body, or `None` where the issuer went away first.
    async fn settle(&self, id: &ChannelId, request: &SettlementRequest) -> Option<(u16, Vec<u8>)> {
        let url = format!("{}/v1/channels/{id}/settlements", self.url);
        let body = serde_json::to_vec(request).expect("JSON");
        let answer = reqwest::Client::new().post(url).body(body).send().await.ok()?;
        let status = answer.status().as_u16();
        answer.bytes().await.ok().map(|body| (status, body.to_vec()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already dead is fine too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An issuer with sixty open channels, and the request that closes each for 7.
async fn sixty_channels_to_close() -> (TempDir, Process, Vec<(ChannelId, SettlementRequest)>) {
    let dir = tempfile::tempdir().expect("a temp dir");
    write_signing_key(&dir.path().join("issuer.key"), &SigningKey::from_bytes(&[200; 32])).expect("written");
    let (payer, payee) = (Party::new(1), Party::new(2));
    let process = Process::start(dir.path()).await;
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
    (dir, process, requests)
}

#[tokio::test]
async fn a_killed_issuer_repeats_every_receipt_it_gave_and_pays_nothing_twice() {
    let (dir, mut process, requests) = sixty_channels_to_close().await;
    let mut receipts: Vec<Option<Vec<u8>>> = vec![None; requests.len()];
    for round in 0..3 {
        let answers = settle_until_killed(process, &requests, 10 * (round + 1)).await;
        for (kept, answer) in receipts.iter_mut().zip(answers) {
            let Some((status, body)) = answer else { continue };
            assert_eq!(status, 200);
            assert_eq!(kept.get_or_insert(body.clone()), &body, "the first receipt, byte for byte");
        }
        process = Process::start(dir.path()).await;
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
    let (dir, mut process, requests) = sixty_channels_to_close().await;
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
                kill(process.child.id());
            }
            answer.ok()
        }));
        for (kept, answer) in first.iter_mut().zip(answers.await) {
            let Some(answer) = answer else { continue };
            let receipts: Vec<Receipt> = answer.into_iter().map(|result| result.expect("settled")).collect();
            assert_eq!(kept.get_or_insert(receipts.clone()), &receipts, "the first receipts");
        }
        process = Process::start(dir.path()).await;
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
            kill(process.child.id());
        }
        answer
    }));
    tokio::time::timeout(Duration::from_secs(20), answers).await.expect("cut off at once")
}

/// Ends a process that cannot catch it.
fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill runs");
    assert!(killed.success());
}
