//! Every point of a leader's work, with every way to stop it there. What is on the way arrives after all is over: then
//! the fence, or the issuer's check of tokens, is all that protects.

use super::scene::{Point, Scene};

/// Killed: the successor takes up whatever the leader left.
async fn killed(point: Point) {
    let mut scene = Scene::at(point).await;
    scene.kill();
    scene.successor_settles().await;
    scene.late_requests_arrive().await;
    scene.all_is_settled_once().await;
}

/// Paused until its successor has done all the work, then woken while that sleeps.
async fn paused(point: Point) {
    let mut scene = Scene::at(point).await;
    scene.pause();
    scene.successor_settles().await;
    scene.successor_sleeps().await;
    scene.old_leader_goes_on().await.assert_none();
    scene.successor_leaves().await;
    scene.all_is_settled_once().await;
}

/// Paused until somebody else leads, then woken with all of its work still to be done.
async fn tempted(point: Point) {
    let mut scene = Scene::at(point).await;
    scene.pause();
    let lease = scene.successor_only_takes_the_lead().await;
    scene.issuer_hears_of_the_successor(&lease).await;
    scene.old_leader_goes_on().await.assert_none();
    scene.old_leader_leads_again(&lease).await;
    scene.all_is_settled_once().await;
}

#[tokio::test]
async fn late_settlement_that_overtakes_the_successors_first_one_pays_what_that_would_have_paid() {
    let mut scene = Scene::at(Point::RequestLate).await;
    scene.pause();
    let lease = scene.successor_only_takes_the_lead().await;
    // The issuer learns of a new leader by its first settlement, and this one comes before it.
    let change = scene.old_leader_goes_on().await;
    assert_eq!((change.redis, change.paid), (false, 10 + 11 + 12), "{change:?}");
    scene.old_leader_leads_again(&lease).await;
    scene.all_is_settled_once().await;
}

macro_rules! points {
    ($($name:ident: $point:expr;)*) => {
        mod killed_leader_is_replaced_and_all_is_settled_once {
            use super::Point::*;
            $(#[tokio::test] async fn $name() { super::killed($point).await; })*
        }
        mod paused_leader_wakes_up_too_late_and_changes_nothing {
            use super::Point::*;
            $(#[tokio::test] async fn $name() { super::paused($point).await; })*
        }
        mod deposed_leader_cannot_do_what_its_successor_has_not_done {
            use super::Point::*;
            $(#[tokio::test] async fn $name() { super::tempted($point).await; })*
        }
    };
}

points! {
    with_the_lease_granted: At("lease_granted");
    with_the_lease_taken: At("lease_taken");
    with_its_fence_on_the_way: CallLate("take_partition.lua");
    with_all_partitions_fenced: At("partitions_fenced");
    with_its_reading_on_the_way: CallLate("read_accepted.lua");
    with_entries_read: At("entries_read");
    with_its_acknowledgement_on_the_way: CallLate("apply.lua");
    with_entries_applied_and_trimmed: At("entries_applied");
    with_due_channels_read: At("due_read");
    with_a_begin_of_a_close_on_the_way: CallLate("begin_close.lua");
    with_a_close_begun: At("close_begun");
    with_a_request_signed: At("request_signed");
    with_its_requests_on_the_way: RequestLate;
    with_its_requests_sent: RequestSent;
    with_its_requests_committed_by_the_issuer: IssuerCommitted;
    with_an_answer_received: At("answer_received");
    with_an_end_of_a_close_on_the_way: CallLate("finish_close.lua");
    with_a_close_finished: At("close_finished");
    with_a_delay_of_a_close_on_the_way: CallLate("retry_close.lua");
    with_a_failure_of_a_close_on_the_way: CallLate("fail_close.lua");
    with_its_lease_renewed: At("lease_renewed");
}
