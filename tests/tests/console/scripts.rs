//! The scripts behind a person's actions, and the history: only what is allowed, to the byte, and never past the fence.

use std::sync::Arc;
use std::time::Duration;

use common::amount::Amount;
use common::channel::Status;
use common::config::RedisConfig;
use common::store::history::{Sample, Sums};
use common::store::lease::{Acquired, Lease};
use common::store::listing::About;
use common::store::operate::{Requeued, Retried};
use common::store::settle::{Ended, ReadFrom};
use common::store::stream::EntryId;
use common::store::{Store, StoreError};
use tests::channel::TestChannel;
use tests::redis::Redis;

const TTL: Duration = Duration::from_secs(20);

async fn store(redis: &Redis) -> Store {
    let config = RedisConfig { url: redis.url(), ..RedisConfig::default() };
    let store = Store::connect(&config).expect("a private server's URL is valid");
    store.wait_connected(Duration::from_secs(5)).await.expect("the server is up");
    store.initialise(0).await.expect("an empty server");
    store
}

async fn lead(store: &Store, process: &str, partition: u16) -> Arc<Lease> {
    match store.acquire_lease(process, 1, TTL).await.expect("Redis answers") {
        Acquired::Held(lease) => {
            store.take_partition(&lease, partition).await.expect("taken");
            lease
        }
        Acquired::HeldByOther { expires_in } => panic!("{process} should lead, but for {expires_in:?}"),
    }
}

/// A channel that has paid 7 and was given up on.
async fn failed(store: &Store) -> (TestChannel, Arc<Lease>) {
    let channel = TestChannel::new(100);
    channel.register(store).await.expect("registered");
    store.accept(&[channel.voucher(7)]).await.expect("accepted");
    let (id, lease) = (channel.id(), lead(store, "a", store.partition_of(&channel.id())).await);
    store.begin_close(&lease, &id, 1, "idle").await.expect("begun");
    assert_eq!(store.fail_close(&lease, &id, 2, "channel_expired", false).await, Ok(Ended::Now));
    (channel, lease)
}

#[tokio::test]
async fn a_retry_keeps_the_pinned_voucher_to_the_byte_and_leaves_no_dead_letter() {
    let redis = Redis::start().await;
    let store = store(&redis).await;
    let (channel, lease) = failed(&store).await;
    let (id, partition) = (channel.id(), store.partition_of(&channel.id()));
    let before = store.channel(&id).await.expect("readable").expect("known").state;
    let letters = store.newest_dead(partition, None, 10).await.expect("readable");
    assert_eq!(letters.iter().map(|letter| letter.about.clone()).collect::<Vec<_>>(), [About::Close(id)]);

    assert_eq!(store.retry_failed(&id, 500).await, Ok(Retried::Closing));
    let after = store.channel(&id).await.expect("readable").expect("known").state;
    assert_eq!((after.status, after.amount, &after.proof), (Status::Closing, before.amount, &before.proof));
    assert_eq!(store.due_at(&id).await, Ok(Some(500)), "it is due");
    assert!(store.newest_dead(partition, None, 10).await.expect("readable").is_empty());
    let marks = store.marks(&id).await.expect("readable");
    assert_eq!((marks.failed_at_ms, marks.retried_at_ms), (None, Some(500)));
    // Nothing can be paid meanwhile, and the next close is for what was pinned.
    let verdicts = store.accept(&[channel.voucher(8)]).await.expect("Redis answers");
    assert!(format!("{verdicts:?}").contains("NotOpen(Closing"), "{verdicts:?}");
    let pinned = store.begin_close(&lease, &id, 600, "age").await.expect("begun").expect("known");
    assert_eq!((pinned.amount, pinned.proof), (Amount::new(7), before.proof));
    // Asked twice: nothing more.
    assert_eq!(store.retry_failed(&id, 700).await, Ok(Retried::NotFailed(Status::Closing)));
    assert_eq!(store.due_at(&id).await, Ok(Some(500)));
}

#[tokio::test]
async fn nothing_is_retried_or_put_back_on_a_partition_that_is_halted() {
    let redis = Redis::start().await;
    let store = store(&redis).await;
    let (channel, _) = failed(&store).await;
    let (id, partition) = (channel.id(), store.partition_of(&channel.id()));
    redis.command(&["SET", &store.keys().seq(partition), "halted:1:a test"]).await;
    let before = redis.dump().await;
    assert!(matches!(store.retry_failed(&id, 500).await, Err(StoreError::LostData { .. })));
    let letter = EntryId { ms: 1, n: 0 };
    assert!(matches!(store.requeue_dead(partition, letter).await, Err(StoreError::LostData { .. })));
    assert_eq!(redis.dump().await, before);
}

#[tokio::test]
async fn an_entry_that_is_put_back_is_read_again_as_it_was() {
    let redis = Redis::start().await;
    let store = store(&redis).await;
    let channel = TestChannel::new(100);
    channel.register(&store).await.expect("registered");
    store.accept(&[channel.voucher(7)]).await.expect("accepted");
    let partition = store.partition_of(&channel.id());
    let lease = lead(&store, "a", partition).await;
    let read = store.read_accepted(&lease, partition, ReadFrom::New, 10).await.expect("read");
    let dead = [(read[0].id, "channel x is not known".to_owned())];
    store.apply(&lease, partition, &[], &[read[0].id], &dead).await.expect("applied");
    let state = store.channel(&channel.id()).await.expect("readable").expect("known").state;

    let letters = store.newest_dead(partition, None, 10).await.expect("readable");
    assert_eq!(letters[0].about, About::Entry(read[0].id.to_string()));
    let Requeued::As(id) = store.requeue_dead(partition, letters[0].entry).await.expect("Redis answers")
    else {
        panic!("it is an entry");
    };
    let again = store.read_accepted(&lease, partition, ReadFrom::New, 10).await.expect("read");
    assert_eq!((again[0].id, &again[0].payments), (id, &read[0].payments));
    assert!(store.newest_dead(partition, None, 10).await.expect("readable").is_empty());
    assert_eq!(
        store.channel(&channel.id()).await.expect("readable").expect("known").state,
        state,
        "no money moves"
    );
    assert_eq!(store.requeue_dead(partition, letters[0].entry).await, Ok(Requeued::Unknown), "once");
}

#[tokio::test]
async fn the_dead_letter_of_a_close_cannot_be_put_back_as_an_entry() {
    let redis = Redis::start().await;
    let store = store(&redis).await;
    let (channel, _) = failed(&store).await;
    let partition = store.partition_of(&channel.id());
    let letters = store.newest_dead(partition, None, 10).await.expect("readable");
    let before = redis.dump().await;
    assert_eq!(store.requeue_dead(partition, letters[0].entry).await, Ok(Requeued::NotAnEntry));
    assert_eq!(redis.dump().await, before);
}

#[tokio::test]
async fn a_deposed_leader_adds_nothing_to_the_history_and_old_samples_go() {
    let redis = Redis::start().await;
    let store = store(&redis).await;
    let sample =
        |token: u64| Sample { holder: "a:1".to_owned(), token, since_ms: 1, sums: Some(Sums::default()) };
    let deposed = lead(&store, "a", 0).await;
    for token in 1..=5 {
        store.note_history(&deposed, &sample(token), 3).await.expect("noted");
    }
    let tokens = async || -> Vec<u64> {
        store.history(10).await.expect("readable").iter().map(|(_, sample)| sample.token).collect()
    };
    assert_eq!(tokens().await, [3, 4, 5], "as many as are kept, the oldest first");
    redis.fast_forward(TTL).await;
    let _successor = lead(&store, "b", 0).await;
    assert!(matches!(store.note_history(&deposed, &sample(6), 3).await, Err(StoreError::Fenced { .. })));
    assert_eq!(tokens().await, [3, 4, 5]);
}

#[tokio::test]
async fn a_walk_over_live_channels_misses_none_and_pages_come_by_due_time() {
    let redis = Redis::start().await;
    let store = store(&redis).await;
    let mut expected = Vec::new();
    for n in 0..300u64 {
        let channel = TestChannel::in_partition(&store, 3, 100);
        channel.register_due_at(&store, 10_000 - n).await.expect("registered");
        expected.push((channel.id(), 10_000 - n));
    }
    let (mut walked, mut cursor) = (Vec::new(), None);
    loop {
        let (ids, next) = store.live_scan(3, cursor.as_deref(), 20).await.expect("readable");
        walked.extend(ids);
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    walked.sort_unstable();
    walked.dedup();
    assert_eq!(walked.len(), 300);
    expected.reverse();
    let first = store.live_page(3, 0, 100).await.expect("readable");
    let rest = store.live_page(3, 100, 1_000).await.expect("readable");
    assert_eq!([first, rest].concat(), expected);
}
