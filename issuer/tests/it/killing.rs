//! The real program, killed without warning in the middle of settlements.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::amount::Amount;
use common::channel::{SchemeKind, Terms};
use common::clock::Clock;
use common::ids::ChannelId;
use common::secret::write_signing_key;
use common::wire::SettlementRequest;
use ed25519_dalek::SigningKey;
use futures::future::join_all;
use service::issuer_client::{IssuerClient, IssuerClientConfig};

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

#[tokio::test]
async fn a_killed_issuer_repeats_every_receipt_it_gave_and_pays_nothing_twice() {
    let dir = tempfile::tempdir().expect("a temp dir");
    write_signing_key(&dir.path().join("issuer.key"), &SigningKey::from_bytes(&[200; 32])).expect("written");
    let (payer, payee) = (Party::new(1), Party::new(2));
    let mut process = Process::start(dir.path()).await;
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
    let requests: Vec<_> =
        ids.iter().map(|id| (*id, Settlement::of(*id, 7).close().signed(&payer, &payee))).collect();

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
    let account = process.client().account(&payee.key()).await.expect("an account");
    assert_eq!(account.balances.first().expect("usd").available.units(), 1_000_000_000 + 60 * 7);
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
