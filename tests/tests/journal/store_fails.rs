//! A journal that cannot be written for a while, or is not ours: payments and closes go on.

use tests::rig::SOON;
use tests::wait_until;

use super::kept::Kept;

#[tokio::test]
async fn while_the_journal_cannot_be_written_payments_and_closes_go_on_and_nothing_is_lost() {
    let mut kept = Kept::with(&[("journal.segment_max_bytes", "4096")]).await;
    // A file where its directory should be.
    std::fs::write(kept.dir(), "").expect("writable");
    let config = kept.config.clone();
    kept.rig.spawn_settler(&config);
    kept.rig.not_ready(&kept.rig.settlers[0], "the journal cannot be kept").await;
    let (one, two) = (kept.rig.channel(1_000).await, kept.rig.channel(1_000).await);
    kept.pay(&one, [1, 2, 5]).await;
    one.close(kept.rig.relayer(0)).await.expect("an answer").body.expect("noted");
    kept.rig.closed(&one, 5).await;
    kept.pay(&two, 1..=60).await;
    kept.rig.read_by_leader(&two).await;
    let entries = kept.store.partition_info(kept.store.partition_of(&two.id())).await.expect("Redis answers");
    assert!(entries.entries >= 60, "what is not in the journal stays in Redis: {entries:?}");
    let admin = kept.rig.settlers[0].admin_url().to_owned();
    let lag = "millrace_settler_journal_lag_ms";
    wait_until(SOON, "the lag shows", || async {
        kept.rig.metric(&admin, lag).await.is_some_and(|ms| ms > 0)
    })
    .await;
    std::fs::remove_file(kept.dir()).expect("it is there");
    kept.rig.settlers[0].wait_ready(SOON).await.expect("it is well again");
    kept.pay(&two, [70]).await;
    let report = kept.all_is_kept_once().await;
    assert_eq!((report.payments, report.receipts), (64, 1));
    kept.logged(0, "the journal is kept again").await;
    wait_until(SOON, "the lag is over", || async { kept.rig.metric(&admin, lag).await == Some(0) }).await;
}

#[tokio::test]
async fn journal_that_fails_in_the_midst_of_its_work_goes_on_where_it_was() {
    let mut kept = Kept::with(&[("journal.segment_max_bytes", "4096")]).await;
    kept.settler().await;
    let channel = kept.rig.channel(1_000).await;
    kept.pay(&channel, 1..=20).await;
    kept.all_is_kept_once().await;
    let aside = kept.rig.dir().join("aside");
    std::fs::rename(kept.dir(), &aside).expect("on one file system");
    std::fs::write(kept.dir(), "").expect("writable");
    // Much more than it takes into memory.
    kept.pay(&channel, 21..=150).await;
    kept.rig.not_ready(&kept.rig.settlers[0], "the journal cannot be kept").await;
    std::fs::remove_file(kept.dir()).expect("it is there");
    std::fs::rename(&aside, kept.dir()).expect("on one file system");
    let report = kept.all_is_kept_once().await;
    assert_eq!(report.payments, 150);
    // And likewise for a leader that comes while it fails.
    kept.pay(&channel, [200]).await;
    kept.all_is_kept_once().await;
}

#[tokio::test]
async fn journal_of_another_payee_is_left_alone() {
    let mut kept = Kept::start().await;
    super::segments::of_another_payee(&kept).await;
    let config = kept.config.clone();
    kept.rig.spawn_settler(&config);
    kept.rig.not_ready(&kept.rig.settlers[0], "is that of payee").await;
    let channel = kept.rig.channel(1_000).await;
    kept.pay(&channel, [3]).await;
    channel.close(kept.rig.relayer(0)).await.expect("an answer").body.expect("noted");
    kept.rig.closed(&channel, 3).await;
    assert_eq!(kept.journal().list().await.expect("a journal").len(), 1);
}
