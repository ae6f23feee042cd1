//! Compressed payments in batches and over streams: each builds on the ones before it, which no one has answered yet.

use common::amount::Amount;
use common::wire::{BatchResult, Outcome, PaymentRequest};
use tests::payer::Channel;
use tests::rig::Rig;
use tests::stream::Stream;

use super::scene::{UNIT, accepted, chain, json, leaf, refused, relayers, tree};

/// Payments of each channel.
const PAYMENTS: u64 = 80;

/// How far the relayers hash: a chain that is paid 20 steps at once is soon out of reach of the root.
const STEPS_MAX: u32 = 20;

/// Payments of all channels in turn, from their first units on, each without what the one before it has shown.
fn in_turn(channels: &[Channel], from: u64) -> Vec<PaymentRequest> {
    let payments = (from..from + PAYMENTS).flat_map(|n| {
        channels.iter().map(move |channel| match n {
            1 => channel.voucher(20 * UNIT),
            _ => channel.compressed_after(20 * n * UNIT, 20 * (n - 1) * UNIT),
        })
    });
    payments.collect()
}

/// One of each scheme that nobody has paid from.
async fn fresh(rig: &Rig) -> Vec<Channel> {
    let signed = rig.payer().await.channel(rig.payee()).capacity(1_000_000).open().await;
    vec![chain(rig, 10_000).await, tree(rig, 8_192).await, signed]
}

async fn assert_paid(rig: &Rig, channels: &[Channel], n: u64) {
    for channel in channels {
        let state = rig.stored(channel).await.state;
        assert_eq!(state.amount.units(), 20 * n * UNIT);
        assert_eq!(state.proof, channel.voucher(20 * n * UNIT).proof.to_bytes(), "complete");
    }
}

fn check(results: &[BatchResult], payments: &[PaymentRequest]) {
    assert_eq!(results.len(), payments.len());
    for (i, (result, payment)) in results.iter().zip(payments).enumerate() {
        let BatchResult::Taken(answer) = result else { panic!("{i}: {result:?} to {payment:?}") };
        let named = (answer.channel_id, answer.cumulative_amount, answer.outcome);
        assert_eq!(named, (payment.channel_id.into(), payment.cumulative_amount, Outcome::Accepted), "{i}");
    }
}

#[tokio::test]
async fn payments_of_a_batch_build_on_those_before_them_at_whichever_relayer() {
    let rig = relayers(2, STEPS_MAX).await;
    let channels = fresh(&rig).await;
    let (first, second) = (in_turn(&channels, 1), in_turn(&channels, PAYMENTS + 1));
    let bodies: Vec<String> =
        first.iter().map(|payment| serde_json::to_string(payment).expect("JSON")).collect();
    let url = |relayer| format!("{}/v1/payments/batch", rig.relayer(relayer));
    let array = rig.http.post(&url(0), format!("[{}]", bodies.join(","))).await;
    check(&array.success::<Vec<BatchResult>>(), &first);
    assert_paid(&rig, &channels, PAYMENTS).await;
    // The relayer that takes the next ones has seen none of these.
    let lines: Vec<u8> = second.iter().flat_map(|payment| [json(payment), b"\n".to_vec()].concat()).collect();
    let reply = rig.http.post_as(&url(1), "application/x-ndjson", lines).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let results: Vec<BatchResult> =
        reply.body.lines().map(|line| serde_json::from_str(line).expect("a result a line")).collect();
    check(&results, &second);
    assert_paid(&rig, &channels, 2 * PAYMENTS).await;
}

#[tokio::test]
async fn payments_over_a_stream_build_on_those_before_them_that_were_not_answered_yet() {
    let rig = relayers(2, STEPS_MAX).await;
    let channels = fresh(&rig).await;
    for (relayer, from) in [(0, 1), (1, PAYMENTS + 1), (0, 2 * PAYMENTS + 1)] {
        let payments = in_turn(&channels, from);
        let mut stream = Stream::open(rig.relayer(relayer)).await;
        stream.pay_all(payments.clone()).await;
        for payment in &payments {
            let answer = stream.taken().await;
            let named = (answer.channel_id, answer.cumulative_amount, answer.outcome);
            assert_eq!(named, (payment.channel_id.into(), payment.cumulative_amount, Outcome::Accepted));
        }
        assert_paid(&rig, &channels, from + PAYMENTS - 1).await;
    }
}

#[tokio::test]
async fn a_refusal_in_the_midst_of_a_batch_names_its_element_and_spares_the_others() {
    let rig = relayers(1, STEPS_MAX).await;
    let (chain, tree) = (chain(&rig, 100).await, tree(&rig, 64).await);
    accepted(&rig, 0, &chain.voucher(UNIT)).await;
    let mut too_short = tree.voucher(9 * UNIT);
    if let common::voucher::Proof::Paytree(proof) = &mut too_short.proof {
        proof.siblings.clear();
    }
    assert!(leaf(&too_short).siblings.is_empty());
    let none = String::from_utf8(json(&chain.voucher(3 * UNIT))).expect("JSON").replace("\"k\":3", "\"k\":0");
    let elements = [
        json(&tree.voucher(UNIT)),
        json(&chain.voucher(40 * UNIT)),
        json(&too_short),
        none.into_bytes(),
        json(&chain.voucher(2 * UNIT)),
        json(&tree.compressed_after(2 * UNIT, UNIT)),
    ];
    let body = [b"[".as_slice(), &elements.join(b",".as_slice()), b"]"].concat();
    let reply = rig.http.post(&format!("{}/v1/payments/batch", rig.relayer(0)), body).await;
    let found: Vec<_> = reply
        .success::<Vec<BatchResult>>()
        .into_iter()
        .map(|result| match result {
            BatchResult::Taken(answer) => Ok(answer.cumulative_amount),
            BatchResult::Refused(problem) => Err((problem.code.as_str(), problem.field)),
        })
        .collect();
    let taken = |units: u64| Ok(Amount::new(units * UNIT));
    let expected = vec![
        taken(1),
        Err(("step_too_large", None)),
        Err(("missing_siblings", None)),
        Err(("malformed", Some("[3].proof.payword.k".to_owned()))),
        taken(2),
        taken(2),
    ];
    assert_eq!(found, expected);
    // Alone it is told the same, without the place in the batch.
    refused(&rig, 0, "step_too_large", json(&chain.voucher(40 * UNIT))).await;
}
