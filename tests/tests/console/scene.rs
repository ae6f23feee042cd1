//! A stack with a console, and channels in every state that there is.

use common::channel::Status;
use common::ids::ChannelId;
use common::problem::{Code, Problem};
use common::store::Store;
use common::store::listing::About;
use common::wire::{Outcome, PaymentAnswer};
use tests::issuer::{Route, Step};
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;

/// What a person must give to act.
pub(super) const TOKEN: &str = "correct horse battery staple";

/// The file that settlers read it from.
const TOKEN_FILE: &str = "actions.token";

/// A stack whose settlers measure often and act on `TOKEN`. `further` is config of the settlers.
pub(super) async fn stack(settlers: usize, further: &[(&'static str, &str)]) -> Rig {
    let mut rig = Rig::start(RigOptions::default()).await;
    std::fs::write(rig.dir().join(TOKEN_FILE), TOKEN).expect("a new file");
    let mut config = vec![
        ("console.actions_token", format!("file:{}", rig.dir().join(TOKEN_FILE).display())),
        // A machine that starts browsers is slow at times: a page must not fail for that.
        ("redis.command_timeout_ms", "2000".to_owned()),
        ("lease.ttl_ms", "8000".to_owned()),
        ("console.refresh_ms", "200".to_owned()),
        ("console.history_every_ms", "200".to_owned()),
    ];
    config.retain(|(key, _)| further.iter().all(|(instead, _)| instead != key));
    config.extend(further.iter().map(|(key, value)| (*key, (*value).to_owned())));
    for _ in 0..settlers {
        let settler = rig.spawn_settler(&config);
        settler.wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    }
    rig.leader().await;
    rig
}

/// A channel with capacity 1000 that has paid this much.
pub(super) async fn paid(rig: &Rig, amount: u64) -> Channel {
    let channel = rig.channel(1_000).await;
    let answer = rig.pay(0, &channel, amount).await.success::<PaymentAnswer>();
    assert_eq!(answer.outcome, Outcome::Accepted);
    channel
}

/// A channel that was closed.
pub(super) async fn closed(rig: &Rig, amount: u64) -> Channel {
    let channel = paid(rig, amount).await;
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    rig.closed(&channel, amount).await;
    channel
}

/// A channel that the issuer refused to settle, and would settle now.
pub(super) async fn failed(rig: &Rig, amount: u64, code: Code) -> Channel {
    let channel = paid(rig, amount).await;
    refuse(rig, code);
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    rig.in_status(&channel, Status::Failed).await;
    rig.front.heal();
    channel
}

/// Has the issuer refuse every settlement from now on.
pub(super) fn refuse(rig: &Rig, code: Code) {
    let problem = Problem::new(code);
    let problem = serde_json::to_string(&problem).expect("a problem is JSON");
    rig.front.always(Route::Settle, Step::Json(code.status(), problem));
}

/// The address of a page of the `i`th settler's console.
pub(super) fn url(rig: &Rig, i: usize, path: &str) -> String {
    format!("{}/console{path}", rig.settlers[i].admin_url())
}

/// A page of the `i`th settler's console.
pub(super) async fn page(rig: &Rig, i: usize, path: &str) -> String {
    let reply = rig.http.get(&url(rig, i, path)).await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.body
}

/// Waits until a page says something.
pub(super) async fn says(rig: &Rig, i: usize, path: &str, words: &str) {
    wait_until(SOON, &format!("{path} says {words}"), || async { page(rig, i, path).await.contains(words) })
        .await;
}

/// Asks for an action as a program does.
pub(super) async fn act(rig: &Rig, i: usize, path: &str, token: &str) -> tests::http::Reply {
    let form = format!("token={}&name=night+shift", token.replace(' ', "+"));
    rig.http.post_as(&url(rig, i, path), "application/x-www-form-urlencoded", form).await
}

/// The channels that were given up on, the newest first.
pub(super) async fn letters(store: &Store) -> Vec<ChannelId> {
    let mut found = Vec::new();
    for partition in 0..store.partitions() {
        for letter in store.newest_dead(partition, None, 100).await.expect("Redis answers") {
            if let About::Close(id) = letter.about {
                found.push((letter.entry, id));
            }
        }
    }
    found.sort_unstable();
    found.into_iter().rev().map(|(_, id)| id).collect()
}
