//! Payments over a WebSocket connection: a payment a message, an answer a message, in the order of the messages.
//!
//! # Layout
//!
//! * [`converse`]: one connection from its first message to its close.
//! * `line`: the payments that have no answer yet.
//!
//! What has come is taken a round at a time and is on its way to Redis before any of it is answered; what is answered
//! is written together. Nothing ever waits for more to come. A client that does not read its answers is not read from
//! either: the line is bounded, and so is the time that a write may take.

mod line;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::problem::Problem;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use service::trail::{self, RequestTrail};
use service::websocket::Socket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::accept::refuse;
use crate::config::StreamConfig;
use crate::error::Refusal;
use crate::handlers::App;
use crate::trip::is_looked_for;
use line::{Answered, Line};

/// Messages that are taken before answers are written and other connections get their turn: about half a millisecond.
const ROUND: usize = 16;

/// What a connection reads at once, in bytes: some thirty payments. Held for as long as it is open.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// Answers that are gathered before some of them are written, in bytes.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// What every connection goes by.
#[derive(Debug)]
pub(crate) struct Streams {
    config: StreamConfig,
    drain: Duration,
    closing: CancellationToken,
}

impl Streams {
    /// Connections end within `drain` after `closing`.
    pub(crate) fn new(config: StreamConfig, drain: Duration, closing: CancellationToken) -> Self {
        Self { config, drain, closing }
    }

    /// Bounds of what is kept of a connection's bytes.
    pub(crate) fn frames(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(self.config.message_max_bytes))
            .max_frame_size(Some(self.config.message_max_bytes))
    }
}

/// Answers a connection's payments until its client leaves, does not keep to the protocol, or the relayer stops.
/// Its payments are called after the request that has opened it, each with its number.
pub(crate) async fn converse(
    app: Arc<App>,
    peer: SocketAddr,
    opened_by: Option<Arc<RequestTrail>>,
    socket: Socket,
) {
    match opened_by {
        Some(trail) => {
            let span = trail.log_span();
            trail::follow(trail, answer_all(app, peer, socket)).instrument(span).await;
        }
        None => answer_all(app, peer, socket).await,
    }
}

async fn answer_all(app: Arc<App>, peer: SocketAddr, socket: Socket) {
    // One of its own: connections would otherwise meet at the lock of the shared one.
    let closing = app.streams.closing.child_token();
    let overdue = {
        let (closing, drain) = (closing.clone(), app.streams.drain);
        async move {
            closing.cancelled().await;
            sleep(drain).await;
        }
    };
    let conversation = Conversation::new(app, peer, socket);
    tokio::select! {
        end = conversation.run(&closing) => tracing::debug!(%peer, ?end, "a stream ended"),
        () = overdue => tracing::debug!(%peer, "a stream was cut off: it did not end in time"),
    }
}

/// Why a conversation ends.
#[derive(Debug)]
enum End {
    /// The client closed the connection, or broke it.
    Left,
    /// The client did not take its answers in time.
    CutOff,
    /// The client is told why.
    Close(CloseCode, &'static str),
}

/// Nothing more is read, but for what has come already.
struct Stop {
    code: CloseCode,
    reason: &'static str,
    /// Messages that are still taken, if they are there.
    left: usize,
}

struct Conversation {
    app: Arc<App>,
    peer: SocketAddr,
    socket: Socket,
    line: Line,
    stop: Option<Stop>,
    heard_at: Instant,
    pinged: bool,
    /// Payments so far.
    number: u64,
}

impl Conversation {
    fn new(app: Arc<App>, peer: SocketAddr, socket: Socket) -> Self {
        let line = Line::new(Arc::clone(&app));
        Self { app, peer, socket, line, stop: None, heard_at: Instant::now(), pinged: false, number: 0 }
    }

    fn config(&self) -> &StreamConfig {
        &self.app.streams.config
    }

    async fn run(mut self, closing: &CancellationToken) -> End {
        let end = match self.talk(closing).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let goodbye = match &end {
            End::CutOff => return end,
            End::Left => None,
            End::Close(code, reason) => Some(CloseFrame { code: *code, reason: (*reason).into() }),
        };
        let limit = Duration::from_millis(self.config().write_timeout_ms);
        let _ = timeout(limit, self.part(goodbye)).await;
        end
    }

    async fn talk(&mut self, closing: &CancellationToken) -> Result<std::convert::Infallible, End> {
        let mut closing = std::pin::pin!(closing.cancelled().fuse());
        let mut quiet = std::pin::pin!(sleep(Duration::from_millis(self.config().ping_interval_ms)));
        loop {
            self.take_what_is_left().await?;
            let reads = self.stop.is_none() && self.has_room();
            let waits = self.line.len() > 0;
            tokio::select! {
                biased;
                () = &mut closing => self.go_away(),
                answered = std::future::poll_fn(|cx| self.line.poll_first(cx)), if waits => {
                    self.answer(answered).await?;
                }
                message = self.socket.next(), if reads => {
                    self.take_round(message, ROUND).await?;
                }
                () = &mut quiet => self.look_after(quiet.as_mut()).await?,
            }
        }
    }

    fn has_room(&self) -> bool {
        self.line.len() < self.config().in_flight_max
    }

    /// What has come before the relayer stops is still answered; as much as is let in at once, so that there is an end
    /// to it.
    fn go_away(&mut self) {
        let left = self.config().in_flight_max;
        let stop = Stop { code: CloseCode::Away, reason: "the relayer is going away", left };
        self.stop.get_or_insert(stop);
    }

    /// Once nothing more is to be read: takes what is there already, and ends when all of it is answered.
    async fn take_what_is_left(&mut self) -> Result<(), End> {
        while let Some(stop) = &mut self.stop
            && stop.left > 0
            && self.line.len() < self.app.streams.config.in_flight_max
        {
            let round = stop.left.min(ROUND);
            stop.left = stop.left.saturating_sub(round);
            // That this task has had its share of time must not look like an empty socket.
            match unconstrained(self.socket.next()).now_or_never() {
                Some(message) => self.take_round(message, round).await?,
                None => stop.left = 0,
            }
        }
        match &self.stop {
            Some(stop) if stop.left == 0 && self.line.len() == 0 => Err(End::Close(stop.code, stop.reason)),
            _ => Ok(()),
        }
    }

    /// Takes a message, and those that have come after it, up to `round`.
    async fn take_round(&mut self, message: Option<Result<Message, Error>>, round: usize) -> Result<(), End> {
        self.heard_at = Instant::now();
        self.pinged = false;
        let mut next = message;
        for taken in 1..=round {
            match next {
                Some(Ok(Message::Text(text))) => self.pay(text.as_bytes()).await,
                Some(Ok(Message::Binary(bytes))) => self.pay(&bytes).await,
                // A ping is answered by the next read or write.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Err(End::Left),
                Some(Err(error)) => return self.unreadable(error),
            }
            if taken == round || !self.has_room() {
                break;
            }
            let socket = &mut self.socket;
            let ready = std::future::poll_fn(|cx| match socket.poll_next_unpin(cx) {
                std::task::Poll::Ready(message) => std::task::Poll::Ready(Some(message)),
                std::task::Poll::Pending => std::task::Poll::Ready(None),
            });
            match ready.await {
                Some(message) => next = message,
                None => return Ok(()),
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Takes one payment, and knows what it is called if anyone looks for it.
    async fn pay(&mut self, body: &[u8]) {
        self.number = self.number.saturating_add(1);
        match trail::current() {
            Some(opened_by) if is_looked_for(&opened_by) => {
                let message = Arc::new(opened_by.of_message(self.number));
                trail::follow(message, self.take(body)).await;
            }
            _ => self.take(body).await,
        }
    }

    /// Takes one payment, as its route for a single one does.
    async fn take(&mut self, body: &[u8]) {
        let acceptor = &self.app.acceptor;
        let ticket = match acceptor.receive() {
            Ok(ticket) => ticket,
            Err(refusal) => return self.line.refused(refusal),
        };
        if let Err(too_many) = acceptor.tuning.limits.check_address(self.peer.ip(), 1).await {
            return self.line.refused(refuse([ticket], Refusal::RateLimited(too_many)));
        }
        self.line.take(ticket, body).await;
    }

    /// What cannot be read ends the connection, once everything before it is answered.
    fn unreadable(&mut self, error: Error) -> Result<(), End> {
        let (code, reason) = match error {
            Error::Capacity(_) => {
                let detail = format!("the limit is {} bytes", self.config().message_max_bytes);
                // It counts as one payment, like a body that is too large.
                let refusal = match self.app.acceptor.receive() {
                    Ok(ticket) => refuse([ticket], Refusal::TooLarge { detail }),
                    Err(refusal) => refusal,
                };
                self.line.refused(refusal);
                (CloseCode::Size, "the message is over the limit")
            }
            Error::Utf8(_) => (CloseCode::Invalid, "a text message is not UTF-8"),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return Err(End::Left),
            Error::Protocol(_) => (CloseCode::Protocol, "a frame is not as RFC 6455 has it"),
            _ => return Err(End::Left),
        };
        self.stop = Some(Stop { code, reason, left: 0 });
        Ok(())
    }

    /// Writes an answer, and those after it that are there by now.
    async fn answer(&mut self, first: Option<Answered>) -> Result<(), End> {
        let limit = Duration::from_millis(self.config().write_timeout_ms);
        let (socket, line) = (&mut self.socket, &mut self.line);
        let writing = async {
            let mut next = first;
            while let Some(answered) = next {
                socket.feed(text_of(answered)).await?;
                next = std::future::poll_fn(|cx| line.poll_first(cx)).now_or_never().flatten();
            }
            socket.flush().await
        };
        written(timeout(limit, writing).await)
    }

    /// Pings a client that has been silent, and lets go of one that does not answer.
    async fn look_after(&mut self, mut quiet: std::pin::Pin<&mut Sleep>) -> Result<(), End> {
        let ping_interval = Duration::from_millis(self.config().ping_interval_ms);
        let idle_timeout = Duration::from_millis(self.config().idle_timeout_ms);
        if self.line.len() > 0 {
            // It waits for us, and may not even be read from.
            self.heard_at = Instant::now();
        }
        let silent = self.heard_at.elapsed();
        if silent >= idle_timeout {
            return Err(End::Close(CloseCode::Away, "nothing was heard for too long"));
        }
        if silent >= ping_interval && !self.pinged {
            let limit = Duration::from_millis(self.config().write_timeout_ms);
            let ping = self.socket.send(Message::Ping(Default::default()));
            written(timeout(limit, ping).await)?;
            self.pinged = true;
        }
        quiet.as_mut().reset(self.heard_at + if self.pinged { idle_timeout } else { ping_interval });
        Ok(())
    }

    /// Says goodbye, and waits until the client has said it too: closed with bytes of it still unread, a connection is
    /// reset, and the client would lose what it was told last.
    async fn part(&mut self, goodbye: Option<CloseFrame>) -> std::io::Result<()> {
        let mut said_by_client = goodbye.is_none();
        if let Some(frame) = goodbye
            && self.socket.send(Message::Close(Some(frame))).await.is_err()
        {
            return Ok(());
        }
        while let Some(Ok(message)) = self.socket.next().await {
            said_by_client |= message.is_close();
        }
        let connection = self.socket.get_mut();
        connection.shutdown().await?;
        let mut ignored = [0; 4096];
        while !said_by_client && connection.read(&mut ignored).await? > 0 {}
        Ok(())
    }
}

fn written(result: Result<Result<(), Error>, tokio::time::error::Elapsed>) -> Result<(), End> {
    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Left),
        Err(_) => Err(End::CutOff),
    }
}

/// The same JSON that the route for a single payment answers.
fn text_of(answered: Answered) -> Message {
    let json = match answered {
        Ok(answer) => Ok(answer.to_json()),
        Err(refusal) => serde_json::to_string(&Problem::from(refusal)),
    };
    // Only a map with keys that are no texts could fail to become JSON.
    Message::text(json.unwrap_or_default())
}
