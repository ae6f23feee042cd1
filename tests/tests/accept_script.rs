//! The accept script against a model (promise I1), against races, and beside a version that is broken on purpose.

use std::collections::HashMap;
use std::time::Duration;

use common::amount::Amount;
use common::channel::Status;
use common::config::RedisConfig;
use common::ids::ChannelId;
use common::store::accept::{LatestStored, Verdict};
use common::store::state::HotState;
use common::store::stream::{Entry, EntryId};
use common::store::{Store, StoreError};
use common::voucher::VerifiedVoucher;
use fred::clients::Client;
use fred::interfaces::{KeysInterface, StreamsInterface};
use fred::types::Value;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tests::channel::TestChannel;
use tests::redis::Redis;

const TWO_53: u64 = 1 << 53;

async fn store_on(url: &str) -> Store {
    // Two connections: two lanes.
    let store =
        Store::connect(&RedisConfig { url: url.to_owned(), connections: 2, ..RedisConfig::default() })
            .expect("a private server's URL is valid");
    store.wait_connected(Duration::from_secs(5)).await.expect("the server is up");
    store
}

async fn fresh() -> (Redis, Store) {
    let redis = Redis::start().await;
    let store = store_on(&redis.url()).await;
    store.initialise(0).await.expect("an empty server");
    (redis, store)
}

async fn latest(store: &Store, id: &ChannelId) -> Amount {
    store.channel(id).await.expect("readable").expect("registered").state.amount
}

/// What the script must do, written as plainly as possible.
#[derive(Default)]
struct Model {
    channels: HashMap<ChannelId, (Amount, Amount, Vec<u8>)>,
    recorded: Vec<(ChannelId, Amount)>,
}

impl Model {
    fn accept(&mut self, voucher: &VerifiedVoucher) -> Verdict {
        let (id, amount) = (*voucher.channel_id(), voucher.cumulative_amount());
        let proof = voucher.proof().to_bytes();
        let Some((latest, capacity, latest_proof)) = self.channels.get_mut(&id) else {
            return Verdict::UnknownChannel;
        };
        if amount == *latest && proof == *latest_proof {
            return Verdict::Duplicate;
        }
        if amount <= *latest {
            return Verdict::Stale(LatestStored { amount: *latest, proof: latest_proof.clone() });
        }
        if amount > *capacity {
            return Verdict::OverCapacity;
        }
        (*latest, *latest_proof) = (amount, proof);
        self.recorded.push((id, amount));
        Verdict::Accepted
    }
}

/// Amounts where doubles, signs and lengths go wrong, and small ones that meet often.
fn interesting_amount(rng: &mut StdRng) -> u64 {
    let around =
        *[1, 9, 10, 99, 100, 1 << 31, 1 << 32, TWO_53, 1 << 63, u64::MAX - 3].choose(rng).expect("not empty");
    match rng.random_range(0..3) {
        0 => rng.random_range(1..20),
        1 => around.saturating_add(rng.random_range(0..4)),
        _ => around.saturating_sub(rng.random_range(0..4)).max(1),
    }
}

#[tokio::test]
async fn accept_agrees_with_the_model_on_random_batches() {
    let (_redis, store) = fresh().await;
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        // Up to three partitions that one call may touch.
        let lane = rng.random_range(0..store.lanes());
        let of_lane: Vec<u16> = (lane..store.partitions()).step_by(usize::from(store.lanes())).collect();
        let partitions: Vec<u16> = of_lane.sample(&mut rng, 3).copied().collect();
        let mut model = Model::default();
        let mut channels = Vec::new();
        for _ in 0..rng.random_range(1..7) {
            let partition = *partitions.choose(&mut rng).expect("not empty");
            let channel = TestChannel::in_partition(&store, partition, interesting_amount(&mut rng));
            // One in five stays unknown to Redis.
            if rng.random_range(0..5) > 0 {
                channel.register(&store).await.expect("registered");
                let capacity = channel.terms().terms().capacity;
                model.channels.insert(channel.id(), (Amount::ZERO, capacity, Vec::new()));
            }
            channels.push(channel);
        }
        let mut from = Vec::new();
        for partition in &partitions {
            from.push((*partition, entries(&store, *partition).await.len()));
        }
        for _ in 0..30 {
            let batch: Vec<VerifiedVoucher> = (0..rng.random_range(1..9))
                .map(|_| {
                    let channel = channels.choose(&mut rng).expect("not empty");
                    let expires_at =
                        *[0, 0, tests::channel::FAR_FUTURE_S].choose(&mut rng).expect("not empty");
                    channel.voucher_until(interesting_amount(&mut rng), expires_at)
                })
                .collect();
            let expected: Vec<Verdict> = batch.iter().map(|voucher| model.accept(voucher)).collect();
            let verdicts = store.accept(&batch).await.expect("Redis answers");
            assert_eq!(verdicts, expected, "seed {seed}: {batch:?}");
        }
        for (id, (amount, ..)) in &model.channels {
            assert_eq!(latest(&store, id).await, *amount, "seed {seed}");
        }
        // Every accepted payment is in one of the streams, once; nothing else is.
        let mut recorded = Vec::new();
        for (partition, from) in from {
            let new = entries(&store, partition).await.split_off(from);
            let payments = new.into_iter().flat_map(|entry| entry.payments.expect("written by accept"));
            recorded.extend(payments.map(|payment| (payment.channel_id, payment.amount)));
        }
        recorded.sort_unstable();
        model.recorded.sort_unstable();
        assert_eq!(recorded, model.recorded, "seed {seed}");
    }
}

async fn entries(store: &Store, partition: u16) -> Vec<Entry> {
    store.entries(partition, EntryId::ZERO, 100_000).await.expect("readable")
}

/// Two channels that one call may pay from, in different partitions.
async fn two_partitions_of_a_lane(store: &Store) -> [TestChannel; 2] {
    let channels = [0, store.lanes()].map(|partition| TestChannel::in_partition(store, partition, 100));
    for channel in &channels {
        channel.register(store).await.expect("registered");
    }
    channels
}

#[tokio::test]
async fn a_loss_is_noticed_by_calls_for_any_partition() {
    let (redis, store) = fresh().await;
    let [paid, other] = two_partitions_of_a_lane(&store).await;
    let seq = store.keys().seq(0);
    let then = redis.get(&seq).await.expect("counted");
    // In the partition whose seq it is, none.
    store.accept(&[other.voucher(1)]).await.expect("Redis answers");
    redis.command(&["SET", &seq, &then]).await;
    let before = redis.dump().await;
    for voucher in [paid.voucher(2), other.voucher(2)] {
        let answer = store.accept(&[voucher]).await;
        let Err(StoreError::LostData { detail }) = &answer else { panic!("{answer:?}") };
        assert!(detail.contains(&seq), "names what went back: {detail}");
        assert_eq!(redis.dump().await, before, "nothing was written");
    }
}

#[tokio::test]
async fn vouchers_of_different_lanes_do_not_go_in_one_call() {
    let (redis, store) = fresh().await;
    let [a, b] = [0, 1].map(|partition| TestChannel::in_partition(&store, partition, 100));
    let before = redis.dump().await;
    let answer = store.accept(&[a.voucher(1), b.voucher(1)]).await;
    assert!(matches!(answer, Err(StoreError::Corrupt { .. })), "{answer:?}");
    assert_eq!(redis.dump().await, before, "nothing was sent");
}

#[tokio::test]
async fn two_to_the_53_plus_one_is_more_than_two_to_the_53() {
    let (_redis, store) = fresh().await;
    let channel = TestChannel::new(u64::MAX);
    channel.register(&store).await.expect("registered");
    for amount in [TWO_53, TWO_53 + 1, TWO_53 + 2, u64::MAX - 1, u64::MAX] {
        let verdicts = store.accept(&[channel.voucher(amount)]).await.expect("Redis answers");
        assert_eq!(verdicts, [Verdict::Accepted], "{amount}");
        assert_eq!(latest(&store, &channel.id()).await, Amount::new(amount));
    }
    let verdicts = store.accept(&[channel.voucher(TWO_53)]).await.expect("Redis answers");
    assert!(matches!(verdicts.as_slice(), [Verdict::Stale(latest)] if latest.amount == Amount::MAX));
}

#[tokio::test]
async fn capacity_is_exact_at_the_top_of_the_range() {
    let (_redis, store) = fresh().await;
    for capacity in [1, TWO_53, TWO_53 + 1, u64::MAX - 1] {
        let channel = TestChannel::new(capacity);
        channel.register(&store).await.expect("registered");
        let batch = [channel.voucher(capacity + 1), channel.voucher(capacity)];
        let verdicts = store.accept(&batch).await.expect("Redis answers");
        assert_eq!(verdicts, [Verdict::OverCapacity, Verdict::Accepted], "{capacity}");
    }
}

#[tokio::test]
async fn the_same_voucher_is_recorded_once() {
    let (_redis, store) = fresh().await;
    let channel = TestChannel::new(100);
    channel.register(&store).await.expect("registered");
    let partition = store.partition_of(&channel.id());
    for expected in [Verdict::Accepted, Verdict::Duplicate, Verdict::Duplicate] {
        let verdicts = store.accept(&[channel.voucher(5)]).await.expect("Redis answers");
        assert_eq!(verdicts, [expected]);
    }
    let entries = store.entries(partition, EntryId::ZERO, 10).await.expect("readable");
    assert_eq!(entries.len(), 1);
    // The same amount in another voucher is not the same payment.
    let other = channel.voucher_until(5, tests::channel::FAR_FUTURE_S);
    let verdicts = store.accept(&[other]).await.expect("Redis answers");
    assert!(matches!(verdicts.as_slice(), [Verdict::Stale(_)]), "{verdicts:?}");
}

#[tokio::test]
async fn a_rejected_call_writes_nothing() {
    let (redis, store) = fresh().await;
    let channel = TestChannel::new(100);
    channel.register(&store).await.expect("registered");
    let partition = store.partition_of(&channel.id());
    store.accept(&[channel.voucher(50)]).await.expect("accepted");
    let before = redis.dump().await;
    let stranger = TestChannel::in_partition(&store, partition, 100);
    let batch = [channel.voucher(50), channel.voucher(49), channel.voucher(101), stranger.voucher(1)];
    store.accept(&batch).await.expect("Redis answers");
    assert_eq!(redis.dump().await, before);
}

#[tokio::test]
async fn registering_again_does_not_take_a_channel_back_to_its_start() {
    let (_redis, store) = fresh().await;
    let channel = TestChannel::new(100);
    for _ in 0..2 {
        channel.register(&store).await.expect("registered");
        store.accept(&[channel.voucher(7)]).await.expect("Redis answers");
    }
    assert_eq!(latest(&store, &channel.id()).await, Amount::new(7));
}

#[tokio::test]
async fn a_channel_starts_from_what_its_issuer_has_paid() {
    let (_redis, store) = fresh().await;
    let channel = TestChannel::new(100);
    let settled = channel.voucher(40);
    store
        .register_channel(channel.terms(), Some((settled.cumulative_amount(), settled.proof())), 0)
        .await
        .expect("registered");
    let batch = [channel.voucher(39), settled, channel.voucher(41)];
    let verdicts = store.accept(&batch).await.expect("Redis answers");
    assert!(matches!(verdicts.as_slice(), [Verdict::Stale(_), Verdict::Duplicate, Verdict::Accepted]));
}

#[tokio::test]
async fn after_redis_lost_its_data_an_old_voucher_is_not_taken_as_new() {
    let (redis, store) = fresh().await;
    let channel = TestChannel::new(100);
    channel.register(&store).await.expect("registered");
    let partition = store.partition_of(&channel.id());
    store.accept(&[channel.voucher(50)]).await.expect("accepted");
    redis.flush_all().await;
    let replay = store.accept(&[channel.voucher(10)]).await;
    assert!(matches!(replay, Err(StoreError::LostData { .. })), "{replay:?}");
    // Nor may the channel be made known again as if it had never paid, here or in a partition not seen so far.
    assert!(matches!(channel.register(&store).await, Err(StoreError::LostData { .. })));
    let other = TestChannel::in_partition(&store, (partition + 1) % store.partitions(), 100);
    assert!(matches!(other.register(&store).await, Err(StoreError::LostData { .. })));
    assert!(redis.keys("*").await.is_empty(), "nothing was written");
}

#[tokio::test]
async fn a_second_process_notices_the_loss_after_its_preflight() {
    let (redis, store) = fresh().await;
    let other = store_on(&redis.url()).await;
    assert!(other.preflight().await.expect("answers").iter().all(|finding| finding.ok));
    redis.flush_all().await;
    let channel = TestChannel::new(100);
    let replay = other.register_channel(channel.terms(), None, 0).await;
    assert!(matches!(replay, Err(StoreError::LostData { .. })), "{replay:?}");
    assert!(store.lost_data().is_none(), "each process finds out for itself");
}

/// Two writers, each with a connection of its own, racing over `rounds` pairs of amounts on one channel. Returns how
/// often the channel ended a round below an amount that was acknowledged.
async fn lost_updates<A, F>(rounds: u64, url: &str, channel: &TestChannel, accept: A) -> u64
where
    A: Fn(Writer, VerifiedVoucher) -> F,
    F: Future<Output = bool> + Send + 'static,
{
    let writers = [Writer::on(url).await, Writer::on(url).await];
    let mut lost = 0;
    for round in 0..rounds {
        let low = round * 2 + 1;
        let races = [(0, low), (1, low + 1)].map(|(writer, amount): (usize, u64)| {
            let race = accept(writers[writer].clone(), channel.voucher(amount));
            (amount, tokio::spawn(race))
        });
        let mut acknowledged = 0;
        for (amount, race) in races {
            if race.await.expect("the race ends") {
                acknowledged = acknowledged.max(amount);
            }
        }
        if latest(&writers[0].store, &channel.id()).await.units() < acknowledged {
            lost += 1;
        }
    }
    lost
}

#[derive(Clone)]
struct Writer {
    store: Store,
    raw: Client,
}

impl Writer {
    async fn on(url: &str) -> Writer {
        use fred::interfaces::ClientLike;
        let config = fred::types::config::Config::from_url(url).expect("a URL");
        let raw = Client::new(config, None, None, None);
        raw.init().await.expect("the server is up");
        Writer { store: store_on(url).await, raw }
    }

    /// The accept of this project.
    async fn accept(self, voucher: VerifiedVoucher) -> bool {
        let verdicts = self.store.accept(&[voucher]).await.expect("Redis answers");
        verdicts == [Verdict::Accepted]
    }

    /// Broken on purpose: reads, compares, writes, each step on its own.
    async fn accept_in_steps(self, voucher: VerifiedVoucher) -> bool {
        let key = self.store.keys().state(voucher.channel_id());
        let state: Value = self.raw.get(&key).await.expect("Redis answers");
        let state = HotState::parse(state.as_bytes().expect("registered")).expect("a hot state");
        if voucher.cumulative_amount() <= state.amount || state.status != Status::Open {
            return false;
        }
        let mut next = b"O".to_vec();
        next.extend(voucher.cumulative_amount().to_lua().into_bytes());
        next.extend(state.capacity.to_lua().into_bytes());
        next.extend(voucher.proof().to_bytes());
        let _: () =
            self.raw.set(&key, Value::Bytes(next.into()), None, None, false).await.expect("Redis answers");
        let stream = self.store.keys().accepted(self.store.partition_of(voucher.channel_id()));
        let field = (voucher.channel_id().to_string(), voucher.cumulative_amount().to_lua());
        let _: Value = self.raw.xadd(stream, false, None, "*", field).await.expect("Redis answers");
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_writers_lose_no_update_and_a_stepwise_accept_does() {
    let (redis, store) = fresh().await;
    let atomic = TestChannel::new(u64::MAX);
    let stepwise = TestChannel::new(u64::MAX);
    for channel in [&atomic, &stepwise] {
        channel.register(&store).await.expect("registered");
    }
    assert_eq!(lost_updates(2_000, &redis.url(), &atomic, Writer::accept).await, 0);
    let lost = lost_updates(2_000, &redis.url(), &stepwise, Writer::accept_in_steps).await;
    assert!(lost > 0, "the check must see the lost updates of an accept that is not atomic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_becomes_known_meanwhile_is_read_whole() {
    let (redis, store) = fresh().await;
    let reader = store_on(&redis.url()).await;
    for round in 0..1_500 {
        let channel = TestChannel::new(100);
        let (reader, id) = (reader.clone(), channel.id());
        let reading = tokio::spawn(async move {
            loop {
                if let Some(found) = reader.channel(&id).await? {
                    return Ok::<_, StoreError>(found);
                }
            }
        });
        channel.register(&store).await.expect("registered");
        let found = tokio::time::timeout(Duration::from_secs(10), reading).await;
        let found = found.expect("it is known by then").expect("no panic");
        assert_eq!(found.map(|found| found.terms.id()), Ok(id), "round {round}");
    }
}
