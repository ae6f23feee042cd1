//! A leader that dies halfway through a page of more channels than one call writes down, of all partitions.

use common::store::stream::EntryId;
use tests::channel::TestChannel;
use tests::rig::{FaultPoint, Rig, RigOptions, SOON};
use tests::wait_until;

/// More than go in one call, in as few entries as can be.
const CHANNELS: usize = 640;
const PER_CALL: usize = 128;

#[tokio::test]
async fn page_that_a_leader_wrote_down_by_half_is_written_down_by_the_next_as_if_for_the_first_time() {
    let mut rig = Rig::start(RigOptions::default()).await;
    let store = rig.store().await;
    let mut channels = Vec::with_capacity(CHANNELS);
    for partition in (0..store.partitions()).cycle().take(CHANNELS) {
        let channel = TestChannel::in_partition(&store, partition, 1_000);
        channel.register(&store).await.expect("registered");
        channels.push(channel);
    }
    for channels in channels.chunks(PER_CALL) {
        let vouchers: Vec<_> = channels.iter().map(|channel| channel.voucher(7)).collect();
        store.accept(&vouchers).await.expect("accepted");
    }
    // The turn of the first partition: all of them stand in its stream.
    let entries = store.entries(0, EntryId::ZERO, 100).await.expect("readable");
    assert_eq!(entries.len(), CHANNELS / PER_CALL);

    // The point is there before the settler can lead.
    let lease = super::scene::take_lease(&store, "a test").await;
    let held = FaultPoint::arm(rig.spawn_settler(&[]), "page_half_applied");
    store.release_lease(&lease).await.expect("given back");
    held.reached().await;
    rig.settlers[0].kill();
    let mut noted = 0;
    for channel in &channels {
        let found = store.channel(&channel.id()).await.expect("readable").expect("registered");
        noted += usize::from(found.first_at_ms.is_some());
    }
    assert!((1..CHANNELS).contains(&noted), "{noted} are written down");
    let info = store.partition_info(0).await.expect("Redis answers");
    assert_eq!(info.unacknowledged, info.entries, "and nothing is acknowledged");

    rig.spawn_settler(&[]);
    wait_until(SOON, "all is acknowledged", || async {
        store.partition_info(0).await.expect("Redis answers").entries == 0
    })
    .await;
    for (channel, entry) in
        channels.chunks(PER_CALL).zip(&entries).flat_map(|(of, entry)| of.iter().map(move |c| (c, entry)))
    {
        let found = store.channel(&channel.id()).await.expect("readable").expect("registered");
        let at_ms = Some(entry.id.ms);
        assert_eq!((found.first_at_ms, found.last_at_ms), (at_ms, at_ms), "{}", channel.id());
        let due_at_ms = store.due_at(&channel.id()).await.expect("Redis answers");
        assert!(due_at_ms > at_ms, "{due_at_ms:?}");
    }
    for partition in 0..store.partitions() {
        assert_eq!(store.partition_info(partition).await.expect("Redis answers").dead, 0);
    }
}
