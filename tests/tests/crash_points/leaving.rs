//! A leader that is asked to stop, and dies or freezes on its way out.

use common::wire::Outcome;
use nix::sys::signal::Signal;
use tests::issuer::{Route, Step};
use tests::payer::Channel;
use tests::rig::{FaultPoint, Rig, RigOptions, SOON};
use tests::wait_until;

/// The first settler leads and was asked to stop while the issuer kept it waiting; it stands at `point`, and the second
/// stands by.
async fn leaving(point: &str) -> (Rig, Channel, FaultPoint) {
    let mut rig = Rig::start(RigOptions { settlers: 1, ..RigOptions::default() }).await;
    assert_eq!(rig.leader().await, 0);
    rig.spawn_settler(&[]).wait_ready(SOON).await.expect("a standby is ready");
    rig.front.next(Route::Settle, 1, Step::ForwardThenHang);
    let channel = rig.channel(1_000).await;
    let answer = channel.pay(rig.relayer(0), 9).await.expect("an answer");
    assert_eq!(answer.body.expect("taken").outcome, Outcome::Accepted);
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    rig.front.wait_for_forwarded(Route::Settle, 1, SOON).await;
    let held = FaultPoint::arm(&rig.settlers[0], point);
    rig.settlers[0].signal(Signal::SIGTERM).expect("it runs");
    held.reached().await;
    (rig, channel, held)
}

/// The second settler leads, and has finished what the first one left.
async fn taken_over(rig: &Rig, channel: &Channel) {
    wait_until(SOON, "the standby leads", || async {
        rig.settler_status(1).await.is_some_and(|status| status.leader)
    })
    .await;
    rig.closed(channel, 9).await;
    assert_eq!(rig.earned().await, 9);
    rig.assert_books_balance().await;
}

async fn killed(point: &str) {
    let (mut rig, channel, _) = leaving(point).await;
    rig.settlers[0].kill();
    taken_over(&rig, &channel).await;
}

async fn paused(point: &str) {
    let (mut rig, channel, held) = leaving(point).await;
    rig.settlers[0].signal(Signal::SIGSTOP).expect("it runs");
    taken_over(&rig, &channel).await;
    let token = rig.settler_status(1).await.and_then(|status| status.token);
    held.let_go();
    rig.settlers[0].signal(Signal::SIGCONT).expect("it is there");
    let status = rig.settlers[0].wait_exit(SOON).await.expect("it ends");
    assert!(status.success(), "{status}");
    // Renewed or not: it was never anybody else's.
    let lease = rig.store().await.keys().lease();
    rig.redis.proxy().look_out_for(lease.as_str()).wait(SOON).await;
    let status = rig.settler_status(1).await.expect("it answers");
    assert_eq!((status.leader, status.token), (true, token), "a lease is given back by its holder alone");
    taken_over(&rig, &channel).await;
}

#[tokio::test]
async fn leader_killed_before_it_gives_its_lease_back_is_replaced_when_that_runs_out() {
    killed("drained").await;
}

#[tokio::test]
async fn leader_killed_after_it_gave_its_lease_back_is_replaced() {
    killed("lease_released").await;
}

#[tokio::test]
async fn leader_paused_before_it_gives_its_lease_back_does_not_give_back_its_successors() {
    paused("drained").await;
}

#[tokio::test]
async fn leader_paused_after_it_gave_its_lease_back_ends_well() {
    paused("lease_released").await;
}
