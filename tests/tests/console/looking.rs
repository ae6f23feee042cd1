//! The console as a person sees it: in a real browser, light and dark, on a phone, with JavaScript and without.
//!
//! `UPDATE_SCREENSHOTS=1` writes what the first test sees into `docs/console`.

use common::channel::Status;
use common::problem::Code;
use serde_json::json;
use tests::browser::Browser;
use tests::issuer::{Route, Step};
use tests::rig::{Rig, SOON};
use tests::wait_for;

use super::scene::{TOKEN, closed, failed, letters, page, paid, refuse, says, stack, url};

/// A desk, in CSS pixels.
const DESK: (u32, u32) = (1_280, 800);

/// A small phone.
const PHONE: (u32, u32) = (360, 740);

/// How much of a page goes into a picture, from the top, in CSS pixels.
const PICTURE_HEIGHT: u32 = 1_600;

/// Channels in every state, some of them in trouble, and a history that moves.
async fn busy(rig: &Rig) {
    let mut at_ms = 0;
    for (n, amount) in [120u64, 260, 90, 310, 45, 500].into_iter().enumerate() {
        let channel = paid(rig, amount).await;
        if n == 3 {
            refuse(rig, Code::ChannelExpired);
            channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
            rig.in_status(&channel, Status::Failed).await;
            rig.front.heal();
        }
        at_ms = sampled_after(rig, at_ms).await;
    }
    for amount in [400, 730] {
        closed(rig, amount).await;
        at_ms = sampled_after(rig, at_ms).await;
    }
    failed(rig, 75, Code::WrongPayee).await;
    // One that the issuer does not answer about: it stays closing.
    let waits = paid(rig, 210).await;
    rig.front.always(Route::Settle, Step::Status(500));
    waits.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    rig.in_status(&waits, Status::Closing).await;
    sampled_after(rig, at_ms).await;
}

/// Waits until the leader has kept another sample, and says when.
async fn sampled_after(rig: &Rig, at_ms: u64) -> u64 {
    let store = rig.store().await;
    wait_for(SOON, "another sample", || async {
        let history = store.history(1).await.expect("Redis answers");
        history.last().map(|(at_ms, _)| *at_ms).filter(|newest| *newest > at_ms)
    })
    .await
}

/// Asserts that nothing is wider than the window, and that the browser complained of nothing.
async fn assert_fits(browser: &mut Browser, what: &str) {
    let widths =
        browser.eval("[document.documentElement.scrollWidth, document.documentElement.clientWidth]").await;
    assert!(widths[0].as_u64() <= widths[1].as_u64(), "{what} is wider than the window: {widths}");
    assert_eq!(browser.complaints(), Vec::<String>::new(), "{what}");
}

/// Asserts that small text stands out from what is behind it: 4.5 to 1, as WCAG 2 asks of it.
async fn assert_readable(browser: &mut Browser, what: &str) {
    let faint = browser.eval(include_str!("contrast.js")).await;
    assert_eq!(faint, json!([]), "{what}: too faint to read");
}

async fn picture(browser: &mut Browser, name: &str) {
    let png = browser.screenshot(PICTURE_HEIGHT).await;
    assert!(png.len() > 5_000, "{name}: there is something to be seen");
    if std::env::var_os("UPDATE_SCREENSHOTS").is_some() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/console");
        std::fs::create_dir_all(&dir).expect("the docs are writable");
        std::fs::write(dir.join(format!("{name}.png")), png).expect("the docs are writable");
    }
}

#[tokio::test]
async fn every_page_is_readable_in_light_and_dark_at_a_desk_and_on_a_phone() {
    let rig = stack(2, &[("console.refresh_ms", "600000")]).await;
    busy(&rig).await;
    let open = paid(&rig, 640).await;
    let letters = letters(&rig.store().await).await;
    let dead = letters.last().expect("something was given up on");
    let pages = [
        ("overview", String::new()),
        ("channels", "/channels?status=open".to_owned()),
        ("closing", "/channels?status=closing".to_owned()),
        ("dead", "/dead".to_owned()),
        ("channel", format!("/channels/{dead}?audit=now")),
        ("open-channel", format!("/channels/{}", open.id())),
        ("confirm", format!("/channels/{}/close", open.id())),
        ("audit", "/audit".to_owned()),
    ];
    rig.http.post(&url(&rig, 0, "/audit"), "").await;
    says(&rig, 0, "/audit", "Audit now").await;
    let mut browser = Browser::start().await;
    for (name, path) in &pages {
        for dark in [false, true] {
            browser.dark(dark).await;
            for ((width, height), size, scale) in [(DESK, "desk", 1), (PHONE, "phone", 2)] {
                browser.size(width, height, scale).await;
                browser.open(&url(&rig, 0, path)).await;
                let what = format!("{name}, {size}, dark {dark}");
                assert_fits(&mut browser, &what).await;
                assert_readable(&mut browser, &what).await;
                let kept = matches!(
                    (*name, size, dark),
                    ("overview", "desk", _)
                        | ("overview" | "channel", "phone", true)
                        | ("channel" | "dead" | "channels" | "confirm", "desk", false)
                );
                let tone = if dark { "dark" } else { "light" };
                if kept {
                    picture(&mut browser, &format!("{name}-{size}-{tone}")).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn without_javascript_everything_is_there_and_a_close_works_by_hand() {
    let rig = stack(1, &[]).await;
    let (channel, dead) = (paid(&rig, 321).await, failed(&rig, 75, Code::WrongPayee).await);
    says(&rig, 0, "", "1 open").await;
    let mut browser = Browser::start().await;
    browser.javascript(false).await;
    browser.size(PHONE.0, PHONE.1, 1).await;
    browser.open(&url(&rig, 0, "")).await;
    let text = browser.text("body").await;
    for words in ["Leader", "Unsettled money", "1 given up on", "wrong_payee", "Partitions", "Reload"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(browser.eval("document.querySelectorAll('svg .area').length").await, json!(3));

    // Search by how the id begins, open the channel, close it.
    browser.type_into("input[name=q]", &channel.id().to_string()[..6]).await;
    browser.follow("form.search button").await;
    browser.follow("#list a.id").await;
    assert!(browser.text("#state").await.contains("321"));
    browser.follow("#state .actions a").await;
    assert!(browser.text("main").await.contains("This cannot be undone"));
    assert_eq!(rig.stored(&channel).await.close_requested_at_ms, None, "nothing was done yet");
    browser.type_into("#token", "not the token").await;
    browser.follow("form.act button").await;
    assert!(browser.text(".banner.bad").await.contains("wrong_token"));
    assert_eq!(rig.stored(&channel).await.close_requested_at_ms, None, "nothing was done");
    // The browser itself notes the 403; nothing else is wrong.
    assert!(browser.complaints().iter().all(|said| said.contains("403")));
    browser.type_into("#token", TOKEN).await;
    browser.type_into("#name", "night shift").await;
    browser.follow("form.act button").await;
    assert!(browser.text(".banner.good").await.contains("The close was asked for"));
    rig.closed(&channel, 321).await;
    browser.open(&url(&rig, 0, &format!("/channels/{}", channel.id()))).await;
    assert_eq!(browser.text("#state .badge").await, "closed");

    // And what failed is tried again from the list.
    browser.open(&url(&rig, 0, "/dead")).await;
    browser.follow("#dead a.button").await;
    browser.type_into("#token", TOKEN).await;
    browser.follow("form.act button").await;
    rig.closed(&dead, 75).await;
    assert_fits(&mut browser, "after all").await;
}

#[tokio::test]
async fn with_javascript_an_open_page_follows_and_leaves_alone_what_is_typed() {
    let rig = stack(1, &[]).await;
    let channel = paid(&rig, 321).await;
    rig.read_by_leader(&channel).await;
    let mut browser = Browser::start().await;
    browser.size(DESK.0, DESK.1, 1).await;
    browser.open(&url(&rig, 0, &format!("/channels/{}", channel.id()))).await;
    assert_eq!(browser.text("#state .badge").await, "open");
    browser.eval("window.untouched = true").await;
    browser.type_into("input[name=q]", "half an id").await;
    // Meanwhile the channel is closed elsewhere.
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    let closed = "document.querySelector('#state .badge').innerText === 'closed'";
    browser.wait_until("the page shows that the channel is closed", closed).await;
    assert_eq!(browser.eval("window.untouched").await, json!(true), "the page was not loaded anew");
    let typed = "[document.activeElement.name, document.activeElement.value]";
    assert_eq!(browser.eval(typed).await, json!(["q", "half an id"]));
    assert_fits(&mut browser, "a page that follows").await;

    // On the overview, what was opened stays open, and a link with the focus keeps it.
    browser.open(&url(&rig, 0, "")).await;
    browser.click("#numbers summary").await;
    let failed = failed(&rig, 75, Code::WrongPayee).await;
    let listed = "document.querySelector('#dead').innerText.includes('wrong_payee')";
    browser.wait_until("the failed close is listed", listed).await;
    browser.eval("document.querySelector('#dead .actions a').focus()").await;
    let more = paid(&rig, 900).await;
    let summed = "document.querySelector('#tiles').innerText.includes('975')";
    browser.wait_until("the new sum is shown", summed).await;
    assert_eq!(browser.eval("document.querySelector('#numbers').open").await, json!(true));
    let focused = browser.eval("document.activeElement.getAttribute('href')").await;
    assert_eq!(focused, json!(format!("/console/channels/{}", failed.id())));
    assert!(page(&rig, 0, &format!("/channels/{}", more.id())).await.contains("900"));
    assert_fits(&mut browser, "the overview that follows").await;

    // When nobody answers any more, the page says that it is old.
    let mut rig = rig;
    rig.settlers[0].kill();
    let stale = "document.querySelector('#freshness').innerText.includes('No answer since')";
    browser.wait_until("the page says that it is old", stale).await;
}

#[tokio::test]
async fn a_script_that_got_into_the_page_would_not_run() {
    let rig = stack(1, &[]).await;
    let mut browser = Browser::start().await;
    browser.open(&url(&rig, 0, "")).await;
    assert_eq!(browser.complaints(), Vec::<String>::new());
    browser
        .eval("{ const s = document.createElement('script'); s.text = 'window.ran = true'; document.body.append(s); }")
        .await;
    assert_eq!(browser.eval("window.ran === undefined").await, json!(true));
    let complaints = browser.complaints();
    assert!(complaints.iter().any(|said| said.contains("Content Security Policy")), "{complaints:?}");
}
