//! Leaders that die, freeze and leave (promises I4, I5, I6), and a Redis that lost everything (I7).

use std::time::{Duration, Instant};

use common::amount::Amount;
use common::channel::Status;
use common::store::Store;
use common::store::lease::{Acquired, Lease};
use common::store::settle::ReadFrom;
use common::store::stream::EntryId;
use common::voucher::{Payment, VerifiedVoucher};
use common::wire::Outcome;
use nix::sys::signal::Signal;
use tests::issuer::{Route, Step};
use tests::load::{Load, Paid};
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;

/// The lease of a rig's settlers.
const TTL: Duration = Duration::from_millis(1_500);

/// A crashed leader is replaced within TTL + 1 s on a machine of its own; this one is shared.
const TAKEOVER_MAX: Duration = Duration::from_millis(1_500 + 1_000 + 2_000);

/// Channels that are closed at once.
const CHANNELS: u64 = 12;

async fn rig(settlers: usize) -> Rig {
    Rig::start(RigOptions { settlers, ..RigOptions::default() }).await
}

async fn pay(rig: &Rig, channel: &Channel, amount: u64) {
    let answer = channel.pay(rig.relayer(0), amount).await.expect("an answer");
    assert_eq!(answer.body.expect("taken").outcome, Outcome::Accepted);
}

async fn ask_to_close(rig: &Rig, channel: &Channel) {
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
}

/// Channels that have paid and were asked to close, each with its latest accepted amount.
async fn closing(rig: &Rig) -> Vec<(Channel, u64)> {
    let mut channels = Vec::new();
    for i in 0..CHANNELS {
        let channel = rig.channel(1_000).await;
        pay(rig, &channel, 3).await;
        pay(rig, &channel, 10 + i).await;
        ask_to_close(rig, &channel).await;
        channels.push((channel, 10 + i));
    }
    channels
}

/// Waits until every channel is closed for its amount, and asserts that this is all that the payee got.
async fn settled_once(rig: &Rig, channels: &[(Channel, u64)]) {
    let mut sum = 0;
    for (channel, amount) in channels {
        rig.closed(channel, *amount).await;
        sum += amount;
    }
    assert_eq!(rig.earned().await, sum);
    rig.assert_books_balance().await;
}

async fn token(rig: &Rig, settler: usize) -> u64 {
    let status = rig.settler_status(settler).await.expect("it answers");
    status.token.expect("it leads")
}

/// A leader that was killed.
struct Killed {
    settler: usize,
    token: u64,
    at: Instant,
}

async fn kill_leader(rig: &mut Rig) -> Killed {
    let settler = rig.leader().await;
    let token = token(rig, settler).await;
    let at = Instant::now();
    rig.settlers[settler].kill();
    Killed { settler, token, at }
}

/// Waits for the successor of a leader.
async fn replaced(rig: &Rig, killed: Killed) {
    let new = rig.leader().await;
    let took = killed.at.elapsed();
    eprintln!("killed leader replaced after {} ms, TTL {} ms", took.as_millis(), TTL.as_millis());
    assert_ne!(new, killed.settler);
    assert!(took < TAKEOVER_MAX, "{took:?}");
    assert!(token(rig, new).await > killed.token);
}

#[tokio::test]
async fn leader_killed_before_the_issuer_heard_of_its_closes_is_replaced_and_all_is_settled_once() {
    let mut rig = rig(2).await;
    rig.front.always(Route::Settle, Step::Hang);
    let channels = closing(&rig).await;
    for (channel, _) in &channels {
        rig.in_status(channel, Status::Closing).await;
    }
    rig.front.wait_for_count(Route::Settle, CHANNELS, SOON).await;
    let killed = kill_leader(&mut rig).await;
    assert_eq!(rig.front.forwarded(Route::Settle), 0, "the issuer has heard nothing");
    rig.front.heal();
    replaced(&rig, killed).await;
    settled_once(&rig, &channels).await;
}

#[tokio::test]
async fn leader_killed_after_the_issuer_settled_is_replaced_and_nothing_is_settled_twice() {
    let mut rig = rig(2).await;
    rig.front.always(Route::Settle, Step::ForwardThenHang);
    let channels = closing(&rig).await;
    rig.front.wait_for_forwarded(Route::Settle, CHANNELS, SOON).await;
    let mut first = Vec::new();
    for (channel, _) in &channels {
        rig.in_status(channel, Status::Closing).await;
        first.push(rig.settled(channel).await.receipt);
    }
    let killed = kill_leader(&mut rig).await;
    rig.front.heal();
    replaced(&rig, killed).await;
    settled_once(&rig, &channels).await;
    for ((channel, _), first) in channels.iter().zip(first) {
        assert_eq!(rig.stored(channel).await.receipt, first, "the receipt that the dead leader never saw");
    }
}

#[tokio::test]
async fn leaders_killed_again_and_again_under_load_settle_every_channel_once_for_its_latest_amount() {
    let mut rig = Rig::start(RigOptions { relayers: 2, settlers: 2, ..RigOptions::default() }).await;
    let mut channels = Vec::new();
    for _ in 0..8 {
        channels.push(rig.channel(1_000_000).await);
    }
    let load = Load::start(&channels, &[rig.relayer(0), rig.relayer(1)]);
    for _ in 0..3 {
        load.wait_for(50, SOON).await;
        let killed = kill_leader(&mut rig).await;
        let settler = killed.settler;
        replaced(&rig, killed).await;
        rig.settlers[settler].restart().expect("the program runs");
    }
    load.wait_for(50, SOON).await;
    // Every close meets payments on its way.
    for channel in &channels {
        ask_to_close(&rig, channel).await;
    }
    let mut settled = Vec::new();
    for Paid { channel, acknowledged, presented, .. } in load.stop().await {
        let amount = rig.in_status(&channel, Status::Closed).await.state.amount.units();
        assert!(
            (acknowledged..=presented).contains(&amount),
            "acknowledged {acknowledged}, presented {presented}, settled {amount}"
        );
        settled.push((channel, amount));
    }
    settled_once(&rig, &settled).await;
}

#[tokio::test]
async fn leader_paused_past_its_lease_changes_nothing_and_can_lead_again() {
    let mut rig = rig(2).await;
    rig.front.always(Route::Settle, Step::Hang);
    let channels = closing(&rig).await;
    rig.front.wait_for_count(Route::Settle, CHANNELS, SOON).await;
    let old = rig.leader().await;
    let start = Instant::now();
    rig.settlers[old].signal(Signal::SIGSTOP).expect("it runs");
    rig.front.heal();
    let new = rig.leader().await;
    eprintln!("paused leader replaced after {} ms, TTL {} ms", start.elapsed().as_millis(), TTL.as_millis());
    assert_ne!(new, old);
    settled_once(&rig, &channels).await;

    // Work waits, and the successor holds its lease but does nothing: whatever is done now, the old leader does, which
    // wakes up in the middle of twelve closes, believing that it leads.
    rig.settlers[new].signal(Signal::SIGSTOP).expect("it runs");
    let lease = rig.store().await.keys().lease();
    rig.redis.command(&["PEXPIRE", &lease, "60000"]).await;
    let waiting = rig.channel(1_000).await;
    pay(&rig, &waiting, 5).await;
    ask_to_close(&rig, &waiting).await;
    let (held, heard) = (rig.dump().await, rig.front.count(Route::Settle));
    rig.settlers[old].signal(Signal::SIGCONT).expect("it is there");
    let url = rig.settlers[old].admin_url().to_owned();
    wait_until(SOON, "the deposed leader has stepped down", || async {
        rig.metric(&url, "millrace_settler_step_downs_total{reason=").await == Some(1)
    })
    .await;
    let status = rig.settler_status(old).await.expect("it answers");
    assert_eq!((status.leader, status.token), (false, None));
    // As standby it has asked for the lease some times more: nothing of its leadership is left to come.
    lease_was_asked_for(&rig, 10).await;
    assert_eq!(rig.dump().await, held, "not Redis");
    assert_eq!(rig.front.count(Route::Settle), heard, "not the issuer");
    rig.settlers[old].wait_ready(SOON).await.expect("it stands by");

    rig.settlers[new].signal(Signal::SIGCONT).expect("it is there");
    rig.closed(&waiting, 5).await;
    let before = token(&rig, rig.leader().await).await;
    rig.settlers[new].stop(SOON).await.expect("it stops");
    assert_eq!(rig.leader().await, old, "it leads again");
    assert!(token(&rig, old).await > before);
    let later = rig.channel(1_000).await;
    pay(&rig, &later, 5).await;
    ask_to_close(&rig, &later).await;
    rig.closed(&later, 5).await;
}

/// Waits until settlers have asked Redis about the lease so many times more.
async fn lease_was_asked_for(rig: &Rig, times: usize) {
    let key = rig.store().await.keys().lease();
    for _ in 0..times {
        rig.redis.proxy().look_out_for(key.as_str()).wait(SOON).await;
    }
}

#[tokio::test]
async fn leader_that_is_asked_to_stop_hands_over_without_waiting_for_its_lease() {
    // Neither the end of the lease nor the next poll comes in the time of this test.
    let slow = [("lease.ttl_ms", "20000"), ("lease.standby_poll_ms", "10000")];
    let settler = slow.map(|(key, value)| (key, value.to_owned())).to_vec();
    let mut rig = Rig::start(RigOptions { settlers: 2, settler, ..RigOptions::default() }).await;
    let old = rig.leader().await;
    let channel = rig.channel(1_000).await;
    pay(&rig, &channel, 5).await;
    let start = Instant::now();
    let status = rig.settlers[old].stop(SOON).await.expect("it stops");
    let stopped = start.elapsed();
    let new = rig.leader().await;
    let took = start.elapsed();
    eprintln!(
        "stopped leader ended after {} ms, replaced after {} ms",
        stopped.as_millis(),
        took.as_millis()
    );
    assert!(status.success(), "{status}");
    assert_ne!(new, old);
    assert!(took < Duration::from_secs(3), "{took:?}");
    ask_to_close(&rig, &channel).await;
    settled_once(&rig, &[(channel, 5)]).await;
}

/// The lease, held by this test for so long.
async fn hold_lease(store: &Store, ttl: Duration) -> std::sync::Arc<Lease> {
    match store.acquire_lease("a test", 1, ttl).await.expect("Redis answers") {
        Acquired::Held(lease) => lease,
        Acquired::HeldByOther { .. } => panic!("there is no settler yet"),
    }
}

#[tokio::test]
async fn a_standby_does_nothing_but_ask_for_the_lease() {
    let mut rig = rig(0).await;
    let store = rig.store().await;
    let lease = hold_lease(&store, Duration::from_secs(3_600)).await;
    let channels = closing(&rig).await;
    let before = rig.dump().await;
    rig.spawn_settler(&[]).wait_ready(SOON).await.expect("a standby is ready");
    // Unread entries and due channels are there to be had all the time.
    lease_was_asked_for(&rig, 10).await;
    assert_eq!(rig.dump().await, before);
    assert_eq!(rig.front.count(Route::Settle), 0);
    assert!(!rig.settler_status(0).await.expect("it answers").leader);
    store.release_lease(&lease).await.expect("given back");
    settled_once(&rig, &channels).await;
}

/// Has a relayer's script accept every amount from `from` to `to`, one entry each.
async fn record(store: &Store, channel: &Channel, from: u64, to: u64) {
    let terms = channel.terms().clone().check().expect("the terms of an open channel");
    for amount in from..=to {
        let payment = Payment::from(channel.voucher(amount));
        let voucher = VerifiedVoucher::verify(&terms, payment).expect("signed by the payer");
        store.accept(&[voucher]).await.expect("accepted");
    }
}

#[tokio::test]
async fn a_new_leader_takes_over_thousands_of_entries_that_a_dead_one_read_or_never_saw() {
    const READ: usize = 2_000;
    const ALL: u64 = 3_000;
    let mut rig = rig(0).await;
    let store = rig.store().await;
    let channel = rig.channel(1_000_000).await;
    pay(&rig, &channel, 1).await;
    record(&store, &channel, 2, ALL).await;
    let partition = store.partition_of(&channel.id());
    let entries = store.entries(partition, EntryId::ZERO, ALL).await.expect("Redis answers");
    let (first, last) = (entries.first().expect("entries"), entries.last().expect("entries"));

    // A leader that reads two thousand, and dies before it acknowledges any.
    let dead = hold_lease(&store, TTL).await;
    store.take_partition(&dead, partition).await.expect("taken");
    let read = store.read_accepted(&dead, partition, ReadFrom::New, READ).await.expect("read");
    assert_eq!(read.len(), READ);
    let info = store.partition_info(partition).await.expect("Redis answers");
    assert_eq!((info.entries, info.unacknowledged), (ALL, 2_000));
    dead.end();

    rig.spawn_settler(&[("consumer.entries_per_read", "16".to_owned())]);
    wait_until(SOON, "all entries are taken over", || async {
        let info = store.partition_info(partition).await.expect("Redis answers");
        (info.entries, info.unacknowledged) == (0, 0)
    })
    .await;
    let url = rig.settlers[0].admin_url().to_owned();
    wait_until(SOON, "every entry is counted", || async {
        rig.metric(&url, "millrace_settler_entries_total").await == Some(ALL)
    })
    .await;
    assert_eq!(rig.metric(&url, "millrace_settler_dead_letters_total").await, Some(0));
    let found = rig.stored(&channel).await;
    let times = (found.first_at_ms, found.last_at_ms);
    assert_eq!(
        times,
        (Some(first.id.ms), Some(last.id.ms)),
        "the first of the dead leader's, the last unread"
    );
    ask_to_close(&rig, &channel).await;
    settled_once(&rig, &[(channel, ALL)]).await;
}

#[tokio::test]
async fn nobody_goes_on_with_a_redis_that_lost_everything_until_told() {
    let mut rig = rig(1).await;
    let old = rig.channel(1_000).await;
    pay(&rig, &old, 7).await;
    ask_to_close(&rig, &old).await;
    rig.closed(&old, 7).await;
    let highest = rig.token_at_issuer().await;
    assert!(highest > 0);

    rig.relayers[0].stop(SOON).await.expect("it stops");
    rig.settlers[0].stop(SOON).await.expect("it stops");
    rig.redis.flush_all().await;
    rig.relayers[0].restart().expect("the program runs");
    rig.settlers[0].restart().expect("the program runs");
    let seen = format!("fencing token {highest}");
    for process in [&rig.relayers[0], &rig.settlers[0]] {
        let reason = rig.not_ready(process, "millrace recover").await;
        assert!(reason.contains("lost data") || reason.contains("lost its data"), "{reason}");
        assert!(reason.contains(&seen), "{reason}");
    }
    let fresh = rig.channel(1_000).await;
    let refused = fresh.pay(rig.relayer(0), 5).await.expect("an answer");
    assert_eq!(refused.code(), Some("store_unavailable"));
    assert_eq!(rig.redis.keys("*").await, Vec::<String>::new(), "nothing is written meanwhile");

    // What `millrace recover --yes` does.
    rig.store().await.initialise(highest).await.expect("marked");
    rig.relayers[0].wait_ready(SOON).await.expect("payments are taken again");
    rig.settlers[0].wait_ready(SOON).await.expect("channels are settled again");
    pay(&rig, &fresh, 5).await;
    ask_to_close(&rig, &fresh).await;
    rig.closed(&fresh, 5).await;
    assert!(rig.token_at_issuer().await > highest, "tokens go on above what the issuer has seen");
    let refused = old.pay(rig.relayer(0), 8).await.expect("an answer");
    assert_eq!(refused.code(), Some("channel_closed"), "what was settled stays settled");
    assert_eq!(
        refused.body.expect_err("refused").latest.map(|latest| latest.cumulative_amount),
        Some(Amount::new(7))
    );
    assert_eq!(rig.earned().await, 12);
}
