//! A rolling upgrade: a relayer and a settler of the version before work on one Redis with those of this one. What the
//! old ones do to Redis is kept as it was, as scripts under `fixtures/schema-1`, with the arguments that they were called
//! with; the new ones are this build's processes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::ids::ChannelId;
use common::store::lease::Acquired;
use common::store::schema::{NEWEST, OLDEST};
use common::store::stream::EntryId;
use common::store::{Store, keys::Keys};
use common::wire::PaymentRequest;
use fred::clients::Client;
use fred::interfaces::LuaInterface;
use fred::types::Value;
use tests::binaries;
use tests::payer::Channel;
use tests::redis::Redis;
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;

const PARTITIONS: u16 = 16;

const CHANNELS: usize = 24;

/// What a relayer of schema 1 does.
struct OldRelayer {
    client: Client,
    keys: Keys,
    /// The highest seq that it has seen of each partition.
    seen: BTreeMap<u16, u64>,
}

impl OldRelayer {
    /// Its preflight: it refuses any schema but its own.
    async fn start(redis: &Redis) -> Result<OldRelayer, String> {
        let schema = redis.command(&["HGET", "mr:meta", "schema"]).await;
        if schema.trim_matches('"') != "1" {
            return Err(format!("schema {schema}"));
        }
        Ok(OldRelayer {
            client: redis.client().await,
            keys: Keys::new("mr", PARTITIONS),
            seen: BTreeMap::new(),
        })
    }

    /// Records payments in one call, as it did: an entry for each partition.
    async fn accept(&mut self, payments: &[PaymentRequest]) {
        let mut by_partition: BTreeMap<u16, Vec<&PaymentRequest>> = BTreeMap::new();
        for payment in payments {
            by_partition.entry(payment.channel_id.partition(PARTITIONS)).or_default().push(payment);
        }
        let (mut seqs, mut states, mut streams) = (Vec::new(), Vec::new(), Vec::new());
        let mut args = vec![Value::from(by_partition.len().to_string())];
        let mut records = Vec::new();
        for (partition, payments) in &by_partition {
            seqs.push(self.keys.seq(*partition));
            streams.push(self.keys.accepted(*partition));
            let before_id = self.keys.state(&payments[0].channel_id);
            let id = payments[0].channel_id.to_string();
            args.push(self.seen.get(partition).copied().unwrap_or(0).to_string().into());
            args.push(payments.len().to_string().into());
            args.push((before_id.len() - id.len() + 1).to_string().into());
            for payment in payments {
                states.push(self.keys.state(&payment.channel_id));
                let mut record = payment.cumulative_amount.to_lua().as_bytes().to_vec();
                record.extend(payment.proof.to_bytes());
                records.push(Value::Bytes(record.into()));
            }
        }
        args.extend(records);
        let keys: Vec<String> = seqs.into_iter().chain(states).chain(streams).collect();
        const ACCEPT: &str = include_str!("../fixtures/schema-1/accept.lua");
        let answer: Value = self.client.eval(ACCEPT, keys, args).await.expect("the script runs");
        let mut answer = answer.into_array().into_iter();
        let letters = answer.next().and_then(Value::into_string).expect("letters");
        assert_eq!(letters, "A".repeat(payments.len()), "every payment is recorded");
        for (partition, seq) in by_partition.keys().zip(answer) {
            let seq = seq.as_u64().expect("a seq");
            let before = self.seen.insert(*partition, seq).unwrap_or(0);
            assert!(seq > before, "it never goes back");
        }
    }
}

/// A settler of schema 1 puts what stands in one partition's stream into its books: it looks for the channels of an entry
/// in the partition of its stream, and nowhere else.
async fn old_settler_reads(client: &Client, store: &Store, partition: u16, token: u64) -> usize {
    let keys = store.keys();
    let token = format!("{token:020}");
    let fenced = |body: &str| format!("{}\n{body}", include_str!("../fixtures/schema-1/fence.lua"));
    let take = fenced(include_str!("../fixtures/schema-1/take_partition.lua"));
    let first = [keys.fence(partition), keys.accepted(partition)];
    let group = common::store::settle::GROUP;
    let args = vec![token.clone(), group.to_owned()];
    let _: Value = client.eval(take, first.to_vec(), args).await.expect("the script runs");
    let read = fenced(include_str!("../fixtures/schema-1/read_accepted.lua"));
    let args = vec![token.clone(), group.to_owned(), "old".to_owned(), "1000".to_owned(), ">".to_owned()];
    let answer: Value = client.eval(read, first.to_vec(), args).await.expect("the script runs");
    let entries = answer.into_array().remove(1).into_array();
    let mut ids = Vec::new();
    let mut channels: BTreeSet<ChannelId> = BTreeSet::new();
    for entry in entries {
        let mut parts = entry.into_array().into_iter();
        ids.push(parts.next().and_then(Value::into_string).expect("an id"));
        let fields = parts.next().expect("fields").into_array();
        let named = fields.iter().step_by(2).filter_map(|id| id.as_string()?.parse::<ChannelId>().ok());
        channels.extend(named);
    }
    assert!(channels.iter().all(|id| id.partition(PARTITIONS) == partition), "an entry of its own alone");
    let now_ms = common::clock::Clock::system().now_ms().to_string();
    let apply = fenced(include_str!("../fixtures/schema-1/apply.lua"));
    let mut names =
        vec![keys.fence(partition), keys.accepted(partition), keys.due(partition), keys.dead(partition)];
    names.extend(channels.iter().map(|id| keys.channel(id)));
    let mut args = vec![token, group.to_owned(), channels.len().to_string()];
    for id in &channels {
        args.extend([id.to_string(), now_ms.clone(), now_ms.clone(), "9000000000000".to_owned()]);
    }
    args.push(ids.len().to_string());
    args.extend(ids.iter().cloned());
    args.push("0".to_owned());
    let _: Value = client.eval(apply, names, args).await.expect("the script runs");
    ids.len()
}

/// A Redis that a process of schema 1 started on, with relayers of this version.
async fn on_schema_1(relayers: usize) -> Rig {
    let redis = Redis::start().await;
    let store = connected(&redis).await;
    store.initialise(0).await.expect("an empty server");
    redis.command(&["HSET", "mr:meta", "schema", "1"]).await;
    Rig::start_on(redis, RigOptions { relayers, ..RigOptions::default() }).await
}

async fn connected(redis: &Redis) -> Store {
    let config = common::config::RedisConfig { url: redis.url(), ..Default::default() };
    let store = Store::connect(&config).expect("a private server's URL is valid");
    store.wait_connected(SOON).await.expect("the server is up");
    store
}

async fn channels(rig: &Rig) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..CHANNELS {
        channels.push(rig.channel(1_000).await);
    }
    channels
}

/// The new relayer takes a batch: in one call to Redis, of many partitions.
async fn pay_new(rig: &Rig, channels: &[&Channel], amount: u64) {
    let batch: Vec<PaymentRequest> = channels.iter().map(|channel| channel.voucher(amount)).collect();
    let body = serde_json::to_vec(&batch).expect("JSON");
    let reply = rig.http.post(&format!("{}/v1/payments/batch", rig.relayer(0)), body).await;
    let outcomes: Vec<serde_json::Value> = reply.success();
    assert!(outcomes.iter().all(|outcome| outcome["outcome"] == "accepted"), "{outcomes:?}");
}

async fn pay_old(old: &mut OldRelayer, channels: &[&Channel], amount: u64) {
    let payments: Vec<PaymentRequest> = channels.iter().map(|channel| channel.voucher(amount)).collect();
    old.accept(&payments).await;
}

/// Old and new take turns on every channel, both at work at the same time, from one amount to another.
async fn pay_both(rig: &Rig, old: &mut OldRelayer, all: &[Channel], amounts: std::ops::RangeInclusive<u64>) {
    for amount in amounts {
        let (here, there): (Vec<_>, Vec<_>) =
            all.iter().enumerate().partition(|(i, _)| (*i as u64 + amount).is_multiple_of(2));
        let only = |side: Vec<(usize, _)>| side.into_iter().map(|(_, channel)| channel).collect::<Vec<_>>();
        let (here, there) = (only(here), only(there));
        tokio::join!(pay_new(rig, &here, amount), pay_old(old, &there, amount));
    }
}

/// Entries of each partition's stream, and how many of them name a channel of another partition.
async fn entries(store: &Store) -> (usize, usize) {
    let (mut all, mut shared) = (0, 0);
    for partition in 0..PARTITIONS {
        for entry in store.entries(partition, EntryId::ZERO, 10_000).await.expect("readable") {
            all += 1;
            let payments = entry.payments.expect("readable");
            let foreign = |id: &ChannelId| id.partition(PARTITIONS) != partition;
            shared += usize::from(payments.iter().any(|payment| foreign(&payment.channel_id)));
        }
    }
    (all, shared)
}

async fn millrace(rig: &Rig, args: &[&str]) -> serde_json::Value {
    let output = tokio::process::Command::new(binaries::path("millrace"))
        .arg("--json")
        .args(args)
        .env("MILLRACE_REDIS_URL", rig.redis.url())
        .env("MILLRACE_ISSUER_URL", rig.issuer.url())
        .output()
        .await
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(text.lines().next().unwrap_or_default()).expect("JSON")
}

/// Closes every channel, for exactly this amount.
async fn close_all(rig: &Rig, channels: &[Channel], amount: u64) {
    for channel in channels {
        channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    }
    for channel in channels {
        rig.closed(channel, amount).await;
    }
    assert_eq!(rig.earned().await, amount * CHANNELS as u64);
    rig.assert_books_balance().await;
    let audit = millrace(rig, &["audit", "--expect-closed"]).await;
    assert_eq!(audit["drift"], "0", "{audit}");
}

#[tokio::test]
async fn an_old_and_a_new_relayer_take_payments_on_the_same_channels_and_either_settler_reads_them() {
    let mut rig = on_schema_1(1).await;
    let store = connected(&rig.redis).await;
    let channels = channels(&rig).await;
    let all: Vec<&Channel> = channels.iter().collect();
    // The new one makes them known.
    pay_new(&rig, &all, 1).await;
    let mut old = OldRelayer::start(&rig.redis).await.expect("its schema");
    pay_both(&rig, &mut old, &channels, 2..=30).await;
    let (written, shared) = entries(&store).await;
    assert!(written > 200, "both have written: {written}");
    assert_eq!(shared, 0, "what a settler of schema 1 could not read");

    // An old settler leads and reads half of the streams; then a new one takes over.
    let acquired = store.acquire_lease("old", 1, Duration::from_secs(20)).await.expect("Redis answers");
    let Acquired::Held(lease) = acquired else { panic!("nobody else leads: {acquired:?}") };
    let client = rig.redis.client().await;
    let token = lease.token().expect("it lasts").get();
    let mut read = 0;
    for partition in 0..PARTITIONS / 2 {
        read += old_settler_reads(&client, &store, partition, token).await;
        let info = store.partition_info(partition).await.expect("Redis answers");
        assert_eq!((info.entries, info.dead), (0, 0), "acknowledged and trimmed");
    }
    assert!(read > 0);
    store.release_lease(&lease).await.expect("Redis answers");
    rig.spawn_settler(&[]).wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    rig.leader().await;
    pay_both(&rig, &mut old, &channels, 31..=40).await;
    close_all(&rig, &channels, 40).await;
}

#[tokio::test]
async fn once_upgraded_new_processes_write_the_new_form_and_old_ones_are_refused() {
    let mut rig = on_schema_1(1).await;
    let store = connected(&rig.redis).await;
    let channels = channels(&rig).await;
    let all: Vec<&Channel> = channels.iter().collect();
    pay_new(&rig, &all, 1).await;
    let mut old = OldRelayer::start(&rig.redis).await.expect("its schema");
    pay_both(&rig, &mut old, &channels, 2..=10).await;
    let report = millrace(&rig, &["upgrade"]).await;
    assert_eq!((&report["schema"], &report["newest"]), (&OLDEST.into(), &NEWEST.into()), "{report}");
    assert_eq!(report["upgraded"], false, "asking changes nothing: {report}");

    let report = millrace(&rig, &["upgrade", "--yes"]).await;
    assert_eq!((&report["schema"], &report["upgraded"]), (&NEWEST.into(), &true.into()), "{report}");
    let log = rig.relayers[0].log();
    wait_until(SOON, "the relayer notices", || async {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.lines()
            .any(|line| line.contains("this schema is in effect") && line.ends_with(&NEWEST.to_string()))
    })
    .await;
    pay_new(&rig, &all, 11).await;
    let (_, shared) = entries(&store).await;
    assert!(shared > 0, "one entry for a call");
    let refused = OldRelayer::start(&rig.redis).await.err();
    assert!(refused.is_some_and(|reason| reason.contains("schema") && reason.contains(&NEWEST.to_string())));
    // Entries of both forms wait in the streams.
    rig.spawn_settler(&[]).wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    close_all(&rig, &channels, 11).await;
}

#[tokio::test]
async fn a_schema_that_is_too_new_or_too_old_stops_relayers_and_settlers_with_a_reason() {
    let mut rig = on_schema_1(1).await;
    rig.spawn_settler(&[]).wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    for (schema, words) in
        [("4", "or a newer one"), ("0", "first upgrade to a version"), ("x", "or a newer one")]
    {
        rig.redis.command(&["HSET", "mr:meta", "schema", schema]).await;
        for process in rig.relayers.iter().chain(&rig.settlers) {
            let reason = rig.not_ready(process, words).await;
            assert!(reason.contains(&format!("schema {schema}; this version works with 1 to 3")), "{reason}");
        }
        let channel = rig.channel(10).await;
        let answer = channel.pay(rig.relayer(0), 1).await.expect("an answer");
        assert_eq!(answer.code(), Some("store_unavailable"));
        rig.redis.command(&["HSET", "mr:meta", "schema", "1"]).await;
        rig.relayer_is_ready(0, true).await;
        assert_eq!(channel.pay(rig.relayer(0), 1).await.expect("an answer").code(), None, "it goes on");
    }
}
