//! What a person may do: with the token alone, from any settler, with stable codes, and never to a pinned voucher.

use common::amount::Amount;
use common::channel::Status;
use common::problem::Code;
use serde_json::Value;
use tests::rig::Rig;

use super::scene::{self, TOKEN, act, closed, failed, page, paid, says, stack, url};

fn other(leader: usize) -> usize {
    1 - leader
}

#[tokio::test]
async fn a_close_asked_of_a_standby_is_done_by_the_leader() {
    let rig = stack(2, &[]).await;
    let channel = paid(&rig, 7).await;
    let standby = other(rig.leader().await);
    let done: Value = act(&rig, standby, &format!("/channels/{}/close", channel.id()), TOKEN).await.success();
    assert_eq!(
        (done["action"].as_str(), done["channel_id"].as_str()),
        (Some("close"), Some(&*channel.id().to_string()))
    );
    rig.closed(&channel, 7).await;
    says(&rig, standby, &format!("/channels/{}", channel.id()), "by the payee").await;
    let log = rig.log(&rig.settlers[standby]);
    let line = log.lines().find(|line| line.contains("an operator acts")).expect("it is logged");
    for word in [channel.id().to_string().as_str(), "close", "night shift", "127.0.0.1", "done"] {
        assert!(line.contains(word), "{line}");
    }
    assert!(!log.contains(TOKEN), "the token is nowhere");
}

#[tokio::test]
async fn a_failed_close_is_tried_again_for_the_same_amount() {
    let rig = stack(2, &[]).await;
    let channel = failed(&rig, 7, Code::WrongPayee).await;
    scene::refuse(&rig, Code::ChannelExpired);
    let leader = rig.leader().await;
    let path = format!("/channels/{}", channel.id());
    for i in [leader, other(leader)] {
        says(&rig, i, "/dead", "wrong_payee").await;
        says(&rig, i, &path, "Check payee_key").await;
    }
    // The issuer still refuses: the channel comes back.
    let done: Value = act(&rig, other(leader), &format!("{path}/retry"), TOKEN).await.success();
    assert_eq!(done["action"], "retry");
    says(&rig, leader, &path, "only the issuer can still pay").await;
    assert_eq!(rig.stored(&channel).await.state.status, Status::Failed);
    // Someone has talked to the issuer: now it settles what was pinned.
    rig.front.heal();
    act(&rig, leader, &format!("{path}/retry"), TOKEN).await.success::<Value>();
    let found = rig.closed(&channel, 7).await;
    assert_eq!((found.state.amount, found.last_error), (Amount::new(7), None));
    says(&rig, leader, "/dead", "Nothing was given up on").await;
    assert_eq!(rig.earned().await, 7);
    rig.assert_books_balance().await;
}

async fn refused(rig: &Rig, path: &str, token: &str, code: Code) {
    let before = rig.dump().await;
    let reply = act(rig, 0, path, token).await;
    let problem = reply.problem();
    assert_eq!((problem.code, reply.status), (code, code.status()), "{path}: {reply:?}");
    assert_eq!(rig.dump().await, before, "{path}: {code} was answered, and something was written");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_with_a_stable_code_and_changes_nothing() {
    let rare = ("console.history_every_ms", "600000");
    let rig = stack(1, &[("console.action_attempts_per_min", "100"), rare]).await;
    says(&rig, 0, "", "summed up").await;
    let (done, open) = (closed(&rig, 5).await, paid(&rig, 7).await);
    rig.read_by_leader(&open).await;
    let unknown = rig.channel(1_000).await;
    let close = |id: &common::ids::ChannelId| format!("/channels/{id}/close");
    for wrong in ["", "correct horse battery stapl", "correct horse battery staple!"] {
        refused(&rig, &close(&open.id()), wrong, Code::WrongToken).await;
    }
    refused(&rig, &close(&done.id()), TOKEN, Code::ChannelClosed).await;
    refused(&rig, &close(&unknown.id()), TOKEN, Code::UnknownChannel).await;
    refused(&rig, &format!("/channels/{}/retry", open.id()), TOKEN, Code::ChannelNotFailed).await;
    refused(&rig, &format!("/channels/{}/retry", unknown.id()), TOKEN, Code::UnknownChannel).await;
    refused(&rig, &format!("/channels/{}/delete", open.id()), TOKEN, Code::NotFound).await;
    refused(&rig, "/channels/nonsense/close", TOKEN, Code::Malformed).await;
    refused(&rig, "/dead/3/1-1/requeue", TOKEN, Code::UnknownEntry).await;
    refused(&rig, "/dead/99/1-1/requeue", TOKEN, Code::UnknownEntry).await;
    refused(&rig, "/dead/3/nonsense/requeue", TOKEN, Code::Malformed).await;
}

#[tokio::test]
async fn an_entry_that_was_given_up_on_is_put_back_and_read() {
    let rig = stack(1, &[]).await;
    let channel = paid(&rig, 7).await;
    rig.read_by_leader(&channel).await;
    let store = rig.store().await;
    let partition = store.partition_of(&channel.id());
    // As a settler leaves it that cannot read what another version wrote.
    let payment = format!("{}{}", Amount::new(7).to_lua(), "x".repeat(72));
    let id = channel.id().to_string();
    let letter = [
        "XADD",
        &store.keys().dead(partition),
        "*",
        "kind",
        "entry",
        "id",
        "1-1",
        "reason",
        "of another version",
        &id,
        &payment,
    ];
    let entry = rig.redis.command(&letter).await;
    says(&rig, 0, "/dead", "of another version").await;
    let before = rig.stored(&channel).await.state;
    act(&rig, 0, &format!("/dead/{partition}/{entry}/requeue"), TOKEN).await.success::<Value>();
    says(&rig, 0, "/dead", "Nothing was given up on").await;
    tests::wait_until(tests::rig::SOON, "the leader has read it", || async {
        store.partition_info(partition).await.is_ok_and(|info| info.entries == 0)
    })
    .await;
    assert_eq!(rig.stored(&channel).await.state, before, "no money moves");
}

#[tokio::test]
async fn who_guesses_is_slowed_down() {
    let rig = stack(1, &[("console.action_attempts_per_min", "3")]).await;
    let channel = paid(&rig, 7).await;
    let path = format!("/channels/{}/close", channel.id());
    for _ in 0..3 {
        assert_eq!(act(&rig, 0, &path, "a guess").await.problem().code, Code::WrongToken);
    }
    let reply = act(&rig, 0, &path, TOKEN).await;
    assert_eq!(reply.problem().code, Code::RateLimited);
    assert!(
        reply.retry_after.is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|s| (1..=60).contains(&s)))
    );
    assert_eq!(rig.stored(&channel).await.close_requested_at_ms, None);
}

#[tokio::test]
async fn without_a_token_the_console_shows_and_cannot_act() {
    let rig = stack(1, &[("console.actions_token", "null")]).await;
    let channel = paid(&rig, 7).await;
    let path = format!("/channels/{}", channel.id());
    let shown = page(&rig, 0, &path).await;
    assert!(shown.contains("Actions are turned off") && !shown.contains("Close…"), "{shown}");
    for token in ["", "null", TOKEN] {
        assert_eq!(act(&rig, 0, &format!("{path}/close"), token).await.problem().code, Code::ActionsDisabled);
    }
    assert_eq!(rig.stored(&channel).await.close_requested_at_ms, None);
}

#[tokio::test]
async fn a_post_from_another_site_is_refused_even_with_the_token() {
    let rig = stack(1, &[]).await;
    let channel = paid(&rig, 7).await;
    let client = reqwest::Client::new();
    for path in [format!("/channels/{}/close", channel.id()), "/audit".to_owned()] {
        let answer = client
            .post(url(&rig, 0, &path))
            .header("sec-fetch-site", "cross-site")
            .header("authorization", format!("Bearer {TOKEN}"))
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 403, "{path}");
    }
    assert_eq!(rig.stored(&channel).await.close_requested_at_ms, None);
    assert!(page(&rig, 0, "/audit").await.contains("None was run"));
    // The same from here, with the token in the header alone.
    let answer = client
        .post(url(&rig, 0, &format!("/channels/{}/close", channel.id())))
        .header("authorization", format!("Bearer {TOKEN}"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    rig.closed(&channel, 7).await;
}

#[tokio::test]
async fn a_console_that_is_turned_off_is_not_there() {
    let rig = stack(1, &[("console.enabled", "false")]).await;
    for path in ["", "/channels", "/style.css"] {
        assert_eq!(rig.http.get(&url(&rig, 0, path)).await.status, 404, "{path}");
    }
    assert_eq!(rig.redis.keys("*:history").await, Vec::<String>::new());
}
