//! The lost update on a later payment: amounts n and n + 1 sent at once to two relayers.

use std::sync::Arc;

use common::store::Store;
use tests::payer::{Channel, Scheme};
use tests::rig::{Rig, RigOptions};
use tokio::task::JoinSet;

use super::record::{assert_recorded_once, is_wrong, pay};

const ROUNDS: u32 = 150;

/// What the rounds of one channel ended in.
struct Rounds {
    channel: Channel,
    acknowledged: Vec<u64>,
    lower_came_late: u64,
}

/// In each round two amounts race; after each, the latest must be the highest that was ever acknowledged.
async fn race(channel: Channel, relayers: [String; 2], store: Arc<Store>) -> Rounds {
    let mut rounds = Rounds { channel, acknowledged: Vec::new(), lower_came_late: 0 };
    for round in 0..u64::from(ROUNDS) {
        let (low, high) = (2 * round + 1, 2 * round + 2);
        let channel = &rounds.channel;
        // Each relayer gets the lower amount in every other round.
        let [a, b] = [round % 2, (round + 1) % 2].map(|i| if i == 0 { &relayers[0] } else { &relayers[1] });
        let (low_taken, high_taken) = tokio::join!(pay(channel, a, low), pay(channel, b, high));
        assert!(high_taken, "nothing was above {high} in round {round}");
        rounds.acknowledged.extend(low_taken.then_some(low));
        rounds.acknowledged.push(high);
        rounds.lower_came_late += u64::from(!low_taken);
        let stored = store.channel(&channel.id()).await.expect("Redis answers").expect("a known channel");
        assert!(!is_wrong(stored.state.amount, &rounds.acknowledged), "round {round}: {stored:?}");
        assert_eq!(stored.state.proof, proof(channel, high), "the proof belongs to the amount");
    }
    rounds
}

fn proof(channel: &Channel, amount: u64) -> Vec<u8> {
    channel.voucher(amount).proof.to_bytes()
}

/// Races later payments on this many channels at once.
async fn no_later_payment_is_lost(scheme: Scheme, channels: u32) {
    let rig = Rig::start(RigOptions { relayers: 2, ..RigOptions::default() }).await;
    let store = Arc::new(rig.store().await);
    let payer = rig.payer().await;
    let mut races = JoinSet::new();
    for _ in 0..channels {
        let opening = payer.channel(rig.payee()).capacity(1_000_000).in_scheme(scheme, 2 * ROUNDS);
        let channel = opening.open().await;
        races.spawn(race(channel, [0, 1].map(|i| rig.relayer(i).to_owned()), Arc::clone(&store)));
    }
    let ended = races.join_all().await;
    let lower_came_late: u64 = ended.iter().map(|rounds| rounds.lower_came_late).sum();
    let rounds = u64::from(ROUNDS * channels);
    assert!(
        lower_came_late > 0 && lower_came_late < rounds,
        "{lower_came_late} of {rounds}: this was no race"
    );
    let acknowledged: Vec<_> =
        ended.into_iter().map(|rounds| (rounds.channel.id(), rounds.acknowledged)).collect();
    assert_recorded_once(&store, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_later_payment_is_lost_between_two_relayers() {
    no_later_payment_is_lost(Scheme::Ed25519, 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_later_step_of_a_chain_is_lost_between_two_relayers() {
    no_later_payment_is_lost(Scheme::Payword, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_later_leaf_of_a_tree_is_lost_between_two_relayers() {
    no_later_payment_is_lost(Scheme::Paytree, 8).await;
}
