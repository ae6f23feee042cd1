//! The lost update on a first payment: the first two amounts of a fresh channel sent at once to two relayers, each of
//! which must find out what the channel is, and make it known.

use std::sync::Arc;

use common::amount::Amount;
use common::client::Purse;
use common::config::RedisConfig;
use common::ids::{ChannelId, Hash};
use common::store::Store;
use common::store::state::HotState;
use common::voucher::VerifiedVoucher;
use fred::clients::Client;
use fred::interfaces::KeysInterface as _;
use fred::types::Value;
use tests::channel::TestChannel;
use tests::issuer::Route;
use tests::payer::{Payer, Scheme};
use tests::redis::Redis;
use tests::rig::{Rig, RigOptions, SOON};
use tokio::task::JoinSet;

use super::record::{assert_recorded_once, is_wrong, pay, unlimited_lookups};

/// Payers that open and race channels at the same time.
const PAYERS: usize = 16;

/// Opens channels one after the other and has the first two payments of each race.
async fn race(
    payer: Payer,
    payee: common::ids::PublicKey,
    relayers: [String; 2],
    (scheme, channels): (Scheme, usize),
) -> Vec<(ChannelId, Vec<u64>)> {
    let mut ended = Vec::new();
    for i in 0..channels {
        let channel = payer.channel(payee).in_scheme(scheme, 3).open().await;
        let [a, b] = [i % 2, (i + 1) % 2].map(|i| &relayers[i]);
        let (low_taken, high_taken) = tokio::join!(pay(&channel, a, 1), pay(&channel, b, 2));
        assert!(high_taken, "nothing was above it");
        ended.push((channel.id(), low_taken.then_some(1).into_iter().chain([2]).collect()));
    }
    ended
}

/// Races the first payments of this many channels of each payer.
async fn no_first_payment_is_lost(scheme: Scheme, channels_each: usize) {
    let rig =
        Rig::start(RigOptions { relayers: 2, relayer: unlimited_lookups(), ..RigOptions::default() }).await;
    let mut races = JoinSet::new();
    for _ in 0..PAYERS {
        let relayers = [0, 1].map(|i| rig.relayer(i).to_owned());
        races.spawn(race(rig.payer().await, rig.payee(), relayers, (scheme, channels_each)));
    }
    let ended: Vec<_> = races.join_all().await.into_iter().flatten().collect();
    assert_eq!(ended.len(), PAYERS * channels_each);
    let both = ended.iter().filter(|(_, acknowledged)| acknowledged.len() == 2).count();
    assert!(both > 0 && both < ended.len(), "{both} of {}: this was no race", ended.len());
    let store = rig.store().await;
    for (id, acknowledged) in &ended {
        let stored = store.channel(id).await.expect("Redis answers").expect("a known channel");
        assert!(!is_wrong(stored.state.amount, acknowledged), "{id}: {stored:?}");
    }
    assert_recorded_once(&store, &ended).await;
    let asked = rig.front.count(Route::Channel);
    assert!(asked <= 2 * ended.len() as u64, "{asked} requests for {} channels on two relayers", ended.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_first_payment_is_lost_between_two_relayers() {
    no_first_payment_is_lost(Scheme::Ed25519, 70).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_first_step_of_a_chain_is_lost_between_two_relayers() {
    no_first_payment_is_lost(Scheme::Payword, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_first_leaf_of_a_tree_is_lost_between_two_relayers() {
    no_first_payment_is_lost(Scheme::Paytree, 20).await;
}

/// One of two relayers, each with connections of its own.
#[derive(Clone)]
struct Writer {
    store: Store,
    raw: Client,
}

impl Writer {
    async fn on(redis: &Redis) -> Writer {
        let config = RedisConfig { url: redis.url(), ..RedisConfig::default() };
        let store = Store::connect(&config).expect("a private server's URL is valid");
        store.wait_connected(SOON).await.expect("the server is up");
        Writer { store, raw: redis.client().await }
    }

    /// As a relayer does it: make the channel known if it is not, and let the script decide.
    async fn first_payment(self, channel: Arc<TestChannel>, voucher: VerifiedVoucher) -> bool {
        use common::store::accept::Verdict;
        channel.register(&self.store).await.expect("Redis answers");
        let verdicts = self.store.accept(&[voucher]).await.expect("Redis answers");
        verdicts == [Verdict::Accepted]
    }

    /// Broken on purpose: looks whether the channel has paid before, and if not writes its first amount, in two steps.
    async fn first_payment_in_steps(self, channel: Arc<TestChannel>, voucher: VerifiedVoucher) -> bool {
        let key = self.store.keys().state(&channel.id());
        let state: Option<Value> = self.raw.get(&key).await.expect("Redis answers");
        let latest = state.as_ref().and_then(|state| HotState::parse(state.as_bytes()?));
        if latest.is_some_and(|latest| voucher.cumulative_amount() <= latest.amount) {
            return false;
        }
        let mut first = b"O".to_vec();
        first.extend(voucher.cumulative_amount().to_lua().into_bytes());
        first.extend(channel.terms().terms().capacity.to_lua().into_bytes());
        first.extend(voucher.proof().to_bytes());
        let _: () =
            self.raw.set(&key, Value::Bytes(first.into()), None, None, false).await.expect("Redis answers");
        true
    }

    async fn latest(&self, id: &ChannelId) -> Amount {
        let state: Value = self.raw.get(self.store.keys().state(id)).await.expect("Redis answers");
        HotState::parse(state.as_bytes().expect("paid")).expect("a hot state").amount
    }
}

/// A channel of the next scheme in turn.
fn fresh_channel(i: usize) -> TestChannel {
    let (seed, unit) = (Hash(rand::random()), Amount::new(1));
    match i % 3 {
        0 => TestChannel::new(100),
        1 => TestChannel::paid_from(Purse::payword(seed, unit, 2).expect("a length"), 100),
        _ => TestChannel::paid_from(Purse::paytree(seed, unit, 4).expect("a power of two"), 100),
    }
}

/// Races the first two payments of fresh channels; says how many of them ended wrong.
async fn wrong_after_races<A, F>(redis: &Redis, first_payment: A) -> usize
where
    A: Fn(Writer, Arc<TestChannel>, VerifiedVoucher) -> F,
    F: Future<Output = bool> + Send + 'static,
{
    let writers = [Writer::on(redis).await, Writer::on(redis).await];
    let mut wrong = 0;
    for i in 0..1_000 {
        let channel = Arc::new(fresh_channel(i));
        let races = [1, 2].map(|amount: u64| {
            let writer = &writers[(i + usize::from(amount == 2)) % 2];
            let race = first_payment(writer.clone(), Arc::clone(&channel), channel.voucher(amount));
            (amount, tokio::spawn(race))
        });
        let mut acknowledged = Vec::new();
        for (amount, race) in races {
            acknowledged.extend(race.await.expect("the race ends").then_some(amount));
        }
        wrong += usize::from(is_wrong(writers[0].latest(&channel.id()).await, &acknowledged));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_payment_in_two_steps_loses_updates_and_ours_does_not() {
    let redis = Redis::start().await;
    Writer::on(&redis).await.store.initialise(0).await.expect("an empty server");
    assert_eq!(wrong_after_races(&redis, Writer::first_payment).await, 0);
    let wrong = wrong_after_races(&redis, Writer::first_payment_in_steps).await;
    assert!(wrong > 0, "the check must see what a first payment in two steps loses");
}
