//! Money adds up at every scrape of a settler, through closes, failures and changes of leader, and is what Redis holds.

use std::process::Command;
use std::time::Duration;

use cli::audit::metrics::{Scrape, check, identities};
use cli::audit::{Kind, Violation};
use common::channel::Status;
use common::clock::Clock;
use common::problem::{Code, Problem};
use tests::binaries;
use tests::issuer::{Route, Step};
use tests::load::Load;
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};
use tests::{wait_for, wait_until};
use tokio_util::sync::CancellationToken;

use super::scrape;

const FLOOD: Duration = Duration::from_secs(60);

/// Two settlers that close what owes 40 units or more, as soon as they read it.
async fn rig() -> Rig {
    let settler = vec![("policy.owed_max", "40".to_owned())];
    Rig::start(RigOptions { settlers: 2, settler, ..RigOptions::default() }).await
}

fn admin_urls(rig: &Rig) -> Vec<String> {
    rig.relayers.iter().chain(&rig.settlers).map(|process| process.admin_url().to_owned()).collect()
}

fn money(scrape: &Scrape, state: &str) -> u128 {
    scrape.get(&format!("millrace_settler_money_units{{state=\"{state}\"}}")).expect("there from the start")
}

/// Scrapes a settler without a pause, while it is up, until it is stopped. How often it did.
fn scrape_on(admin_url: &str, stop: &CancellationToken) -> tokio::task::JoinHandle<u64> {
    let (url, stop) = (admin_url.to_owned(), stop.clone());
    tokio::spawn(async move {
        let mut scrapes = 0;
        while !stop.is_cancelled() {
            let Some(scrape) = scrape(&url).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let shown = identities(&url, &scrape);
            let [identity] = shown.as_slice() else { panic!("one identity: {shown:?}") };
            assert!(identity.of == "money" && identity.holds, "{identity:?}");
            assert!(
                scrape.get("millrace_settler_leader") == Some(1) || identity.whole == 0,
                "a standby answers for no money: {identity:?}"
            );
            scrapes += 1;
        }
        scrapes
    })
}

/// The leader's scrape, once it shows so much money in this state.
async fn shown(rig: &Rig, state: &str, least: u128) -> Scrape {
    wait_for(SOON, &format!("{least} units are shown as {state}"), || async {
        let scrape = scrape(rig.settlers[rig.leader().await].admin_url()).await?;
        (money(&scrape, state) >= least).then_some(scrape)
    })
    .await
}

/// `millrace audit` of all metrics: its exit code, and all that it says.
fn audit(rig: &Rig) -> (Option<i32>, String) {
    let mut command = Command::new(binaries::path("millrace"));
    command.args(["--json", "audit", "--issuer-url", &rig.issuer.url(), "--redis-url", &rig.redis.url()]);
    for url in admin_urls(rig) {
        command.args(["--metrics", &url]);
    }
    // It asks the issuer, which runs here.
    let output = tokio::task::block_in_place(|| command.output()).expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_adds_up_at_every_scrape_whoever_leads() {
    let mut rig = rig().await;
    let stop = CancellationToken::new();
    let scrapers: Vec<_> = rig.settlers.iter().map(|settler| scrape_on(settler.admin_url(), &stop)).collect();
    let mut channels = Vec::new();
    for _ in 0..6 {
        channels.push(rig.channel(1_000).await);
    }
    let load = Load::start(&channels, &[rig.relayer(0)]);
    load.wait_for(100, FLOOD).await;
    let old = rig.leader().await;
    rig.settlers[old].kill();
    // Every channel owes 40 at some time, and is closed: then its payer stops.
    let paid = tokio::time::timeout(FLOOD, async {
        for channel in &channels {
            rig.in_status(channel, Status::Closed).await;
        }
        load.stop().await
    });
    let paid = paid.await.expect("closed in time");
    let all: u128 = paid.iter().map(|paid| u128::from(paid.acknowledged)).sum();
    assert_ne!(rig.leader().await, old);
    let settled = shown(&rig, "settled", all).await;
    assert_eq!((money(&settled, "settled"), money(&settled, "unsettled")), (all, 0));
    rig.settlers[old].restart().expect("it can be started again");
    rig.settlers[old].wait_ready(SOON).await.expect("it is ready");
    stop.cancel();
    for scraper in scrapers {
        assert!(scraper.await.expect("every scrape added up") > 20);
    }

    let (store, mut violations) = (rig.store().await, Vec::<Violation>::new());
    let found = check(&admin_urls(&rig), &store, &mut violations).await.expect("all answer");
    assert_eq!(violations, []);
    assert_eq!(found.identities.len(), 3, "a relayer and two settlers");
    assert_eq!((found.books.accepted, found.books.settled), (all, all));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_of_metrics_says_clean_or_what_is_wrong() {
    let rig = rig().await;
    let (open, closed) = (rig.channel(1_000).await, rig.channel(1_000).await);
    pay(&rig, &open, 7).await;
    pay(&rig, &closed, 50).await;
    rig.closed(&closed, 50).await;
    let (code, text) = audit(&rig);
    assert_eq!(code, Some(0), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).expect("one line of JSON");
    assert_eq!(report["metrics"]["books"]["settled"], 50, "{text}");
    assert_eq!(report["metrics"]["identities"].as_array().map(Vec::len), Some(3), "{text}");

    // Someone else writes to the books.
    let store = rig.store().await;
    let books = store.keys().books(store.partition_of(&closed.id()));
    rig.redis.command(&["HINCRBY", &books, "settled", "1"]).await;
    let (code, text) = audit(&rig);
    assert_eq!(code, Some(1), "{text}");
    for kind in ["identity_broken", "metrics_differ"] {
        assert!(text.contains(kind), "{kind}: {text}");
    }
    // Now in a way that adds up: what the channels come to says otherwise.
    rig.redis.command(&["HINCRBY", &books, "accepted", "1"]).await;
    shown(&rig, "accepted", 58).await;
    let mut violations = Vec::new();
    check(&admin_urls(&rig), &store, &mut violations).await.expect("all answer");
    assert!(violations.iter().any(|violation| violation.kind == Kind::MetricsDiffer), "{violations:?}");
    assert!(violations.iter().all(|violation| violation.kind != Kind::IdentityBroken), "{violations:?}");
}

async fn pay(rig: &Rig, channel: &Channel, amount: u64) {
    channel.pay(rig.relayer(0), amount).await.expect("an answer").body.expect("taken");
}

#[tokio::test]
async fn what_is_given_up_on_is_dead_money() {
    let rig = rig().await;
    let problem = serde_json::to_string(&Problem::new(Code::InvalidSignature)).expect("JSON");
    rig.front.always(Route::Settle, Step::Json(Code::InvalidSignature.status(), problem));
    let channel = rig.channel(1_000).await;
    pay(&rig, &channel, 50).await;
    rig.in_status(&channel, Status::Failed).await;
    let scrape = shown(&rig, "dead", 50).await;
    assert_eq!((money(&scrape, "accepted"), money(&scrape, "unsettled")), (50, 0));
    assert_eq!(scrape.get("millrace_settler_dead_letters"), Some(1));
}

#[tokio::test]
async fn money_is_at_risk_while_a_close_cannot_end_near_its_expiry() {
    const MARGIN_S: i64 = 600;
    let rig = Rig::start(RigOptions {
        settlers: 1,
        issuer: |config| config.limits.channel_lifetime_min_s = 1,
        relayer: vec![("settle_margin_s", "2".to_owned())],
        settler: vec![("policy.expiry_margin_s", MARGIN_S.to_string())],
        ..RigOptions::default()
    })
    .await;
    rig.front.fail_next(Route::Settle, 1_000_000);
    // Within the margin both, so both are closed at once; the one is past half of it.
    let now_s = Clock::system().now_s();
    for (left_s, amount) in [(MARGIN_S / 2 - 10, 7), (MARGIN_S - 10, 9)] {
        let channel = rig.payer().await.channel(rig.payee()).expires_at(now_s + left_s).open().await;
        pay(&rig, &channel, amount).await;
        rig.in_status(&channel, Status::Closing).await;
    }
    let admin = rig.settlers[0].admin_url();
    let at_risk =
        async || scrape(admin).await.and_then(|scrape| scrape.get("millrace_settler_at_risk_units"));
    wait_until(SOON, "what is owed is at risk", || async { at_risk().await == Some(7) }).await;
    rig.front.heal();
    wait_until(SOON, "nothing is at risk any more", || async { at_risk().await == Some(0) }).await;
}
