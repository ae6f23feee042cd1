//! What is unsettled, who leads since when, and the audit: the numbers are those of Redis and issuer.

use common::channel::Status;
use common::problem::Code;
use tests::rig::SOON;
use tests::{wait_for, wait_until};

use super::scene::{closed, failed, page, paid, says, stack, url};

#[tokio::test]
async fn sums_are_what_is_recorded_and_not_paid_by_status() {
    let rig = stack(2, &[]).await;
    for amount in [100, 20, 3] {
        paid(&rig, amount).await;
    }
    closed(&rig, 500).await;
    failed(&rig, 7, Code::WrongPayee).await;
    let store = rig.store().await;
    let sums = wait_for(SOON, "a walk has seen all channels", || async {
        let history = store.history(10).await.expect("Redis answers");
        let sums = history.last()?.1.sums.clone()?;
        (sums.open == 3 && sums.failed == 1 && sums.closing == 0).then_some(sums)
    })
    .await;
    let (asset, unsettled) = &sums.assets[0];
    assert_eq!((asset.as_str(), unsettled.open, unsettled.closing, unsettled.failed), ("usd", 123, 0, 7));
    for i in 0..2 {
        says(&rig, i, "", "Unsettled usd</h2><p class=\"figure\">130</p>").await;
    }
}

#[tokio::test]
async fn every_settler_says_who_leads_since_when_and_the_history_outlives_the_leader() {
    let mut rig = stack(2, &[]).await;
    paid(&rig, 7).await;
    let first = rig.leader().await;
    let store = rig.store().await;
    let holder = store.lease_info().await.expect("Redis answers").holder.expect("someone leads");
    says(&rig, first, "", "this process, since ").await;
    for i in 0..2 {
        says(&rig, i, "", &holder[..8]).await;
    }
    says(&rig, 1 - first, "", "standing by").await;
    rig.settlers[first].kill();
    let second = 1 - first;
    wait_until(SOON, "the other leads", || async {
        rig.settler_status(second).await.is_some_and(|s| s.leader)
    })
    .await;
    says(&rig, second, "", "this process, since ").await;
    says(&rig, second, "", "another leader, ").await;
    assert!(!page(&rig, second, "").await.contains(&holder[..8]), "the old one leads no more");
}

#[tokio::test]
async fn a_stack_that_nobody_leads_says_so() {
    let mut rig = stack(1, &[]).await;
    paid(&rig, 7).await;
    says(&rig, 0, "", "Nothing needs you").await;
    rig.front.always(tests::issuer::Route::Settle, tests::issuer::Step::Status(500));
    // Redis away: the page says what it cannot show.
    rig.redis.pause().await;
    let reply = wait_for(SOON, "the page says that Redis is away", || async {
        let reply = rig.http.get(&url(&rig, 0, "")).await;
        (reply.status == 503).then_some(reply)
    })
    .await;
    assert_eq!(reply.problem().code, Code::StoreUnavailable);
    rig.redis.resume().await;
    says(&rig, 0, "", "Nothing needs you").await;
}

/// Begins an audit, and waits for its end.
async fn audited(rig: &tests::rig::Rig) -> String {
    rig.http.post(&url(rig, 0, "/audit"), "").await;
    wait_for(SOON, "the audit has ended", || async {
        let html = page(rig, 0, "/audit").await;
        (!html.contains("Running:") && html.contains("Audit now")).then_some(html)
    })
    .await
}

#[tokio::test]
async fn an_audit_is_clean_until_money_is_astray_and_then_says_where() {
    let rig = stack(1, &[]).await;
    let (settled, open) = (closed(&rig, 50).await, paid(&rig, 7).await);
    rig.read_by_leader(&open).await;
    let html = audited(&rig).await;
    assert!(html.contains("nothing is missing, nothing is paid twice. 2 channels"), "{html}");
    assert!(
        page(&rig, 0, &format!("/channels/{}?audit=now", settled.id())).await.contains("Clean: what Redis")
    );

    // Redis says that more was accepted than the issuer paid, and holds a voucher that nobody signed.
    let store = rig.store().await;
    for (channel, letter, amount) in [(&settled, 'X', 51), (&open, 'O', 8)] {
        let key = store.keys().state(&channel.id());
        let proof = "x".repeat(72);
        let state = format!("{letter}{amount:020}{:020}{proof}", 1_000);
        rig.redis.command(&["SET", &key, &state]).await;
    }
    let html = audited(&rig).await;
    for words in ["settled_too_little", "accepted 51, settled 50", "proof_invalid", " violations </b>"] {
        assert!(html.contains(words), "{words}: {html}");
    }
    let html = page(&rig, 0, &format!("/channels/{}?audit=now", open.id())).await;
    assert!(html.contains("proof_invalid"), "{html}");
}

#[tokio::test]
async fn an_audit_looks_at_no_more_channels_than_it_may_and_says_so() {
    let rig = stack(1, &[("console.audit_channels_max", "2")]).await;
    for amount in 1..=3 {
        paid(&rig, amount).await;
    }
    let html = audited(&rig).await;
    assert!(html.contains("Not all: ") && html.contains("the first 2 channels by id"), "{html}");
}

#[tokio::test]
async fn an_audit_without_the_issuer_is_none() {
    let rig = stack(1, &[]).await;
    let channel = paid(&rig, 7).await;
    rig.front.always(tests::issuer::Route::Channels, tests::issuer::Step::Status(500));
    let html = audited(&rig).await;
    assert!(html.contains("Broke off: "), "{html}");
    assert_eq!(rig.stored(&channel).await.state.status, Status::Open);
}
