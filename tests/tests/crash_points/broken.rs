//! Each check taken out on purpose: what a deposed leader then does is seen by the checks that the intact build passes.

use tests::rig::{Rig, RigOptions};

use super::scene::{Change, Point, Scene};

/// What a leader changes that is woken at `point`, long after somebody else took the lead and did nothing.
async fn change_at(rig: Rig, point: Point, config: &[(&'static str, String)]) -> Change {
    let mut scene = Scene::with(rig, point, config).await;
    scene.pause();
    let lease = scene.successor_only_takes_the_lead().await;
    scene.issuer_hears_of_the_successor(&lease).await;
    scene.old_leader_goes_on().await
}

#[tokio::test]
async fn settler_without_the_fence_is_caught_changing_redis() {
    let rig = Rig::start(RigOptions::default()).await;
    rig.break_check("fence");
    let change = change_at(rig, Point::CallLate("begin_close.lua"), &[]).await;
    assert!(change.redis, "without the fence the deposed leader stops a channel: {change:?}");
}

#[tokio::test]
async fn issuer_without_the_check_of_tokens_is_caught_paying_a_deposed_leader() {
    let options =
        RigOptions { issuer: |config| config.development.takes_stale_tokens = true, ..RigOptions::default() };
    let change = change_at(Rig::start(options).await, Point::RequestLate, &[]).await;
    assert!(change.paid > 0, "without the check the deposed leader settles a channel: {change:?}");
}

/// A leader that reads rarely: nothing but its own clock tells it that its lease is over.
fn quiet() -> Vec<(&'static str, String)> {
    vec![("consumer.poll_ms", "3000".to_owned())]
}

#[tokio::test]
async fn leader_whose_renewal_is_answered_late_knows_by_its_own_clock_that_it_leads_no_more() {
    let rig = Rig::start(RigOptions::default()).await;
    let change = change_at(rig, Point::At("lease_renewed"), &quiet()).await;
    change.assert_none();
    assert_eq!(change.step_down, "expired");
}

#[tokio::test]
async fn lease_that_counts_from_the_answer_is_caught_outlasting_its_end_in_redis() {
    let rig = Rig::start(RigOptions::default()).await;
    rig.break_check("lease_from_sending");
    let change = change_at(rig, Point::At("lease_renewed"), &quiet()).await;
    assert_ne!(
        change.step_down, "expired",
        "it believed that it leads until it was told otherwise: {change:?}"
    );
}
