//! Payments whose payers look for them, through the stream into the books; and all others, of which nothing is said.

use common::store::stream::{Entry, EntryId};
use reqwest::Client;
use serde_json::Value;
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};
use tests::stream::Stream;
use tests::{wait_for, wait_until};

use super::scene::{PARENT, TRACE, pay, said, talkative};

const ENDED: &str = "a payment has ended";

const IN_THE_BOOKS: &str = "a followed payment is in the books";

async fn entries(rig: &Rig) -> Vec<Entry> {
    let store = rig.store().await;
    let mut all = Vec::new();
    for partition in 0..store.partitions() {
        all.extend(store.entries(partition, EntryId::ZERO, 1_000).await.expect("Redis answers"));
    }
    all
}

/// The one line that names this request.
fn of<'a>(lines: &'a [Value], request_id: &str) -> &'a Value {
    let mut those = lines.iter().filter(|line| line["request_id"] == request_id);
    match (those.next(), those.next()) {
        (Some(line), None) => line,
        _ => panic!("not one line of {request_id}: {lines:?}"),
    }
}

#[tokio::test]
async fn what_a_payer_calls_a_payment_is_found_at_the_relayer_and_at_the_settler() {
    let relayer = talkative("info,relayer=debug");
    let mut rig = Rig::start(RigOptions { relayer, ..RigOptions::default() }).await;
    let channel = rig.channel(1_000).await;
    let url = rig.relayer(0).to_owned();
    let brought = [("x-request-id", "single"), ("traceparent", PARENT)];
    assert_eq!(pay(&url, &channel, 1, &brought).await.status(), 200);
    assert_eq!(pay(&url, &channel, 2, &[("traceparent", PARENT)]).await.status(), 200);
    let plain = pay(&url, &channel, 3, &[]).await;
    let made = super::scene::text(plain.headers(), "x-request-id").expect("an id");
    assert_eq!(pay(&url, &channel, 1, &[("x-request-id", "refused")]).await.status(), 409);
    let batch: Vec<_> = [4, 5].map(|amount| channel.voucher(amount)).into();
    let batch = Client::new().post(format!("{url}/v1/payments/batch")).json(&batch);
    batch.header("x-request-id", "both").send().await.expect("an answer");
    let mut stream = Stream::open_called(&url, "talk").await;
    stream.pay_all([channel.voucher(6), channel.voucher(7)]).await;
    for _ in 0..2 {
        stream.taken().await;
    }

    let log = rig.relayers[0].log();
    wait_until(SOON, "a line for each payment", || async { said(&log, ENDED).len() >= 8 }).await;
    let lines = said(&log, ENDED);
    assert_eq!(lines.len(), 8, "one a payment: {lines:?}");
    let id = channel.id().to_string();
    for (request_id, amount, outcome) in [
        ("single", "1", "accepted"),
        (made.as_str(), "3", "accepted"),
        ("talk:1", "6", "accepted"),
        ("talk:2", "7", "accepted"),
    ] {
        let line = of(&lines, request_id);
        assert_eq!((&line["channel_id"], &line["amount"]), (&id.as_str().into(), &amount.into()), "{line}");
        assert_eq!((&line["outcome"], &line["level"]), (&outcome.into(), &"DEBUG".into()), "{line}");
    }
    assert_eq!(of(&lines, "single")["trace_id"], TRACE);
    assert_eq!(of(&lines, "refused")["outcome"], "stale_amount");
    assert_eq!(lines.iter().filter(|line| line["request_id"] == "both").count(), 2);

    // In Redis stands what payers brought, and no id that was made.
    let entries = entries(&rig).await;
    let followed: Vec<_> = entries.iter().flat_map(|entry| &entry.followed).collect();
    let mut named: Vec<_> =
        followed.iter().map(|one| one.trail.request_id.map(|id| id.to_string())).collect();
    named.sort();
    let expected = [None, Some("both"), Some("both"), Some("single"), Some("talk:1"), Some("talk:2")];
    assert_eq!(named, expected.map(|id| id.map(str::to_owned)));
    let without = entries.iter().filter(|entry| entry.followed.is_empty()).count();
    assert_eq!(without, 1, "the plain payment's");

    let settler = talkative("info,settler=debug");
    rig.spawn_settler(&settler).wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    let log = rig.settlers[0].log();
    wait_until(SOON, "a line for each followed payment", || async { said(&log, IN_THE_BOOKS).len() >= 6 })
        .await;
    let lines = said(&log, IN_THE_BOOKS);
    assert_eq!(lines.len(), 6, "{lines:?}");
    let line = of(&lines, "single");
    assert_eq!((&line["channel_id"], &line["amount"]), (&id.as_str().into(), &"1".into()));
    assert_eq!((&line["trace_id"], line["entry"].as_str().is_some()), (&TRACE.into(), true), "{line}");
    assert!(
        lines.iter().any(|line| line["amount"] == "2" && line["trace_id"] == TRACE),
        "by its trace alone"
    );
}

#[tokio::test]
async fn an_older_schema_has_no_place_for_what_payers_call_their_payments() {
    let mut rig = Rig::start(RigOptions::default()).await;
    let channel = rig.channel(100).await;
    let brought = [("x-request-id", "mine"), ("traceparent", PARENT)];
    rig.redis.command(&["HSET", "mr:meta", "schema", "2"]).await;
    let log = rig.relayers[0].log();
    wait_until(SOON, "the relayer goes by it", || async {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.lines().any(|line| line.contains("this schema is in effect") && line.ends_with('2'))
    })
    .await;
    assert_eq!(pay(rig.relayer(0), &channel, 5, &brought).await.status(), 200);
    let older = entries(&rig).await;
    assert_eq!((older.len(), older[0].followed.len()), (1, 0), "a settler of that time would give up on it");

    rig.redis.command(&["HSET", "mr:meta", "schema", "3"]).await;
    wait_until(SOON, "it is followed", || async {
        let amount = 5 + entries(&rig).await.len() as u64;
        assert_eq!(pay(rig.relayer(0), &channel, amount, &brought).await.status(), 200);
        entries(&rig).await.iter().any(|entry| entry.followed.len() == 1)
    })
    .await;
    // Entries of both forms wait.
    let last = 4 + entries(&rig).await.len() as u64;
    rig.spawn_settler(&[]).wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    rig.closed(&channel, last).await;
}

/// Lines of every process of a rig.
fn lines(rig: &Rig) -> Vec<String> {
    let logs = rig.relayers.iter().chain(&rig.settlers).map(|process| process.log());
    let text: String = logs.map(|log| std::fs::read_to_string(log).expect("a log")).collect();
    text.lines().map(str::to_owned).collect()
}

async fn pay_many(rig: &Rig, channels: &[Channel]) {
    for (number, channel) in channels.iter().enumerate() {
        for amount in 1..=10 {
            let id = format!("request-{number}-{amount}");
            let brought = [("x-request-id", id.as_str()), ("traceparent", PARENT)];
            let brought = if amount % 2 == 0 { brought.as_slice() } else { &[] };
            assert_eq!(pay(rig.relayer(0), channel, amount, brought).await.status(), 200);
        }
        // Refused, and malformed.
        assert_eq!(pay(rig.relayer(0), channel, 1, &[]).await.status(), 409);
        assert_eq!(rig.present(0, "{").await.status, 400);
        channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    }
    for channel in channels {
        rig.settled(channel).await;
    }
    let settler = rig.settlers[0].admin_url();
    wait_for(SOON, "the closes have ended", || async {
        let ended = rig.metric(settler, "millrace_settler_closes_total{outcome=\"closed\"").await;
        (ended >= Some(channels.len() as u64)).then_some(())
    })
    .await;
}

/// Lines that came while `channels` paid ten times each and were closed.
async fn lines_of_payments(filter: &str) -> (usize, Vec<String>) {
    let config = vec![("log.filter", filter.to_owned())];
    let options =
        RigOptions { settlers: 1, relayer: config.clone(), settler: config, ..RigOptions::default() };
    let rig = Rig::start(options).await;
    rig.leader().await;
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(rig.channel(100).await);
    }
    let before = lines(&rig).len();
    pay_many(&rig, &channels).await;
    let after = lines(&rig).split_off(0);
    let ids: Vec<String> = channels.iter().map(|channel| channel.id().to_string()).collect();
    let naming =
        after.iter().filter(|line| ids.iter().any(|id| line.contains(id)) || line.contains("request-"));
    (after.len() - before, naming.cloned().collect())
}

#[tokio::test]
async fn nothing_is_said_of_single_payments_and_closes_at_info() {
    let (more, naming) = lines_of_payments("info").await;
    assert!(naming.is_empty(), "{naming:?}");
    assert!(more < 4, "{more} lines for 48 requests and 4 closes");
    // The same look finds the lines of whoever asks for them.
    let (more, naming) = lines_of_payments("info,relayer=debug").await;
    assert!(more >= 44 && naming.len() >= 44, "{more} lines, {} of payments", naming.len());
}

#[tokio::test]
async fn what_goes_wrong_with_every_payment_is_not_said_of_each() {
    const PAYMENTS: usize = 40;
    let rig = Rig::start(RigOptions::default()).await;
    let channel = rig.channel(1_000).await;
    assert_eq!(pay(rig.relayer(0), &channel, 1, &[]).await.status(), 200);
    let store = rig.store().await;
    rig.redis.command(&["SET", &store.keys().state(&channel.id()), "of no known form"]).await;
    for amount in 2..2 + PAYMENTS as u64 {
        assert_eq!(pay(rig.relayer(0), &channel, amount, &[]).await.status(), 500);
    }
    let said =
        lines(&rig).iter().filter(|line| line.contains("Redis holds or says what it should not")).count();
    assert!((1..PAYMENTS / 4).contains(&said), "{said} lines for {PAYMENTS} payments");
    let counted =
        rig.metric(rig.relayers[0].admin_url(), "millrace_relayer_store_errors_total{kind=\"corrupt\"}");
    assert_eq!(counted.await, Some(PAYMENTS as u64), "each is counted");
}
