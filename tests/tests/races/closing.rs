//! Payments racing the close of their channel: what is settled is the highest amount that was acknowledged, on the
//! issuer's side too (promises I3 and I5).

use std::sync::Arc;

use common::amount::Amount;
use common::channel::Status;
use common::problem::Code;
use common::store::state::HotState;
use common::wire::IssuerStatus;
use fred::interfaces::KeysInterface as _;
use fred::types::Value;
use tests::issuer::Route;
use tests::payer::{Channel, Payer, Scheme};
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_for;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::record::{is_wrong, unlimited_lookups};

/// More than any channel gets to pay before it is stopped.
const CAPACITY: u32 = 4_000;

/// Pays 1, 2, 3, … by turns on all relayers until the channel is stopped, and gives back the latest amount that the
/// refusal names. What was acknowledged is told as it comes.
async fn pay_until_stopped(
    channel: Channel,
    relayers: Vec<String>,
    acknowledged: Arc<watch::Sender<Vec<u64>>>,
) -> Amount {
    for amount in 1..u64::from(CAPACITY) {
        let relayer = &relayers[usize::try_from(amount).expect("small") % relayers.len()];
        let answer = channel.pay(relayer, amount).await.expect("the relayer answers");
        match answer.body {
            Ok(_) => acknowledged.send_modify(|amounts| amounts.push(amount)),
            Err(problem) => {
                let stopped = [Code::ChannelClosing, Code::ChannelClosed].contains(&problem.code);
                assert!(stopped, "{problem:?}");
                return problem.latest.expect("with the latest voucher").cumulative_amount;
            }
        }
    }
    panic!("the channel was never stopped");
}

/// A payer at work on a channel.
struct Payments {
    channel: Channel,
    acknowledged: Arc<watch::Sender<Vec<u64>>>,
    done: tokio::task::JoinHandle<Amount>,
}

impl Payments {
    fn start(channel: Channel, rig: &Rig) -> Payments {
        let acknowledged = Arc::new(watch::Sender::default());
        let relayers = (0..rig.relayers.len()).map(|i| rig.relayer(i).to_owned()).collect();
        let done = tokio::spawn(pay_until_stopped(channel.clone(), relayers, Arc::clone(&acknowledged)));
        Payments { channel, acknowledged, done }
    }

    /// Waits until this many payments were acknowledged.
    async fn wait_for(&self, count: usize) {
        let mut watched = self.acknowledged.subscribe();
        let enough = watched.wait_for(|amounts| amounts.len() >= count);
        let reached = tokio::time::timeout(SOON, enough).await;
        reached.expect("payments go on").expect("the sender is held here");
    }

    fn count(&self) -> usize {
        self.acknowledged.borrow().len()
    }

    /// Waits until the payer was told that the channel takes no more. Gives back what was acknowledged, and the latest
    /// amount that it was told.
    async fn stopped(self) -> (Vec<u64>, Amount) {
        let ended = tokio::time::timeout(SOON, self.done).await;
        let told = ended.expect("the payer is stopped in time").expect("the payer met nothing odd");
        (self.acknowledged.borrow().clone(), told)
    }
}

/// A channel whose close was raced by payments.
struct Raced {
    channel: Channel,
    acknowledged: Vec<u64>,
    /// Acknowledged after the close was asked for.
    after_asking: usize,
}

async fn race_close(payments: Payments, relayer: String, payments_before: usize) -> Raced {
    payments.wait_for(payments_before).await;
    let asked = payments.channel.close(&relayer).await.expect("the relayer answers");
    assert_eq!(asked.status, 202, "{asked:?}");
    let (channel, at_asking) = (payments.channel.clone(), payments.count());
    let (acknowledged, told) = payments.stopped().await;
    assert!(!is_wrong(told, &acknowledged), "stopped at {told} after {acknowledged:?}");
    Raced { channel, after_asking: acknowledged.len() - at_asking, acknowledged }
}

/// A channel that can pay for as long as a race takes.
async fn open(payer: &Payer, rig: &Rig, scheme: Scheme) -> Channel {
    payer.channel(rig.payee()).capacity(CAPACITY.into()).in_scheme(scheme, CAPACITY).open().await
}

/// Races the close of this many channels at once.
async fn what_is_settled_is_the_highest_amount_acknowledged(scheme: Scheme, channels: usize) {
    let rig = Rig::start(RigOptions {
        relayers: 2,
        settlers: 1,
        relayer: unlimited_lookups(),
        // However slow the machine: a settlement that is not answered in time is rightly sent again.
        settler: vec![
            ("issuer.request_timeout_ms", "60000".to_owned()),
            ("lease.ttl_ms", "30000".to_owned()),
        ],
        ..RigOptions::default()
    })
    .await;
    rig.leader().await;
    let payer = rig.payer().await;
    let mut races = JoinSet::new();
    for i in 0..channels {
        let channel = open(&payer, &rig, scheme).await;
        let payments = Payments::start(channel, &rig);
        races.spawn(race_close(payments, rig.relayer(i % 2).to_owned(), 1 + i % 20));
    }
    let ended = races.join_all().await;
    let (store, issuer) = (rig.store().await, rig.issuer.client());
    let mut sum = 0;
    let mut raced = 0;
    for Raced { channel, acknowledged, after_asking } in &ended {
        let stored = wait_for(SOON, "the channel is closed", || async {
            let stored = store.channel(&channel.id()).await.expect("Redis answers").expect("a known channel");
            (stored.state.status == Status::Closed).then_some(stored)
        })
        .await;
        let settled = issuer.channel(&channel.id()).await.expect("the issuer answers").expect("a channel");
        assert_eq!(settled.status, IssuerStatus::Closed);
        for amount in [stored.state.amount, settled.settled_amount] {
            assert!(!is_wrong(amount, acknowledged), "{stored:?}, {settled:?} after {acknowledged:?}");
        }
        assert_eq!(stored.receipt, settled.receipt);
        sum += settled.settled_amount.units();
        raced += usize::from(*after_asking > 0);
    }
    assert!(raced > 0, "no payment came between asking for a close and its beginning: this was no race");
    assert_eq!(rig.earned().await, sum, "each was paid for once");
    assert_eq!(rig.front.count(Route::Settle), channels as u64, "and settled once");
    rig.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_is_the_highest_amount_acknowledged_while_payments_race_the_close() {
    what_is_settled_is_the_highest_amount_acknowledged(Scheme::Ed25519, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_is_the_highest_step_acknowledged_while_payments_race_the_close() {
    what_is_settled_is_the_highest_amount_acknowledged(Scheme::Payword, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_is_the_highest_leaf_acknowledged_while_payments_race_the_close() {
    what_is_settled_is_the_highest_amount_acknowledged(Scheme::Paytree, 50).await;
}

/// Broken on purpose: reads the voucher that it pins, and stops the channel in a second step. `between` runs in the
/// gap. Gives back the amount that would be settled.
async fn close_in_steps(rig: &Rig, channel: &Channel, between: impl Future<Output = ()>) -> Amount {
    let raw = rig.redis.client().await;
    let key = rig.store().await.keys().state(&channel.id());
    let state: Value = raw.get(&key).await.expect("Redis answers");
    let mut state = state.as_bytes().expect("a known channel").to_vec();
    let pinned = HotState::parse(&state).expect("a hot state").amount;
    between.await;
    state[0] = Status::Closing.letter();
    let _: () = raw.set(&key, Value::Bytes(state.into()), None, None, false).await.expect("Redis answers");
    pinned
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_reads_and_stops_in_two_steps_settles_less_than_was_acknowledged() {
    let rig = Rig::start(RigOptions { relayers: 2, ..RigOptions::default() }).await;
    let channel = open(&rig.payer().await, &rig, Scheme::Ed25519).await;
    let payments = Payments::start(channel.clone(), &rig);
    payments.wait_for(3).await;
    let pinned = close_in_steps(&rig, &channel, async {
        payments.wait_for(payments.count() + 2).await;
    })
    .await;
    let (acknowledged, _) = payments.stopped().await;
    assert!(is_wrong(pinned, &acknowledged), "the check must see that {pinned} is not {acknowledged:?}");
}
