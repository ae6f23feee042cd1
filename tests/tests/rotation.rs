//! A payee changes its signing key while it sells: channels of the old key go on until they are closed, new ones are
//! opened to the new key, and a settler that lacks a key which is still needed says so and gives nothing up.

use std::path::PathBuf;

use common::amount::Amount;
use common::channel::Status;
use common::ids::PublicKey;
use common::secret::write_signing_key;
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use tests::binaries;
use tests::issuer::{Route, Step};
use tests::load::{Load, Paid};
use tests::payer::Channel;
use tests::rig::{ConfigFile, Rig, RigOptions, SOON};
use tests::{wait_for, wait_until};

/// A rig whose relayers and settlers have files, and the payee's next key.
struct Scene {
    rig: Rig,
    relayers: Vec<ConfigFile>,
    settlers: Vec<ConfigFile>,
    next: PublicKey,
}

impl Scene {
    async fn start(relayers: usize, settlers: usize) -> Scene {
        let rig = Rig::start(RigOptions { relayers: 0, ..RigOptions::default() }).await;
        let next = SigningKey::from_bytes(&rand::random());
        write_signing_key(&rig.dir().join("next.key"), &next).expect("a new file");
        let next = PublicKey::of(&next);
        rig.issuer.client().register(&next).await.expect("the issuer registers any key");
        let mut scene = Scene { relayers: Vec::new(), settlers: Vec::new(), next, rig };
        let rig = &mut scene.rig;
        for i in 0..settlers {
            let mut file = ConfigFile::new(rig.dir().join(format!("settler-{i}.yaml")));
            file.set("payee_key", reference(rig, "payee")).set("journal.url", journal(rig));
            file.set("journal.segment_max_age_ms", 50);
            let settler = rig.spawn_settler_from(Some(&file), &[]);
            settler.wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
            scene.settlers.push(file);
        }
        for i in 0..relayers {
            let mut file = ConfigFile::new(rig.dir().join(format!("relayer-{i}.yaml")));
            file.set("payee", rig.payee().to_string());
            let relayer = rig.spawn_relayer_from(Some(&file), &[]);
            relayer.wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
            scene.relayers.push(file);
        }
        scene
    }

    /// Gives every process other keys, one process after the other, as a roll-out does.
    async fn roll(&mut self, current: PublicKey, further: &[PublicKey]) {
        let name = |key: PublicKey| if key == self.next { "next" } else { "payee" };
        for (file, process) in self.settlers.iter_mut().zip(&mut self.rig.settlers) {
            let secret =
                |key| format!("file:{}", process.spec().dir.join(format!("{}.key", name(key))).display());
            file.set("payee_key", secret(current));
            file.set("further_payee_keys", further.iter().map(|key| secret(*key)).collect::<Vec<_>>());
            assert!(process.stop(SOON).await.expect("it stops").success());
            process.restart().expect("the program runs");
            process.wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
        }
        for (file, process) in self.relayers.iter_mut().zip(&mut self.rig.relayers) {
            file.set("payee", current.to_string());
            file.set("further_payees", further.iter().map(PublicKey::to_string).collect::<Vec<_>>());
            assert!(process.stop(SOON).await.expect("it stops").success());
            process.restart().expect("the program runs");
            process.wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Open channels of fresh payers, for this key.
    async fn channels(&self, payee: PublicKey, count: usize) -> Vec<Channel> {
        let mut channels = Vec::new();
        for _ in 0..count {
            channels.push(self.rig.payer().await.channel(payee).capacity(1_000_000).open().await);
        }
        channels
    }

    /// What `millrace` prints, and whether it succeeded.
    async fn millrace(&self, args: &[&str]) -> (bool, Value) {
        let output = tokio::process::Command::new(binaries::path("millrace"))
            .arg("--json")
            .args(args)
            .env("MILLRACE_REDIS_URL", self.rig.redis.url())
            .env("MILLRACE_ISSUER_URL", self.rig.issuer.url())
            .output()
            .await
            .expect("the program runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let first = text.lines().next().unwrap_or_default();
        let json = serde_json::from_str(first)
            .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.success(), json)
    }

    /// What a key has earned.
    async fn earned(&self, payee: PublicKey) -> u64 {
        let start = issuer::Config::default().development.starting_balance.units();
        self.rig.balance(&payee).await.0 - start
    }

    /// Has payers ask for the close of all their channels, and waits until each is settled for what was acknowledged, or
    /// for the one payment more that was under way.
    async fn close_all(&self, paid: &[Paid]) -> u64 {
        let mut sum = 0;
        for Paid { channel, acknowledged, presented, .. } in paid {
            channel.close(self.rig.relayer(0)).await.expect("an answer").body.expect("noted");
            let settled = self.rig.settled(channel).await.settled_amount.units();
            assert!(
                (*acknowledged..=*presented).contains(&settled),
                "{acknowledged}, {settled}, {presented}"
            );
            self.rig.closed(channel, settled).await;
            sum += settled;
        }
        sum
    }
}

fn reference(rig: &Rig, name: &str) -> String {
    format!("file:{}", rig.dir().join(format!("{name}.key")).display())
}

fn journal(rig: &Rig) -> String {
    let dir: PathBuf = rig.dir().join("journal");
    dir.display().to_string()
}

/// The code of the refusal of a payment, if it was refused.
async fn refusal(scene: &Scene, channel: &Channel, amount: u64) -> Option<&'static str> {
    channel.pay(scene.rig.relayer(0), amount).await.expect("an answer").code()
}

#[tokio::test]
async fn stack_changes_the_payees_key_under_load_and_settles_the_channels_of_both_exactly() {
    let mut scene = Scene::start(2, 2).await;
    let (old, next) = (scene.rig.payee(), scene.next);
    let early = scene.channels(next, 1).await;
    assert_eq!(refusal(&scene, &early[0], 5).await, Some("wrong_payee"), "nobody has said so yet");
    let urls = [scene.rig.relayer(0).to_owned(), scene.rig.relayer(1).to_owned()];
    let urls = urls.each_ref().map(String::as_str);
    let of_old = Load::start(&scene.channels(old, 8).await, &urls);
    of_old.wait_for(100, SOON).await;

    // Known beside the old one; then first, once nobody lacks it.
    scene.roll(old, &[next]).await;
    let of_next = Load::start(&scene.channels(next, 8).await, &urls);
    of_next.wait_for(100, SOON).await;
    scene.roll(next, &[old]).await;
    of_old.wait_for(100, SOON).await;
    of_next.wait_for(100, SOON).await;
    let (of_old, of_next) = (of_old.stop().await, of_next.stop().await);
    assert_eq!(of_old.iter().chain(&of_next).filter(|paid| paid.acknowledged == 0).count(), 0);

    let retired = old.to_string();
    let (free, status) = scene.millrace(&["keys", "status", "--retired", &retired]).await;
    assert!(!free, "{status}");
    let in_use = status["payees"].as_array().expect("a list").iter();
    assert!(
        in_use.clone().any(|used| used["payee"] == retired.as_str() && used["channels"] == 8),
        "{status}"
    );
    let from_old = scene.close_all(&of_old).await;
    let (free, status) = scene.millrace(&["keys", "status", "--retired", &retired]).await;
    assert!(free, "{status}");

    // Nothing needs the old key any more.
    scene.roll(next, &[]).await;
    let late = scene.channels(old, 1).await;
    assert_eq!(refusal(&scene, &late[0], 5).await, Some("wrong_payee"));
    let from_next = scene.close_all(&of_next).await;
    assert_eq!((scene.earned(old).await, scene.earned(next).await), (from_old, from_next));
    scene.rig.assert_books_balance().await;
    let place = journal(&scene.rig);
    let key = scene.rig.issuer.public_key().to_string();
    let verify = ["journal", "verify", "--issuer", &key, "--url", &place];
    wait_until(SOON, "all is in one journal under both keys, and whole", || async {
        let (whole, journaled) = scene.millrace(&verify).await;
        assert!(whole, "{journaled}");
        journaled["settlements"] == 16
    })
    .await;
    let (clean, audit) = scene.millrace(&["audit", "--expect-closed", "--journal", &place]).await;
    assert!(clean, "{audit}");
    assert_eq!(audit["drift"], "0", "{audit}");
}

#[tokio::test]
async fn a_settler_without_a_key_that_is_still_needed_says_so_and_gives_nothing_up() {
    let mut scene = Scene::start(1, 1).await;
    let (old, next) = (scene.rig.payee(), scene.next);
    scene.roll(old, &[next]).await;
    let channels = scene.channels(old, 3).await;
    for channel in &channels {
        assert_eq!(refusal(&scene, channel, 7).await, None);
    }
    // One whose close has begun already, one whose close will be asked for, and one that is open.
    let [begun, asked, open] = channels.as_slice() else { panic!("three channels") };
    scene.rig.front.always(Route::Settle, Step::Status(503));
    begun.close(scene.rig.relayer(0)).await.expect("an answer").body.expect("noted");
    scene.rig.in_status(begun, Status::Closing).await;

    let (file, process) = (&mut scene.settlers[0], &mut scene.rig.settlers[0]);
    file.set("payee_key", format!("file:{}", process.spec().dir.join("next.key").display()));
    file.set("further_payee_keys", json!([]));
    assert!(process.stop(SOON).await.expect("it stops").success());
    scene.rig.front.heal();
    let process = &mut scene.rig.settlers[0];
    process.restart().expect("the program runs");
    let words = "pay a key that is not configured";
    let reason = scene.rig.not_ready(&scene.rig.settlers[0], words).await;
    assert!(reason.contains(&old.to_string()) && reason.contains("further_payee_keys"), "{reason}");
    let admin = scene.rig.settlers[0].admin_url().to_owned();
    // It says so by itself, and by its figures once it leads.
    wait_until(SOON, "it counts them", || async {
        scene.rig.metric(&admin, "millrace_settler_keyless_channels").await == Some(3)
    })
    .await;

    // It leads all the same: what it can settle, it does.
    let other = scene.channels(next, 1).await.remove(0);
    assert_eq!(refusal(&scene, &other, 3).await, None);
    for channel in [asked, &other] {
        channel.close(scene.rig.relayer(0)).await.expect("an answer").body.expect("noted");
    }
    scene.rig.closed(&other, 3).await;
    let store = scene.rig.store().await;
    let due = store.keys().due(store.partition_of(&open.id()));
    scene.rig.redis.command(&["ZADD", &due, "0", &open.id().to_string()]).await;
    wait_until(SOON, "the open one was looked at and put off", || async {
        let now_ms = common::clock::Clock::system().now_ms();
        let due = store.due_at(&open.id()).await.expect("Redis answers");
        due.is_some_and(|due| due > now_ms + 1_000)
    })
    .await;
    for channel in [open, asked] {
        let found = scene.rig.stored(channel).await;
        assert_eq!((found.state.status, found.state.amount), (Status::Open, Amount::new(7)));
    }
    let put_off = wait_for(SOON, "the close that had begun is put off", || async {
        let found = scene.rig.stored(begun).await;
        let words = "is not configured";
        found.last_error.as_ref().is_some_and(|error| error.contains(words)).then_some(found)
    })
    .await;
    assert_eq!(put_off.state.status, Status::Closing, "and is not given up");

    // The key is put back: everything is settled.
    scene.roll(next, &[old]).await;
    open.close(scene.rig.relayer(0)).await.expect("an answer").body.expect("noted");
    for channel in &channels {
        scene.rig.closed(channel, 7).await;
    }
    assert_eq!((scene.earned(old).await, scene.earned(next).await), (21, 3));
    scene.rig.assert_books_balance().await;
}
