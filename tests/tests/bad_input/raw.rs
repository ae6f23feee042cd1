//! Sockets without an HTTP client around them.

use std::time::Duration;

use tests::payer::Channel;
use tests::rig::{Rig, RigOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long anything may take here that is bounded by a timeout of a second or less.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// One relayer with this config.
pub(crate) async fn rig_with(config: &[(&'static str, &str)]) -> Rig {
    let relayer = config.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    Rig::start(RigOptions { relayer, ..RigOptions::default() }).await
}

/// A connection to the first relayer of a rig.
pub(crate) async fn connect(rig: &Rig) -> TcpStream {
    TcpStream::connect(rig.relayer(0).trim_start_matches("http://")).await.expect("the relayer listens")
}

/// A connection on which this was sent.
pub(crate) async fn sent(rig: &Rig, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = connect(rig).await;
    // It may have been closed on us before all was sent.
    let _ = stream.write_all(bytes.as_ref()).await;
    stream
}

/// Everything that comes until the relayer closes the connection.
///
/// # Panics
/// It does not within [`BOUND`].
pub(crate) async fn until_closed(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = async {
        let mut chunk = [0; 4_096];
        // A reset is an end as well: bytes that the relayer never read were on their way.
        while let Ok(length @ 1..) = stream.read(&mut chunk).await {
            bytes.extend_from_slice(&chunk[..length]);
        }
    };
    tokio::time::timeout(BOUND, read).await.expect("the relayer ends the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A payment as it goes over the wire.
pub(crate) fn payment(channel: &Channel, amount: u64) -> String {
    let body = serde_json::to_string(&channel.voucher(amount)).expect("a voucher is JSON");
    format!("POST /v1/payments HTTP/1.1\r\nHost: relayer\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Pays one more unit and sees it taken.
pub(crate) async fn still_serves(rig: &Rig, channel: &Channel, amount: u64) {
    let reply = tokio::time::timeout(BOUND, rig.pay(0, channel, amount)).await.expect("others are served");
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// Memory of the first relayer that is in use, in KiB.
pub(crate) fn resident_kib(rig: &Rig) -> u64 {
    let path = format!("/proc/{}/status", rig.relayers[0].pid());
    let status = std::fs::read_to_string(path).expect("Linux says what a process uses");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a running process uses memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB")
}
