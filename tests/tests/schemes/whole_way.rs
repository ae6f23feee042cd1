//! From the deposit to the receipt in each scheme, and in all of them at once.

use common::amount::Amount;
use common::channel::Status;
use common::wire::{CloseAnswer, Outcome, PaymentAnswer, RelayerChannel};
use tests::issuer::Route;
use tests::payer::{Channel, Scheme};
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_for;
use tokio::task::JoinSet;

use super::scene::{accepted, assert_latest, problem, taken};

/// Units that the commitments of these channels have; their capacity is less.
const UNITS: u32 = 1_500;

async fn full_rig() -> Rig {
    Rig::start(RigOptions { relayers: 2, settlers: 1, ..RigOptions::default() }).await
}

async fn read(rig: &Rig, i: usize, channel: &Channel) -> RelayerChannel {
    rig.http.get(&format!("{}/v1/channels/{}", rig.relayer(i), channel.id())).await.success()
}

async fn from_the_deposit_to_the_receipt(scheme: Scheme) {
    let rig = full_rig().await;
    let payer = rig.payer().await;
    let (had, earned_before) = (rig.balance(&payer.public_key()).await, rig.balance(&rig.payee()).await);
    let channel = payer.channel(rig.payee()).capacity(1_000).in_scheme(scheme, UNITS).open().await;
    assert_eq!(rig.balance(&payer.public_key()).await, (had.0 - 1_000, 1_000));
    let fresh = read(&rig, 0, &channel).await;
    assert_eq!((&fresh.terms, &fresh.latest), (channel.terms(), &None), "terms with their commitment");

    accepted(&rig, 0, &channel.voucher(10)).await;
    accepted(&rig, 1, &channel.voucher(25)).await;
    for relayer in [0, 1] {
        assert_eq!(taken(&rig, relayer, &channel.voucher(25)).await, Outcome::Duplicate);
        let latest = read(&rig, relayer, &channel).await.latest.expect("paid");
        assert_eq!((latest.cumulative_amount, latest.proof), (Amount::new(25), channel.voucher(25).proof));
        let stale = problem(&rig.pay(relayer, &channel, 24).await, "stale_amount");
        assert_latest(&stale, &channel, 25);
        problem(&rig.pay(relayer, &channel, 1_001).await, "over_capacity");
    }
    // What was proven and not taken stands in the way of nothing.
    accepted(&rig, 0, &channel.voucher(26)).await;

    let asked = channel.close(rig.relayer(1)).await.expect("the relayer answers");
    assert_eq!(asked.body, Ok(CloseAnswer { channel_id: channel.id(), status: Status::Open }));
    let settled = rig.settled(&channel).await;
    assert_eq!((settled.settled_amount, settled.refunded_amount), (Amount::new(26), Amount::new(974)));
    let redeemed = settled.settled.expect("a payment was redeemed");
    assert_eq!((redeemed.cumulative_amount, redeemed.proof), (Amount::new(26), channel.voucher(26).proof));
    rig.closed(&channel, 26).await;
    let closed = wait_for(SOON, "the relayer shows the receipt", || async {
        let shown = read(&rig, 0, &channel).await;
        shown.receipt.is_some().then_some(shown)
    })
    .await;
    assert_eq!((closed.status, closed.receipt), (Status::Closed, settled.receipt));
    let late = problem(&rig.pay(0, &channel, 27).await, "channel_closed");
    assert_latest(&late, &channel, 26);

    assert_eq!(rig.balance(&payer.public_key()).await, (had.0 - 26, 0));
    assert_eq!(rig.balance(&rig.payee()).await, (earned_before.0 + 26, 0));
    rig.assert_books_balance().await;
}

#[tokio::test]
async fn signed_vouchers_travel_from_the_deposit_to_the_receipt() {
    from_the_deposit_to_the_receipt(Scheme::Ed25519).await;
}

#[tokio::test]
async fn steps_of_a_chain_travel_from_the_deposit_to_the_receipt() {
    from_the_deposit_to_the_receipt(Scheme::Payword).await;
}

#[tokio::test]
async fn leaves_of_a_tree_travel_from_the_deposit_to_the_receipt() {
    from_the_deposit_to_the_receipt(Scheme::Paytree).await;
}

#[tokio::test]
async fn channels_that_never_paid_are_closed_for_nothing_in_each_scheme() {
    let rig = full_rig().await;
    for scheme in Scheme::ALL {
        let payer = rig.payer().await;
        let channel = payer.channel(rig.payee()).capacity(300).in_scheme(scheme, 300).open().await;
        channel.close(rig.relayer(0)).await.expect("the relayer answers").body.expect("taken");
        rig.closed(&channel, 0).await;
    }
    rig.assert_books_balance().await;
}

/// Pays `amounts` by turns on both relayers, each above the one before.
async fn pay_by_turns(channel: Channel, relayers: [String; 2], amounts: Vec<u64>) {
    for (i, amount) in amounts.into_iter().enumerate() {
        let answer = channel.pay(&relayers[i % 2], amount).await.expect("the relayer answers");
        let answer: PaymentAnswer = answer.body.expect("taken");
        assert_eq!((answer.cumulative_amount, answer.outcome), (Amount::new(amount), Outcome::Accepted));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_payee_settles_channels_of_all_three_schemes_side_by_side() {
    const CHANNELS_EACH: u64 = 4;
    const PAYMENTS: u64 = 40;
    let rig = full_rig().await;
    let payer = rig.payer().await;
    let (mut channels, mut payments) = (Vec::new(), JoinSet::new());
    for (n, scheme) in (0..CHANNELS_EACH).flat_map(|n| Scheme::ALL.map(|scheme| (n, scheme))) {
        let channel = payer.channel(rig.payee()).capacity(2_000).in_scheme(scheme, 2_000).open().await;
        // Even the last of them with the capacity itself.
        let stride = 7 + 11 * n;
        let mut amounts: Vec<u64> = (1..=PAYMENTS).map(|i| i * stride).collect();
        if n == CHANNELS_EACH - 1 {
            amounts.push(2_000);
        }
        channels.push((channel.clone(), *amounts.last().expect("some")));
        let relayers = [0, 1].map(|i| rig.relayer(i).to_owned());
        payments.spawn(pay_by_turns(channel, relayers, amounts));
    }
    payments.join_all().await;
    for (channel, _) in &channels {
        channel.close(rig.relayer(0)).await.expect("the relayer answers").body.expect("taken");
    }
    let mut sum = 0;
    for (channel, amount) in &channels {
        rig.closed(channel, *amount).await;
        sum += amount;
    }
    assert_eq!(rig.earned().await, sum, "each was paid for once");
    assert!(rig.front.count(Route::Settle) >= channels.len() as u64);
    assert_eq!(rig.balance(&payer.public_key()).await.1, 0, "nothing stays locked");
    rig.assert_books_balance().await;
}
