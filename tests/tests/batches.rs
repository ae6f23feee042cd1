//! Settlements that travel together: each close gets its own result, whatever becomes of the request that it was in.

use common::batch::commit;
use common::channel::Status;
use common::problem::{Code, Problem};
use common::store::read::StoredChannel;
use common::verify::usable_key;
use common::wire::{Outcome, Receipt};
use tests::issuer::{Route, Step};
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};

/// Closes that wait until one request, which is not answered, has timed out.
const WAITING: u64 = 8;

/// A rig whose settler has one request with the issuer at a time.
async fn rig() -> Rig {
    Rig::start(RigOptions { settlers: 1, settler: one_at_a_time(), ..RigOptions::default() }).await
}

fn one_at_a_time() -> Vec<(&'static str, String)> {
    // A request that hangs does so for long enough to let others gather behind it.
    vec![("closes.requests_in_flight_max", "1".to_owned()), ("issuer.request_timeout_ms", "3000".to_owned())]
}

async fn paid(rig: &Rig, amount: u64) -> Channel {
    let channel = rig.channel(1_000).await;
    pay(rig, &channel, amount).await;
    channel
}

async fn pay(rig: &Rig, channel: &Channel, amount: u64) {
    let answer = channel.pay(rig.relayer(0), amount).await.expect("an answer");
    assert_eq!(answer.body.expect("taken").outcome, Outcome::Accepted);
}

async fn ask_to_close(rig: &Rig, channel: &Channel) {
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
}

/// The settler's only request hangs, and these closes wait behind it. Gives back the channel of that request.
async fn held_up(rig: &Rig, waiting: &[(Channel, u64)]) -> Channel {
    let first = paid(rig, 3).await;
    let before = rig.front.count(Route::Settle);
    rig.front.next(Route::Settle, 1, Step::Hang);
    ask_to_close(rig, &first).await;
    rig.front.wait_for_count(Route::Settle, before + 1, SOON).await;
    for (channel, _) in waiting {
        ask_to_close(rig, channel).await;
    }
    for (channel, _) in waiting {
        rig.in_status(channel, Status::Closing).await;
    }
    assert_eq!(rig.front.count(Route::Settle), before + 1, "they wait");
    first
}

async fn channels(rig: &Rig) -> Vec<(Channel, u64)> {
    let mut channels = Vec::new();
    for amount in 10..10 + WAITING {
        channels.push((paid(rig, amount).await, amount));
    }
    channels
}

/// Every channel is closed for its amount with the receipt that the issuer keeps, which proves its place in a batch.
async fn settled_once(rig: &Rig, channels: &[(Channel, u64)]) -> Vec<StoredChannel> {
    let issuer = usable_key(&rig.issuer.public_key()).expect("an honest key");
    let mut found = Vec::new();
    for (channel, amount) in channels {
        let stored = rig.closed(channel, *amount).await;
        let receipt = stored.receipt.as_ref().expect("closed");
        assert_eq!(Some(receipt), rig.settled(channel).await.receipt.as_ref());
        assert!(receipt.inclusion.is_some(), "every new receipt has its place");
        assert_eq!(receipt.check_inclusion(&issuer), Ok(()));
        found.push(stored);
    }
    found
}

/// The payee has got this much, and every unit is accounted for.
async fn earned(rig: &Rig, amount: u64) {
    assert_eq!(rig.earned().await, amount);
    rig.assert_books_balance().await;
}

fn sum(channels: &[(Channel, u64)]) -> u64 {
    channels.iter().map(|(_, amount)| amount).sum()
}

fn size(stored: &StoredChannel) -> u64 {
    let receipt = stored.receipt.as_ref().expect("closed");
    receipt.inclusion.as_ref().expect("in a batch").size
}

#[tokio::test]
async fn closes_that_wait_for_a_request_go_together_in_the_next() {
    let rig = rig().await;
    let channels = channels(&rig).await;
    let first = held_up(&rig, &channels).await;
    let found = settled_once(&rig, &channels).await;
    rig.closed(&first, 3).await;
    // The last of them may have come to wait only when the others were on their way.
    assert!(rig.front.batches()[0] >= channels.len() / 2, "{:?}", rig.front.batches());
    assert!(found.iter().all(|stored| stored.attempts == 0), "{found:?}");
    assert!(size(&found[0]) >= WAITING / 2, "and are committed to together");
    earned(&rig, sum(&channels) + 3).await;
    let url = rig.settlers[0].admin_url();
    let requests = rig.metric(url, "millrace_settler_settlements_per_request_count").await;
    let settlements = rig.metric(url, "millrace_settler_settlements_per_request_sum").await;
    assert!(requests < settlements, "{requests:?} requests, {settlements:?} settlements");
    let answered = rig.metric(url, "millrace_settler_issuer_requests_total{outcome=\"answered\"}").await;
    assert!(answered.is_some_and(|answered| answered >= 2), "{answered:?}");
}

#[tokio::test]
async fn a_settlement_that_is_refused_for_good_hurts_none_that_travels_with_it() {
    let rig = rig().await;
    let payer = rig.payer().await;
    let refused = paid(&rig, 7).await;
    let in_ten_years = refused.terms().expires_at + 3_000 * 86_400;
    let mut channels = Vec::new();
    for amount in 10..10 + WAITING {
        let channel = payer.channel(rig.payee()).expires_at(in_ten_years).open().await;
        pay(&rig, &channel, amount).await;
        channels.push((channel, amount));
    }
    let mut waiting = channels;
    waiting.push((refused, 7));
    held_up(&rig, &waiting).await;
    // The issuer's clock runs ahead: for it, one of them has expired, and so has the one that its request hangs for.
    rig.issuer.fast_forward(std::time::Duration::from_secs(2 * 86_400));
    let (refused, _) = waiting.pop().expect("the last");
    let found = settled_once(&rig, &waiting).await;
    assert!(found.iter().all(|stored| stored.attempts == 0), "{found:?}");
    let failed = rig.in_status(&refused, Status::Failed).await;
    assert!(failed.last_error.expect("written down").contains("channel_expired"));
    assert!(rig.front.batches()[0] >= waiting.len() / 2, "{:?}", rig.front.batches());
    earned(&rig, sum(&waiting)).await;
}

#[tokio::test]
async fn a_batch_whose_answer_never_comes_is_repeated_and_paid_once() {
    let rig = rig().await;
    let channels = channels(&rig).await;
    let first = held_up(&rig, &channels).await;
    rig.front.next(Route::Settle, channels.len(), Step::ForwardThenHang);
    rig.front.wait_for_forwarded(Route::Settle, 2, SOON).await;
    let mut receipts = Vec::new();
    for (channel, _) in &channels {
        // What the issuer signed when nobody heard it.
        receipts.push(rig.settled(channel).await.receipt);
    }
    let found = settled_once(&rig, &channels).await;
    for (stored, first) in found.iter().zip(receipts) {
        assert_eq!(stored.receipt, first, "the first receipt, with its place in the first batch");
    }
    assert!(found.iter().all(|stored| stored.attempts >= 1), "{found:?}");
    rig.closed(&first, 3).await;
    earned(&rig, sum(&channels) + 3).await;
}

#[tokio::test]
async fn an_issuer_that_fails_on_a_batch_is_asked_again_until_it_does_not() {
    let rig = rig().await;
    let channels = channels(&rig).await;
    let first = held_up(&rig, &channels).await;
    rig.front.next(Route::Settle, channels.len() * 2, Step::ForwardThenStatus(500));
    settled_once(&rig, &channels).await;
    rig.closed(&first, 3).await;
    earned(&rig, sum(&channels) + 3).await;
}

#[tokio::test]
async fn an_issuer_without_the_route_settles_one_by_one_and_is_asked_for_it_once() {
    let rig = rig().await;
    rig.front.take_no_batches();
    let channels = channels(&rig).await;
    let first = held_up(&rig, &channels).await;
    let found = settled_once(&rig, &channels).await;
    rig.closed(&first, 3).await;
    assert!(found.iter().all(|stored| stored.attempts == 0), "no attempt was lost over it: {found:?}");
    assert!(found.iter().all(|stored| size(stored) == 1));
    let more = self::channels(&rig).await;
    for (channel, _) in &more {
        ask_to_close(&rig, channel).await;
    }
    settled_once(&rig, &more).await;
    assert_eq!(rig.front.batches().len(), 1, "{:?}", rig.front.batches());
    let log = rig.log(&rig.settlers[0]);
    assert_eq!(log.matches("the issuer does not settle so many at once").count(), 1, "{log}");
    earned(&rig, sum(&channels) + sum(&more) + 3).await;
}

#[tokio::test]
async fn an_issuer_that_takes_fewer_at_a_time_gets_fewer() {
    let settler = one_at_a_time();
    let issuer = |config: &mut issuer::Config| config.limits.settlements_batch_max = 4;
    let rig = Rig::start(RigOptions { settlers: 1, settler, issuer, ..RigOptions::default() }).await;
    for _ in 0..2 {
        let channels = channels(&rig).await;
        let first = held_up(&rig, &channels).await;
        let found = settled_once(&rig, &channels).await;
        rig.closed(&first, 3).await;
        assert!(found.iter().all(|stored| size(stored) <= 4), "{found:?}");
        assert!(found.iter().all(|stored| stored.attempts == 0), "{found:?}");
    }
    let batches = rig.front.batches();
    assert!(batches.iter().filter(|size| **size > 4).count() <= 2, "{batches:?}");
    assert!(batches.last().is_some_and(|size| (2..=4).contains(size)), "{batches:?}");
    rig.assert_books_balance().await;
}

#[tokio::test]
async fn one_refusal_or_lie_among_the_results_is_about_its_own_channel() {
    let rig = rig().await;
    let model = rig.channel(1_000).await;
    let of_another = rig.settle_directly(&model, 7, true, 0).await;
    let channels = channels(&rig).await;
    let first = held_up(&rig, &channels).await;
    // Whichever comes first: its result is a failure of the issuer's, and the next one's is no receipt of its own.
    let internal = serde_json::to_string(&Problem::new(Code::Internal)).expect("JSON");
    rig.front.next(Route::Settle, 1, Step::Json(500, internal));
    let lie = serde_json::to_string(&of_another).expect("JSON");
    rig.front.next(Route::Settle, 1, Step::Json(200, lie));
    let found = settled_once(&rig, &channels).await;
    rig.closed(&first, 3).await;
    let tried_again = found.iter().filter(|stored| stored.attempts == 1).count();
    assert!(tried_again <= 2 && found.iter().all(|stored| stored.attempts <= 1), "{found:?}");
    earned(&rig, sum(&channels) + 3 + 7).await;
}

#[tokio::test]
async fn a_signed_receipt_that_is_not_in_the_batch_it_names_closes_nothing() {
    let rig = rig().await;
    let (model, channel) = (rig.channel(1_000).await, paid(&rig, 9).await);
    let of_another = rig.settle_directly(&model, 7, true, 0).await;
    let real = rig.settle_directly(&channel, 9, true, 0).await;
    // The receipt is the issuer's word, and so is the batch; but the one is not in the other.
    let elsewhere = Receipt { inclusion: of_another.inclusion, ..real.clone() };
    // Committed to by someone else.
    let mut forged = [real.clone()];
    commit(&mut forged, rig.payee_key());
    let [forged] = forged;
    for lie in [elsewhere, forged] {
        let lie = serde_json::to_string(&lie).expect("JSON");
        rig.front.next(Route::Settle, 1, Step::Json(200, lie));
    }
    ask_to_close(&rig, &channel).await;
    let found = rig.closed(&channel, 9).await;
    assert_eq!((found.attempts, found.receipt), (2, Some(real)));
    earned(&rig, 16).await;
}

#[tokio::test]
async fn a_receipt_of_an_issuer_that_commits_to_no_batches_still_closes_its_channel() {
    let rig = rig().await;
    let channel = paid(&rig, 9).await;
    let real = rig.settle_directly(&channel, 9, true, 0).await;
    let alone = Receipt { inclusion: None, ..real };
    let text = serde_json::to_string(&alone).expect("JSON");
    assert!(!text.contains("inclusion"));
    rig.front.next(Route::Settle, 1, Step::Json(200, text));
    ask_to_close(&rig, &channel).await;
    let found = rig.in_status(&channel, Status::Closed).await;
    assert_eq!((found.attempts, found.receipt), (0, Some(alone)));
}
