//! What a balancer sends to a second relayer and what not, and what it says where no relayer answers.

use cli::stack::free_port;
use cli::stack::proxy::{FaultProxy, Protocol};
use common::ids::Signature;
use common::problem::Code;
use common::wire::{Outcome, PaymentAnswer};
use nix::sys::signal::Signal;
use tests::http::Http;
use tests::payer::forged;
use tests::rig::{Rig, RigOptions, SOON};
use tests::stream::{Heard, Stream};
use tests::wait_for;

use super::balancer::{Balancer, Kind, address, replaced, shipped, upstreams};
use super::restarts::{received, rig};

/// A full batch: `batch_max` of the shipped configuration.
const BATCH: u64 = 256;

/// An address of this machine where nobody listens.
const NOBODY: &str = "redis://127.0.0.1:1";

/// The reply to a payment is lost after a relayer has recorded it: it is sent to another, which knows it.
async fn lost_replies_are_asked_for_again(kind: Kind) {
    let rig = rig().await;
    let proxy = FaultProxy::start(address(rig.relayer(0)), Protocol::Bytes).await;
    let mut upstreams = upstreams(&rig);
    upstreams[0].0 = proxy.address().to_string();
    let balancer = Balancer::start(kind, &upstreams).await;
    let channel = rig.channel(1_000).await;

    let lost = proxy.swallow_next_reply_then_cut("POST /v1/payments ");
    let mut outcomes = Vec::new();
    // Each relayer gets its turn within three, and a connection of its own before it is one that is kept.
    for amount in 1..=6 {
        let answer = channel.pay(balancer.url(), amount).await.expect("an answer");
        outcomes.push(answer.body.expect("taken").outcome);
    }
    lost.wait(SOON).await;
    let duplicates = outcomes.iter().filter(|outcome| **outcome == Outcome::Duplicate).count();
    assert_eq!(duplicates, 1, "recorded once, answered by another: {outcomes:?}");
}

/// What three full batches come to, one after the other, where one of three relayers breaks off whatever it is sent.
async fn batches_beside_one_that_breaks_off(kind: Kind, config: &str) -> Vec<Option<u16>> {
    let rig = rig().await;
    let proxy = FaultProxy::start(address(rig.relayer(0)), Protocol::Bytes).await;
    proxy.cut();
    let mut upstreams = upstreams(&rig);
    upstreams[0].0 = proxy.address().to_string();
    let balancer = Balancer::start_with(kind, config, &upstreams).await;
    let channel = rig.channel(1_000).await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut statuses = Vec::new();
    for first in [1, 1 + BATCH, 1 + 2 * BATCH] {
        let vouchers: Vec<_> = (first..first + BATCH).map(|amount| channel.voucher(amount)).collect();
        let body = serde_json::to_vec(&vouchers).expect("vouchers are JSON");
        let request = client.post(format!("{}/v1/payments/batch", balancer.url())).body(body);
        let reply = request.send().await.ok();
        statuses.push(reply.as_ref().map(|reply| reply.status().as_u16()));
        if let Some(reply) = reply.filter(|reply| reply.status() == 200) {
            let text = reply.text().await.expect("a whole answer");
            let taken = text.matches("\"outcome\":\"accepted\"").count() as u64;
            assert_eq!(taken, BATCH, "{text}");
        }
    }
    assert!(proxy.counts().connections > 0, "it was asked too");
    statuses
}

/// A relayer refuses: its answer is the payer's, and no other relayer is asked.
async fn refusals_are_final(kind: Kind) {
    let rig = rig().await;
    let balancer = Balancer::start(kind, &upstreams(&rig)).await;
    let channel = rig.channel(1_000).await;
    let forgery = forged(channel.voucher(5), Signature([7; 64]));
    let answer = channel.present(balancer.url(), &forgery).await.expect("an answer");
    assert_eq!((answer.status, answer.code()), (403, Some("invalid_signature")));
    let mut asked = 0;
    for relayer in 0..3 {
        asked += received(&rig, relayer).await;
    }
    assert_eq!(asked, 1);
}

/// Two relayers, and a third that cannot reach Redis.
async fn rig_with_one_adrift() -> Rig {
    let mut rig = Rig::start(RigOptions { relayers: 2, ..RigOptions::default() }).await;
    rig.spawn_relayer(&[("redis.url", NOBODY.to_owned())]);
    rig.not_ready(&rig.relayers[2], "").await;
    rig
}

/// What a payer is told, nine times in a row, by a balancer before [`rig_with_one_adrift`].
async fn told_with_one_adrift(kind: Kind, config: &str) -> Vec<Option<&'static str>> {
    let rig = rig_with_one_adrift().await;
    let balancer = Balancer::start_with(kind, config, &upstreams(&rig)).await;
    let channel = rig.channel(1_000).await;
    let mut told = Vec::new();
    for amount in 1..=9 {
        told.push(channel.pay(balancer.url(), amount).await.expect("an answer").code());
    }
    told
}

/// Relayers go away under a stream; then nobody is left, and the balancer says so in words that payers know.
async fn streams_end_and_the_balancer_speaks(kind: Kind, alone: Code) {
    let mut rig = rig().await;
    let balancer = Balancer::start(kind, &upstreams(&rig)).await;
    let channel = rig.channel(1_000).await;
    let mut stream = Stream::open(balancer.url()).await;
    for amount in 1..=3 {
        let answer: PaymentAnswer =
            serde_json::from_str(&stream.pay(&channel.voucher(amount)).await).expect("it was taken");
        assert_eq!((answer.cumulative_amount.units(), answer.outcome), (amount, Outcome::Accepted));
    }
    for relayer in &mut rig.relayers {
        relayer.signal(Signal::SIGTERM).expect("it runs");
    }
    assert_eq!(stream.heard().await, Heard::Close(Some(1001)), "the relayer says that it goes");
    for relayer in &mut rig.relayers {
        assert_eq!(relayer.wait_exit(SOON).await.expect("it ends").code(), Some(0));
    }
    let body = serde_json::to_vec(&channel.voucher(4)).expect("a voucher is JSON");
    let url = format!("{}/v1/payments", balancer.url());
    // HAProxy may take a moment to see that they are gone.
    let reply = wait_for(SOON, "the balancer says that nobody is there", || async {
        let reply = Http::of_another().post(&url, body.clone()).await;
        (reply.problem().code == alone).then_some(reply)
    });
    let reply = reply.await;
    assert_eq!((reply.status, reply.problem().title.as_str()), (alone.status(), alone.title()));
    assert_eq!(reply.retry_after.as_deref(), Some("1"));
    // What it says is true: nothing was recorded.
    assert_eq!(rig.stored(&channel).await.state.amount.units(), 3);
}

/// One that breaks off after it was sent the payment, and two where nobody listens: it may have been recorded, so that no
/// answer may say that it was not.
async fn what_was_sent_is_never_called_refused(kind: Kind) {
    let rig = rig().await;
    let proxy = FaultProxy::start(address(rig.relayer(0)), Protocol::Bytes).await;
    proxy.cut();
    let mut upstreams = upstreams(&rig);
    upstreams[0].0 = proxy.address().to_string();
    for (address, _) in &mut upstreams[1..] {
        *address = format!("127.0.0.1:{}", free_port().expect("loopback has a free port"));
    }
    let balancer = Balancer::start(kind, &upstreams).await;
    let channel = rig.channel(1_000).await;
    for _ in 0..6 {
        let answer = channel.pay(balancer.url(), 1).await.expect("an answer");
        assert_eq!((answer.status, answer.code()), (504, Some("outcome_unknown")), "{kind:?}");
    }
    assert!(proxy.counts().connections > 0, "it was asked too");
}

#[tokio::test]
async fn stack_what_was_sent_is_never_called_refused() {
    for kind in [Kind::Nginx, Kind::Haproxy] {
        what_was_sent_is_never_called_refused(kind).await;
    }
}

#[tokio::test]
async fn stack_nginx_asks_another_relayer_where_a_reply_is_lost() {
    lost_replies_are_asked_for_again(Kind::Nginx).await;
}

#[tokio::test]
async fn stack_haproxy_asks_another_relayer_where_a_reply_is_lost() {
    lost_replies_are_asked_for_again(Kind::Haproxy).await;
}

#[tokio::test]
async fn stack_a_full_batch_is_sent_to_another_relayer_too() {
    for kind in [Kind::Nginx, Kind::Haproxy] {
        let statuses = batches_beside_one_that_breaks_off(kind, &shipped(kind)).await;
        assert_eq!(statuses, [Some(200); 3], "{kind:?}");
    }
}

#[tokio::test]
async fn stack_haproxy_with_its_usual_buffers_fails_a_batch() {
    let broken = replaced(&shipped(Kind::Haproxy), "    tune.bufsize 131072\n", "");
    let statuses = batches_beside_one_that_breaks_off(Kind::Haproxy, &broken).await;
    // Where it has not answered yet, it breaks off.
    assert!(statuses.iter().any(|status| matches!(status, None | Some(504))), "{statuses:?}");
}

#[tokio::test]
async fn stack_nginx_asks_no_other_relayer_where_one_refuses() {
    refusals_are_final(Kind::Nginx).await;
}

#[tokio::test]
async fn stack_haproxy_asks_no_other_relayer_where_one_refuses() {
    refusals_are_final(Kind::Haproxy).await;
}

#[tokio::test]
async fn stack_a_relayer_that_cannot_reach_redis_fails_no_payment() {
    for kind in [Kind::Nginx, Kind::Haproxy] {
        assert_eq!(told_with_one_adrift(kind, &shipped(kind)).await, [None; 9], "{kind:?}");
    }
}

#[tokio::test]
async fn stack_nginx_without_a_retry_on_503_fails_payments() {
    let retries = "proxy_next_upstream error timeout http_502 http_503 http_504 non_idempotent;";
    let broken =
        replaced(&shipped(Kind::Nginx), retries, "proxy_next_upstream error timeout non_idempotent;");
    let told = told_with_one_adrift(Kind::Nginx, &broken).await;
    assert!(told.contains(&Some("store_unavailable")), "{told:?}");
}

#[tokio::test]
async fn stack_haproxy_without_a_retry_on_503_and_health_checks_fails_payments() {
    let config = replaced(&shipped(Kind::Haproxy), " response-timeout 502 503 504\n", "\n");
    let broken = replaced(&config, "default-server check port 8081 inter", "default-server port 8081 inter");
    let told = told_with_one_adrift(Kind::Haproxy, &broken).await;
    assert!(told.contains(&Some("store_unavailable")), "{told:?}");
}

#[tokio::test]
async fn stack_nginx_passes_streams_on_and_says_when_nobody_answers() {
    streams_end_and_the_balancer_speaks(Kind::Nginx, Code::OutcomeUnknown).await;
}

#[tokio::test]
async fn stack_haproxy_passes_streams_on_and_says_when_nobody_is_ready() {
    streams_end_and_the_balancer_speaks(Kind::Haproxy, Code::StoreUnavailable).await;
}
