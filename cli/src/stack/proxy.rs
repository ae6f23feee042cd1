//! A TCP proxy that misbehaves on demand, in front of Redis or an issuer: for tests and `millrace chaos`.

mod connection;
mod resp;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// What the two ends speak, as far as the proxy cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The Redis protocol: the proxy sees single requests, however they are packed into segments.
    Redis,
    /// Anything else, such as HTTP: what is read at once is taken for one request.
    Bytes,
}

/// How a connection misbehaves.
///
/// A connection that swallowed something is cut once it stops swallowing: no network loses bytes out of the middle
/// of a connection, and a Redis client that met one would take the next answer for the one that it missed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    #[default]
    Pass,
    /// It is closed; new ones are closed as soon as they are made.
    Cut,
    /// What is read waits so long before it goes on, in each direction.
    Delay {
        /// From client to server.
        requests: Duration,
        /// From server to client.
        replies: Duration,
    },
    /// Requests arrive, replies do not.
    SwallowReplies,
    /// Requests do not arrive.
    SwallowRequests,
    /// Each request is answered with this Redis error and does not arrive. The server, which must be alive, speaks the
    /// error in the request's stead, so that it comes in its turn between other answers. [`Protocol::Redis`] only.
    AnswerError(String),
    /// Each request is answered with this HTTP status and no body, does not arrive, and its connection is closed.
    /// [`Protocol::Bytes`] only.
    AnswerStatus(u16),
}

/// What has gone through a proxy since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that clients made.
    pub connections: u64,
    /// Those that are open.
    pub open: u64,
    /// Requests that went on to the server.
    pub requests: u64,
    /// Requests that did not: swallowed, or answered with an error.
    pub withheld_requests: u64,
    /// Bytes of the requests that went on to the server.
    pub request_bytes: u64,
    /// Bytes of replies that went on to clients.
    pub reply_bytes: u64,
}

/// A proxy on a port of 127.0.0.1. Dropping it closes the port and all connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    target: String,
    protocol: Protocol,
    state: Mutex<State>,
    counts: watch::Sender<Counts>,
}

#[derive(Debug, Default)]
struct State {
    /// The fault that new connections start with.
    fault: Fault,
    next_id: u64,
    connections: BTreeMap<u64, watch::Sender<Fault>>,
    traps: Vec<Trap>,
    watchers: Vec<Trap>,
}

/// A pattern that is looked for in every request, once.
#[derive(Debug)]
struct Trap {
    pattern: Vec<u8>,
    sprung: oneshot::Sender<()>,
}

/// Something that a proxy was told to look out for.
#[derive(Debug)]
pub struct Lookout {
    what: String,
    sprung: oneshot::Receiver<()>,
}

impl Lookout {
    /// Waits until it has happened.
    ///
    /// # Panics
    /// It does not happen within `deadline`.
    pub async fn wait(self, deadline: Duration) {
        let sprung = tokio::time::timeout(deadline, self.sprung).await;
        let what = self.what;
        sprung
            .unwrap_or_else(|_| panic!("waited {} ms in vain until {what}", deadline.as_millis()))
            .unwrap_or_else(|_| panic!("the proxy was dropped before {what}"));
    }
}

impl FaultProxy {
    /// A proxy in front of `target` (`host:port`).
    ///
    /// # Panics
    /// No port can be had.
    pub async fn start(target: impl Into<String>, protocol: Protocol) -> FaultProxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            target: target.into(),
            protocol,
            state: Mutex::default(),
            counts: watch::Sender::default(),
        });
        let shutdown = CancellationToken::new();
        let accept = accept(listener, Arc::clone(&shared), shutdown.clone());
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(accept));
        FaultProxy { address, shared, shutdown }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Misbehaves so from now on, on all connections, open and new.
    pub fn set(&self, fault: Fault) {
        self.check(&fault);
        let mut state = self.shared.state();
        for connection in state.connections.values() {
            connection.send_replace(fault.clone());
        }
        state.fault = fault;
    }

    /// Misbehaves so on connections made from now on; open ones stay as they are.
    pub fn set_for_new(&self, fault: Fault) {
        self.check(&fault);
        self.shared.state().fault = fault;
    }

    fn check(&self, fault: &Fault) {
        let fits = match fault {
            Fault::AnswerError(_) => self.shared.protocol == Protocol::Redis,
            Fault::AnswerStatus(_) => self.shared.protocol == Protocol::Bytes,
            _ => true,
        };
        assert!(fits, "a proxy in front of {:?} cannot do {fault:?}", self.shared.protocol);
    }

    /// Behaves again.
    pub fn pass(&self) {
        self.set(Fault::Pass);
    }

    /// Closes all connections, and new ones as they come.
    pub fn cut(&self) {
        self.set(Fault::Cut);
    }

    /// Closes the connections that are open; new ones pass.
    pub fn cut_open(&self) {
        self.set(Fault::Cut);
        self.set_for_new(Fault::Pass);
    }

    /// Delays both directions.
    pub fn delay(&self, each_way: Duration) {
        self.set(Fault::Delay { requests: each_way, replies: each_way });
    }

    /// Lets requests through, and no reply.
    pub fn swallow_replies(&self) {
        self.set(Fault::SwallowReplies);
    }

    /// Lets no request through.
    pub fn swallow_requests(&self) {
        self.set(Fault::SwallowRequests);
    }

    /// Once: the next request that contains `pattern` goes on to the server and is carried out, its reply is dropped,
    /// and its connection cut. Later connections pass. The lookout says when that has happened.
    pub fn swallow_next_reply_then_cut(&self, pattern: impl Into<Vec<u8>>) -> Lookout {
        let (trap, lookout) = look_out(pattern.into(), "cut the connection after");
        self.shared.state().traps.push(trap);
        lookout
    }

    /// Looks out, from now on, for a request that contains `pattern`, whatever becomes of it.
    pub fn look_out_for(&self, pattern: impl Into<Vec<u8>>) -> Lookout {
        let (watcher, lookout) = look_out(pattern.into(), "saw");
        self.shared.state().watchers.push(watcher);
        lookout
    }

    /// What has gone through so far.
    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    /// Waits until the counts are as told, such as `|counts| counts.open == 0`.
    ///
    /// # Panics
    /// They are not within `deadline`; the message shows them.
    pub async fn wait_for_counts(&self, deadline: Duration, condition: impl FnMut(&Counts) -> bool) {
        let mut counts = self.shared.counts.subscribe();
        if tokio::time::timeout(deadline, counts.wait_for(condition)).await.is_err() {
            panic!("waited {} ms in vain for other counts than {:?}", deadline.as_millis(), self.counts());
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

fn look_out(pattern: Vec<u8>, did: &str) -> (Trap, Lookout) {
    let what = format!("the proxy {did} a request with {:?}", pattern.escape_ascii().to_string());
    let (sender, sprung) = oneshot::channel();
    (Trap { pattern, sprung: sender }, Lookout { what, sprung })
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, shutdown: CancellationToken) {
    loop {
        // An error here is of the connection that could not be accepted, not of the listener.
        let Ok((client, _)) = listener.accept().await else { continue };
        let connection = connection::serve(client, Arc::clone(&shared));
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(connection));
    }
}
