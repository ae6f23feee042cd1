//! Days without a crash.

use common::channel::Status;
use common::journal::line::Line;
use common::problem::{Code, Problem};
use tests::issuer::{Route, Step};
use tests::load::Load;
use tests::rig::SOON;

use super::kept::Kept;

#[tokio::test]
async fn payments_and_their_settlement_are_kept_once_and_leave_redis() {
    let mut kept = Kept::start().await;
    kept.settler().await;
    let (one, two) = (kept.rig.channel(1_000).await, kept.rig.channel(1_000).await);
    kept.pay(&one, [1, 2, 5]).await;
    kept.pay_at_once(&two, 1..=40).await;
    kept.pay(&one, [9]).await;
    one.close(kept.rig.relayer(0)).await.expect("an answer").body.expect("noted");
    kept.rig.closed(&one, 9).await;
    let report = kept.all_is_kept_once().await;
    assert_eq!((report.payments, report.channels), (44, 2));
    assert_eq!((report.settlements, report.receipts, report.failed, report.dead), (1, 1, 0, 0));
    let stored = kept.rig.stored(&one).await.receipt.expect("closed");
    let receipts = kept.records().await.into_iter().filter_map(|record| match record {
        Line::Settlement(line) => Some(line.receipt),
        _ => None,
    });
    assert_eq!(receipts.collect::<Vec<_>>(), [stored], "the receipt that Redis holds");
}

#[tokio::test]
async fn payments_under_load_are_kept_once_while_leaders_come_and_go() {
    let mut kept = Kept::start().await;
    kept.settler().await;
    let mut channels = Vec::new();
    for _ in 0..8 {
        channels.push(kept.rig.channel(1_000_000).await);
    }
    let load = Load::start(&channels, &[kept.rig.relayer(0)]);
    for leader in 0..3 {
        kept.settler().await;
        load.wait_for(300, SOON).await;
        let status = kept.rig.settlers[leader].stop(SOON).await.expect("it stops");
        assert!(status.success(), "{status}");
    }
    load.wait_for(300, SOON).await;
    let paid = load.stop().await;
    kept.paid(&paid);
    kept.all_is_kept_once().await;
}

#[tokio::test]
async fn what_is_given_up_on_is_kept_with_the_reason() {
    let mut kept = Kept::start().await;
    kept.settler().await;
    let channel = kept.rig.channel(1_000).await;
    kept.pay(&channel, [3]).await;
    // An entry that nobody can read, and one of a channel that nobody knows.
    let partition = kept.store.partition_of(&channel.id());
    let accepted = kept.store.keys().accepted(partition);
    kept.rig.redis.command(&["XADD", &accepted, "*", "no", "payment"]).await;
    let refusal = serde_json::to_string(&Problem::new(Code::OverCapacity)).expect("JSON");
    kept.rig.front.next(Route::Settle, 1, Step::Json(Code::OverCapacity.status(), refusal));
    channel.close(kept.rig.relayer(0)).await.expect("an answer").body.expect("noted");
    kept.rig.in_status(&channel, Status::Failed).await;
    let report = kept.all_is_kept_once().await;
    assert_eq!((report.dead, report.failed, report.settlements), (1, 1, 0));
    let info = kept.store.partition_info(partition).await.expect("Redis answers");
    assert_eq!(info.dead, 2, "each is listed once among the dead letters");
}

#[tokio::test]
async fn without_a_journal_nothing_is_left_in_redis_for_it() {
    let mut kept = Kept::start().await;
    kept.config.clear();
    kept.settler().await;
    let channel = kept.rig.channel(1_000).await;
    kept.pay(&channel, [3]).await;
    channel.close(kept.rig.relayer(0)).await.expect("an answer").body.expect("noted");
    kept.rig.closed(&channel, 3).await;
    kept.nothing_waits().await;
    assert!(!kept.dir().exists());
}

#[tokio::test]
async fn journal_that_reaches_past_the_clock_of_redis_loses_nothing() {
    let mut kept = Kept::start().await;
    kept.settler().await;
    let channel = kept.rig.channel(1_000).await;
    kept.pay(&channel, [3]).await;
    kept.nothing_waits().await;
    kept.rig.settlers[0].stop(SOON).await.expect("it stops");
    // A server takes over whose clock is an hour behind, with streams that begin anew.
    let partition = kept.store.partition_of(&channel.id());
    let accepted = kept.store.keys().accepted(partition);
    let ahead = super::segments::with_positions_an_hour_ahead(&kept).await;
    kept.rig.redis.command(&["DEL", &accepted]).await;
    let next = kept.settler().await;
    kept.logged(next, "the journal goes on").await;
    kept.pay(&channel, [4, 5]).await;
    kept.nothing_waits().await;
    assert_eq!(kept.payments().await[&channel.id()], [3, 4, 5]);
    // The segment that was written by hand says what no records show, and nothing else is wrong.
    let faults = kept.verified().await.faults;
    assert!(faults.iter().all(|fault| fault.segment == ahead), "{faults:?}");
}
