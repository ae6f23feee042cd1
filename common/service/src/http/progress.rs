//! How far hyper is with a connection, seen from outside: whether taking it from hyper would lose anything.
//!
//! hyper does not say, so it is concluded from what passes by: requests that it hands over, their bodies, its answers'
//! bodies, and what it asks of the socket. [`Progress::is_idle`], asked when hyper's connection has just been polled and
//! is pending, means that hyper (`proto::h1`, read in version 1.12) stands between two messages:
//!
//! * *Every request was read to its end.* Its body ends, for whoever reads it, only after hyper's decoder is at its end
//!   (`Conn::poll_read_body`, which leaves `Reading::KeepAlive`); one that breaks or is dropped early never counts.
//! * *Every answer was written.* hyper drops an answer's body only once all of it is in the write buffer, `Writing` is
//!   `KeepAlive` or `Closed` by then, and `Buffered::poll_flush` asks the socket to flush only when that buffer is empty
//!   (without `pipeline_flush`, which is not set). So a flush after that drop, with no write after it, has left nothing.
//! * With both at their ends, `State::try_keep_alive` has turned them into `Init` and `Init`, or closed both. It is called
//!   after each flush and each read of a body, thus after the later of the two. And a connection whose sides are closed
//!   is not pending.
//!
//! In that state a connection has no memory of what was before: a new one may go on in its place, if it first reads
//! what hyper had read of the next head. That is `Parts::read_buf`, and [`Watched`] puts it in front.
//!
//! `connection/tests/pieces.rs` is to find out where a later hyper behaves otherwise: it breaks each of these conditions on
//! purpose, and finds that.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::bell::hush;
use super::takeover::Takeover;

/// What has passed between hyper, one connection's socket and its service. Requests are counted from 1.
///
/// All of it but `read` is written and read by the task of the connection alone; atomics, because the service's types
/// must be `Sync`, not because anything races.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last request that hyper handed over.
    asked: AtomicU64,
    /// The last request whose body was read to its end, by whichever task.
    read: AtomicU64,
    /// The last request whose answer's body hyper has dropped.
    answered: AtomicU64,
    /// What was written since has not been flushed.
    unflushed: AtomicBool,
    /// Who gets the connection: set by the answer 101.
    takeover: Mutex<Option<Takeover>>,
}

impl Progress {
    /// True if hyper stands between two messages. See the top of this file.
    pub(super) fn is_idle(&self) -> bool {
        self.is_read() && self.has_answered() && self.is_flushed()
    }

    /// True if nothing is owed to the client. The rest of what it asked may still be under way.
    pub(super) fn is_answered(&self) -> bool {
        self.has_answered() && self.is_flushed()
    }

    pub(super) fn is_read(&self) -> bool {
        self.read.load(Ordering::Acquire) == self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed) == self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn is_flushed(&self) -> bool {
        !self.unflushed.load(Ordering::Relaxed)
    }

    /// How many requests hyper has handed over.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// How many requests were answered.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Who gets the connection now that hyper has ended, if the last answer said so.
    pub(super) fn taken_over(&self) -> Option<Takeover> {
        self.takeover.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes notice of a request, and of how far its body is read.
    pub(super) fn begin(
        self: &Arc<Self>,
        request: hyper::Request<Incoming>,
    ) -> (hyper::Request<Asked>, Answering) {
        let number = self.asked.load(Ordering::Relaxed).wrapping_add(1);
        self.asked.store(number, Ordering::Relaxed);
        let request = request.map(|body| {
            if body.is_end_stream() {
                self.read.fetch_max(number, Ordering::Release);
            }
            Asked { body, number: Some(number), progress: Arc::clone(self) }
        });
        (request, Answering { number, progress: Arc::clone(self) })
    }
}

/// The body of a request.
pub(super) struct Asked {
    body: Incoming,
    /// `None` once it broke: what comes after that is not its end.
    number: Option<u64>,
    progress: Arc<Progress>,
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let (frame, rung) = hush(|| Pin::new(&mut self.body).poll_frame(context));
        let Poll::Ready(frame) = frame else {
            rung.ring();
            return Poll::Pending;
        };
        let ended = match &frame {
            None => true,
            Some(Ok(_)) => self.body.is_end_stream(),
            Some(Err(_)) => {
                self.number = None;
                false
            }
        };
        if !ended {
            rung.ring();
        }
        // The largest, not the last: a task may keep the body of an earlier request, and read its end late.
        if let (true, Some(number)) = (ended, self.number) {
            self.progress.read.fetch_max(number, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request that is being answered, until hyper has dropped its answer.
pub(super) struct Answering {
    number: u64,
    progress: Arc<Progress>,
}

impl Answering {
    /// The answer as hyper gets it.
    pub(super) fn with(self, mut response: Response) -> Response<Answer> {
        if let Some(takeover) = response.extensions_mut().remove::<Takeover>() {
            *self.progress.takeover.lock().unwrap_or_else(PoisonError::into_inner) = Some(takeover);
        }
        response.map(|body| Answer { body, _answering: self })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.progress.answered.store(self.number, Ordering::Relaxed);
        // Only a flush from here on counts.
        self.progress.unflushed.store(true, Ordering::Relaxed);
    }
}

/// The body of an answer.
pub(super) struct Answer {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that tells what is asked of it, and reads first what was read from it already.
pub(super) struct Watched {
    stream: TcpStream,
    read_before: Bytes,
    progress: Arc<Progress>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, read_before: Bytes, progress: Arc<Progress>) -> Self {
        Self { stream, read_before, progress }
    }

    /// The socket, and what no one has read yet of that which was read before.
    pub(super) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.read_before)
    }

    fn writing(&mut self) -> Pin<&mut TcpStream> {
        // Whether or not it takes anything: what is asked of the socket is still with hyper.
        self.progress.unflushed.store(true, Ordering::Relaxed);
        Pin::new(&mut self.stream)
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.read_before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let fits = self.read_before.len().min(buffer.remaining());
        buffer.put_slice(&self.read_before.split_to(fits));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.writing().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.writing().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.progress.unflushed.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
