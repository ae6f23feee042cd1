//! What payments weigh: on the wire, and in Redis once the settler has read them.

use common::amount::Amount;
use common::client::{Purse, compressed};
use common::ids::{ChannelId, Hash};
use common::scheme::STEPS_MAX;
use common::wire::PaymentRequest;
use tests::payer::{Channel, Scheme};
use tests::rig::{Rig, RigOptions, SOON};
use tests::stream::Stream;
use tests::wait_until;

use super::scene::{UNIT, json, leaf};

/// Mean of a number over payments, in hundredths.
fn mean_hundredths(payments: &[PaymentRequest], of: impl Fn(&PaymentRequest) -> usize) -> usize {
    payments.iter().map(of).sum::<usize>() * 100 / payments.len()
}

#[tokio::test]
async fn a_payment_of_the_largest_tree_shows_one_sibling_on_average_after_the_one_before_it() {
    const PAYMENTS: u64 = 1_024;
    let purse = Purse::paytree(Hash(rand::random()), Amount::new(UNIT), STEPS_MAX).expect("a tree");
    // Around the middle, where the longest paths part.
    let middle = u64::from(STEPS_MAX) / 2 - PAYMENTS / 2;
    let payment = |index: u64| {
        purse.payment(ChannelId([255; 32]), Amount::new(index * UNIT)).expect("a leaf that pays")
    };
    let complete: Vec<PaymentRequest> = (middle..=middle + PAYMENTS).map(payment).collect();
    let short: Vec<PaymentRequest> =
        complete.windows(2).map(|pair| compressed(&pair[1], &pair[0].proof)).collect();
    let siblings = |payment: &PaymentRequest| leaf(payment).siblings.len();
    let bytes = |payment: &PaymentRequest| json(payment).len();
    let figures = [&complete[1..], &short[..]]
        .map(|payments| (mean_hundredths(payments, siblings), mean_hundredths(payments, bytes) / 100));
    let [(all, plain_bytes), (few, compressed_bytes)] = figures;
    eprintln!("complete: {all} hundredths of a sibling, {plain_bytes} bytes of JSON a payment");
    eprintln!("compressed: {few} hundredths of a sibling, {compressed_bytes} bytes of JSON a payment");
    assert_eq!(all, 2_000, "the whole path");
    // Half of the payments need none, a quarter one, an eighth two; and one in this range parts at the very top.
    assert!(few <= 200, "{few} hundredths of a sibling");
    assert!(compressed_bytes * 3 < plain_bytes, "{compressed_bytes} of {plain_bytes} bytes");
    let most = short.iter().map(siblings).max();
    assert_eq!(most, Some(19), "the one that crosses the middle shows all that is new");
}

/// Bytes that Redis takes for its keys, and how many entries the streams hold.
async fn weight(rig: &Rig) -> (u64, u64) {
    let (mut bytes, mut entries) = (0, 0);
    for key in rig.redis.keys("*").await {
        let usage = rig.redis.command(&["MEMORY", "USAGE", &key, "SAMPLES", "0"]).await;
        bytes += usage.parse::<u64>().unwrap_or(0);
        if key.ends_with(":accepted") {
            entries += rig.redis.command(&["XLEN", &key]).await.parse::<u64>().expect("a length");
        }
    }
    (bytes, entries)
}

/// Pays each unit from `from` to `to` over a stream, without what is known already.
async fn pay(stream: &mut Stream, channel: &Channel, from: u64, to: u64) {
    for from in (from..=to).step_by(100) {
        let amounts = from..=to.min(from + 99);
        stream
            .pay_all(amounts.clone().map(|amount| match amount {
                1 => channel.voucher(1),
                _ => channel.compressed_after(amount, amount - 1),
            }))
            .await;
        for amount in amounts {
            assert_eq!(stream.taken().await.cumulative_amount, Amount::new(amount));
        }
    }
}

/// Waits until the settler has read all there is, and says what Redis holds then.
async fn weight_once_read(rig: &Rig) -> u64 {
    wait_until(SOON, "the settler has read all payments", || async { weight(rig).await.1 == 0 }).await;
    weight(rig).await.0
}

#[tokio::test]
async fn redis_holds_no_more_after_a_thousand_payments_than_after_a_few() {
    let rig = Rig::start(RigOptions { settlers: 1, ..RigOptions::default() }).await;
    let payer = rig.payer().await;
    for scheme in Scheme::ALL {
        let opening = payer.channel(rig.payee()).capacity(1_000_000).in_scheme(scheme, 2_000);
        let channel = opening.open().await;
        let mut stream = Stream::open(rig.relayer(0)).await;
        pay(&mut stream, &channel, 1, 20).await;
        let few = weight_once_read(&rig).await;
        let state = rig.stored(&channel).await.state.proof.len();
        pay(&mut stream, &channel, 21, 1_020).await;
        let many = weight_once_read(&rig).await;
        eprintln!("{scheme:?}: {state} bytes of proof, {few} bytes after 20 payments, {many} after 1020");
        assert_eq!(rig.stored(&channel).await.state.proof.len(), state, "one proof, always as long");
        // Some of it is nodes that a stream keeps for what comes next.
        assert!(many < few + 16_384, "{scheme:?}: {few} bytes grew to {many}");
    }
}
