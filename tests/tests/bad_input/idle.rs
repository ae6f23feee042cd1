//! Ten thousand connections that do nothing any more.

use futures::future::join_all;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::rig::{Rig, SOON};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::raw::{connect, resident_kib, rig_with, still_serves};

/// Connections, where the system lets a process have as many.
const CONNECTIONS: u64 = 10_000;

/// Descriptors that test and relayer need besides.
const OTHER_FILES: u64 = 500;

/// What one of them may cost, in bytes: 64 MiB for ten thousand.
const BYTES_EACH_MAX: u64 = 64 * 1024 * 1024 / CONNECTIONS;

/// How many files this process and its children may have open, raised as far as it goes.
fn files_max() -> u64 {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the system knows its limits");
    let wanted = hard.min(CONNECTIONS + OTHER_FILES);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).expect("up to the hard limit anyone may go");
    }
    soft.max(wanted)
}

/// A connection that is kept after an answer.
async fn idle(rig: &Rig) -> TcpStream {
    let mut stream = connect(rig).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: relayer\r\n\r\n").await.expect("an open connection");
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 404");
    stream
}

#[tokio::test]
async fn ten_thousand_idle_connections_cost_little_memory_and_keep_nobody_from_paying() {
    let count = CONNECTIONS.min(files_max() - OTHER_FILES);
    let rig = rig_with(&[("http.connections_max", "11000"), ("http.header_timeout_ms", "120000")]).await;
    let channel = rig.channel(1_000).await;
    still_serves(&rig, &channel, 1).await;
    let before = resident_kib(&rig);
    let mut connections = Vec::new();
    while (connections.len() as u64) < count {
        let at_once = (count - connections.len() as u64).min(200);
        connections.extend(join_all((0..at_once).map(|_| idle(&rig))).await);
    }
    // A connection waits in the system's queue until the relayer takes it: then it has them all.
    let fds = format!("/proc/{}/fd", rig.relayers[0].pid());
    tests::wait_until(SOON, "the relayer holds every connection", || async {
        std::fs::read_dir(&fds).expect("a running process has files").count() as u64 >= count
    })
    .await;
    for amount in 2..=50 {
        still_serves(&rig, &channel, amount).await;
    }
    let grown_kib = resident_kib(&rig).saturating_sub(before);
    let each = grown_kib * 1024 / count;
    eprintln!("{count} idle connections: {before} KiB before, {grown_kib} KiB more, {each} bytes each");
    assert!(each < BYTES_EACH_MAX, "{each} bytes for each of {count} idle connections");
    drop(connections);
}
