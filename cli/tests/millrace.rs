//! The program as people and scripts run it: exit codes, what goes to stdout, and a whole stack up and down.

#[path = "millrace/relayer.rs"]
mod relayer;
#[path = "millrace/schemes.rs"]
mod schemes;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cli::stack::StackSummary;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn millrace(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.current_dir(dir).args(args).stdin(Stdio::null());
    // What the caller's shell points at is not what is tested here.
    for name in ["KEY", "PAYEE", "ISSUER_URL", "RELAYER_URL", "RELAYER_URLS", "REDIS_URL"] {
        command.env_remove(format!("MILLRACE_{name}"));
    }
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    millrace(dir, args).output().expect("millrace runs")
}

fn stdout_json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), 1, "one document: {text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).expect("JSON")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A development stack, killed when dropped.
struct Dev {
    child: Child,
    summary: StackSummary,
}

impl Dev {
    fn start(dir: &Path) -> Dev {
        // Below the ports that the system hands out, and apart from other runs of this test.
        let base = (10_000 + std::process::id() % 90 * 220).to_string();
        let mut child = millrace(dir, &["dev", "--json", "--dir", "stack", "--port-base", &base])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("millrace runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        Dev { child, summary: serde_json::from_str(&line).expect("the documented line") }
    }

    fn pids(&self) -> Vec<u32> {
        let services = self.summary.relayers.iter().map(|relayer| relayer.pid);
        let services = services.chain(self.summary.settlers.iter().map(|settler| settler.pid));
        services.chain(self.summary.issuer.pid).chain(self.summary.redis.pid).collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_running(pid: u32) -> bool {
    kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), None).is_ok()
}

#[test]
fn demo_ends_with_nothing_missing() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let output = run(dir.path(), &["demo", "--json", "--payers", "10", "--payments", "600"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let ending = stdout_json(&output);
    assert_eq!(ending["audit"]["drift"], "0");
    assert_eq!(ending["audit"]["closed"], 10);
    assert_eq!(ending["audit"]["settled"], "4200");
    assert_eq!(ending["load"]["acknowledged"], 600);
    assert!(ending["failover_ms"].as_u64().is_some_and(|ms| ms > 0), "{ending}");
}

#[test]
fn a_payer_can_open_pay_and_close_and_the_audit_sees_it_all() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let mut dev = Dev::start(dir.path());
    let summary = dev.summary.clone();
    let payee = summary.payee.to_string();
    let go = |args: &[&str]| {
        millrace(dir.path(), args)
            .env("MILLRACE_ISSUER_URL", &summary.issuer_url)
            .env("MILLRACE_RELAYER_URL", &summary.relayers[0].url)
            .env("MILLRACE_REDIS_URL", &summary.redis_url)
            .output()
            .expect("millrace runs")
    };
    assert!(go(&["keys", "new", "payer.key"]).status.success());
    let early = go(&["channel", "open", "--key", "payer.key", "--payee", &payee, "--capacity", "100"]);
    assert_eq!(early.status.code(), Some(1));
    assert!(stderr(&early).contains("unknown_account") && stderr(&early).lines().count() == 1);
    assert!(go(&["account", "register", "--key", "payer.key"]).status.success());
    let opened = go(&["channel", "open", "--key", "payer.key", "--payee", &payee, "--capacity", "100"]);
    let channel = String::from_utf8_lossy(&opened.stdout).trim().to_owned();

    assert!(go(&["pay", &channel, "--key", "payer.key", "--add", "5", "--count", "3"]).status.success());
    let again = stdout_json(&go(&["pay", &channel, "--key", "payer.key", "--amount", "15", "--json"]));
    assert_eq!(again["outcome"], "duplicate");
    let stale = go(&["pay", &channel, "--key", "payer.key", "--amount", "14"]);
    assert!(
        stderr(&stale).contains("stale_amount") && stderr(&stale).contains("latest 15"),
        "{}",
        stderr(&stale)
    );

    assert!(go(&["audit"]).status.success(), "open channels are pending, not wrong");
    assert_eq!(go(&["audit", "--expect-closed"]).status.code(), Some(1));
    let closed = stdout_json(&go(&["channel", "close", &channel, "--key", "payer.key", "--wait", "--json"]));
    assert_eq!(closed["receipt"]["settled_amount"], "15");
    let receipt =
        stdout_json(&go(&["channel", "show", &channel, "--from", "issuer", "--json"]))["receipt"].clone();
    a_receipt_is_verified_offline(dir.path(), &closed, &receipt);
    let line = format!(
        r#"{{"channel_id":"{channel}","cumulative_amount":"16","expires_at":0,"signature":"{}","outcome":"accepted","relayer":"x","at_ms":0}}"#,
        closed["latest"]["signature"].as_str().expect("a signature")
    );
    std::fs::write(dir.path().join("ledger.ndjson"), line + "\n").expect("writable");
    let lost = go(&["audit", "--ledger", "ledger.ndjson", "--expect-closed", "--json"]);
    assert_eq!(lost.status.code(), Some(1));
    let report = stdout_json(&lost);
    assert_eq!(report["drift"], "1");
    assert_eq!(report["violations"][0]["kind"], "acknowledged_not_recorded");

    for look in [
        &["inspect", "leader"][..],
        &["inspect", "partitions"],
        &["inspect", "channels"],
        &["inspect", "channel", &channel],
        &["inspect", "dead"],
        &["inspect", "keys"],
        &["doctor"],
        &["channel", "list"],
        &["channel", "show", &channel],
        &["channel", "show", &channel, "--from", "issuer"],
    ] {
        let output = go(&[look, &["--json"]].concat());
        assert!(output.status.success(), "{look:?}: {}", stderr(&output));
        stdout_json(&output);
    }
    assert_eq!(
        go(&["recover", "--payee", &payee]).status.code(),
        Some(1),
        "there is nothing to recover from"
    );

    let pids = dev.pids();
    assert_eq!(pids.len(), 6, "two relayers, two settlers, issuer, Redis");
    let dev_pid = i32::try_from(dev.child.id()).expect("a process id");
    kill(Pid::from_raw(dev_pid), Signal::SIGTERM).expect("it runs");
    assert!(dev.child.wait().expect("it ends").success());
    let start = Instant::now();
    while pids.iter().any(|pid| is_running(*pid)) {
        assert!(start.elapsed() < Duration::from_secs(10), "parts outlive the stack");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The channel as the relayer gave it, the receipt as the issuer gave it; and neither once it was changed.
fn a_receipt_is_verified_offline(dir: &Path, closed: &Value, receipt: &Value) {
    let issuer = closed["terms"]["issuer"].as_str().expect("a key");
    let verify = |value: &Value| {
        std::fs::write(dir.join("receipt.json"), value.to_string()).expect("writable");
        // Nobody can be asked: there is no such address.
        millrace(dir, &["verify", "receipt", "receipt.json", "--issuer", issuer, "--json"])
            .env("MILLRACE_ISSUER_URL", "http://127.0.0.1:1")
            .output()
            .expect("millrace runs")
    };
    assert_eq!(&closed["receipt"], receipt);
    for good in [closed, receipt] {
        let proven = stdout_json(&verify(good));
        assert_eq!((&proven["settled_amount"], &proven["closed"]), (&"15".into(), &true.into()));
        assert_eq!(proven["batch"]["root"], receipt["inclusion"]["root"]);
    }
    let mut tampered = receipt.clone();
    tampered["settled_amount"] = "16".into();
    let output = verify(&tampered);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty() && stderr(&output).lines().count() == 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("settled_amount"), "{}", stderr(&output));

    let mut from_stdin = millrace(dir, &["verify", "receipt", "-", "--issuer", issuer])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("millrace runs");
    let mut stdin = from_stdin.stdin.take().expect("piped");
    stdin.write_all(receipt.to_string().as_bytes()).expect("it reads");
    drop(stdin);
    let output = from_stdin.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("leaf ") && text.contains("proven"), "{text}");
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    let dir = tempfile::tempdir().expect("a temp dir");
    for usage in [
        &["pay"][..],
        &["no-such-command"],
        &["load", "--payee", "x"],
        &["keys", "new"],
        &["verify", "receipt", "x.json"],
    ] {
        assert_eq!(run(dir.path(), usage).status.code(), Some(2), "{usage:?}");
    }
    let nobody = run(dir.path(), &["channel", "list", "--issuer-url", "http://127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(stderr(&nobody).contains("--issuer-url"), "{}", stderr(&nobody));
    assert!(nobody.stdout.is_empty());
}
