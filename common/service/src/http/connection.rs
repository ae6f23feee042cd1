//! One connection: parked while nothing comes, with hyper while something does, and with whom an answer gave it to.
//!
//! hyper holds some 20 KiB for a connection from its first request on, and lets no one choose less. So a connection that
//! is quiet for `park_after_ms` is taken from it and is again what it was before its first byte: a socket and a small
//! task. With the next byte hyper gets it back. [`Progress`] knows when that loses nothing; where it is in doubt the
//! connection stays with hyper, which costs memory and nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use super::bell::Bell;
use super::progress::{Progress, Watched};
use super::{Front, HttpConfig, Incoming, answer};

/// Largest head of a request, in bytes, and most that a connection's buffers grow to: hyper would take 400 KiB, which ten
/// thousand unfinished heads make 4 GiB.
const HEAD_MAX_BYTES: usize = 16 * 1024;

/// What decides whether a quiet connection may be taken from hyper.
pub(super) type MayPart = Arc<dyn Fn(&Progress) -> bool + Send + Sync>;

/// Asks all connections of a listener to end. Each looks with every request, which must cost next to nothing: a
/// `CancellationToken` takes two locks.
#[derive(Default)]
pub(super) struct Stop {
    is_asked: AtomicBool,
    asked: Notify,
}

impl Stop {
    pub(super) fn ask(&self) {
        self.is_asked.store(true, Ordering::Release);
        // Whoever began to listen before is woken, and sees what was stored.
        self.asked.notify_waiters();
    }

    fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Acquire)
    }
}

/// What all connections of a listener go by.
pub(super) struct Rules<F> {
    front: F,
    pub(super) stop: Stop,
    header_timeout: Duration,
    /// At most `header_timeout`.
    park_after: Duration,
    request_timeout: Duration,
    body_max_bytes: usize,
    may_part: MayPart,
}

impl<F> Rules<F> {
    pub(super) fn new(front: F, config: &HttpConfig, may_part: MayPart) -> Self {
        let header_timeout = Duration::from_millis(config.header_timeout_ms);
        Self {
            front,
            stop: Stop::default(),
            header_timeout,
            park_after: Duration::from_millis(config.park_after_ms).min(header_timeout),
            request_timeout: Duration::from_millis(config.request_timeout_ms),
            body_max_bytes: config.body_max_bytes,
            may_part,
        }
    }
}

/// Serves one connection to its end; on shutdown, to the end of the request in flight. It has its place for as long.
pub(super) async fn converse<F: Front>(
    stream: TcpStream,
    peer: SocketAddr,
    rules: Arc<Rules<F>>,
    _place: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
    }
    let mut quiet_since = Instant::now();
    // One timer and one ear for the shutdown, for as long as the connection lasts.
    let mut timer = std::pin::pin!(sleep_until(quiet_since));
    let mut stop = std::pin::pin!(rules.stop.asked.notified());
    let mut parked = stream;
    loop {
        timer.as_mut().reset(quiet_since + rules.header_timeout);
        let heard = tokio::select! {
            // What has come by the time of the shutdown is still answered.
            biased;
            heard = parked.readable() => heard.is_ok(),
            () = std::future::ready(()), if rules.stop.is_asked() => false,
            () = stop.as_mut() => false,
            () = timer.as_mut() => false,
        };
        if !heard {
            return;
        }
        // Boxed, so that the task of a parked connection has no room for it.
        let conversation = Box::pin(
            Conversation::new(&rules, peer, quiet_since, timer.as_mut(), stop.as_mut()).hold(parked),
        );
        match conversation.await {
            End::Parked(stream, since) => (parked, quiet_since) = (stream, since),
            End::TakenOver(conversation) => return conversation.await,
            End::Over => return,
        }
    }
}

/// What became of a connection that hyper had.
enum End {
    /// Nothing has come for long enough; since when.
    Parked(TcpStream, Instant),
    TakenOver(BoxFuture<'static, ()>),
    Over,
}

/// Why hyper's connection is not polled any more.
enum Break {
    Ended(hyper::Result<()>),
    /// Nothing is under way, and it may be parked.
    Quiet,
    /// Nothing is owed to the client, and no further head was complete in time.
    Overdue,
}

/// A connection that hyper has.
struct Conversation<'a, 'r, F> {
    rules: &'r Arc<Rules<F>>,
    peer: SocketAddr,
    timer: Pin<&'a mut Sleep>,
    stop: Pin<&'a mut Notified<'r>>,
    /// Timer and stop know the connection's task, and wake it: they need not be told with every request.
    is_awaited: bool,
    /// From the shutdown on it only ends.
    stopping: bool,
    /// Requests that hyper's present connection has handed over.
    asked: u64,
    /// When the last of them must be answered.
    deadline: Instant,
    /// Requests that hyper's present connection has answered.
    answered: u64,
    /// When the last of them was, or when something was last seen to be under way.
    quiet_since: Instant,
    /// How long it may be quiet before something is done about it: it is parked, or closed.
    patience: Duration,
}

impl<'a, 'r, F: Front> Conversation<'a, 'r, F> {
    /// With `timer` set to when something is to be done about its quiet.
    fn new(
        rules: &'r Arc<Rules<F>>,
        peer: SocketAddr,
        quiet_since: Instant,
        mut timer: Pin<&'a mut Sleep>,
        stop: Pin<&'a mut Notified<'r>>,
    ) -> Self {
        // Something has come just now: time enough for the rest of a head, but not beyond the end of the old quiet.
        let overdue = quiet_since + rules.header_timeout;
        timer.as_mut().reset(overdue.min(Instant::now() + rules.park_after));
        let (patience, deadline) = (rules.park_after, quiet_since);
        Self {
            rules,
            peer,
            timer,
            stop,
            is_awaited: false,
            stopping: false,
            asked: 0,
            deadline,
            answered: 0,
            quiet_since,
            patience,
        }
    }

    /// From the first byte to the end, or until nothing is under way.
    async fn hold(mut self, mut stream: TcpStream) -> End {
        let (rules, peer) = (self.rules, self.peer);
        let mut read_before = Bytes::new();
        loop {
            let progress = Arc::new(Progress::default());
            (self.asked, self.answered) = (0, 0);
            let service = hyper::service::service_fn(|request| {
                let (request, answering) = progress.begin(request);
                let incoming = Incoming::new(request, peer, rules.body_max_bytes);
                let within = rules.front.within(&incoming, rules.request_timeout);
                // Boxed: hyper moves what it is given several times, all the room that it may ever need included.
                let answered = Box::pin(answer(&rules.front, incoming, Instant::now() + within));
                async move { Ok::<_, Infallible>(answering.with(answered.await)) }
            });
            let io = TokioIo::new(Watched::new(stream, read_before, Arc::clone(&progress)));
            // HTTP/1 alone, and not told apart from HTTP/2 by its first bytes: for those hyper-util waits without a
            // timeout, and idle connections of HTTP/2 have none either. Heads are timed by `poll_quiet`: hyper would set
            // a timer for each, and anew for a head whose beginning it is given back.
            // Head and body of an answer are written as one piece: most are smaller than what a vectored write costs more.
            let mut connection = http1::Builder::new()
                .header_read_timeout(None)
                .max_buf_size(HEAD_MAX_BYTES)
                .writev(false)
                .half_close(F::OUTLASTS_CLIENTS)
                .serve_connection(io, service);
            let mut bell = Bell::default();
            let broken = std::future::poll_fn(|context| {
                let mut for_hyper = Context::from_waker(bell.of(context.waker()));
                let mut polled = Pin::new(&mut connection).poll(&mut for_hyper);
                if polled.is_pending() && !self.stopping && self.is_to_stop(context) {
                    self.stopping = true;
                    self.patience = rules.header_timeout;
                    Pin::new(&mut connection).graceful_shutdown();
                    polled = Pin::new(&mut connection).poll(&mut for_hyper);
                }
                match polled {
                    Poll::Ready(ended) => Poll::Ready(Break::Ended(ended)),
                    Poll::Pending => self.poll_quiet(context, &progress),
                }
            });
            match broken.await {
                Break::Ended(Ok(())) => {
                    // An answer 101 that was not written whole, or whose request was not read whole, leaves nothing that
                    // could be taken over.
                    let Some(takeover) = progress.taken_over().filter(|_| progress.is_idle()) else {
                        return End::Over;
                    };
                    let (stream, read) = parts_of(connection.into_parts());
                    return takeover.begin(stream, read).map_or(End::Over, End::TakenOver);
                }
                Break::Ended(Err(error)) => {
                    tracing::debug!(%error, %peer, "a connection ended early");
                    return End::Over;
                }
                Break::Overdue => return End::Over,
                Break::Quiet => (stream, read_before) = parts_of(connection.into_parts()),
            }
            if read_before.is_empty() {
                return End::Parked(stream, self.quiet_since);
            }
            // The beginning of a head, or more: hyper must see it at once, and may keep it until that head is there.
            self.be_patient(rules.header_timeout);
        }
    }

    /// Whether the connection is to end. Its task is woken when that changes.
    fn is_to_stop(&mut self, context: &mut Context<'_>) -> bool {
        let is_told = !self.is_awaited && poll_now(self.stop.as_mut(), context).is_ready();
        is_told || self.rules.stop.is_asked()
    }

    /// Looks after a connection on which hyper waits for something.
    fn poll_quiet(&mut self, context: &mut Context<'_>, progress: &Progress) -> Poll<Break> {
        if progress.asked() != self.asked {
            self.asked = progress.asked();
            // No earlier than what its answer goes by, which was set just now.
            self.deadline = Instant::now() + self.rules.request_timeout;
            if self.deadline < self.timer.deadline() {
                self.timer.as_mut().reset(self.deadline);
            }
        }
        if progress.answered() != self.answered {
            self.answered = progress.answered();
            self.quiet_since = Instant::now();
            if self.patience != self.rules.park_after && !self.stopping {
                self.be_patient(self.rules.park_after);
            }
        }
        loop {
            // Not set anew with each request, but when it has gone off and there were some: a connection in use pays for
            // it once in `park_after`.
            if self.is_awaited && !self.timer.is_elapsed() {
                return Poll::Pending;
            }
            self.is_awaited = poll_now(self.timer.as_mut(), context).is_pending();
            if self.is_awaited {
                return Poll::Pending;
            }
            let quiet = self.quiet_since.elapsed();
            if quiet >= self.patience {
                let answered = progress.is_answered();
                if answered && quiet >= self.rules.header_timeout {
                    return Poll::Ready(Break::Overdue);
                }
                if (self.rules.may_part)(progress) {
                    return Poll::Ready(Break::Quiet);
                }
                if answered {
                    // Someone has not read what was asked, and it depends on hyper what becomes of the rest.
                    self.patience = self.rules.header_timeout;
                } else {
                    self.quiet_since = Instant::now();
                }
            }
            self.set_timer();
        }
    }

    fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
        self.set_timer();
    }

    /// To when there will be something to do if nothing happens: a request to give up, or quiet to do something about.
    fn set_timer(&mut self) {
        let quiet = self.quiet_since + self.patience;
        let now = Instant::now();
        if self.deadline <= now {
            // One that is given longer than others may need it again.
            self.deadline = now + self.rules.request_timeout;
        }
        let under_way = self.asked != self.answered;
        self.timer.as_mut().reset(if under_way { quiet.min(self.deadline) } else { quiet });
    }
}

/// Polls, whatever the task has used up of its turn: `Pending` then means that the task is woken by `awaited`.
fn poll_now<F: Future>(awaited: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
    std::pin::pin!(unconstrained(awaited)).poll(context)
}

/// The socket that hyper had, and what it had read of requests that it has not begun.
fn parts_of<S>(parts: http1::Parts<TokioIo<Watched>, S>) -> (TcpStream, Bytes) {
    let (stream, not_read_again) = parts.io.into_inner().into_parts();
    if not_read_again.is_empty() {
        return (stream, parts.read_buf);
    }
    let mut read = BytesMut::from(parts.read_buf);
    read.extend_from_slice(&not_read_again);
    (stream, read.freeze())
}

#[cfg(test)]
mod tests;
