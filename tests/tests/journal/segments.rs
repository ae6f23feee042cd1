//! When segments are closed, and when they go.

use common::clock::Clock;
use common::ids::PublicKey;
use common::journal::line::{Header, Position, Source};
use common::journal::segment::{self, Encoded, FORMAT, Head};
use common::store::stream::EntryId;
use tests::rig::SOON;
use tests::wait_until;

use super::kept::Kept;

const DAY_MS: u64 = 86_400_000;

/// Writes a segment by hand, after `head`.
async fn write(kept: &Kept, payee: PublicKey, head: &Head, age_ms: u64, positions: Vec<Position>) -> Encoded {
    let source = Source { payee, prefix: "mr".to_owned(), partitions: kept.store.partitions() };
    let header = Header {
        format: FORMAT,
        number: head.number + 1,
        previous: head.root,
        created_at_ms: Clock::system().now_ms() - age_ms,
        source,
        positions,
    };
    let encoded = segment::encode(&header, [], 3).expect("memory");
    kept.journal().last().await.expect("a directory is made");
    kept.journal().write(&encoded.head, encoded.bytes.clone()).await.expect("written");
    encoded
}

/// Puts a journal there that somebody else keeps.
pub(crate) async fn of_another_payee(kept: &Kept) {
    write(kept, PublicKey([7; 32]), &Head::NONE, 0, Vec::new()).await;
}

/// Adds a segment that says the journal reaches an hour past now in every stream. Says its number.
pub(crate) async fn with_positions_an_hour_ahead(kept: &Kept) -> u64 {
    let head = kept.journal().last().await.expect("a journal").expect("a segment").head();
    let ahead = EntryId { ms: Clock::system().now_ms() + 3_600_000, n: 7 };
    let positions = (0..kept.store.partitions())
        .map(|partition| Position { partition, accepted: ahead, settled: ahead })
        .collect();
    write(kept, kept.rig.payee(), &head, 0, positions).await.head.number
}

#[tokio::test]
async fn segments_are_closed_by_their_size_and_the_last_one_when_the_leader_leaves() {
    let config = [("journal.segment_max_bytes", "4096"), ("journal.segment_max_age_ms", "3600000")];
    let mut kept = Kept::with(&config).await;
    kept.settler().await;
    let channel = kept.rig.channel(1_000).await;
    kept.pay(&channel, 1..=100).await;
    // A payment is a line of 300 bytes, terms one of 420: thirteen payments fill a segment.
    wait_until(SOON, "seven segments are full", || async {
        kept.journal().list().await.is_ok_and(|listed| listed.len() >= 7)
    })
    .await;
    let kept_so_far: usize = kept.payments().await.values().map(Vec::len).sum();
    assert_eq!(kept_so_far, 91, "the last ones wait for theirs to be full");
    let admin = kept.rig.settlers[0].admin_url().to_owned();
    wait_until(SOON, "the last nine are with the journal", || async {
        let bytes = kept.rig.metric(&admin, "millrace_settler_journal_waiting_bytes").await;
        bytes.is_some_and(|bytes| (2_700..4_096).contains(&bytes))
    })
    .await;
    kept.rig.settlers[0].stop(SOON).await.expect("it stops");
    let report = kept.all_is_kept_once().await;
    assert_eq!(report.payments, 100);
    assert_eq!(report.segments, 8, "seven full ones, and the last");
}

#[tokio::test]
async fn segments_are_closed_by_their_age_and_none_is_written_for_nothing() {
    let mut kept = Kept::start().await;
    let settler = kept.settler().await;
    kept.logged(settler, "the journal goes on").await;
    let channel = kept.rig.channel(1_000).await;
    assert_eq!(kept.journal().list().await.expect("a journal").len(), 0);
    kept.pay(&channel, [1]).await;
    kept.nothing_waits().await;
    kept.pay(&channel, [2]).await;
    kept.nothing_waits().await;
    let report = kept.all_is_kept_once().await;
    assert_eq!((report.payments, report.segments), (2, 2));
    let admin = kept.rig.settlers[settler].admin_url();
    for (metric, expected) in
        [("segments_total", 2), ("records_total", 4), ("failures_total", 0), ("waiting_bytes", 0)]
    {
        let found = kept.rig.metric(admin, &format!("millrace_settler_journal_{metric}")).await;
        assert_eq!(found, Some(expected), "{metric}");
    }
}

#[tokio::test]
async fn segments_past_their_retention_are_removed_but_for_the_last() {
    let mut kept = Kept::with(&[("journal.retention_days", "30")]).await;
    let mut head = Head::NONE;
    for age_days in [50, 40, 31, 29] {
        head = write(&kept, kept.rig.payee(), &head, age_days * DAY_MS, Vec::new()).await.head;
    }
    kept.settler().await;
    wait_until(SOON, "the old ones are gone", || async {
        kept.journal()
            .list()
            .await
            .is_ok_and(|listed| listed.first().map(|segment| segment.number) == Some(4))
    })
    .await;
    let channel = kept.rig.channel(1_000).await;
    kept.pay(&channel, [1]).await;
    let report = kept.all_is_kept_once().await;
    assert_eq!((report.first, report.head.map(|(number, _)| number)), (Some(4), Some(5)));
}

#[tokio::test]
async fn the_last_segment_stays_whatever_its_age() {
    let mut kept = Kept::with(&[("journal.retention_days", "30")]).await;
    let head = write(&kept, kept.rig.payee(), &Head::NONE, 50 * DAY_MS, Vec::new()).await.head;
    write(&kept, kept.rig.payee(), &head, 40 * DAY_MS, Vec::new()).await;
    kept.settler().await;
    wait_until(SOON, "the first one is gone", || async {
        kept.journal().list().await.is_ok_and(|listed| listed.len() == 1)
    })
    .await;
    let channel = kept.rig.channel(1_000).await;
    kept.pay(&channel, [1]).await;
    assert_eq!(kept.all_is_kept_once().await.first, Some(2), "and says where the journal goes on");
}
