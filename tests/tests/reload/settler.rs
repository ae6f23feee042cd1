//! A settler's policy: channels that were decided about before go by the new one as well.

use common::channel::Status;
use common::clock::Clock;
use serde_json::{Value, json};
use tests::issuer::{Route, Step};
use tests::payer::Channel;
use tests::rig::{ConfigFile, Rig, RigOptions, SOON};
use tests::wait_for;

use super::{Changing, refuses_as_a_whole};

const RULES: [&str; 4] =
    ["policy.owed_max", "policy.unsettled_age_max_s", "policy.idle_max_s", "policy.capacity_used_percent"];

/// A rig whose one settler has a file that turns all rules off.
async fn rig() -> (Rig, ConfigFile) {
    let mut rig = Rig::start(RigOptions::default()).await;
    let mut file = ConfigFile::new(rig.dir().join("settler.yaml"));
    for rule in RULES {
        file.set(rule, Value::Null);
    }
    file.set("closes.retry_delay_min_ms", 60_000).set("closes.retry_delay_max_ms", 60_000);
    let settler = rig.spawn_settler_from(Some(&file), &[]);
    settler.wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    rig.leader().await;
    (rig, file)
}

/// A channel for an hour that has paid five of ten and is to be looked at again some time.
async fn waiting(rig: &Rig) -> Channel {
    let expires_at = Clock::system().now_s() + 3_600;
    let channel = rig.payer().await.channel(rig.payee()).capacity(10).expires_at(expires_at).open().await;
    assert_eq!(rig.pay(0, &channel, 5).await.status, 200);
    rig.read_by_leader(&channel).await;
    rig.assert_left_alone(&channel).await;
    channel
}

/// Asks for a close that the issuer does not answer, and says in how many ms it is tried again.
async fn put_off_ms(rig: &Rig) -> (Channel, u64) {
    let channel = waiting(rig).await;
    rig.front.always(Route::Settle, Step::Status(503));
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    let store = rig.store().await;
    let attempted = wait_for(SOON, "an attempt to settle", || async {
        let found = store.channel(&channel.id()).await.expect("Redis answers")?;
        (found.attempts > 0).then_some(Clock::system().now_ms())
    })
    .await;
    let due = store.due_at(&channel.id()).await.expect("Redis answers").expect("it comes again");
    rig.front.heal();
    (channel, due.saturating_sub(attempted))
}

#[tokio::test]
async fn every_rule_of_a_settler_takes_effect_on_channels_that_wait_already() {
    let (mut rig, file) = rig().await;
    let mut settler = rig.settlers.remove(0);
    let mut changing = Changing::new(&mut settler, file);
    for (rule, value, reason) in [
        ("policy.owed_max", json!("5"), "owed"),
        ("policy.unsettled_age_max_s", json!(1), "age"),
        ("policy.idle_max_s", json!(1), "idle"),
        ("policy.capacity_used_percent", json!(50), "full"),
    ] {
        let channel = waiting(&rig).await;
        changing.set(&[(rule, value)]).await;
        let closed = rig.closed(&channel, 5).await;
        assert_eq!(closed.closing_reason.as_deref(), Some(reason));
        changing.set(&[(rule, Value::Null)]).await;
    }
    let channel = waiting(&rig).await;
    changing.set(&[("policy.expiry_margin_s", 7_200.into())]).await;
    assert_eq!(rig.closed(&channel, 5).await.closing_reason.as_deref(), Some("expiring"));
    changing.set(&[("policy.expiry_margin_s", 300.into())]).await;

    let (late, later_ms) = put_off_ms(&rig).await;
    assert!(later_ms > 30_000, "{later_ms}");
    let quick = [("closes.retry_delay_min_ms", json!(20)), ("closes.retry_delay_max_ms", json!(200))];
    changing.set(&quick).await;
    let (soon, soon_ms) = put_off_ms(&rig).await;
    assert!(soon_ms <= 200, "{soon_ms}");
    rig.closed(&soon, 5).await;
    let found = rig.stored(&late).await;
    assert_eq!(found.state.status, Status::Closing, "what was put off before keeps its time: {found:?}");

    changing.what_every_service_has().await;
    changing.assert_all::<settler::Config>();
}

#[tokio::test]
async fn a_leader_goes_by_the_policy_it_was_started_with_on_channels_of_the_one_before() {
    let (mut rig, mut file) = rig().await;
    let channel = waiting(&rig).await;
    let settler = &mut rig.settlers[0];
    assert!(settler.stop(SOON).await.expect("it stops").success());
    file.set("policy.owed_max", "5");
    settler.restart().expect("the program runs");
    assert_eq!(rig.closed(&channel, 5).await.closing_reason.as_deref(), Some("owed"));
}

#[tokio::test]
async fn a_settler_refuses_what_needs_a_restart_and_all_that_comes_with_it() {
    let (mut rig, file) = rig().await;
    let mut process = rig.settlers.remove(0);
    refuses_as_a_whole(
        &mut process,
        file,
        [("closes.in_flight_max", json!(5)), ("policy.idle_max_s", json!(77))],
    )
    .await;
}
