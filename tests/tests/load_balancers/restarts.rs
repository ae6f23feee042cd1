//! Three relayers are restarted one after another under load: no payer is told anything but that its payment was taken.

use common::config::parse;
use nix::sys::signal::Signal;
use tests::load::{Load, Paid};
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;

use super::balancer::{Balancer, Kind, replaced, shipped, upstreams};

/// Payers, a channel and a kept connection each.
const PAYERS: usize = 16;
/// Payments between two steps, so that each meets a balancer at work.
const SOME: u64 = 200;

/// Three relayers that drain as the shipped configuration has it.
pub(crate) async fn rig() -> Rig {
    let shipped =
        parse::<relayer::Config>("config.relayer.yaml", include_str!("../../../config.relayer.yaml"));
    let grace_ms = shipped.expect("the shipped configuration is one").drain_grace_ms;
    let relayer = vec![
        ("drain_grace_ms", grace_ms.to_string()),
        // A machine that is busy with other tests must not look like a Redis that is away.
        ("redis.command_timeout_ms", "5000".to_owned()),
    ];
    Rig::start(RigOptions { relayers: 3, relayer, ..RigOptions::default() }).await
}

async fn channels(rig: &Rig) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..PAYERS {
        channels.push(rig.channel(1_000_000).await);
    }
    channels
}

/// Payments that came to a relayer since it was started; none while it does not answer.
pub(crate) async fn received(rig: &Rig, relayer: usize) -> u64 {
    let counter = "millrace_relayer_payments_received_total ";
    rig.metric(rig.relayers[relayer].admin_url(), counter).await.unwrap_or_default()
}

/// Starts a relayer that has ended, where it was, and waits until payments come to it again.
async fn bring_back(rig: &mut Rig, relayer: usize) {
    rig.relayers[relayer].restart().expect("the program runs");
    rig.relayers[relayer].wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    wait_until(SOON, "payments come to it again", || async { received(rig, relayer).await > 0 }).await;
}

/// Kills a relayer that holds payments which it has not looked at.
async fn kill_with_payments_in_hand(rig: &mut Rig, relayer: usize, load: &Load) {
    rig.relayers[relayer].signal(Signal::SIGSTOP).expect("it runs");
    // Of so many that the others take, at least one in three is also sent to this one.
    load.wait_for(PAYERS as u64 / 2, SOON).await;
    rig.relayers[relayer].kill();
}

fn failures(paid: &[Paid]) -> Vec<&String> {
    paid.iter().flat_map(|paid| &paid.failures).collect()
}

/// Asserts that all that was acknowledged is recorded once and nothing else is, then settles it, to the last unit. Closes
/// are asked for at `url`.
async fn audit(rig: &mut Rig, url: &str, paid: &[Paid]) {
    rig.assert_kept(paid).await;
    rig.spawn_settler(&[]).wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    let mut earned = 0;
    for Paid { channel, acknowledged, .. } in paid {
        channel.close(url).await.expect("an answer").body.expect("noted");
        rig.closed(channel, *acknowledged).await;
        earned += acknowledged;
    }
    assert_eq!(rig.earned().await, earned);
    rig.assert_books_balance().await;
}

async fn relayers_restart(kind: Kind) {
    let mut rig = rig().await;
    let balancer = Balancer::start(kind, &upstreams(&rig)).await;
    let load = Load::start(&channels(&rig).await, &[balancer.url()]);
    load.wait_for(SOME, SOON).await;
    for relayer in 0..3 {
        let status = rig.relayers[relayer].stop(SOON).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(status.code(), Some(0), "it has drained");
        load.wait_for(SOME, SOON).await;
        bring_back(&mut rig, relayer).await;
    }
    load.wait_for(SOME, SOON).await;
    let paid = load.stop().await;
    assert!(failures(&paid).is_empty(), "{:?}\n{}", failures(&paid), balancer.log_tail());
    audit(&mut rig, balancer.url(), &paid).await;
}

async fn relayers_die(kind: Kind) {
    let mut rig = rig().await;
    let balancer = Balancer::start(kind, &upstreams(&rig)).await;
    let load = Load::start(&channels(&rig).await, &[balancer.url()]);
    load.wait_for(SOME, SOON).await;
    for relayer in 0..3 {
        kill_with_payments_in_hand(&mut rig, relayer, &load).await;
        load.wait_for(SOME, SOON).await;
        bring_back(&mut rig, relayer).await;
    }
    load.wait_for(SOME, SOON).await;
    let paid = load.stop().await;
    assert!(failures(&paid).is_empty(), "{:?}\n{}", failures(&paid), balancer.log_tail());
    audit(&mut rig, balancer.url(), &paid).await;
}

/// The same with a balancer that resends nothing: payers notice, though they lose nothing.
async fn payers_notice_without_the_retries(kind: Kind, broken: &str) {
    let mut rig = rig().await;
    let balancer = Balancer::start_with(kind, broken, &upstreams(&rig)).await;
    let load = Load::start(&channels(&rig).await, &[balancer.url()]);
    load.wait_for(SOME, SOON).await;
    kill_with_payments_in_hand(&mut rig, 0, &load).await;
    load.wait_for(SOME, SOON).await;
    let paid = load.stop().await;
    assert!(!failures(&paid).is_empty(), "the payments in hand must have failed");
    let alive = rig.relayer(1).to_owned();
    audit(&mut rig, &alive, &paid).await;
}

#[tokio::test]
async fn stack_nginx_relayers_restart_one_by_one_and_no_payment_fails() {
    relayers_restart(Kind::Nginx).await;
}

#[tokio::test]
async fn stack_haproxy_relayers_restart_one_by_one_and_no_payment_fails() {
    relayers_restart(Kind::Haproxy).await;
}

#[tokio::test]
async fn stack_nginx_relayers_die_with_payments_in_hand_and_no_payment_fails() {
    relayers_die(Kind::Nginx).await;
}

#[tokio::test]
async fn stack_haproxy_relayers_die_with_payments_in_hand_and_no_payment_fails() {
    relayers_die(Kind::Haproxy).await;
}

#[tokio::test]
async fn stack_nginx_without_its_retries_fails_payments() {
    let retries = "proxy_next_upstream error timeout http_502 http_503 http_504 non_idempotent;";
    let broken = replaced(&shipped(Kind::Nginx), retries, "proxy_next_upstream off;");
    payers_notice_without_the_retries(Kind::Nginx, &broken).await;
}

#[tokio::test]
async fn stack_haproxy_without_its_retries_fails_payments() {
    let retries = "    retry-on conn-failure empty-response junk-response response-timeout 502 503 504\n";
    payers_notice_without_the_retries(Kind::Haproxy, &replaced(&shipped(Kind::Haproxy), retries, "")).await;
}
