//! When a channel is closed: each rule with everything else turned off, beside a channel that it does not touch.

use std::time::Instant;

use common::amount::Amount;
use common::channel::Status;
use common::clock::Clock;
use common::store::read::StoredChannel;
use common::wire::{Outcome, Party};
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_for;

/// Of relayer and settler alike, in seconds: the least that one issuer timeout of the rig's settlers allows.
const MARGIN_S: i64 = 2;

/// From opening to expiry in seconds: three to get a payment through, then the margin.
const SHORT_S: i64 = 3 + MARGIN_S;

/// One relayer and a settler with these rules of `policy` and no others.
async fn only(rules: &[(&'static str, &str)]) -> Rig {
    let all = [
        "policy.owed_max",
        "policy.unsettled_age_max_s",
        "policy.idle_max_s",
        "policy.capacity_used_percent",
    ];
    let off = all.map(|key| (key, "null".to_owned()));
    let margin = [
        ("policy.expiry_margin_s", MARGIN_S.to_string()),
        ("issuer.request_timeout_ms", (MARGIN_S * 1_000 / 3).to_string()),
    ];
    let on = rules.iter().map(|(key, value)| (*key, (*value).to_owned()));
    Rig::start(RigOptions {
        settlers: 1,
        issuer: |config| config.limits.channel_lifetime_min_s = 1,
        relayer: vec![("settle_margin_s", MARGIN_S.to_string())],
        settler: off.into_iter().chain(margin).chain(on).collect(),
        ..RigOptions::default()
    })
    .await
}

async fn pay(rig: &Rig, channel: &Channel, amount: u64) {
    let answer = channel.pay(rig.relayer(0), amount).await.expect("an answer");
    assert_eq!(answer.body.expect("taken").outcome, Outcome::Accepted);
}

/// A channel that has paid this much, which the leader has read.
async fn paid(rig: &Rig, capacity: u64, amount: u64) -> Channel {
    let channel = rig.channel(capacity).await;
    pay(rig, &channel, amount).await;
    rig.read_by_leader(&channel).await;
    channel
}

/// Makes a channel known to Redis without a payment: one above its capacity is refused only by Redis.
async fn make_known(rig: &Rig, channel: &Channel) {
    let beyond = channel.terms().capacity.units() + 1;
    let answer = channel.pay(rig.relayer(0), beyond).await.expect("an answer");
    assert_eq!(answer.code(), Some("over_capacity"));
    assert_eq!(rig.stored(channel).await.state.amount, Amount::ZERO);
}

/// A channel that expires soon.
async fn short_lived(rig: &Rig) -> Channel {
    let now_s = Clock::system().now_s();
    rig.payer().await.channel(rig.payee()).expires_at(now_s + SHORT_S).open().await
}

/// Waits until the channel was closed for this reason and amount, counted once, and the payee has exactly that.
async fn closed_for(rig: &Rig, channel: &Channel, reason: &str, amount: u64) -> StoredChannel {
    let found = rig.closed(channel, amount).await;
    assert_eq!(found.closing_reason.as_deref(), Some(reason));
    assert_eq!(rig.earned().await, amount);
    let line = format!(r#"millrace_settler_closes_total{{outcome="closed",reason="{reason}"}}"#);
    let closes = wait_for(SOON, "the close is counted", || async {
        rig.metric(rig.settlers[0].admin_url(), &line).await.filter(|closes| *closes > 0)
    })
    .await;
    assert_eq!(closes, 1);
    rig.assert_books_balance().await;
    found
}

#[tokio::test]
async fn a_channel_is_closed_when_its_payer_asks() {
    let rig = only(&[]).await;
    let (asked, other) = (paid(&rig, 1_000, 7).await, paid(&rig, 1_000, 7).await);
    asked.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    closed_for(&rig, &asked, "close_requested", 7).await;
    rig.assert_left_alone(&other).await;
}

#[tokio::test]
async fn a_channel_is_closed_when_its_payee_asks() {
    let rig = only(&[]).await;
    let (asked, other) = (paid(&rig, 1_000, 7).await, paid(&rig, 1_000, 7).await);
    let answer = asked.close_as(rig.relayer(0), Party::Payee, rig.payee_key()).await.expect("an answer");
    answer.body.expect("noted");
    closed_for(&rig, &asked, "close_requested", 7).await;
    rig.assert_left_alone(&other).await;
}

#[tokio::test]
async fn a_channel_that_was_never_paid_from_is_closed_on_request_and_gives_everything_back() {
    let rig = only(&[]).await;
    let (asked, other) = (rig.channel(1_000).await, rig.channel(1_000).await);
    make_known(&rig, &asked).await;
    make_known(&rig, &other).await;
    asked.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    let found = closed_for(&rig, &asked, "close_requested", 0).await;
    assert_eq!(found.receipt.expect("closed").refunded_amount, Amount::new(1_000));
    rig.assert_left_alone(&other).await;
}

#[tokio::test]
async fn an_idle_channel_is_closed_and_one_that_goes_on_paying_is_not() {
    let rig = only(&[("policy.idle_max_s", "2")]).await;
    let (idle, busy, unpaid) =
        (rig.channel(1_000).await, rig.channel(1_000_000).await, rig.channel(10).await);
    make_known(&rig, &unpaid).await;
    pay(&rig, &idle, 7).await;
    let deadline = Instant::now() + SOON;
    let mut amount = 0;
    while rig.stored(&idle).await.state.status != Status::Closed {
        assert!(Instant::now() < deadline, "the idle channel is still open");
        amount += 1;
        pay(&rig, &busy, amount).await;
    }
    let found = closed_for(&rig, &idle, "idle", 7).await;
    let idle_ms = found.closing_at_ms.expect("begun") - found.last_at_ms.expect("read");
    assert!(idle_ms >= 2_000, "closed after {idle_ms} ms");
    rig.assert_left_alone(&busy).await;
    // Nothing is owed on it: there is nobody to keep waiting for money.
    rig.assert_left_alone(&unpaid).await;
}

#[tokio::test]
async fn a_channel_is_closed_once_enough_is_owed() {
    let rig = only(&[("policy.owed_max", "100")]).await;
    let (owes, below) = (paid(&rig, 1_000, 99).await, paid(&rig, 1_000, 99).await);
    rig.assert_left_alone(&owes).await;
    pay(&rig, &owes, 100).await;
    closed_for(&rig, &owes, "owed", 100).await;
    rig.assert_left_alone(&below).await;
}

#[tokio::test]
async fn what_the_issuer_has_paid_before_is_not_owed() {
    let rig = only(&[("policy.owed_max", "100")]).await;
    let channel = rig.channel(1_000).await;
    rig.settle_directly(&channel, 50, false, 0).await;
    pay(&rig, &channel, 149).await;
    let found = rig.read_by_leader(&channel).await;
    assert_eq!((found.state.status, found.settled_before), (Status::Open, Amount::new(50)));
    pay(&rig, &channel, 150).await;
    closed_for(&rig, &channel, "owed", 150).await;
}

#[tokio::test]
async fn a_payment_waits_no_longer_than_the_age_limit_however_busy_its_channel() {
    // The same limit for idleness: a channel that goes on paying is never idle.
    let rig = only(&[("policy.unsettled_age_max_s", "2"), ("policy.idle_max_s", "2")]).await;
    let (aged, unpaid) = (rig.channel(1_000_000).await, rig.channel(10).await);
    make_known(&rig, &unpaid).await;
    let deadline = Instant::now() + SOON;
    let mut amount = 0;
    let refused = loop {
        assert!(Instant::now() < deadline, "the channel still takes payments");
        let answer = aged.pay(rig.relayer(0), amount + 1).await.expect("an answer");
        match answer.body {
            Ok(_) => amount += 1,
            Err(problem) => break problem,
        }
    };
    assert!(matches!(refused.code.as_str(), "channel_closing" | "channel_closed"), "{refused:?}");
    assert_eq!(refused.latest.expect("the latest voucher").cumulative_amount, Amount::new(amount));
    let found = closed_for(&rig, &aged, "age", amount).await;
    let age_ms = found.closing_at_ms.expect("begun") - found.first_at_ms.expect("read");
    assert!(age_ms >= 2_000, "closed after {age_ms} ms");
    rig.assert_left_alone(&unpaid).await;
}

#[tokio::test]
async fn a_full_channel_is_closed() {
    let rig = only(&[("policy.capacity_used_percent", "100")]).await;
    let (full, nearly) = (paid(&rig, 1_000, 999).await, paid(&rig, 1_000, 999).await);
    rig.assert_left_alone(&full).await;
    pay(&rig, &full, 1_000).await;
    closed_for(&rig, &full, "full", 1_000).await;
    rig.assert_left_alone(&nearly).await;
}

#[tokio::test]
async fn a_channel_is_closed_once_the_configured_part_of_it_is_used_up() {
    let rig = only(&[("policy.capacity_used_percent", "80")]).await;
    let (full, nearly) = (paid(&rig, 1_000, 799).await, paid(&rig, 1_000, 799).await);
    rig.assert_left_alone(&full).await;
    pay(&rig, &full, 800).await;
    closed_for(&rig, &full, "full", 800).await;
    rig.assert_left_alone(&nearly).await;
}

/// Asserts that the close began within the margin before the expiry, not before and not after.
fn assert_in_margin(channel: &Channel, found: &StoredChannel) {
    let at_s = i64::try_from(found.closing_at_ms.expect("begun") / 1_000).expect("a time of day fits");
    let expires_at = channel.terms().expires_at;
    assert!((expires_at - MARGIN_S..expires_at).contains(&at_s), "begun at {at_s}, expires at {expires_at}");
}

#[tokio::test]
async fn a_channel_is_closed_before_it_expires() {
    let rig = only(&[]).await;
    let (short, long) = (short_lived(&rig).await, rig.channel(1_000).await);
    pay(&rig, &short, 7).await;
    pay(&rig, &long, 7).await;
    let found = closed_for(&rig, &short, "expiring", 7).await;
    assert_in_margin(&short, &found);
    rig.assert_left_alone(&long).await;
}

#[tokio::test]
async fn a_channel_that_was_never_paid_from_is_closed_before_it_expires() {
    let rig = only(&[]).await;
    let (short, long) = (short_lived(&rig).await, rig.channel(1_000).await);
    make_known(&rig, &short).await;
    make_known(&rig, &long).await;
    let found = closed_for(&rig, &short, "expiring", 0).await;
    assert_in_margin(&short, &found);
    rig.assert_left_alone(&long).await;
}
