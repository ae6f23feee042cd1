//! A leader that dies or freezes between any two steps of its way from entries to a stored segment and on to their
//! acknowledgement.

use common::store::lease::Acquired;
use nix::sys::signal::Signal;
use tests::load::Load;
use tests::payer::Channel;
use tests::rig::{FaultPoint, SOON};
use tests::{wait_for, wait_until};

use super::kept::Kept;

/// The first settler stands at `point`, with payments that it has read, while more are paid.
async fn at(kept: &mut Kept, point: &str) -> (Channel, FaultPoint) {
    let hour = std::time::Duration::from_secs(3_600);
    let store = kept.store.clone();
    let lease = wait_for(SOON, "the lease can be had", || async {
        match store.acquire_lease("a test", 1, hour).await.expect("Redis answers") {
            Acquired::Held(lease) => Some(lease),
            Acquired::HeldByOther { .. } => None,
        }
    })
    .await;
    let channel = kept.rig.channel(1_000).await;
    kept.pay(&channel, [3, 5]).await;
    kept.pay_at_once(&channel, 6..=30).await;
    let settler = kept.settler().await;
    let held = FaultPoint::arm(&kept.rig.settlers[settler], point);
    store.release_lease(&lease).await.expect("given back");
    held.reached().await;
    kept.pay(&channel, [31, 40]).await;
    (channel, held)
}

async fn killed(point: &str) {
    let mut kept = Kept::start().await;
    let (channel, _) = at(&mut kept, point).await;
    kept.rig.settlers[0].kill();
    kept.settler().await;
    kept.pay(&channel, [41]).await;
    channel.close(kept.rig.relayer(0)).await.expect("an answer").body.expect("noted");
    kept.rig.closed(&channel, 41).await;
    let report = kept.all_is_kept_once().await;
    assert_eq!((report.payments, report.receipts), (30, 1));
}

#[tokio::test]
async fn leader_killed_with_entries_read_loses_and_repeats_nothing() {
    killed("entries_read").await;
}

#[tokio::test]
async fn leader_killed_with_entries_in_the_books_and_not_in_the_journal_loses_and_repeats_nothing() {
    killed("entries_applied").await;
}

#[tokio::test]
async fn leader_killed_with_a_segment_in_hand_loses_and_repeats_nothing() {
    killed("segment_built").await;
}

#[tokio::test]
async fn leader_killed_with_a_segment_stored_and_not_acknowledged_loses_and_repeats_nothing() {
    killed("segment_stored").await;
}

#[tokio::test]
async fn leader_killed_after_a_close_finished_keeps_its_receipt_once() {
    let mut kept = Kept::start().await;
    kept.settler().await;
    let channel = kept.rig.channel(1_000).await;
    kept.pay(&channel, [3]).await;
    kept.nothing_waits().await;
    let held = FaultPoint::arm(&kept.rig.settlers[0], "close_finished");
    channel.close(kept.rig.relayer(0)).await.expect("an answer").body.expect("noted");
    held.reached().await;
    kept.rig.settlers[0].kill();
    kept.settler().await;
    kept.rig.closed(&channel, 3).await;
    let report = wait_for(SOON, "the receipt is in the journal", || async {
        let report = kept.verified().await;
        (report.settlements > 0).then_some(report)
    })
    .await;
    assert_eq!((report.settlements, report.receipts), (1, 1));
    kept.all_is_kept_once().await;
}

#[tokio::test]
async fn leader_that_wakes_up_with_a_segment_in_hand_finds_its_number_taken() {
    let mut kept = Kept::start().await;
    let (channel, held) = at(&mut kept, "segment_built").await;
    kept.rig.settlers[0].signal(Signal::SIGSTOP).expect("it runs");
    kept.settler().await;
    kept.pay(&channel, [41]).await;
    let before = kept.all_is_kept_once().await;
    held.let_go();
    kept.rig.settlers[0].signal(Signal::SIGCONT).expect("it is there");
    let admin = kept.rig.settlers[0].admin_url().to_owned();
    wait_until(SOON, "it leads no more", || async {
        kept.rig.metric(&admin, "millrace_settler_leader").await == Some(0)
    })
    .await;
    kept.pay(&channel, [50]).await;
    let after = kept.all_is_kept_once().await;
    assert!(after.segments > before.segments, "the successor goes on");
}

#[tokio::test]
async fn segment_of_a_deposed_leader_counts_if_it_is_the_first_of_its_number() {
    let mut kept = Kept::start().await;
    let (channel, old) = at(&mut kept, "segment_built").await;
    kept.rig.settlers[0].signal(Signal::SIGSTOP).expect("it runs");
    let next = kept.settler().await;
    let new = FaultPoint::arm(&kept.rig.settlers[next], "segment_built");
    new.reached().await;
    // Both hold a segment with the same entries and the same number.
    old.let_go();
    kept.rig.settlers[0].signal(Signal::SIGCONT).expect("it is there");
    wait_until(SOON, "the first segment is there", || async {
        kept.journal().list().await.is_ok_and(|listed| !listed.is_empty())
    })
    .await;
    new.let_go();
    kept.logged(next, "this segment of the journal is there already").await;
    kept.pay(&channel, [50]).await;
    kept.all_is_kept_once().await;
}

#[tokio::test]
async fn leaders_killed_again_and_again_under_load_keep_every_payment_once() {
    let mut kept = Kept::start().await;
    kept.settler().await;
    let mut channels = Vec::new();
    for _ in 0..6 {
        channels.push(kept.rig.channel(1_000_000).await);
    }
    let load = Load::start(&channels, &[kept.rig.relayer(0)]);
    for leader in 0..3 {
        wait_until(SOON, "it leads", || async {
            kept.rig.settler_status(leader).await.is_some_and(|status| status.leader)
        })
        .await;
        load.wait_for(200, SOON).await;
        kept.rig.settlers[leader].kill();
        kept.settler().await;
    }
    load.wait_for(200, SOON).await;
    let paid = load.stop().await;
    kept.paid(&paid);
    kept.all_is_kept_once().await;
}

#[tokio::test]
async fn settler_that_acknowledges_before_the_segment_is_stored_is_caught_losing_payments() {
    let mut kept = Kept::start().await;
    kept.rig.break_check("journal_before_trim");
    at(&mut kept, "segment_built").await;
    kept.rig.settlers[0].kill();
    kept.settler().await;
    kept.nothing_waits().await;
    let found: usize = kept.payments().await.values().map(Vec::len).sum();
    assert!(found < 29, "what was acknowledged too early is gone, and the check sees it: {found}");
}
