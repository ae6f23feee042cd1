//! A network that keeps some requests on their way for as long as a test says, and loses none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tests::rig::SOON;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many requests were held, and how many of them are answered.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    held: u64,
    answered: u64,
}

#[derive(Debug)]
pub(crate) struct Gate {
    address: SocketAddr,
    counts: watch::Sender<Counts>,
    open: watch::Sender<bool>,
    _shutdown: DropGuard,
}

impl Gate {
    /// A closed gate in front of `target` (`host:port`), for requests that contain one of `patterns`.
    pub(crate) async fn before(target: &str, patterns: Vec<Vec<u8>>) -> Gate {
        let (target, patterns) = (target.to_owned(), Arc::new(patterns));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (counts, open) = (watch::Sender::default(), watch::Sender::new(false));
        let shutdown = CancellationToken::new();
        let (counted, opened, over) = (counts.clone(), open.subscribe(), shutdown.clone());
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(async move {
            loop {
                let (client, _) = listener.accept().await.expect("loopback takes connections");
                let server = TcpStream::connect(&target).await.expect("the server listens");
                let relayed = relay(client, server, patterns.clone(), counted.clone(), opened.clone());
                tokio::spawn(over.clone().run_until_cancelled_owned(relayed));
            }
        }));
        Gate { address, counts, open, _shutdown: shutdown.drop_guard() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until so many requests are on their way.
    pub(crate) async fn wait_for_held(&self, times: u64) {
        let mut counts = self.counts.subscribe();
        let enough = tokio::time::timeout(SOON, counts.wait_for(|counts| counts.held >= times)).await;
        assert!(enough.is_ok(), "waited in vain for {times} requests on their way");
    }

    /// Lets all of them arrive, and waits until they are answered.
    pub(crate) async fn open(&self) {
        self.open.send_replace(true);
        let mut counts = self.counts.subscribe();
        let all = tokio::time::timeout(SOON, counts.wait_for(|counts| counts.answered >= counts.held)).await;
        assert!(all.is_ok(), "waited in vain until the server had answered all of them");
    }
}

/// Carries bytes both ways. What its sender has sent arrives even if the sender is gone by then.
async fn relay(
    client: TcpStream,
    server: TcpStream,
    patterns: Arc<Vec<Vec<u8>>>,
    counts: watch::Sender<Counts>,
    mut open: watch::Receiver<bool>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // How many settlements or calls went on late since the server last said something.
    let late = AtomicU64::new(0);
    let answers = async {
        let mut chunk = vec![0; 16_384];
        while let Ok(length) = from_server.read(&mut chunk).await
            && length > 0
        {
            // To a client that is gone there is nothing to bring.
            let _ = to_client.write_all(&chunk[..length]).await;
            let answered = late.swap(0, Ordering::Relaxed);
            counts.send_modify(|counts| counts.answered += answered);
        }
    };
    let requests = async {
        let mut chunk = vec![0; 16_384];
        while let Ok(length) = from_client.read(&mut chunk).await
            && length > 0
        {
            let chunk = &chunk[..length];
            let found =
                |pattern: &Vec<u8>| chunk.windows(pattern.len()).filter(|window| window == pattern).count();
            let held = patterns.iter().map(found).max().unwrap_or_default();
            if !*open.borrow() && held > 0 {
                let held = u64::try_from(held).expect("a chunk is short");
                counts.send_modify(|counts| counts.held += held);
                // The gate's end is the end of this task too.
                let _ = open.wait_for(|open| *open).await;
                late.fetch_add(held, Ordering::Relaxed);
            }
            if to_server.write_all(chunk).await.is_err() {
                return;
            }
        }
        // A server that sees the end of a connection does not begin what came over it.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = answers => {}
        () = requests => {}
    }
}
