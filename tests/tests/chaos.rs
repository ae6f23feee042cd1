//! A short campaign with every fault, and campaigns through parts that are broken on purpose: the first must be clean,
//! each of the others must be called what it is.

#[path = "chaos/front.rs"]
mod front;

use std::collections::BTreeSet;
use std::time::Duration;

use cli::chaos::fault::FaultKind;
use cli::chaos::report::Report;
use cli::chaos::{Campaign, ChaosOptions};
use cli::history::Kind;
use common::config::RedisConfig;
use common::message;
use common::store::Store;
use common::wire::{IssuerStatus, Outcome, SettlementRequest};
use ed25519_dalek::Signer as _;
use front::{Front, Turn};
use tests::payer::issuer_client;
use tests::rig::SOON;
use tests::{binaries, wait_for};

/// Long enough for every kind of fault to come once.
const ALL_FAULTS: Duration = Duration::from_secs(24);

/// Long enough for dozens of channels to be opened, paid from and closed.
const NO_FAULTS: Duration = Duration::from_secs(4);

fn options(seed: u64, duration: Duration, dir: &tempfile::TempDir) -> ChaosOptions {
    ChaosOptions::new(seed, duration, dir.path(), binaries::millrace())
}

/// A campaign without faults: what goes wrong in it is what the test broke.
async fn quiet(dir: &tempfile::TempDir) -> Campaign {
    let options = ChaosOptions { kinds: Vec::new(), ..options(1, NO_FAULTS, dir) };
    Campaign::start(options).await.unwrap_or_else(|error| panic!("{error:#}"))
}

async fn run(campaign: Campaign) -> Report {
    campaign.run(&|line| eprintln!("{line}")).await.unwrap_or_else(|error| panic!("{error:#}"))
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("the directory for temporary files is writable")
}

fn kinds(report: &Report) -> BTreeSet<Kind> {
    report.violations.iter().map(|violation| violation.kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn stack_under_every_fault_tells_payers_nothing_untrue_and_settles_everything_once() {
    let dir = dir();
    let campaign = Campaign::start(options(20_261_120, ALL_FAULTS, &dir)).await;
    let report = run(campaign.unwrap_or_else(|error| panic!("{error:#}"))).await;
    if !report.is_clean() {
        panic!("{report:#?}\nlogs and histories are in {}", dir.keep().display());
    }
    for kind in FaultKind::all() {
        assert!(report.faults[&kind.to_string()].times > 0, "{kind} was not injected: {:?}", report.faults);
    }
    assert!(report.acknowledged > 500, "payments went on: {report:?}");
    assert!(report.unknown > 0, "some outcomes were not known at first: {report:?}");
    assert!(report.channels > 20 && report.closed == report.channels, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stack_with_honest_fronts_is_clean() {
    let dir = dir();
    let mut campaign = quiet(&dir).await;
    let front = Front::start(campaign.stack().relayer_url(0), |_| Turn::Forward, |answer| answer).await;
    campaign.pay_through(vec![front.url().to_owned()]);
    let report = run(campaign).await;
    assert!(report.is_clean() && report.acknowledged > 100, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stack_with_a_relayer_that_acknowledges_what_it_does_not_record_is_caught() {
    let dir = dir();
    let mut campaign = quiet(&dir).await;
    // A later voucher makes good for one that was dropped: only the last of a channel is lost, or one that is asked for.
    let drop_some = |voucher: &common::wire::PaymentRequest| {
        if voucher.cumulative_amount.units().is_multiple_of(3) { Turn::AcceptAndDrop } else { Turn::Forward }
    };
    let front = Front::start(campaign.stack().relayer_url(0), drop_some, |answer| answer).await;
    campaign.pay_through(vec![front.url().to_owned(), campaign.stack().relayer_url(1)]);
    let report = run(campaign).await;
    let kinds = kinds(&report);
    assert!(kinds.contains(&Kind::AcknowledgedMissing), "{kinds:?}");
    assert!(kinds.contains(&Kind::AmountFell), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stack_with_a_relayer_that_records_what_it_refuses_is_caught() {
    let dir = dir();
    let mut campaign = quiet(&dir).await;
    let refuse_some = |voucher: &common::wire::PaymentRequest| {
        if voucher.cumulative_amount.units().is_multiple_of(3) {
            Turn::ForwardAndRefuse
        } else {
            Turn::Forward
        }
    };
    let front = Front::start(campaign.stack().relayer_url(0), refuse_some, |answer| answer).await;
    campaign.pay_through(vec![front.url().to_owned()]);
    let report = run(campaign).await;
    assert!(kinds(&report).contains(&Kind::RefusedButRecorded), "{:?}", kinds(&report));
}

#[tokio::test(flavor = "multi_thread")]
async fn stack_with_a_relayer_that_accepts_one_voucher_twice_is_caught() {
    let dir = dir();
    let mut campaign = quiet(&dir).await;
    let front = Front::start(
        campaign.stack().relayer_url(0),
        |_| Turn::Forward,
        |answer| common::wire::PaymentAnswer { outcome: Outcome::Accepted, ..answer },
    )
    .await;
    campaign.pay_through(vec![front.url().to_owned()]);
    let report = run(campaign).await;
    assert_eq!(kinds(&report), BTreeSet::from([Kind::Contradiction]));
}

#[tokio::test(flavor = "multi_thread")]
async fn stack_with_an_issuer_that_pays_out_an_older_voucher_is_caught() {
    let dir = dir();
    let mut campaign = quiet(&dir).await;
    let stack = campaign.stack();
    let front = Front::start(stack.relayer_url(0), |_| Turn::Forward, |answer| answer).await;
    let (issuer, payee) = (issuer_client(&stack.issuer_url()), stack.payee_key().clone());
    let redis = RedisConfig { url: stack.redis_url().to_owned(), ..RedisConfig::default() };
    let store = Store::connect(&redis).expect("a private server's URL is valid");
    store.wait_connected(SOON).await.expect("the server is up");
    let seen = front.seen();
    // Someone who holds the payee's key and the leader's token, and does not care what was paid last.
    let settled_early = tokio::spawn(async move {
        wait_for(SOON, "an older voucher was paid out", || async {
            let (old, _) = seen.superseded()?;
            let token = store.lease_info().await.ok()?.token;
            let (id, amount) = (old.channel_id, old.cumulative_amount);
            let message = message::settle(&id, amount, true, token);
            let request = SettlementRequest {
                payee_signature: common::ids::Signature(payee.sign(&message).to_bytes()),
                ..SettlementRequest::unsigned(amount, Some(old.proof), true, token)
            };
            issuer.settle(&id, &request).await.ok()?;
            let channel = issuer.channel(&id).await.ok()??;
            (channel.status == IssuerStatus::Closed).then_some(id)
        })
        .await
    });
    campaign.pay_through(vec![front.url().to_owned()]);
    let report = run(campaign).await;
    let id = settled_early.await.expect("no panic");
    let of_channel: BTreeSet<Kind> = report
        .violations
        .iter()
        .filter(|violation| violation.channel_id == Some(id))
        .map(|violation| violation.kind)
        .collect();
    assert!(of_channel.contains(&Kind::SettledWrongAmount), "{:#?}", report.violations);
    assert!(of_channel.contains(&Kind::CloseFailed), "the settler gives it up, loudly: {of_channel:?}");
    let others = report.violations.iter().any(|violation| violation.channel_id != Some(id));
    assert!(!others, "no other channel suffers: {:#?}", report.violations);
}
