//! The lease and the fence (promise I4): who leads, and what a deposed leader can still do, which is nothing.

use std::sync::Arc;
use std::time::Duration;

use common::amount::Amount;
use common::channel::Status;
use common::config::RedisConfig;
use common::store::lease::{Acquired, Lease};
use common::store::settle::{ChannelUpdate, Ended, ReadFrom};
use common::store::stream::EntryId;
use common::store::{Store, StoreError};
use common::wire::Party;
use fred::interfaces::{KeysInterface, LuaInterface, StreamsInterface};
use fred::types::Value;
use tests::channel::TestChannel;
use tests::redis::Redis;

const TTL: Duration = Duration::from_secs(20);

struct Fixture {
    redis: Redis,
    store: Store,
    channel: TestChannel,
    partition: u16,
}

impl Fixture {
    /// A server with one channel that has paid 7.
    async fn new() -> Fixture {
        let redis = Redis::start().await;
        let store = Store::connect(&RedisConfig { url: redis.url(), ..RedisConfig::default() })
            .expect("a private server's URL is valid");
        store.wait_connected(Duration::from_secs(5)).await.expect("the server is up");
        store.initialise(0).await.expect("an empty server");
        let channel = TestChannel::new(100);
        channel.register(&store).await.expect("registered");
        let partition = store.partition_of(&channel.id());
        store.accept(&[channel.voucher(7)]).await.expect("accepted");
        Fixture { redis, store, channel, partition }
    }

    async fn lead(&self, process: &str) -> Arc<Lease> {
        self.lead_for(process, 1).await
    }

    async fn lead_for(&self, process: &str, term: u64) -> Arc<Lease> {
        match self.store.acquire_lease(process, term, TTL).await.expect("Redis answers") {
            Acquired::Held(lease) => {
                self.store.take_partition(&lease, self.partition).await.expect("taken");
                lease
            }
            Acquired::HeldByOther { expires_in } => panic!("{process} should lead, but for {expires_in:?}"),
        }
    }

    /// A leader that was paused past its TTL and does not know yet, and the one that took over.
    async fn deposed_and_successor(&self) -> (Arc<Lease>, Arc<Lease>) {
        let deposed = self.lead("a").await;
        self.redis.fast_forward(TTL).await;
        let successor = self.lead("b").await;
        assert!(deposed.token().is_ok(), "by its own clock the old leader still leads");
        assert!(token(&successor) > token(&deposed));
        (deposed, successor)
    }
}

fn token(lease: &Lease) -> u64 {
    lease.token().expect("by its own clock it leads").get()
}

fn now_update(channel: &TestChannel) -> ChannelUpdate {
    ChannelUpdate { channel_id: channel.id(), paid_at_ms: Some((1, 2)), due_at_ms: 3, amount: Amount::new(1) }
}

#[tokio::test]
async fn one_holder_leads_until_it_releases_or_its_time_is_up() {
    let f = Fixture::new().await;
    let first = f.lead("a").await;
    let waiting = f.store.acquire_lease("b", 1, TTL).await.expect("Redis answers");
    assert!(
        matches!(waiting, Acquired::HeldByOther { expires_in } if expires_in <= TTL && expires_in > TTL / 2)
    );
    f.store.release_lease(&first).await.expect("released");
    let second = f.lead("b").await;
    assert_eq!(first.token(), Err(StoreError::LeaseExpired), "a released lease is over");
    let held = token(&second);
    f.redis.fast_forward(TTL).await;
    let third = f.lead("c").await;
    assert!(token(&third) > held);
}

#[tokio::test]
async fn a_holder_that_asks_again_keeps_its_lease_and_token() {
    let f = Fixture::new().await;
    let first = f.lead("a").await;
    let again = f.lead("a").await;
    assert_eq!(first.token(), again.token());
    assert_eq!(f.store.lease_info().await.expect("Redis answers").holder.as_deref(), Some("a:1"));
}

#[tokio::test]
async fn a_process_that_leads_again_has_its_lease_at_once_for_a_new_term() {
    let f = Fixture::new().await;
    let first = f.lead("a").await;
    let second = f.lead_for("a", 2).await;
    assert!(token(&second) > token(&first), "a term has a token of its own");
    assert_eq!(f.store.lease_info().await.expect("Redis answers").holder.as_deref(), Some("a:2"));
    // A question from the earlier term that comes late takes nothing from the later one.
    let late = f.store.acquire_lease("a", 1, TTL).await.expect("Redis answers");
    assert!(matches!(late, Acquired::HeldByOther { .. }), "{late:?}");
    assert_eq!(f.store.renew_lease(&second).await, Ok(true));
}

#[tokio::test]
async fn what_arrives_late_of_an_earlier_term_changes_nothing_in_a_later_one() {
    let f = Fixture::new().await;
    let earlier = f.lead("a").await;
    let later = f.lead_for("a", 2).await;
    let before = f.redis.dump().await;
    f.store.release_lease(&earlier).await.expect("nothing to release");
    assert_eq!(f.redis.dump().await, before, "a late release frees no lease of a later term");
    assert_eq!(f.store.renew_lease(&earlier).await, Ok(false), "nor is it renewed");
    assert_eq!(f.store.renew_lease(&later).await, Ok(true));
}

#[tokio::test]
async fn renewal_fails_once_someone_else_leads() {
    let f = Fixture::new().await;
    let (deposed, successor) = f.deposed_and_successor().await;
    assert_eq!(f.store.renew_lease(&deposed).await, Ok(false));
    assert_eq!(deposed.token(), Err(StoreError::LeaseExpired));
    assert_eq!(f.store.renew_lease(&successor).await, Ok(true));
    // Nor can the old leader give away what is not its own.
    f.store.release_lease(&deposed).await.expect("nothing to release");
    assert_eq!(f.store.renew_lease(&successor).await, Ok(true));
}

#[tokio::test]
async fn deposed_leader_changes_nothing_in_redis() {
    // Each attempt ends the lease of the one who tries: a fresh pair for each.
    for attempt in 0..7 {
        let f = Fixture::new().await;
        let (deposed, successor) = f.deposed_and_successor().await;
        let (store, id) = (&f.store, f.channel.id());
        if attempt >= 4 {
            store.begin_close(&successor, &id, 1, "idle").await.expect("the successor may");
        }
        let before = f.redis.dump().await;
        let amount = Amount::new(7);
        let refused = match attempt {
            0 => store.take_partition(&deposed, f.partition).await,
            1 => store.read_accepted(&deposed, f.partition, ReadFrom::New, 10).await.map(drop),
            2 => store.apply(&deposed, f.partition, &[now_update(&f.channel)], &[], &[]).await,
            3 => store.begin_close(&deposed, &id, 1, "idle").await.map(drop),
            4 => store.finish_close(&deposed, &id, amount, "{}", 1, false).await.map(drop),
            5 => store.retry_close(&deposed, &id, 1, "x").await.map(drop),
            _ => store.fail_close(&deposed, &id, 1, "x", false).await.map(drop),
        };
        assert!(matches!(refused, Err(StoreError::Fenced { .. })), "attempt {attempt}: {refused:?}");
        assert_eq!(f.redis.dump().await, before, "attempt {attempt}");
        assert_eq!(deposed.token(), Err(StoreError::LeaseExpired), "it knows now");
    }
}

#[tokio::test]
async fn a_settler_without_fence_is_caught() {
    // The check of the test above, on a begin_close whose script lacks the fence.
    let f = Fixture::new().await;
    let (_deposed, _successor) = f.deposed_and_successor().await;
    let before = f.redis.dump().await;
    let keys = f.store.keys();
    let id = f.channel.id();
    let (p, fence) = (f.partition, keys.fence(f.partition));
    let keys = vec![fence, keys.state(&id), keys.channel(&id), keys.seq(p), keys.books(p)];
    let unfenced =
        concat!(include_str!("../../common/lua/books.lua"), include_str!("../../common/lua/begin_close.lua"));
    let old_token = format!("{:020}", 1);
    let _: Value = f
        .redis
        .client()
        .await
        .eval(unfenced, keys, vec![old_token.as_str(), "1", "idle"])
        .await
        .expect("runs");
    assert_ne!(f.redis.dump().await, before, "without the fence the deposed leader stops the channel");
}

#[tokio::test]
async fn a_leader_whose_redis_lost_its_count_takes_a_higher_token() {
    let f = Fixture::new().await;
    let lease = f.lead("a").await;
    assert_eq!(f.store.raise_token(&lease, 40).await, Ok(true));
    assert_eq!(lease.token().map(|token| token.get()), Ok(41));
    // With a successor in place the higher token is the successor's, and the old leader steps down.
    let f = Fixture::new().await;
    let (deposed, _successor) = f.deposed_and_successor().await;
    assert_eq!(f.store.raise_token(&deposed, 40).await, Ok(false));
    assert_eq!(deposed.token(), Err(StoreError::LeaseExpired));
}

#[tokio::test]
async fn what_a_predecessor_read_and_never_acknowledged_is_read_again_page_by_page() {
    let f = Fixture::new().await;
    for amount in 8..50 {
        f.store.accept(&[f.channel.voucher(amount)]).await.expect("accepted");
    }
    let first = f.lead("a").await;
    let read = f.store.read_accepted(&first, f.partition, ReadFrom::New, 1_000).await.expect("read");
    assert_eq!(read.len(), 43);
    f.store.release_lease(&first).await.expect("released");
    let second = f.lead("b").await;
    let mut after = EntryId::ZERO;
    let mut reclaimed = Vec::new();
    loop {
        let from = ReadFrom::Unacknowledged(after);
        let page = f.store.read_accepted(&second, f.partition, from, 10).await.expect("read");
        let Some(last) = page.last() else { break };
        after = last.id;
        reclaimed.extend(page);
    }
    assert_eq!(reclaimed, read);
    assert!(f.store.read_accepted(&second, f.partition, ReadFrom::New, 10).await.expect("read").is_empty());
}

#[tokio::test]
async fn channels_are_read_together_and_each_is_answered_for_itself() {
    let f = Fixture::new().await;
    let elsewhere = TestChannel::in_partition(&f.store, (f.partition + 1) % f.store.partitions(), 100);
    elsewhere.register(&f.store).await.expect("registered");
    let spoiled = TestChannel::in_partition(&f.store, f.partition, 100);
    f.redis.command(&["SET", f.store.keys().state(&spoiled.id()).as_str(), "nonsense"]).await;
    let unknown = TestChannel::in_partition(&f.store, f.partition, 100);
    let ids = [elsewhere.id(), f.channel.id(), spoiled.id(), unknown.id()];
    let found = f.store.channels(f.partition, &ids).await.expect("Redis answers");
    let [elsewhere, known, spoiled, unknown] = found.as_slice() else { panic!("{found:?}") };
    assert!(matches!(elsewhere, Err(StoreError::Corrupt { .. })), "{elsewhere:?}");
    let known = known.as_ref().expect("readable").as_ref().expect("known");
    assert_eq!((known.terms.id(), known.state.amount), (f.channel.id(), Amount::new(7)));
    assert!(matches!(spoiled, Err(StoreError::Corrupt { .. })), "{spoiled:?}");
    assert_eq!(*unknown, Ok(None));
}

#[tokio::test]
async fn only_what_is_acknowledged_is_trimmed() {
    let f = Fixture::new().await;
    for amount in 8..12 {
        f.store.accept(&[f.channel.voucher(amount)]).await.expect("accepted");
    }
    let lease = f.lead("a").await;
    let read = f.store.read_accepted(&lease, f.partition, ReadFrom::New, 4).await.expect("read");
    let ids: Vec<EntryId> = read.iter().map(|entry| entry.id).collect();
    let left = |store: Store, partition| async move {
        let entries = store.entries(partition, EntryId::ZERO, 100).await.expect("readable");
        entries.iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    // Out of order: the first is still open, so nothing may go.
    let update = [now_update(&f.channel)];
    f.store.apply(&lease, f.partition, &update, &ids[1..3], &[]).await.expect("applied");
    assert_eq!(left(f.store.clone(), f.partition).await.len(), 5);
    // Now the first three are done; the fourth was read and the fifth was not.
    f.store.apply(&lease, f.partition, &update, &ids[..1], &[]).await.expect("applied");
    let kept = left(f.store.clone(), f.partition).await;
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0], ids[3]);
    f.store.apply(&lease, f.partition, &[], &ids[3..], &[]).await.expect("applied");
    assert_eq!(left(f.store.clone(), f.partition).await.len(), 1, "the unread entry stays");
}

#[tokio::test]
async fn applying_entries_twice_is_applying_them_once() {
    let f = Fixture::new().await;
    let lease = f.lead("a").await;
    let read = f.store.read_accepted(&lease, f.partition, ReadFrom::New, 10).await.expect("read");
    let ids: Vec<EntryId> = read.iter().map(|entry| entry.id).collect();
    f.store.apply(&lease, f.partition, &[now_update(&f.channel)], &ids, &[]).await.expect("applied");
    let once = f.redis.dump().await;
    f.store.apply(&lease, f.partition, &[now_update(&f.channel)], &ids, &[]).await.expect("applied");
    assert_eq!(f.redis.dump().await, once);
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_kept_among_the_dead() {
    let f = Fixture::new().await;
    let client = f.redis.client().await;
    let key = f.store.keys().accepted(f.partition);
    let _: String = client.xadd(&key, false, None, "*", ("who", "wrote this")).await.expect("written");
    let lease = f.lead("a").await;
    let read = f.store.read_accepted(&lease, f.partition, ReadFrom::New, 10).await.expect("read");
    let (id, reason) = read
        .iter()
        .find_map(|entry| entry.payments.clone().err().map(|reason| (entry.id, reason)))
        .expect("the odd entry is told from the others");
    f.store.apply(&lease, f.partition, &[], &[id], &[(id, reason.clone())]).await.expect("applied");
    let dead = f.store.dead(f.partition, EntryId::ZERO, 10).await.expect("readable");
    let fields = &dead[0].1;
    for (name, value) in [("id", id.to_string()), ("reason", reason), ("who", "wrote this".to_owned())] {
        assert!(fields.contains(&(name.to_owned(), value)), "{fields:?}");
    }
}

#[tokio::test]
async fn a_close_pins_the_latest_voucher_and_stops_payments() {
    let f = Fixture::new().await;
    let lease = f.lead("a").await;
    let id = f.channel.id();
    let pinned = f.store.begin_close(&lease, &id, 1, "idle").await.expect("begun").expect("known");
    assert_eq!((pinned.status, pinned.amount), (Status::Closing, Amount::new(7)));
    assert_eq!(pinned.proof, f.channel.voucher(7).proof().to_bytes());
    let verdicts = f.store.accept(&[f.channel.voucher(8)]).await.expect("Redis answers");
    assert!(format!("{verdicts:?}").contains("NotOpen(Closing"), "{verdicts:?}");
    // A leader that comes later gets the same voucher.
    assert_eq!(f.store.begin_close(&lease, &id, 2, "age").await, Ok(Some(pinned)));
    let channel = f.store.channel(&id).await.expect("readable").expect("known");
    assert_eq!(channel.closing_reason.as_deref(), Some("idle"));
}

#[tokio::test]
async fn statuses_change_in_redis_as_the_transition_table_says() {
    use common::channel::Event;
    let events =
        [Event::BeginClose, Event::RetryClose, Event::FinishClose, Event::FailClose, Event::RetryFailed];
    for event in events {
        for from in Status::ALL {
            let f = Fixture::new().await;
            let lease = f.lead("a").await;
            let (store, id) = (&f.store, f.channel.id());
            let amount = Amount::new(7);
            if from != Status::Open {
                store.begin_close(&lease, &id, 1, "idle").await.expect("begun");
            }
            match from {
                Status::Closed => {
                    assert_eq!(store.finish_close(&lease, &id, amount, "{}", 1, false).await, Ok(Ended::Now))
                }
                Status::Failed => {
                    assert_eq!(store.fail_close(&lease, &id, 1, "x", false).await, Ok(Ended::Now))
                }
                Status::Open | Status::Closing => (),
            }
            let answered = match event {
                Event::BeginClose => store.begin_close(&lease, &id, 2, "age").await.map(drop),
                Event::RetryClose => store.retry_close(&lease, &id, 2, "y").await.map(|_| ()),
                Event::FinishClose => {
                    store.finish_close(&lease, &id, amount, "{}", 2, false).await.map(|_| ())
                }
                Event::FailClose => store.fail_close(&lease, &id, 2, "y", false).await.map(|_| ()),
                Event::RetryFailed => store.retry_failed(&id, 2).await.map(|_| ()),
            };
            answered.expect("Redis answers");
            // The receipt that these tests write is not one; only the state counts here.
            let state: Vec<u8> =
                f.redis.client().await.get::<Vec<u8>, _>(store.keys().state(&id)).await.expect("readable");
            let status = state.first().and_then(|letter| Status::from_letter(*letter));
            assert_eq!(status, Some(from.on(event).unwrap_or(from)), "{from:?} on {event:?}");
        }
    }
}

#[tokio::test]
async fn a_receipt_for_another_amount_does_not_close_a_channel() {
    let f = Fixture::new().await;
    let lease = f.lead("a").await;
    let id = f.channel.id();
    f.store.begin_close(&lease, &id, 1, "idle").await.expect("begun");
    let ended = f.store.finish_close(&lease, &id, Amount::new(6), "{}", 1, false).await;
    assert_eq!(ended, Ok(Ended::Mismatch(Amount::new(7))));
}

#[tokio::test]
async fn entries_read_late_do_not_put_off_a_close() {
    let f = Fixture::new().await;
    let lease = f.lead("a").await;
    let id = f.channel.id();
    let later =
        ChannelUpdate { channel_id: id, paid_at_ms: Some((1, 2)), due_at_ms: 9_000, amount: Amount::new(1) };
    // Asked to close: due at once, whatever an entry says.
    f.store.request_close(&id, Party::Payer, 500).await.expect("asked");
    f.store.apply(&lease, f.partition, std::slice::from_ref(&later), &[], &[]).await.expect("applied");
    assert_eq!(f.store.due_at(&id).await, Ok(Some(500)));
    // Closing: the retry's time stands.
    f.store.begin_close(&lease, &id, 600, "close_requested").await.expect("begun");
    f.store.retry_close(&lease, &id, 700, "issuer away").await.expect("put off");
    f.store.apply(&lease, f.partition, std::slice::from_ref(&later), &[], &[]).await.expect("applied");
    assert_eq!(f.store.due_at(&id).await, Ok(Some(700)));
    // Closed: it does not come back.
    f.store.finish_close(&lease, &id, Amount::new(7), "{}", 800, false).await.expect("finished");
    f.store.apply(&lease, f.partition, &[later], &[], &[]).await.expect("applied");
    assert_eq!(f.store.due_at(&id).await, Ok(None));
}
