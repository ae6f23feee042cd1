//! What cannot be done for less, measured in the same run: the signature check alone, and an HTTP server that does nothing
//! but read JSON and write JSON.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::routing::post as post_route;
use axum::{Json, Router};
use cli::load::payers::PayingChannel;
use cli::payer::{Means, Scheme};
use cli::stack::child::Supervised;
use cli::stack::free_port;
use cli::stack::process::wait_until_ready;
use common::amount::Amount;
use common::ids::{ChannelId, Hash};
use common::message;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::client::{Connection, Exchange, Queue, Run, closed_loop};
use crate::machine::{Machine, cpu_of, cpu_of_this_thread};
use crate::payers::{Form, Payers};
use crate::stats::micros_each;

/// Keys that the verify loop goes through: as many as a row has payers.
const KEYS: usize = 256;

/// How long the echo server may take until it listens.
const READY_DEADLINE: Duration = Duration::from_secs(10);

/// What the echo server is asked, which is what a relayer is asked.
const ECHO_PATH: &str = "/v1/payments";

/// Different requests that each connection sends to the echo server, in turn.
const ECHO_REQUESTS: u64 = 16;

/// Units of the made-up commitments: a tree as deep as the row's.
const ECHO_UNITS: u32 = 65_535;

/// The strict check of a voucher's signature by the library itself, with the key decoded before.
pub(crate) struct VerifyLoop {
    signed: Vec<(VerifyingKey, [u8; message::VOUCHER_LEN], ed25519_dalek::Signature)>,
}

impl VerifyLoop {
    /// Signs one voucher with each of many keys.
    pub(crate) fn new() -> Self {
        let signed = (0..KEYS).map(|_| {
            let key = SigningKey::from_bytes(&rand::random());
            let message = message::voucher(&ChannelId(rand::random()), Amount::new(rand::random()), 0);
            (key.verifying_key(), message, key.sign(&message))
        });
        VerifyLoop { signed: signed.collect() }
    }

    /// CPU of one check, in us, over `checks` of them on the server's core.
    ///
    /// # Errors
    /// A check did not hold, or the thread cannot be pinned.
    pub(crate) fn measure(&self, machine: &Machine, checks: u64) -> anyhow::Result<f64> {
        machine.beside_server(|| {
            let before = cpu_of_this_thread()?;
            let mut held = 0;
            for ((key, message, signature), _) in self.signed.iter().cycle().zip(0..checks) {
                held += u64::from(black_box(key).verify_strict(black_box(message), signature).is_ok());
            }
            let took = cpu_of_this_thread()? - before;
            ensure!(held == checks, "a good signature did not check");
            Ok(micros_each(took, checks))
        })
    }
}

/// The hashes of a scheme, and nothing around them.
pub(crate) struct HashLoop {
    hashes: u64,
    bytes: usize,
}

impl HashLoop {
    /// A payment takes so many hashes, on average, of so many bytes.
    pub(crate) fn new(hashes: u64, bytes: usize) -> Self {
        HashLoop { hashes, bytes }
    }

    /// CPU of the hashes of one payment, in us, over so many payments on the server's core.
    ///
    /// # Errors
    /// The thread cannot be pinned.
    pub(crate) fn measure(&self, machine: &Machine, payments: u64) -> anyhow::Result<f64> {
        machine.beside_server(|| {
            let mut data = vec![7; self.bytes];
            let before = cpu_of_this_thread()?;
            for _ in 0..payments * self.hashes {
                let hash = Sha256::digest(black_box(&data));
                data[..hash.len()].copy_from_slice(&hash);
            }
            Ok(micros_each(cpu_of_this_thread()? - before, payments))
        })
    }
}

/// As a payment is sent: texts, which nobody looks into.
#[derive(Debug, Deserialize)]
struct EchoRequest {
    channel_id: String,
    cumulative_amount: String,
    #[serde(default, rename = "expires_at")]
    _expires_at: i64,
    #[serde(default, rename = "signature")]
    _signature: String,
    #[serde(default, rename = "proof")]
    _proof: EchoProof,
}

/// As a proof is sent.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EchoProof {
    #[default]
    None,
    Payword {
        #[serde(rename = "k")]
        _k: u32,
        #[serde(rename = "token")]
        _token: String,
    },
    Paytree {
        #[serde(rename = "index")]
        _index: u32,
        #[serde(rename = "secret")]
        _secret: String,
        #[serde(rename = "siblings")]
        _siblings: Vec<String>,
    },
}

/// As a payment is answered.
#[derive(Debug, Serialize)]
struct EchoAnswer {
    channel_id: String,
    cumulative_amount: String,
    outcome: &'static str,
}

async fn echo(Json(request): Json<EchoRequest>) -> Json<EchoAnswer> {
    let EchoRequest { channel_id, cumulative_amount, .. } = request;
    Json(EchoAnswer { channel_id, cumulative_amount, outcome: "accepted" })
}

/// The echo server itself: axum as it comes, none of Millrace's layers. Serves until it is killed.
///
/// # Errors
/// It cannot listen.
pub(crate) fn serve_echo(port: u16) -> anyhow::Result<()> {
    // The runtime that the services have.
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        axum::serve(listener, Router::new().route(ECHO_PATH, post_route(echo))).await?;
        Ok(())
    })
}

/// An echo server as a process of its own, on the server's core.
pub(crate) struct EchoServer {
    child: Supervised,
    connections: Vec<Connection>,
    requests: Vec<Vec<Arc<Exchange>>>,
}

impl EchoServer {
    /// Starts this program once more, as an echo server, and connects to it. Its payers and channels are made up: it takes
    /// anyone's word for anything.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) async fn start(
        machine: &Machine,
        dir: &Path,
        connections: usize,
    ) -> anyhow::Result<EchoServer> {
        Self::start_for(machine, dir, connections, Scheme::Ed25519, false).await
    }

    /// [`EchoServer::start`], sent payments of this scheme, with all of their proofs or compressed.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) async fn start_for(
        machine: &Machine,
        dir: &Path,
        connections: usize,
        scheme: Scheme,
        complete: bool,
    ) -> anyhow::Result<EchoServer> {
        let port = free_port().context("no free port")?;
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        command.arg("--echo-server").arg(port.to_string());
        let log = dir.join("echo.log");
        let mut child =
            machine.on(&[machine.server_core()], || Supervised::spawn("echo server", command, &log))??;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listens =
            || async { Connection::open(address).await.map(drop).map_err(|error| format!("{error:#}")) };
        wait_until_ready(&mut child, READY_DEADLINE, listens).await?;
        let connected = Connection::open_many(&[address], connections).await?;
        let channels =
            (0..connections).map(|_| made_up_channel(scheme)).collect::<anyhow::Result<Vec<_>>>()?;
        let mut payers = Payers::share_out(channels, connections, complete);
        payers.prepare(machine, Form::Single, ECHO_REQUESTS * u64::try_from(connections)?)?;
        let requests = payers.queues.into_iter().map(Vec::from).collect();
        Ok(EchoServer { child, connections: connected, requests })
    }

    /// Makes `exchanges` exchanges; gives back what came of them, and the server's CPU.
    ///
    /// # Errors
    /// An answer that must not come.
    pub(crate) async fn measure(&mut self, exchanges: u64) -> anyhow::Result<(Run, Duration)> {
        let share = usize::try_from(exchanges.div_ceil(u64::try_from(self.connections.len())?))?;
        // Whoever is quicker sends more; the same few are sent again and again.
        let each = share * 2 + self.requests.first().map_or(0, Vec::len);
        let mut queues: Vec<Queue> = self
            .requests
            .iter()
            .map(|requests| requests.iter().cycle().take(each).cloned().collect())
            .collect();
        let before = cpu_of(self.child.pid())?;
        let run = closed_loop(&mut self.connections, &mut queues, exchanges).await?;
        Ok((run, cpu_of(self.child.pid())? - before))
    }
}

fn made_up_channel(scheme: Scheme) -> anyhow::Result<PayingChannel> {
    let key = cli::payer::new_key();
    let purse = scheme.purse(Hash(rand::random()), Amount::new(1), ECHO_UNITS)?;
    let means =
        purse.map_or_else(|| Means::Key(Box::new(key.clone())), |purse| Means::Purse(Arc::new(purse)));
    Ok(PayingChannel::new(ChannelId(rand::random()), key, means, Amount::MAX))
}
