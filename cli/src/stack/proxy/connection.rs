//! One connection through the proxy: two pumps, and the fault that governs both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};

use super::resp::{self, Requests};
use super::{Fault, Protocol, Shared, Trap};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// What the proxy has the server say after the request whose reply is dropped: when it comes back, the server has
/// carried that request out, whatever else was under way on the connection.
const MARK: &[u8] = b"millrace-fault-proxy-mark";

/// What both pumps of a connection share.
struct Connection {
    shared: Arc<Shared>,
    fault: watch::Receiver<Fault>,
    /// Something was swallowed: the connection may never pass anything again.
    spoilt: AtomicBool,
    /// The trap that the connection stepped into: its reply is dropped.
    trapped: std::sync::Mutex<Option<oneshot::Sender<()>>>,
    /// What the proxy itself answers before it closes the connection.
    own_answer: watch::Sender<Option<u16>>,
}

/// Serves one client until either end closes or the fault cuts.
pub(super) async fn serve(client: TcpStream, shared: Arc<Shared>) {
    shared.counts.send_modify(|counts| counts.connections += 1);
    let Some(registered) = Registered::new(&shared) else { return };
    let Ok(server) = TcpStream::connect(&shared.target).await else { return };
    // Each segment leaves at once, as it would without a proxy between.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let connection = Connection {
        fault: registered.fault.clone(),
        shared,
        spoilt: AtomicBool::new(false),
        trapped: std::sync::Mutex::default(),
        own_answer: watch::Sender::default(),
    };
    tokio::select! {
        () = connection.pump_requests(client_read, server_write) => {}
        () = connection.pump_replies(server_read, client_write) => {}
        () = connection.until_cut() => {}
    }
}

/// Keeps the connection in the proxy's books while it is open.
struct Registered {
    shared: Arc<Shared>,
    id: u64,
    fault: watch::Receiver<Fault>,
}

impl Registered {
    /// `None` where new connections are cut.
    fn new(shared: &Arc<Shared>) -> Option<Self> {
        let mut state = shared.state();
        if state.fault == Fault::Cut {
            return None;
        }
        let (sender, fault) = watch::channel(state.fault.clone());
        let id = state.next_id;
        state.next_id += 1;
        state.connections.insert(id, sender);
        shared.counts.send_modify(|counts| counts.open += 1);
        Some(Registered { shared: Arc::clone(shared), id, fault })
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.state().connections.remove(&self.id);
        self.shared.counts.send_modify(|counts| counts.open -= 1);
    }
}

impl Connection {
    fn fault(&self) -> Fault {
        self.fault.borrow().clone()
    }

    /// Returns when the connection must end.
    async fn until_cut(&self) {
        let mut fault = self.fault.clone();
        let over = |fault: &Fault| match fault {
            Fault::Cut => true,
            Fault::SwallowReplies | Fault::SwallowRequests => false,
            _ => self.spoilt.load(Ordering::SeqCst),
        };
        // An error says that the proxy is gone, and with it the connection.
        let _ = fault.wait_for(over).await;
    }

    async fn pump_requests(&self, mut client: OwnedReadHalf, mut server: OwnedWriteHalf) {
        let mut requests = Requests::default();
        let mut chunk = vec![0u8; CHUNK];
        loop {
            let Ok(length @ 1..) = client.read(&mut chunk).await else { return };
            let arrived = match self.shared.protocol {
                Protocol::Redis => requests.push(&chunk[..length]),
                Protocol::Bytes => vec![chunk[..length].to_vec()],
            };
            if let Fault::Delay { requests, .. } = self.fault() {
                tokio::time::sleep(requests).await;
            }
            let (onward, trap) = self.judge(arrived);
            let trapped = trap.is_some();
            if let Some(trap) = trap {
                self.trapped().replace(trap.sprung);
            }
            if !onward.is_empty() && server.write_all(&onward).await.is_err() {
                return;
            }
            if trapped {
                // Nothing after the trap goes on; the pump of replies ends the connection.
                return std::future::pending().await;
            }
        }
    }

    /// What goes on to the server of the requests that arrived, and the trap that the last of them stepped into.
    fn judge(&self, arrived: Vec<Vec<u8>>) -> (Vec<u8>, Option<Trap>) {
        let mut onward = Vec::new();
        for request in arrived {
            let fault = self.fault();
            let withheld = match &fault {
                Fault::SwallowRequests => {
                    self.spoilt.store(true, Ordering::SeqCst);
                    true
                }
                Fault::AnswerStatus(status) => {
                    self.own_answer.send_replace(Some(*status));
                    true
                }
                Fault::AnswerError(error) => {
                    let script = b"return redis.error_reply(ARGV[1])".as_slice();
                    onward.extend(resp::request(&[b"EVAL", script, b"0", error.as_bytes()]));
                    true
                }
                _ => false,
            };
            self.shared.counts.send_modify(|counts| {
                if withheld {
                    counts.withheld_requests += 1;
                } else {
                    counts.requests += 1;
                    counts.request_bytes += request.len() as u64;
                }
            });
            let trap = self.shared.notice(&request, withheld);
            if withheld {
                continue;
            }
            onward.extend(request);
            if let Some(trap) = trap {
                if self.shared.protocol == Protocol::Redis {
                    onward.extend(resp::request(&[b"ECHO", MARK]));
                }
                return (onward, Some(trap));
            }
        }
        (onward, None)
    }

    async fn pump_replies(&self, mut server: OwnedReadHalf, mut client: OwnedWriteHalf) {
        let mut chunk = vec![0u8; CHUNK];
        let mut dropped = Vec::new();
        loop {
            let length = tokio::select! {
                length = server.read(&mut chunk) => length.unwrap_or(0),
                head = self.own_answer() => {
                    // A client that is gone misses nothing.
                    let _ = client.write_all(head.as_bytes()).await;
                    return;
                }
            };
            if self.trapped().is_some() {
                dropped.extend_from_slice(&chunk[..length]);
                let done = length == 0 || self.shared.protocol == Protocol::Bytes || contains(&dropped, MARK);
                if !done {
                    continue;
                }
                if let Some(sprung) = self.trapped().take() {
                    // Nobody needs to listen.
                    let _ = sprung.send(());
                }
                return;
            }
            if length == 0 {
                return;
            }
            match self.fault() {
                Fault::SwallowReplies => {
                    self.spoilt.store(true, Ordering::SeqCst);
                    continue;
                }
                Fault::Delay { replies, .. } if replies > Duration::ZERO => tokio::time::sleep(replies).await,
                _ => {}
            }
            if client.write_all(&chunk[..length]).await.is_err() {
                return;
            }
            self.shared.counts.send_modify(|counts| counts.reply_bytes += length as u64);
        }
    }

    /// What the proxy itself has to answer, once it has.
    async fn own_answer(&self) -> String {
        let mut own_answer = self.own_answer.subscribe();
        // The sender lives as long as the connection: this waits until there is a status.
        let status = own_answer.wait_for(Option::is_some).await.map_or(None, |status| *status);
        let status = status.unwrap_or(500);
        format!("HTTP/1.1 {status} Fault\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    }

    fn trapped(&self) -> std::sync::MutexGuard<'_, Option<oneshot::Sender<()>>> {
        self.trapped.lock().expect("no holder of the lock panics")
    }
}

impl Shared {
    /// Tells those who look out for this request; gives back the trap that it steps into, unless it is withheld.
    fn notice(&self, request: &[u8], withheld: bool) -> Option<Trap> {
        let mut state = self.state();
        for watcher in state.watchers.extract_if(.., |watcher| contains(request, &watcher.pattern)) {
            // Nobody needs to listen.
            let _ = watcher.sprung.send(());
        }
        if withheld {
            return None;
        }
        let at = state.traps.iter().position(|trap| contains(request, &trap.pattern))?;
        Some(state.traps.remove(at))
    }
}

fn contains(bytes: &[u8], pattern: &[u8]) -> bool {
    pattern.is_empty() || bytes.windows(pattern.len()).any(|window| window == pattern)
}
