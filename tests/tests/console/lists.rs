//! Lists and search, a bounded page at a time: every channel is found, none is shown that was not asked for.

use std::collections::BTreeSet;

use common::ids::ChannelId;
use common::problem::Code;
use tests::rig::Rig;

use super::scene::{closed, failed, page, paid, says, stack};

/// The channels that a page links to.
fn links(html: &str) -> BTreeSet<ChannelId> {
    let after = html.split("href=\"/console/channels/").skip(1);
    after.filter_map(|rest| rest.split(['"', '/']).next()?.parse().ok()).collect()
}

/// Where the next page is, if there is one.
fn next(html: &str) -> Option<String> {
    let rest = html.split("<p class=\"pager\"><a href=\"/console").nth(1)?;
    Some(rest.split('"').next()?.replace("&amp;", "&"))
}

/// All channels of a list, walked page by page, and how many pages that took.
async fn walked(rig: &Rig, path: &str) -> (BTreeSet<ChannelId>, usize) {
    let (mut found, mut pages, mut at) = (BTreeSet::new(), 0, Some(path.to_owned()));
    while let Some(path) = at {
        let html = page(rig, 0, &path).await;
        let here = links(&html);
        assert!(here.len() <= 3, "no more rows than are configured: {here:?}");
        assert!(here.is_disjoint(&found), "none comes twice");
        found.extend(here);
        pages += 1;
        assert!(pages < 100, "the pages end");
        at = next(&html);
    }
    (found, pages)
}

#[tokio::test]
async fn every_channel_is_on_one_page_of_the_list_of_its_status() {
    let few = [("console.rows_per_page", "3"), ("console.channels_read_per_page", "4")];
    let rig = stack(1, &few).await;
    let mut open = BTreeSet::new();
    for amount in 1..=8 {
        open.insert(paid(&rig, amount).await.id());
    }
    let mut done = BTreeSet::new();
    for amount in 1..=4 {
        done.insert(closed(&rig, amount).await.id());
    }
    let mut dead = BTreeSet::new();
    for amount in 1..=5 {
        dead.insert(failed(&rig, amount, Code::WrongPayee).await.id());
    }
    let never_paid = rig.channel(1_000).await.id();
    assert_eq!(walked(&rig, "/channels?status=open").await.0, open);
    assert_eq!(walked(&rig, "/channels?status=closed").await.0, done);
    assert_eq!(walked(&rig, "/channels?status=closing").await.0, BTreeSet::new());
    let (found, pages) = walked(&rig, "/dead").await;
    assert_eq!((found, pages), (dead.clone(), 2));
    let all: BTreeSet<ChannelId> = [open, done, dead].into_iter().flatten().chain([never_paid]).collect();
    assert_eq!(walked(&rig, "/channels?status=all").await.0, all);
    // Where an id begins finds it, and nothing that begins otherwise.
    for id in &all {
        let text = id.to_string();
        let found = links(&page(&rig, 0, &format!("/channels?q={}", &text[..5])).await);
        assert!(
            found.contains(id) && found.iter().all(|found| found.to_string().starts_with(&text[..5])),
            "{id}"
        );
    }
}

#[tokio::test]
async fn a_search_leads_to_the_channel_or_says_why_not() {
    let rig = stack(1, &[]).await;
    let id = paid(&rig, 7).await.id();
    assert!(
        page(&rig, 0, &format!("/channels?q=+{id}+")).await.contains(&format!("<h1 class=\"id\">{id}</h1>"))
    );
    let nonsense = page(&rig, 0, "/channels?q=%3Cscript%3E0OIl").await;
    assert!(nonsense.contains("begins no id") && nonsense.contains("&lt;script&gt;0OIl"), "{nonsense}");
    assert!(!nonsense.contains("<script>0OIl"));
    assert!(page(&rig, 0, "/channels?q=zzzzzzzz").await.contains("None."));
    let unknown = ChannelId([7; 32]);
    let reply = rig.http.get(&super::scene::url(&rig, 0, &format!("/channels/{unknown}"))).await;
    assert_eq!(reply.status, 404);
    assert!(reply.body.contains("Redis does not know this channel"), "{}", reply.body);
}

#[tokio::test]
async fn with_the_issuer_away_what_redis_holds_is_shown_and_the_rest_says_why_not() {
    let rig = stack(1, &[]).await;
    let open = paid(&rig, 7).await.id();
    rig.front.always(tests::issuer::Route::Channels, tests::issuer::Step::Status(500));
    assert!(links(&page(&rig, 0, "/channels?status=open").await).contains(&open));
    let all = rig.http.get(&super::scene::url(&rig, 0, "/channels?status=all")).await;
    assert_eq!(all.status, 503);
    assert!(all.body.contains("the issuer is not available"), "{}", all.body);
    says(&rig, 0, "", "Overview").await;
}
