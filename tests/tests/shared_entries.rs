//! Entries that name channels of other partitions than the one in whose stream they stand, from the accept call that
//! writes one to the leader that puts it into the books; and what a page of long entries may hold.

use std::sync::Arc;
use std::time::Duration;

use common::amount::Amount;
use common::config::RedisConfig;
use common::store::accept::Verdict;
use common::store::lease::{Acquired, Lease};
use common::store::settle::{ChannelUpdate, PAYMENTS_PER_PAGE, ReadFrom};
use common::store::stream::{Entry, EntryId};
use common::store::{Store, StoreError};
use tests::channel::TestChannel;
use tests::redis::Redis;

const TTL: Duration = Duration::from_secs(20);

/// In whose stream the first entries stand, as it is that one's turn.
const FIRST: u16 = 0;

/// That one and another.
const PARTITIONS: [u16; 2] = [FIRST, 9];

/// A server with a channel in each of two partitions, neither of which has paid.
struct Fixture {
    redis: Redis,
    store: Store,
    channels: [TestChannel; 2],
}

impl Fixture {
    async fn new() -> Fixture {
        let redis = Redis::start().await;
        let store = Store::connect(&RedisConfig { url: redis.url(), ..RedisConfig::default() })
            .expect("a private server's URL is valid");
        store.wait_connected(Duration::from_secs(5)).await.expect("the server is up");
        store.initialise(0).await.expect("an empty server");
        let channels = PARTITIONS.map(|partition| TestChannel::in_partition(&store, partition, u64::MAX));
        for channel in &channels {
            channel.register(&store).await.expect("registered");
        }
        Fixture { redis, store, channels }
    }

    /// Both channels pay up to these amounts in one call.
    async fn pay(&self, amounts: [u64; 2]) -> Vec<Verdict> {
        let [a, b] = &self.channels;
        self.store.accept(&[b.voucher(amounts[1]), a.voucher(amounts[0])]).await.expect("Redis answers")
    }

    async fn entries(&self, partition: u16) -> Vec<Entry> {
        self.store.entries(partition, EntryId::ZERO, 1_000).await.expect("readable")
    }

    async fn lead(&self, process: &str, partitions: &[u16]) -> Arc<Lease> {
        let acquired = self.store.acquire_lease(process, 1, TTL).await.expect("Redis answers");
        let Acquired::Held(lease) = acquired else { panic!("{process} should lead: {acquired:?}") };
        for partition in partitions {
            self.store.take_partition(&lease, *partition).await.expect("taken");
        }
        lease
    }

    fn updates(&self, paid_at_ms: (u64, u64)) -> Vec<ChannelUpdate> {
        let update = |channel: &TestChannel| ChannelUpdate {
            channel_id: channel.id(),
            paid_at_ms: Some(paid_at_ms),
            due_at_ms: 9_000,
            amount: Amount::new(1),
        };
        self.channels.iter().map(update).collect()
    }

    /// First and last payment of each channel, and when it is due.
    async fn books(&self) -> Vec<(Option<u64>, Option<u64>, Option<u64>)> {
        let mut books = Vec::new();
        for channel in &self.channels {
            let found = self.store.channel(&channel.id()).await.expect("readable").expect("registered");
            let due = self.store.due_at(&channel.id()).await.expect("Redis answers");
            books.push((found.first_at_ms, found.last_at_ms, due));
        }
        books
    }
}

#[tokio::test]
async fn a_call_for_two_partitions_makes_one_entry_and_is_counted_once() {
    let f = Fixture::new().await;
    // Where a recovery sets seq to, in us since 1970, and where doubles end.
    for was in [0, 1_763_000_000_000_000, (1 << 53) - 1] {
        f.redis.command(&["SET", &f.store.keys().seq(0), &was.to_string()]).await;
        let before = f.entries(0).await.len();
        let amount = was + 1;
        assert_eq!(f.pay([amount, amount]).await, [Verdict::Accepted, Verdict::Accepted]);
        f.redis.check_get(&f.store.keys().seq(0), &(was + 1).to_string()).await;
        let entries = f.entries(0).await.split_off(before);
        let [entry] = entries.as_slice() else { panic!("{entries:?}") };
        let payments = entry.payments.as_ref().expect("readable").iter();
        let paid: Vec<_> = payments.map(|payment| (payment.channel_id, payment.amount.units())).collect();
        assert_eq!(paid, [1, 0].map(|of| (f.channels[of].id(), amount)), "as they came");
    }
    assert!(f.entries(9).await.is_empty(), "one entry, in one stream");
}

#[tokio::test]
async fn a_server_counts_calls_whichever_of_their_vouchers_are_recorded() {
    let f = Fixture::new().await;
    f.pay([5, 5]).await;
    // What stands in the stream of 0 is a payment of 9 alone.
    assert!(matches!(f.pay([4, 6]).await.as_slice(), [Verdict::Accepted, Verdict::Stale(_)]));
    // It starts at 1, and a call that records nothing is none.
    assert!(matches!(f.pay([4, 6]).await.as_slice(), [Verdict::Duplicate, Verdict::Stale(_)]));
    f.redis.check_get(&f.store.keys().seq(0), "3").await;
    assert_eq!(f.entries(0).await.len(), 2);
}

#[tokio::test]
async fn channels_of_any_partition_are_read_and_written_down_with_the_acknowledgement() {
    let f = Fixture::new().await;
    f.pay([5, 6]).await;
    let lease = f.lead("a", &PARTITIONS).await;
    let read = f.store.read_accepted(&lease, 0, ReadFrom::New, 10).await.expect("read");
    let ids: Vec<EntryId> = read.iter().map(|entry| entry.id).collect();
    let channels = f.channels.each_ref().map(TestChannel::id);
    let found = f.store.channels_anywhere(&channels).await.expect("Redis answers");
    let amounts =
        found.into_iter().map(|found| found.expect("readable").expect("known").state.amount.units());
    assert_eq!(amounts.collect::<Vec<_>>(), [5, 6], "in the order of the question");

    f.store.apply(&lease, 0, &f.updates((20, 30)), &ids, &[]).await.expect("applied");
    assert_eq!(f.books().await, [(Some(20), Some(30), Some(9_000)); 2]);
    for partition in PARTITIONS {
        let info = f.store.partition_info(partition).await.expect("Redis answers");
        assert_eq!((info.entries, info.due), (0, 1), "each in its own");
    }
}

#[tokio::test]
async fn times_do_not_depend_on_the_order_in_which_streams_are_read() {
    let times = [(20, 30), (10, 25), (15, 40), (9, 10)];
    for rotate in 0..times.len() {
        let f = Fixture::new().await;
        let lease = f.lead("a", &PARTITIONS).await;
        let mut times = times;
        times.rotate_left(rotate);
        for paid_at_ms in times {
            f.store.apply(&lease, 0, &f.updates(paid_at_ms), &[], &[]).await.expect("applied");
        }
        assert_eq!(f.books().await, [(Some(9), Some(40), Some(9_000)); 2]);
    }
}

#[tokio::test]
async fn a_leader_that_is_deposed_in_one_of_the_partitions_changes_none() {
    for taken in PARTITIONS {
        let f = Fixture::new().await;
        f.pay([5, 6]).await;
        let deposed = f.lead("a", &PARTITIONS).await;
        let read = f.store.read_accepted(&deposed, 0, ReadFrom::New, 10).await.expect("read");
        f.redis.fast_forward(TTL).await;
        // The successor has got as far as this partition.
        f.lead("b", &[taken]).await;
        let before = f.redis.dump().await;
        let ids: Vec<EntryId> = read.iter().map(|entry| entry.id).collect();
        let refused = f.store.apply(&deposed, 0, &f.updates((20, 30)), &ids, &[]).await;
        assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{taken}: {refused:?}");
        assert_eq!(f.redis.dump().await, before, "{taken}");
    }
}

#[tokio::test]
async fn a_page_ends_once_it_holds_its_payments_and_the_next_goes_on() {
    let f = Fixture::new().await;
    const ENTRIES: usize = 40;
    for entry in 0..ENTRIES as u64 {
        let vouchers: Vec<_> = (1..=128).map(|n| f.channels[0].voucher(entry * 128 + n)).collect();
        f.store.accept(&vouchers).await.expect("accepted");
    }
    let all: Vec<EntryId> = f.entries(0).await.iter().map(|entry| entry.id).collect();
    assert_eq!(all.len(), ENTRIES);
    let lease = f.lead("a", &PARTITIONS).await;
    let lease = &lease;
    let ids = async |from| {
        let page = f.store.read_accepted(lease, 0, from, 1_000).await.expect("read");
        let payments: usize = page.iter().map(|entry| entry.payments.as_ref().expect("readable").len()).sum();
        assert!(payments < 2 * PAYMENTS_PER_PAGE, "{payments} in memory");
        page.iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    let mut read = Vec::new();
    while read.len() < ENTRIES {
        let page = ids(ReadFrom::New).await;
        assert!(!page.is_empty() && page.len() < ENTRIES, "{} entries", page.len());
        read.extend(page);
    }
    assert_eq!(read, all);
    // Nobody acknowledged them: the next leader reads them again, likewise.
    let mut again: Vec<EntryId> = Vec::new();
    while again.len() < ENTRIES {
        let after = again.last().copied().unwrap_or(EntryId::ZERO);
        again.extend(ids(ReadFrom::Unacknowledged(after)).await);
    }
    assert_eq!(again, all);
}
