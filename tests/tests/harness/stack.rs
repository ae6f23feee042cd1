//! Child processes: Redis, one service, and the whole stack.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use cli::stack::process::{Process, ProcessSpec, Role};
use cli::stack::redis::{RedisOptions, RedisServer};
use cli::stack::{Stack, StackOptions, StackSummary, free_port};
use common::amount::Amount;
use common::ids::{PublicKey, Signature};
use common::message;
use common::secret::write_signing_key;
use common::wire::{KeyCertificate, Outcome};
use ed25519_dalek::SigningKey;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::binaries;
use tests::payer::Payer;
use tests::{wait_for, wait_until};

const SOON: Duration = Duration::from_secs(20);

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie has ended; that nobody has asked how is another matter.
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn redis_that_refuses_its_options_shows_its_log() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let extra = vec![("no-such-option".to_owned(), "1".to_owned())];
    let options = RedisOptions { extra, ..RedisOptions::default() };
    let error = RedisServer::start(dir.path(), None, options).await.expect_err("a fatal option").to_string();
    assert!(error.starts_with("redis ended (exit status: 1) before it was ready"), "{error}");
    assert!(error.contains("no-such-option"), "{error}");
}

#[tokio::test]
async fn redis_on_a_port_that_is_taken_says_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let start = RedisServer::start(dir.path(), Some(port), RedisOptions::default());
    let error = start.await.expect_err("the port is taken").to_string();
    assert!(error.contains("Address already in use"), "{error}");
}

#[tokio::test]
async fn redis_stops_when_asked_and_starts_again_on_its_data() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = RedisServer::start(dir.path(), None, RedisOptions::default()).await.expect("a server");
    assert!(server.is_alive());
    assert!(server.stop().await.expect("it stops").success());
    assert!(!server.is_alive());
    let (pid, url) = (server.pid(), server.url());
    server.restart().await.expect("it comes back");
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), pid);
    let pid = server.pid();
    drop(server);
    assert!(!is_running(pid), "a server that is dropped is killed");
    assert!(dir.path().join("redis.log").is_file() && dir.path().join("appendonlydir").is_dir());
}

/// Not a test of its own: `child_dies_with_an_owner_that_is_killed` runs it as a process to be killed.
#[tokio::test]
#[ignore = "waits to be killed"]
async fn owner_of_a_redis() {
    let dir = std::env::var("OWNED_DIR").expect("set by the test that runs this");
    let server = RedisServer::start(Path::new(&dir), None, RedisOptions::default()).await.expect("a server");
    std::fs::write(Path::new(&dir).join("pid.new"), server.pid().to_string()).expect("writable");
    std::fs::rename(Path::new(&dir).join("pid.new"), Path::new(&dir).join("pid")).expect("writable");
    std::future::pending().await
}

#[tokio::test]
async fn child_dies_with_an_owner_that_is_killed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut owner = std::process::Command::new(std::env::current_exe().expect("this test's program"))
        .args(["--exact", "harness::stack::owner_of_a_redis", "--ignored"])
        .env("OWNED_DIR", dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("this program can be run");
    let pid_file = dir.path().join("pid");
    let pid: u32 = wait_for(SOON, "the owner has started its Redis", || async {
        std::fs::read_to_string(&pid_file).ok()?.parse().ok()
    })
    .await;
    assert!(is_running(pid));
    owner.kill().expect("the owner runs");
    owner.wait().expect("the owner was ours");
    wait_until(SOON, "the Redis of the killed owner has ended", || async { !is_running(pid) }).await;
}

fn issuer_spec(dir: &Path, signing_key: Option<&Path>) -> ProcessSpec {
    let (port, admin) = (free_port().expect("a free port"), free_port().expect("a free port"));
    let mut config = vec![
        ("listen".to_owned(), format!("127.0.0.1:{port}")),
        ("admin_listen".to_owned(), format!("127.0.0.1:{admin}")),
    ];
    config.extend(signing_key.map(|path| ("signing_key".to_owned(), format!("file:{}", path.display()))));
    ProcessSpec {
        name: "issuer".to_owned(),
        role: Role::Issuer,
        binary: binaries::each(),
        config,
        file: None,
        admin_url: format!("http://127.0.0.1:{admin}"),
        dir: dir.to_owned(),
    }
}

#[tokio::test]
async fn process_comes_up_stops_when_asked_and_comes_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let key = dir.path().join("issuer.key");
    write_signing_key(&key, &SigningKey::from_bytes(&[1; 32])).expect("a new file");
    let mut issuer = Process::spawn(issuer_spec(dir.path(), Some(&key))).expect("the program runs");
    issuer.wait_ready(SOON).await.expect("it is ready");
    assert!(issuer.is_alive());
    assert!(issuer.stop(SOON).await.expect("it stops").success());
    assert!(issuer.signal(Signal::SIGTERM).is_err(), "no signal is sent to an id that may be another's");

    issuer.restart().expect("the program runs");
    issuer.wait_ready(SOON).await.expect("it is ready again");
    issuer.kill();
    assert!(!issuer.wait_exit(SOON).await.expect("it has ended").success());
}

#[tokio::test]
async fn process_that_ends_early_shows_its_log() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut issuer = Process::spawn(issuer_spec(dir.path(), None)).expect("the program runs");
    let error = issuer.wait_ready(SOON).await.expect_err("it has no key").to_string();
    assert!(error.starts_with("issuer ended (exit status: 1) before it was ready"), "{error}");
    assert!(error.contains("signing_key"), "{error}");
}

#[tokio::test]
async fn stack_takes_a_payment_stops_in_order_and_starts_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = || StackOptions::new(dir.path(), binaries::millrace());
    let stack = Stack::start(options()).await.expect("the stack starts");
    let channel = Payer::register(&stack.issuer_url()).await.channel(stack.payee()).open().await;
    let answer = channel.pay(&stack.relayer_url(0), 5).await.expect("an answer");
    assert_eq!(answer.body.expect("taken").outcome, Outcome::Accepted);
    let answer = channel.pay(&stack.relayer_url(1), 5).await.expect("an answer");
    assert_eq!(answer.body.expect("taken").outcome, Outcome::Duplicate);

    let (payee, summary) = (stack.payee(), stack.summary());
    let report = stack.stop().await;
    assert!(report.is_clean(), "{report:?}");
    let order: Vec<&str> = report.exits.iter().map(|exit| exit.name.as_str()).collect();
    assert_eq!(order, ["relayer-0", "relayer-1", "settler-0", "issuer", "redis"]);
    assert!(!is_running(summary.issuer.pid.expect("an issuer")), "nothing is left");

    let stack = Stack::start(options()).await.expect("the stack starts again");
    assert_eq!(stack.payee(), payee, "keys are kept");
    let answer = channel.pay(&stack.relayer_url(0), 5).await.expect("an answer");
    assert_eq!(answer.body.expect("taken").outcome, Outcome::Duplicate, "and so are payments");
}

#[tokio::test]
async fn stack_with_receipts_gives_payers_the_payees_signed_word() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| dir.path().join(name);
    let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
    write_signing_key(&file(cli::stack::PAYEE_KEY), &key(5)).expect("a new file");
    write_signing_key(&file("receipts.key"), &key(6)).expect("a new file");
    let certificate = KeyCertificate {
        key: PublicKey::of(&key(6)),
        expires_at: 4_102_444_800,
        signature: Signature::of(&key(5), &message::receipt_key(&PublicKey::of(&key(6)), 4_102_444_800)),
    };
    let json = serde_json::to_string(&certificate).expect("JSON");
    std::fs::write(file("receipts.json"), json).expect("writable");
    let mut options = StackOptions::new(dir.path(), binaries::millrace());
    options.relayers = 1;
    options.config.relayer = vec![
        ("receipts.enabled".to_owned(), "true".to_owned()),
        ("receipts.signing_key".to_owned(), format!("file:{}", file("receipts.key").display())),
        ("receipts.certificate".to_owned(), file("receipts.json").display().to_string()),
    ];
    let stack = Stack::start(options).await.expect("the stack starts");
    let payer = Payer::register(&stack.issuer_url()).await;
    let channel = payer.channel(stack.payee()).open().await;
    for outcome in [Outcome::Accepted, Outcome::Duplicate] {
        let answer = channel.pay(&stack.relayer_url(0), 5).await.expect("an answer").body.expect("taken");
        assert_eq!(answer.outcome, outcome);
        let receipt = answer.receipt.expect("receipts are enabled");
        assert_eq!(receipt.check(&stack.payee(), &channel.id(), Amount::new(5)), Ok(()));
        assert!(receipt.check(&stack.payee(), &channel.id(), Amount::new(6)).is_err());
    }
    let refused = channel.pay(&stack.relayer_url(0), 4).await.expect("an answer");
    assert_eq!(refused.code(), Some("stale_amount"));
}

#[tokio::test]
async fn stack_on_a_given_redis_and_ports_says_where_everything_is() {
    let redis = tests::redis::Redis::start().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut options = StackOptions::new(dir.path(), binaries::millrace());
    options.redis_url = Some(redis.url());
    options.settlers = 2;
    // Far from where the kernel takes ports that nobody asked for by number.
    options.port_base = Some(21_000);
    let mut stack = Stack::start(options).await.expect("the stack starts");

    let json = serde_json::to_value(stack.summary()).expect("JSON");
    let pids: Vec<u32> = stack.relayers.iter().chain(&stack.settlers).map(Process::pid).collect();
    let expected = serde_json::json!({
        "redis_url": redis.url(),
        "issuer_url": "http://127.0.0.1:21000",
        "relayers": [
            { "url": "http://127.0.0.1:21010", "admin_url": "http://127.0.0.1:21011", "pid": pids[0] },
            { "url": "http://127.0.0.1:21012", "admin_url": "http://127.0.0.1:21013", "pid": pids[1] },
        ],
        "settlers": [
            { "admin_url": "http://127.0.0.1:21100", "pid": pids[2] },
            { "admin_url": "http://127.0.0.1:21101", "pid": pids[3] },
        ],
        "issuer": { "pid": stack.issuer.pid() },
        "redis": { "pid": null },
        "payee": stack.payee(),
    });
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<StackSummary>(json).expect("a summary"), stack.summary());

    // One part can be killed and started again while the others go on.
    stack.relayers[0].kill();
    assert!(stack.relayers[1].is_alive());
    stack.relayers[0].restart().expect("the program runs");
    stack.relayers[0].wait_ready(SOON).await.expect("it is ready again");
    let pid = i32::try_from(stack.relayers[0].pid()).expect("process ids fit");
    kill(Pid::from_raw(pid), None).expect("it runs");
}
