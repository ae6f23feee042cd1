//! Settlement against an issuer that loses answers, fails, refuses and lies: every channel is settled once, for its
//! latest accepted amount, or kept and listed (promise I5).

use std::time::{Duration, Instant};

use common::amount::Amount;
use common::channel::Status;
use common::clock::Clock;
use common::ids::Signature;
use common::problem::{Code, Problem};
use common::store::stream::EntryId;
use common::wire::{Outcome, Party, Receipt};
use tests::issuer::{Route, Step};
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};
use tests::{wait_for, wait_until};

async fn rig(settlers: usize) -> Rig {
    Rig::start(RigOptions { settlers, ..RigOptions::default() }).await
}

/// A channel with capacity 1000 that has paid this much.
async fn paid(rig: &Rig, amount: u64) -> Channel {
    let channel = rig.channel(1_000).await;
    let answer = channel.pay(rig.relayer(0), amount).await.expect("an answer");
    assert_eq!(answer.body.expect("taken").outcome, Outcome::Accepted);
    channel
}

async fn ask_to_close(rig: &Rig, channel: &Channel) {
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
}

async fn assert_nothing_moved_but(rig: &Rig, amount: u64) {
    assert_eq!(rig.earned().await, amount);
    rig.assert_books_balance().await;
}

/// Waits until a counter of the first settler has reached `least`.
async fn counted(rig: &Rig, line_start: &str, least: u64) {
    let url = rig.settlers[0].admin_url();
    wait_until(SOON, &format!("{line_start} is {least}"), || async {
        rig.metric(url, line_start).await.is_some_and(|count| count >= least)
    })
    .await;
}

fn refusal(code: Code) -> Step {
    let problem = serde_json::to_string(&Problem::new(code)).expect("a problem is JSON");
    Step::Json(code.status(), problem)
}

fn answer(receipt: &Receipt) -> Step {
    Step::Json(200, serde_json::to_string(receipt).expect("a receipt is JSON"))
}

#[tokio::test]
async fn a_settlement_whose_answer_never_comes_is_repeated_and_paid_once() {
    let rig = rig(1).await;
    let channel = paid(&rig, 7).await;
    rig.front.hang_after_settling();
    ask_to_close(&rig, &channel).await;
    rig.front.wait_for_forwarded(Route::Settle, 1, SOON).await;
    // What the issuer signed when nobody heard it.
    let first = rig.settled(&channel).await.receipt.expect("closed");
    let found = rig.closed(&channel, 7).await;
    assert_eq!(found.receipt, Some(first));
    assert_eq!((found.attempts, found.last_error), (1, None));
    assert_eq!(rig.front.forwarded(Route::Settle), 2, "asked once more, after the timeout");
    assert_nothing_moved_but(&rig, 7).await;
}

#[tokio::test]
async fn a_settlement_answered_with_an_error_although_it_took_place_is_repeated_and_paid_once() {
    let rig = rig(1).await;
    let channel = paid(&rig, 7).await;
    rig.front.next(Route::Settle, 3, Step::ForwardThenStatus(500));
    ask_to_close(&rig, &channel).await;
    let found = rig.closed(&channel, 7).await;
    assert_eq!(found.attempts, 3);
    assert_eq!(rig.front.forwarded(Route::Settle), 4);
    assert_nothing_moved_but(&rig, 7).await;
}

#[tokio::test]
async fn an_issuer_that_fails_is_asked_again_after_pauses_until_it_answers() {
    let pauses = [("closes.retry_delay_min_ms", "100"), ("closes.retry_delay_max_ms", "60000")];
    let settler = pauses.map(|(key, value)| (key, value.to_owned())).to_vec();
    let rig = Rig::start(RigOptions { settlers: 1, settler, ..RigOptions::default() }).await;
    let channel = paid(&rig, 7).await;
    rig.front.always(Route::Settle, Step::Status(500));
    ask_to_close(&rig, &channel).await;
    rig.front.wait_for_count(Route::Settle, 1, SOON).await;
    let start = Instant::now();
    rig.front.wait_for_count(Route::Settle, 5, SOON).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(400), "four attempts more in {took:?} are a storm");

    let found = wait_for(SOON, "the fifth attempt is written down", || async {
        let found = rig.stored(&channel).await;
        (found.attempts >= 5).then_some(found)
    })
    .await;
    assert_eq!(found.state.status, Status::Closing, "never dropped, never given up on");
    assert!(found.last_error.expect("written down").contains("500"));
    let due = rig.store().await.due_at(&channel.id()).await.expect("Redis answers");
    assert!(due.is_some(), "it comes again");
    let refused = channel.pay(rig.relayer(0), 8).await.expect("an answer");
    assert_eq!(refused.code(), Some("channel_closing"), "what is pinned stays the latest");

    rig.front.heal();
    let found = rig.closed(&channel, 7).await;
    assert_eq!(found.last_error, None);
    assert_nothing_moved_but(&rig, 7).await;
}

/// Waits until a channel was given up on with these words, and asserts that it is kept and that someone is told.
async fn failed(rig: &Rig, channel: &Channel, amount: u64, words: &str) {
    let found = rig.in_status(channel, Status::Failed).await;
    assert_eq!(found.state.amount, Amount::new(amount), "the voucher is kept");
    assert_eq!(found.state.proof(found.terms.scheme).map(|_| ()), Some(()), "with its proof");
    assert!(found.last_error.as_ref().is_some_and(|error| error.contains(words)), "{found:?}");
    let (store, id) = (rig.store().await, channel.id());
    assert_eq!(store.due_at(&id).await, Ok(None), "nothing tries it again");
    let dead = store.dead(store.partition_of(&id), EntryId::ZERO, 100).await.expect("Redis answers");
    let listed =
        dead.iter().filter(|(_, fields)| fields.contains(&("id".to_owned(), id.to_string()))).count();
    assert_eq!(listed, 1, "{dead:?}");
    counted(rig, "millrace_settler_dead_letters_total", 1).await;
    let log = rig.log(&rig.settlers[0]);
    let error = log.lines().find(|line| line.contains("ERROR") && line.contains(&id.to_string()));
    assert!(error.is_some_and(|line| line.contains(words)), "{log}");
    let refused = channel.pay(rig.relayer(0), amount + 1).await.expect("an answer");
    assert_eq!(refused.code(), Some("channel_closing"));
}

#[tokio::test]
async fn a_settlement_that_is_refused_for_good_is_kept_and_listed_and_holds_up_no_other() {
    let rig = rig(1).await;
    let refused = paid(&rig, 7).await;
    let in_ten_years = refused.terms().expires_at + 3_000 * 86_400;
    let other = rig.payer().await.channel(rig.payee()).expires_at(in_ten_years).open().await;
    other.pay(rig.relayer(0), 5).await.expect("an answer").body.expect("taken");
    // The issuer's clock runs ahead: for it, the first channel has expired.
    rig.issuer.fast_forward(Duration::from_secs(2 * 86_400));
    ask_to_close(&rig, &refused).await;
    failed(&rig, &refused, 7, "channel_expired").await;
    ask_to_close(&rig, &other).await;
    rig.closed(&other, 5).await;
    assert_nothing_moved_but(&rig, 5).await;
}

#[tokio::test]
async fn a_channel_that_a_crashed_leader_settled_is_closed_with_its_receipt() {
    let rig = rig(1).await;
    let channel = paid(&rig, 7).await;
    // The predecessor heard the issuer's answer and died before it could tell Redis.
    let first = rig.settle_directly(&channel, 7, true, 0).await;
    ask_to_close(&rig, &channel).await;
    let found = rig.closed(&channel, 7).await;
    assert_eq!(found.receipt, Some(first));
    assert_nothing_moved_but(&rig, 7).await;
}

#[tokio::test]
async fn an_issuer_that_says_closed_is_asked_for_what_amount() {
    let rig = rig(1).await;
    let channel = paid(&rig, 7).await;
    let first = rig.settle_directly(&channel, 7, true, 0).await;
    // An issuer that does not repeat receipts.
    rig.front.always(Route::Settle, refusal(Code::ChannelClosed));
    ask_to_close(&rig, &channel).await;
    let found = rig.closed(&channel, 7).await;
    assert_eq!(found.receipt, Some(first));
    assert_eq!((rig.front.count(Route::Settle), found.attempts), (1, 0));
    assert_nothing_moved_but(&rig, 7).await;
}

#[tokio::test]
async fn an_issuer_that_cannot_be_asked_for_what_amount_is_asked_later() {
    let rig = rig(1).await;
    let channel = paid(&rig, 7).await;
    rig.settle_directly(&channel, 7, true, 0).await;
    rig.front.always(Route::Settle, refusal(Code::ChannelClosed));
    rig.front.fail_next(Route::Channel, 2);
    ask_to_close(&rig, &channel).await;
    let found = rig.closed(&channel, 7).await;
    assert_eq!((rig.front.count(Route::Settle), found.attempts), (3, 2));
    assert_nothing_moved_but(&rig, 7).await;
}

#[tokio::test]
async fn a_channel_that_was_closed_for_another_amount_is_not_taken_for_settled() {
    let rig = rig(1).await;
    let channel = paid(&rig, 9).await;
    rig.settle_directly(&channel, 5, true, 0).await;
    ask_to_close(&rig, &channel).await;
    failed(&rig, &channel, 9, "channel_closed").await;
    assert_nothing_moved_but(&rig, 5).await;
}

/// Has the issuer answer with `lie` once; then nothing but the truth closes the channel.
async fn assert_not_believed(rig: &Rig, channel: &Channel, amount: u64, lie: Receipt) {
    rig.front.next(Route::Settle, 1, answer(&lie));
    ask_to_close(rig, channel).await;
    let found = rig.closed(channel, amount).await;
    assert_eq!(found.attempts, 1, "the lie was no answer");
    assert_eq!((rig.front.count(Route::Settle), rig.front.forwarded(Route::Settle)), (2, 1));
}

#[tokio::test]
async fn a_receipt_that_the_issuer_did_not_sign_closes_nothing() {
    let rig = rig(1).await;
    let (model, channel) = (rig.channel(1_000).await, paid(&rig, 7).await);
    let real = rig.settle_directly(&model, 7, true, 0).await;
    // Right in everything but the signature.
    let lie = Receipt { channel_id: channel.id(), ..real };
    assert_not_believed(&rig, &channel, 7, lie.clone()).await;
    let other = paid(&rig, 7).await;
    rig.front.next(
        Route::Settle,
        1,
        answer(&Receipt { channel_id: other.id(), signature: Signature([0; 64]), ..lie }),
    );
    ask_to_close(&rig, &other).await;
    rig.closed(&other, 7).await;
    assert_nothing_moved_but(&rig, 21).await;
}

#[tokio::test]
async fn a_signed_receipt_for_another_settlement_closes_nothing() {
    let rig = rig(1).await;
    let (model, first, second) = (rig.channel(1_000).await, paid(&rig, 7).await, paid(&rig, 9).await);
    let of_another_channel = rig.settle_directly(&model, 7, true, 0).await;
    assert_not_believed(&rig, &first, 7, of_another_channel).await;
    // A part of the amount, and not the end of the channel. The token is that of the leader, which has settled by now.
    let token = rig.token_at_issuer().await;
    let of_another_amount = rig.settle_directly(&second, 4, false, token).await;
    rig.front.next(Route::Settle, 1, answer(&of_another_amount));
    ask_to_close(&rig, &second).await;
    let found = rig.closed(&second, 9).await;
    assert_eq!(found.attempts, 1);
    assert_nothing_moved_but(&rig, 7 + 7 + 9).await;
}

async fn token_of_leader(rig: &Rig) -> u64 {
    let leader = rig.leader().await;
    let status = rig.settler_status(leader).await.expect("it answers");
    status.token.expect("a leader has a token")
}

#[tokio::test]
async fn tokens_rise_with_every_leader_and_reach_the_issuer() {
    let mut rig = rig(1).await;
    let mut last = 0;
    for amount in [3, 4, 5] {
        let channel = paid(&rig, amount).await;
        ask_to_close(&rig, &channel).await;
        rig.closed(&channel, amount).await;
        let token = token_of_leader(&rig).await;
        assert!(token > last, "{token} after {last}");
        // The issuer takes a token only with the payee's signature over it.
        assert_eq!(rig.token_at_issuer().await, token);
        last = token;
        rig.settlers[0].restart().expect("the program runs");
        rig.settlers[0].wait_ready(SOON).await.expect("it comes back");
    }
    assert_nothing_moved_but(&rig, 12).await;
}

#[tokio::test]
async fn a_leader_whose_redis_forgot_its_count_takes_a_token_above_the_issuers() {
    let mut rig = rig(1).await;
    let (earlier, channel) = (rig.channel(1_000).await, paid(&rig, 7).await);
    assert!(token_of_leader(&rig).await < 40);
    // A relayer that looks while the count is behind the issuer's takes it for a loss of data, and stops everyone.
    rig.relayers[0].kill();
    rig.settle_directly(&earlier, 5, true, 40).await;
    let store = rig.store().await;
    rig.redis.command(&["DEL", store.keys().token().as_str()]).await;
    store.request_close(&channel.id(), Party::Payer, Clock::system().now_ms()).await.expect("Redis answers");
    rig.closed(&channel, 7).await;
    assert_eq!((token_of_leader(&rig).await, rig.token_at_issuer().await), (41, 41));
    assert_eq!(rig.store().await.lease_info().await.expect("Redis answers").token, 41);
    assert_eq!(rig.metric(rig.settlers[0].admin_url(), "millrace_settler_fencing_token").await, Some(41));
    assert_nothing_moved_but(&rig, 12).await;
}

#[tokio::test]
async fn a_leader_that_starts_below_the_fences_of_its_predecessor_takes_a_token_above_them() {
    let mut rig = rig(1).await;
    let first = paid(&rig, 7).await;
    ask_to_close(&rig, &first).await;
    rig.closed(&first, 7).await;
    for _ in 0..3 {
        rig.settlers[0].restart().expect("the program runs");
        rig.leader().await;
    }
    let before = token_of_leader(&rig).await;
    rig.settlers[0].kill();
    rig.relayers[0].kill();
    let keys = rig.store().await.keys().clone();
    // Redis lost the count and the lease, and kept the fences; no relayer has seen the count.
    rig.redis.command(&["DEL", keys.token().as_str(), keys.lease().as_str()]).await;
    rig.settlers[0].restart().expect("the program runs");
    rig.relayers[0].restart().expect("the program runs");
    rig.relayers[0].wait_ready(SOON).await.expect("ready again");
    let second = paid(&rig, 9).await;
    ask_to_close(&rig, &second).await;
    rig.closed(&second, 9).await;
    let after = token_of_leader(&rig).await;
    assert!(after > before, "{after} after {before}");
    assert_eq!(rig.token_at_issuer().await, after);
    counted(&rig, r#"millrace_settler_step_downs_total{reason="fenced"}"#, 1).await;
    assert_nothing_moved_but(&rig, 16).await;
}
