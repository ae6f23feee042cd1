//! The load generator: HTTP/1.1 with keep-alive over plain TCP. Requests and the answers that they must get were made
//! before, so that it costs little beside the server that is measured.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cli::load::schedule::{Schedule, Until};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::unconstrained;

use crate::machine::wake_on_time;
use crate::stats::{latencies, nanos};
use crate::stream;

/// What a connection's buffer for answers starts with, in bytes; it grows to the longest answer.
const BUFFER_BYTES: usize = 4 * 1024;

/// Most of an unexpected answer that an error shows, in bytes.
const SHOWN_BYTES: usize = 300;

/// What a head of HTTP/1.1 ends with.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A request and the answer that it must get.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Head and body, as sent.
    pub(crate) request: Vec<u8>,
    /// The body that must come with a 200, byte for byte or at least as JSON; of a stream, byte for byte.
    pub(crate) answer: Vec<u8>,
    /// Payments in it.
    pub(crate) payments: u64,
}

/// What one connection is to send, in order.
pub(crate) type Queue = VecDeque<Arc<Exchange>>;

/// A `POST` of JSON with its head.
pub(crate) fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// One connection, kept open.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    sent_bytes: u64,
    received_bytes: u64,
    /// No HTTP any more: every answer is as long as the one that must come.
    upgraded: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or no more files can be opened.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Connection> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            buffer: vec![0; BUFFER_BYTES],
            sent_bytes: 0,
            received_bytes: 0,
            upgraded: false,
        })
    }

    /// `count` connections, spread over `addresses` in turn.
    ///
    /// # Errors
    /// As for [`Connection::open`].
    pub(crate) async fn open_many(addresses: &[SocketAddr], count: usize) -> anyhow::Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(count);
        for address in addresses.iter().cycle().take(count) {
            connections.push(Connection::open(*address).await?);
        }
        Ok(connections)
    }

    /// Makes a WebSocket connection of it.
    ///
    /// # Errors
    /// The server does not want to.
    pub(crate) async fn upgrade(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(stream::UPGRADE.as_bytes()).await.context("cannot send")?;
        let mut head = Vec::new();
        while !head.ends_with(END_OF_HEAD) {
            // A byte at a time: what follows the head is not to be read here.
            head.push(self.stream.read_u8().await.context("no WebSocket connection")?);
        }
        ensure!(head.starts_with(b"HTTP/1.1 101"), "refused: {}", String::from_utf8_lossy(&head));
        self.upgraded = true;
        Ok(())
    }

    /// Sends messages and waits for as many bytes as their answers have.
    async fn converse(&mut self, messages: &[u8], length: usize) -> anyhow::Result<&[u8]> {
        self.stream.write_all(messages).await.context("cannot send")?;
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        self.stream.read_exact(&mut self.buffer[..length]).await.context("cannot receive")?;
        self.sent_bytes += u64::try_from(messages.len())?;
        self.received_bytes += u64::try_from(length)?;
        Ok(&self.buffer[..length])
    }

    /// Sends a request and waits for its answer: status and body.
    ///
    /// # Errors
    /// The connection broke, or what came is no answer with a length.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        self.stream.write_all(request).await.context("cannot send")?;
        let mut filled = 0;
        let (status, body) = loop {
            if filled == self.buffer.len() {
                self.buffer.resize(filled * 2, 0);
            }
            let read = self.stream.read(&mut self.buffer[filled..]).await.context("cannot receive")?;
            ensure!(read > 0, "the server closed the connection in the midst of an answer");
            filled += read;
            match parse_head(&self.buffer[..filled])? {
                Some((status, body)) if body.end <= filled => break (status, body),
                Some((_, body)) if body.end > self.buffer.len() => self.buffer.resize(body.end, 0),
                _ => {}
            }
        };
        ensure!(body.end == filled, "more came than one answer");
        self.sent_bytes += u64::try_from(request.len())?;
        self.received_bytes += u64::try_from(filled)?;
        Ok((status, &self.buffer[body]))
    }

    /// Sends a request and checks its answer.
    ///
    /// # Errors
    /// As for [`Connection::ask`]; any other answer than the one that must come.
    pub(crate) async fn exchange(&mut self, exchange: &Exchange) -> anyhow::Result<()> {
        if self.upgraded {
            let answers = self.converse(&exchange.request, exchange.answer.len()).await?;
            let shown = &answers[..answers.len().min(SHOWN_BYTES)];
            ensure!(
                answers == exchange.answer,
                "answers that must not come: {}",
                String::from_utf8_lossy(shown)
            );
            return Ok(());
        }
        let (status, body) = self.ask(&exchange.request).await?;
        if status == 200 && (body == exchange.answer || is_same_json(body, &exchange.answer)) {
            return Ok(());
        }
        let shown = &body[..body.len().min(SHOWN_BYTES)];
        bail!("a payment was answered {status}: {}", String::from_utf8_lossy(shown));
    }
}

/// Status and place of the body, once the head is complete.
fn parse_head(bytes: &[u8]) -> anyhow::Result<Option<(u16, Range<usize>)>> {
    let Some(head_end) = bytes.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD) else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..head_end]).context("a head that is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
    });
    let (status, length) = status.zip(length).with_context(|| format!("no answer of HTTP/1.1: {head}"))?;
    let start = head_end + END_OF_HEAD.len();
    Ok(Some((status, start..start + length)))
}

/// The slow way to compare: members in another order, or blanks between them, make no difference, nor does a receipt,
/// which nobody can foretell.
fn is_same_json(left: &[u8], right: &[u8]) -> bool {
    let values = |bytes| -> Result<Vec<serde_json::Value>, _> {
        let without_receipt = |mut value: serde_json::Value| {
            value.as_object_mut().map(|members| members.remove("receipt"));
            value
        };
        let values = serde_json::Deserializer::from_slice(bytes).into_iter();
        values.map(|value| value.map(without_receipt)).collect()
    };
    matches!((values(left), values(right)), (Ok(left), Ok(right)) if left == right)
}

/// What came of sending.
#[derive(Debug)]
pub(crate) struct Run {
    /// Payments acknowledged.
    pub(crate) payments: u64,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Of each exchange, in ns.
    pub(crate) latency_ns: Histogram<u64>,
    /// Sent to the server, heads included.
    pub(crate) sent_bytes: u64,
    /// Received from it, likewise.
    pub(crate) received_bytes: u64,
}

/// Makes `exchanges` exchanges, each connection its next as soon as it has the answer to its last. Latencies count from
/// when a request was sent.
///
/// # Errors
/// An answer that must not come, a broken connection, or queues that held too little.
pub(crate) async fn closed_loop(
    connections: &mut [Connection],
    queues: &mut [Queue],
    exchanges: u64,
) -> anyhow::Result<Run> {
    let (left, payments) = (Cell::new(exchanges), Cell::new(0));
    let latency_ns = RefCell::new(latencies());
    let converse = async |connection: &mut Connection, queue: &mut Queue| {
        while left.get() > 0 {
            let Some(exchange) = queue.pop_front() else { break };
            left.set(left.get() - 1);
            let sent = Instant::now();
            connection.exchange(&exchange).await?;
            latency_ns.borrow_mut().saturating_record(nanos(sent.elapsed()));
            payments.set(payments.get() + exchange.payments);
        }
        anyhow::Ok(())
    };
    let before = traffic(connections);
    let start = Instant::now();
    all(connections.iter_mut().zip(queues).map(|(connection, queue)| converse(connection, queue))).await?;
    let elapsed = start.elapsed();
    ensure!(left.get() == 0, "{} exchanges were not made: too few requests were prepared", left.get());
    Ok(ended(payments.get(), elapsed, latency_ns.into_inner(), before, traffic(connections)))
}

/// Makes `exchanges` exchanges at fixed times, `per_second` of them, each connection one in turn, whether or not what was
/// sent before has its answer: one whose connection is still busy waits for it, and its latency counts from when it was
/// to be sent.
///
/// # Errors
/// As for [`closed_loop`].
pub(crate) async fn open_loop(
    connections: &mut [Connection],
    queues: &mut [Queue],
    per_second: u64,
    exchanges: u64,
) -> anyhow::Result<Run> {
    let payments = Cell::new(0);
    let latency_ns = RefCell::new(latencies());
    let (dues, mut due_queues): (Vec<_>, Vec<_>) =
        connections.iter().map(|_| mpsc::unbounded_channel::<Instant>()).unzip();
    let converse = async |connection: &mut Connection,
                          queue: &mut Queue,
                          due_at: &mut mpsc::UnboundedReceiver<Instant>| {
        while let Some(due) = due_at.recv().await {
            let exchange = queue.pop_front().context("too few requests were prepared")?;
            connection.exchange(&exchange).await?;
            latency_ns.borrow_mut().saturating_record(nanos(due.elapsed()));
            payments.set(payments.get() + exchange.payments);
        }
        anyhow::Ok(())
    };
    let before = traffic(connections);
    let start = Instant::now();
    let schedule = Schedule::new(start, Some(per_second), Until::Payments(exchanges));
    // The runtime's own timer ticks once a millisecond, which is longer than a payment takes.
    let timer = std::thread::spawn(move || {
        wake_on_time();
        for (due, sender) in std::iter::from_fn(|| schedule.take()).zip(dues.iter().cycle()) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send(due).is_err() {
                break;
            }
        }
    });
    let conversations = connections.iter_mut().zip(queues).zip(&mut due_queues);
    all(conversations.map(|((connection, queue), due_at)| converse(connection, queue, due_at))).await?;
    let elapsed = start.elapsed();
    timer.join().map_err(|_| anyhow::anyhow!("the timer of the load generator panicked"))?;
    Ok(ended(payments.get(), elapsed, latency_ns.into_inner(), before, traffic(connections)))
}

/// Bytes sent and received so far.
fn traffic(connections: &[Connection]) -> (u64, u64) {
    connections.iter().fold((0, 0), |(sent, received), connection| {
        (sent + connection.sent_bytes, received + connection.received_bytes)
    })
}

fn ended(
    payments: u64,
    elapsed: Duration,
    latency_ns: Histogram<u64>,
    before: (u64, u64),
    after: (u64, u64),
) -> Run {
    let (sent_bytes, received_bytes) = (after.0 - before.0, after.1 - before.1);
    Run { payments, elapsed, latency_ns, sent_bytes, received_bytes }
}

/// Runs all conversations side by side, to the end of each or to the first that fails.
async fn all(
    conversations: impl Iterator<Item = impl Future<Output = anyhow::Result<()>>>,
) -> anyhow::Result<()> {
    let mut running: FuturesUnordered<_> = conversations.collect();
    // All are one task: the runtime's turns are for several.
    unconstrained(async {
        while let Some(ended) = running.next().await {
            ended?;
        }
        Ok(())
    })
    .await
}
