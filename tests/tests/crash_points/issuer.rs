//! An issuer that dies or freezes after it has committed a settlement and before it answers.

use std::time::Duration;

use cli::stack::{RoleConfig, Stack, StackOptions};
use common::amount::Amount;
use common::channel::Status;
use common::config::RedisConfig;
use common::store::Store;
use common::wire::{IssuerStatus, Outcome, Receipt};
use nix::sys::signal::Signal;
use service::issuer_client::IssuerClient;
use tests::payer::{Channel, Payer, issuer_client};
use tests::rig::{FaultPoint, SOON};
use tests::{binaries, wait_for};

/// How long the settler waits for an answer.
const REQUEST_TIMEOUT_MS: u64 = 1_000;

struct Scene {
    stack: Stack,
    issuer: IssuerClient,
    channel: Channel,
    held: FaultPoint,
    _dir: tempfile::TempDir,
}

/// A channel that has paid 9 is being closed, and the issuer has committed it.
async fn committed() -> Scene {
    let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
    let mut options = StackOptions::new(dir.path(), binaries::each());
    options.relayers = 1;
    let timeout = ("issuer.request_timeout_ms".to_owned(), REQUEST_TIMEOUT_MS.to_string());
    options.config = RoleConfig { settler: vec![timeout], ..RoleConfig::default() };
    let stack = Stack::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    let payer = Payer::register(&stack.issuer_url()).await;
    let channel = payer.channel(stack.payee()).capacity(1_000).open().await;
    let answer = channel.pay(&stack.relayer_url(0), 9).await.expect("an answer");
    assert_eq!(answer.body.expect("taken").outcome, Outcome::Accepted);
    let held = FaultPoint::arm(&stack.issuer, "settlement_committed");
    channel.close(&stack.relayer_url(0)).await.expect("an answer").body.expect("noted");
    held.reached().await;
    let issuer = issuer_client(&stack.issuer_url());
    Scene { stack, issuer, channel, held, _dir: dir }
}

/// The receipt that was committed, as the issuer gives it to whoever asks for the channel.
async fn receipt(scene: &Scene) -> Receipt {
    let channel = wait_for(SOON, "the issuer answers", || async {
        scene.issuer.channel(&scene.channel.id()).await.ok().flatten()
    })
    .await;
    assert_eq!((channel.status, channel.settled_amount), (IssuerStatus::Closed, Amount::new(9)));
    channel.receipt.expect("closed")
}

/// The channel is closed with the receipt that was committed first, and it was paid once.
async fn closed_with(scene: &Scene, first: Receipt) {
    let config = RedisConfig { url: scene.stack.redis_url().to_owned(), ..RedisConfig::default() };
    let store = Store::connect(&config).expect("a private server's URL is valid");
    store.wait_connected(SOON).await.expect("the server is up");
    let found = wait_for(SOON, "the channel is closed", || async {
        let found = store.channel(&scene.channel.id()).await.expect("Redis answers")?;
        (found.state.status == Status::Closed).then_some(found)
    })
    .await;
    assert_eq!(found.receipt, Some(first));
    assert!(found.attempts >= 1, "the first answer was lost");
    let account = scene.issuer.account(&scene.stack.payee()).await.expect("the payee has an account");
    let earned: u64 = account.balances.iter().map(|balance| balance.available.units()).sum();
    assert_eq!(earned, issuer::Config::default().development.starting_balance.units() + 9);
    assert!(scene.issuer.books().await.expect("the issuer answers").balanced);
}

#[tokio::test]
async fn stack_issuer_killed_after_it_committed_gives_the_same_receipt_when_it_is_back() {
    let mut scene = committed().await;
    scene.stack.issuer.restart().expect("the program runs");
    scene.stack.issuer.wait_ready(SOON).await.expect("it comes back");
    let first = receipt(&scene).await;
    closed_with(&scene, first).await;
}

#[tokio::test]
async fn stack_issuer_paused_after_it_committed_is_asked_again_and_pays_once() {
    let mut scene = committed().await;
    scene.stack.issuer.signal(Signal::SIGSTOP).expect("it runs");
    // The settler gives up on its answer, and asks again.
    let settler = scene.stack.settlers[0].admin_url().to_owned();
    let timeouts = "millrace_settler_issuer_seconds_count{outcome=\"unavailable\"}";
    wait_for(SOON + Duration::from_millis(REQUEST_TIMEOUT_MS), "the settler gave up waiting", || async {
        let text = reqwest::get(format!("{settler}/metrics")).await.ok()?.text().await.ok()?;
        let line = text.lines().find(|line| line.starts_with(timeouts))?;
        line.rsplit(' ').next()?.parse::<u64>().ok().filter(|count| *count > 0)
    })
    .await;
    scene.held.let_go();
    scene.stack.issuer.signal(Signal::SIGCONT).expect("it is there");
    let first = receipt(&scene).await;
    closed_with(&scene, first).await;
}
