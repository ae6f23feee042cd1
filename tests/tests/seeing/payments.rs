//! Payments add up at every scrape, while they come in, are refused, get no answer, and are left alone by their clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cli::audit::metrics::{Scrape, identities};
use common::wire::Outcome;
use tests::load::Load;
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};
use tests::{wait_for, wait_until};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::scrape;

const FLOOD: Duration = Duration::from_secs(60);

/// Scrapes without a pause, until it is stopped, and fails at the first scrape that contradicts itself.
struct Scraper {
    stop: CancellationToken,
    scrapes: Arc<AtomicU64>,
    /// The most that one scrape showed in flight.
    task: JoinHandle<u128>,
}

impl Scraper {
    fn start(admin_url: &str) -> Scraper {
        let (stop, scrapes) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let (url, stopped, counted) = (admin_url.to_owned(), stop.clone(), Arc::clone(&scrapes));
        let task = tokio::spawn(async move {
            let (mut most, mut received) = (0, 0);
            while !stopped.is_cancelled() {
                let scrape = scrape(&url).await.expect("a relayer that is up is scraped");
                let whole = payments(&url, &scrape);
                assert!(whole >= received, "received went back from {received} to {whole}");
                received = whole;
                most = most.max(scrape.get("millrace_relayer_payments_in_flight").expect("there"));
                counted.fetch_add(1, Ordering::Relaxed);
            }
            most
        });
        Scraper { stop, scrapes, task }
    }
}

/// Payments received by a scrape that adds up.
fn payments(url: &str, scrape: &Scrape) -> u128 {
    let shown = identities(url, scrape);
    let [identity] = shown.as_slice() else { panic!("one identity: {shown:?}") };
    assert!(identity.of == "payments" && identity.holds, "{identity:?}");
    identity.whole
}

async fn duplicates(channel: &Channel, relayer: &str, count: usize) {
    for _ in 0..count {
        let answer = channel.pay(relayer, 1).await.expect("an answer");
        let outcome = answer.body.expect("taken").outcome;
        assert!(matches!(outcome, Outcome::Accepted | Outcome::Duplicate));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_add_up_at_every_scrape_whatever_becomes_of_them() {
    let rig = Rig::start(RigOptions { relayers: 2, ..RigOptions::default() }).await;
    let mut channels = Vec::new();
    for _ in 0..8 {
        channels.push(rig.channel(1_000_000).await);
    }
    let again = rig.channel(100).await;
    let scrapers: Vec<Scraper> =
        rig.relayers.iter().map(|relayer| Scraper::start(relayer.admin_url())).collect();
    let load = Load::start(&channels, &[rig.relayer(0), rig.relayer(1)]);
    load.wait_for(200, FLOOD).await;
    duplicates(&again, rig.relayer(0), 20).await;
    for body in ["", "{", "[]", "{\"channel_id\":1}"] {
        let url = format!("{}/v1/payments", rig.relayer(1));
        assert_eq!(rig.http.post(&url, body).await.problem().status, 400);
    }
    // A reply that is lost, and with it what became of its payments.
    let lost = rig.redis.proxy().swallow_next_reply_then_cut("EVALSHA");
    lost.wait(SOON).await;
    load.wait_for(100, FLOOD).await;
    // Clients that do not wait for their answers.
    let (impatient, url) = (rig.channel(1_000).await, format!("{}/v1/payments", rig.relayer(0)));
    let client = reqwest::Client::builder().timeout(Duration::from_micros(300)).build().expect("a client");
    for amount in 1..40 {
        let body = serde_json::to_vec(&impatient.voucher(amount)).expect("JSON");
        let _ = client.post(&url).body(body).send().await;
    }
    wait_until(FLOOD, "each relayer was scraped a hundred times", || async {
        scrapers.iter().all(|scraper| scraper.scrapes.load(Ordering::Relaxed) >= 100)
    })
    .await;
    let paid: u64 = load.stop().await.iter().map(|paid| paid.acknowledged).sum();
    let mut in_flight = 0;
    for scraper in scrapers {
        scraper.stop.cancel();
        in_flight = in_flight.max(scraper.task.await.expect("every scrape added up"));
    }
    assert!(in_flight > 0, "some were in flight while it was scraped");

    let mut sums = [0; 3];
    for relayer in &rig.relayers {
        let at_rest = wait_for(SOON, "nothing is in flight", || async {
            let scrape = scrape(relayer.admin_url()).await?;
            (scrape.get("millrace_relayer_payments_in_flight") == Some(0)).then_some(scrape)
        })
        .await;
        payments(relayer.admin_url(), &at_rest);
        for (sum, outcome) in sums.iter_mut().zip(["accepted", "duplicate", "outcome_unknown"]) {
            let series = format!("millrace_relayer_payments_total{{outcome=\"{outcome}\"}}");
            *sum += at_rest.get(&series).expect("there from the start");
        }
    }
    let [accepted, duplicate, unknown] = sums;
    assert!(accepted + unknown > u128::from(paid), "{accepted} accepted, {paid} acknowledged");
    assert!(duplicate >= 19 && unknown > 0, "{duplicate} duplicates, {unknown} unknown");
}

#[tokio::test]
async fn time_is_measured_in_every_stage() {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = rig.channel(100).await;
    for amount in 1..=3 {
        channel.pay(rig.relayer(0), amount).await.expect("an answer").body.expect("taken");
    }
    let scrape = scrape(rig.relayers[0].admin_url()).await.expect("a scrape");
    for stage in ["parse", "terms", "verify"] {
        let series = format!("millrace_relayer_payment_seconds_count{{stage=\"{stage}\"}}");
        assert_eq!(scrape.get(&series), Some(3), "{stage}");
    }
    let store = scrape.get("millrace_relayer_payment_seconds_count{stage=\"store\"}");
    assert_eq!(store, Some(4), "the first one twice: Redis did not know its channel");
}
