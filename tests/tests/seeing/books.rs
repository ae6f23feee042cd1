//! The scripts keep the books of a partition balanced, to the last unit, whatever the amounts and whoever repeats what.

use std::sync::Arc;
use std::time::Duration;

use common::amount::Amount;
use common::channel::Status;
use common::config::RedisConfig;
use common::store::Store;
use common::store::books::{Booked, Books};
use common::store::lease::{Acquired, Lease};
use common::store::operate::Retried;
use common::store::settle::{ChannelUpdate, Ended};
use tests::channel::TestChannel;
use tests::redis::Redis;

const PARTITION: u16 = 3;

struct Fixture {
    redis: Redis,
    store: Store,
    lease: Arc<Lease>,
}

impl Fixture {
    async fn new() -> Fixture {
        let redis = Redis::start().await;
        let config = RedisConfig { url: redis.url(), ..RedisConfig::default() };
        let store = Store::connect(&config).expect("a private server's URL is valid");
        store.wait_connected(Duration::from_secs(5)).await.expect("the server is up");
        store.initialise(0).await.expect("an empty server");
        let acquired = store.acquire_lease("a", 1, Duration::from_secs(60)).await.expect("Redis answers");
        let Acquired::Held(lease) = acquired else { panic!("nobody else is here") };
        store.take_partition(&lease, PARTITION).await.expect("taken");
        Fixture { redis, store, lease }
    }

    async fn channel(&self, capacity: u64) -> TestChannel {
        let channel = TestChannel::in_partition(&self.store, PARTITION, capacity);
        channel.register(&self.store).await.expect("registered");
        channel
    }

    async fn pay(&self, channel: &TestChannel, amount: u64) {
        self.store.accept(&[channel.voucher(amount)]).await.expect("accepted");
    }

    /// What the leader does with entries that name these amounts.
    async fn read(&self, amounts: &[(&TestChannel, u64)]) {
        let update = |(channel, amount): &(&TestChannel, u64)| ChannelUpdate {
            channel_id: channel.id(),
            paid_at_ms: Some((1, 2)),
            due_at_ms: 3,
            amount: Amount::new(*amount),
        };
        let updates: Vec<ChannelUpdate> = amounts.iter().map(update).collect();
        self.store.apply(&self.lease, PARTITION, &updates, &[], &[]).await.expect("applied");
    }

    async fn begin(&self, channel: &TestChannel) {
        let pinned = self.store.begin_close(&self.lease, &channel.id(), 5, "age").await.expect("begun");
        assert_eq!(pinned.expect("known").status, Status::Closing);
    }

    async fn finish(&self, channel: &TestChannel, amount: u64) -> Ended {
        let (id, amount) = (channel.id(), Amount::new(amount));
        self.store.finish_close(&self.lease, &id, amount, "{}", 6, false).await.expect("an answer")
    }

    async fn fail(&self, channel: &TestChannel) -> Ended {
        self.store.fail_close(&self.lease, &channel.id(), 6, "no", false).await.expect("an answer")
    }

    /// The books, which balance.
    async fn books(&self) -> Books {
        let books = self.store.books(PARTITION).await.expect("Redis answers");
        assert!(books.balance(), "{books:?}");
        books
    }
}

fn books(accepted: u128, settled: u128, dead: u128) -> Books {
    Books { accepted, settled, dead, unsettled: accepted - settled - dead }
}

#[tokio::test]
async fn every_unit_is_somewhere_once() {
    let f = Fixture::new().await;
    assert_eq!(f.books().await, Books::default());
    let (one, two, three) = (f.channel(100).await, f.channel(100).await, f.channel(100).await);
    for channel in [&one, &two, &three] {
        f.pay(channel, 7).await;
    }
    assert_eq!(f.books().await, Books::default(), "accepting a payment costs Redis nothing more");
    f.read(&[(&one, 7), (&two, 5)]).await;
    assert_eq!(f.books().await, books(12, 0, 0));
    f.read(&[(&one, 7), (&two, 3)]).await;
    assert_eq!(f.books().await, books(12, 0, 0), "what is read again, or comes late, counts once");
    // The rest of what two has paid, and all that three has, were in no entry that was read.
    f.begin(&two).await;
    f.begin(&two).await;
    f.begin(&three).await;
    assert_eq!(f.books().await, books(21, 0, 0));
    assert_eq!(f.finish(&two, 7).await, Ended::Now);
    assert_eq!(f.finish(&two, 7).await, Ended::Already);
    assert_eq!(f.books().await, books(21, 7, 0));
    assert_eq!(f.fail(&three).await, Ended::Now);
    assert_eq!(f.fail(&three).await, Ended::NotClosing);
    f.read(&[(&two, 7), (&three, 7)]).await;
    assert_eq!(f.books().await, books(21, 7, 7));
    let booked = async |channel: &TestChannel| f.store.booked(&channel.id()).await;
    let expected = |status| Ok(Some(Booked { status, units: 7 }));
    let found = (booked(&one).await, booked(&two).await, booked(&three).await);
    assert_eq!(found, (expected(Status::Open), expected(Status::Closed), expected(Status::Failed)));
}

#[tokio::test]
async fn what_a_person_has_tried_again_is_unsettled_and_then_settled() {
    let f = Fixture::new().await;
    let (channel, old) = (f.channel(u64::MAX).await, f.channel(100).await);
    let (amount, retry) =
        (u64::MAX - 7, async |channel: &TestChannel| f.store.retry_failed(&channel.id(), 7).await);
    f.pay(&channel, amount).await;
    f.begin(&channel).await;
    f.fail(&channel).await;
    assert_eq!(f.books().await, books(amount.into(), 0, amount.into()));
    assert_eq!(retry(&channel).await, Ok(Retried::Closing));
    assert_eq!(retry(&channel).await, Ok(Retried::NotFailed(Status::Closing)));
    assert_eq!(f.books().await, books(amount.into(), 0, 0));
    assert_eq!(f.finish(&channel, amount).await, Ended::Now);
    assert_eq!(f.books().await, books(amount.into(), amount.into(), 0));
    // Given up on by a build without books.
    f.pay(&old, 9).await;
    f.begin(&old).await;
    f.fail(&old).await;
    f.redis.command(&["HDEL", &f.store.keys().channel(&old.id()), "booked"]).await;
    f.redis.command(&["DEL", &f.store.keys().books(PARTITION)]).await;
    assert_eq!(retry(&old).await, Ok(Retried::Closing));
    assert_eq!(f.books().await, books(9, 0, 0));
}

#[tokio::test]
async fn sums_are_exact_past_what_a_double_and_a_word_hold() {
    let f = Fixture::new().await;
    let mut sum = 0;
    for amount in
        [9_999_999_999, 10_000_000_000, (1 << 53) + 1, (1 << 53) + 3, u64::MAX, u64::MAX, u64::MAX - 1]
    {
        let channel = f.channel(u64::MAX).await;
        f.pay(&channel, 1).await;
        f.read(&[(&channel, 1)]).await;
        f.pay(&channel, amount).await;
        f.read(&[(&channel, amount)]).await;
        sum += u128::from(amount);
        assert_eq!(f.books().await.accepted, sum);
        f.begin(&channel).await;
        assert_eq!(f.finish(&channel, amount).await, Ended::Now);
        assert_eq!(f.books().await, books(sum, sum, 0));
    }
}

#[tokio::test]
async fn lower_digits_are_carried_over_before_they_could_be_lost() {
    let f = Fixture::new().await;
    let near = "999999999999999";
    let key = f.store.keys().books(PARTITION);
    f.redis.command(&["HSET", &key, "accepted", near, "unsettled", "0", "settled", near]).await;
    let channel = f.channel(u64::MAX).await;
    f.pay(&channel, 9_999_999_999).await;
    f.read(&[(&channel, 9_999_999_999)]).await;
    assert_eq!(f.books().await, books(999_999_999_999_999 + 9_999_999_999, 999_999_999_999_999, 0));
    let upper = f.redis.command(&["HGET", &key, "accepted_e10"]).await;
    assert!(upper.contains("100000"), "{upper}");
}

#[tokio::test]
async fn a_channel_from_before_there_were_books_comes_into_them_whole() {
    let f = Fixture::new().await;
    let (read, closed) = (f.channel(100).await, f.channel(100).await);
    for channel in [&read, &closed] {
        f.pay(channel, 7).await;
        f.redis.command(&["HDEL", &f.store.keys().channel(&channel.id()), "booked"]).await;
        assert_eq!(f.store.booked(&channel.id()).await, Ok(None));
    }
    f.read(&[(&read, 7)]).await;
    f.begin(&closed).await;
    assert_eq!(f.books().await, books(14, 0, 0));
}
