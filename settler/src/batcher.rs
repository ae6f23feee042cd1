//! Settlements on their way to the issuer. One that comes while fewer requests are under way than there may be is sent at
//! once; those that come meanwhile go together in the next request. Each close gets its own result. Where each goes alone,
//! because it is so configured or the issuer takes no batches, none waits for another.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::batch::ChannelSettlement;
use common::store::lease::Lease;
use common::trail::TraceId;
use common::wire::Receipt;
use futures::future::join_all;
use service::issuer_client::{BatchError, IssuerClient, IssuerError};
use service::spans::{Kind, Span};
use service::trail::{self, RequestTrail};
use tokio::sync::oneshot;

use crate::config::ClosesConfig;
use crate::metrics::Metrics;

/// What became of one settlement.
type Settled = Result<Receipt, IssuerError>;

/// Where settlements are sent.
pub(crate) trait Issuer: Send + Sync + 'static {
    /// See [`IssuerClient::settle`].
    fn settle(&self, settlement: &ChannelSettlement) -> impl Future<Output = Settled> + Send;

    /// See [`IssuerClient::settle_all`].
    fn settle_all(
        &self,
        settlements: &[ChannelSettlement],
    ) -> impl Future<Output = Result<Vec<Settled>, BatchError>> + Send;
}

/// The issuer, for as long as the lease lasts: what has waited here is not sent by someone who leads no more.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) issuer: IssuerClient,
    pub(crate) lease: Arc<Lease>,
}

impl Issuer for Leased {
    async fn settle(&self, settlement: &ChannelSettlement) -> Settled {
        match self.lease.token() {
            Ok(_) => called(1, self.issuer.settle(&settlement.channel_id, &settlement.request)).await,
            Err(over) => Err(IssuerError::Unavailable { detail: over.to_string() }),
        }
    }

    async fn settle_all(&self, settlements: &[ChannelSettlement]) -> Result<Vec<Settled>, BatchError> {
        match self.lease.token() {
            Ok(_) => called(settlements.len(), self.issuer.settle_all(settlements)).await,
            Err(over) => Err(BatchError::Unavailable { detail: over.to_string() }),
        }
    }
}

/// Gives a request of so many settlements an id, by which the issuer's log knows it, and a trace of its own: it may be for
/// many closes, and a close for payments of many traces.
async fn called<T, E: std::fmt::Display>(
    settlements: usize,
    request: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut span = Span::begin("settlements", Kind::Internal, None);
    span.note("settlements", || settlements);
    let trail = Arc::new(RequestTrail::own(&span));
    let trace_id = trail.trace().map(|trace| tracing::field::display(TraceId(trace.trace_id)));
    tracing::debug!(request_id = %trail.id(), trace_id, settlements, "settlements go to the issuer");
    trail::follow(trail, request).await.inspect_err(|error| span.fail(error))
}

/// What a close is told whose request was dropped before it was answered.
pub(crate) fn given_up() -> IssuerError {
    IssuerError::Unavailable { detail: "the request was given up before it was answered".to_owned() }
}

#[derive(Debug)]
struct Waiting {
    settlement: ChannelSettlement,
    reply: oneshot::Sender<Settled>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Those who take from it, each with one request under way at a time.
    senders: usize,
}

/// The settlements of one leadership. It has no task of its own while there is nothing to send.
#[derive(Debug)]
pub(crate) struct Batcher<I = Leased> {
    issuer: I,
    metrics: Metrics,
    /// Requests under way at once, where they hold several settlements.
    senders_max: usize,
    /// Settlements in one request, as configured.
    wanted: usize,
    /// As many of these as the issuer takes. Falls, for as long as the leadership lasts.
    per_request: AtomicUsize,
    queue: Mutex<Queue>,
}

impl<I: Issuer> Batcher<I> {
    pub(crate) fn new(issuer: I, closes: &ClosesConfig, metrics: Metrics) -> Self {
        Self {
            issuer,
            metrics,
            senders_max: closes.requests_in_flight_max,
            wanted: closes.settlements_per_request,
            per_request: AtomicUsize::new(closes.settlements_per_request),
            queue: Mutex::default(),
        }
    }

    /// Queues a settlement. With it comes, where there is room for another request, a task that the caller must run: it
    /// sends until nothing waits any more.
    pub(crate) fn submit(
        self: &Arc<Self>,
        settlement: ChannelSettlement,
    ) -> (oneshot::Receiver<Settled>, Option<impl Future<Output = ()> + Send + use<I>>) {
        let (reply, answer) = oneshot::channel();
        let mut queue = self.queue();
        queue.waiting.push_back(Waiting { settlement, reply });
        let has_room = queue.senders < self.senders_max || self.each_alone();
        if has_room {
            queue.senders = queue.senders.saturating_add(1);
        }
        drop(queue);
        (answer, has_room.then(|| self.clone().send_all()))
    }

    async fn send_all(self: Arc<Self>) {
        // Other closes may be just about to submit: where nothing else is ready to run, the runtime comes back at once.
        tokio::task::yield_now().await;
        while let Some(batch) = self.take() {
            self.send(batch).await;
        }
    }

    fn each_alone(&self) -> bool {
        self.per_request.load(Ordering::Relaxed) <= 1
    }

    /// What goes next; `None` ends the sender.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        if queue.waiting.is_empty() {
            // In the same breath as the look: whoever queues something after it sees that there is room.
            queue.senders = queue.senders.saturating_sub(1);
            return None;
        }
        // Alone means at once and not one after the other.
        let most = if self.each_alone() { self.wanted } else { self.per_request.load(Ordering::Relaxed) };
        let count = queue.waiting.len().min(most.max(1));
        Some(queue.waiting.drain(..count).collect())
    }

    async fn send(&self, batch: Vec<Waiting>) {
        if batch.len() == 1 || self.each_alone() {
            return self.send_each(batch).await;
        }
        let (settlements, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|Waiting { settlement, reply }| (settlement, reply)).unzip();
        match self.issuer.settle_all(&settlements).await {
            Ok(results) => {
                self.metrics.request("answered", settlements.len());
                for (reply, result) in replies.into_iter().zip(results) {
                    // A close that is gone has no use for it.
                    let _ = reply.send(result);
                }
            }
            // All, some or none of them took place. Each is sent again as it is, and then gets its first receipt.
            Err(BatchError::Unavailable { detail }) => {
                self.metrics.request("unavailable", settlements.len());
                for reply in replies {
                    let _ = reply.send(Err(IssuerError::Unavailable { detail: detail.clone() }));
                }
            }
            // The issuer has looked at none of them, and no channel is given up on for the company it was in: what is
            // final about a settlement is only what the issuer says to it alone.
            Err(refusal @ (BatchError::NotTaken { .. } | BatchError::NoRoute)) => {
                self.metrics.request("not_taken", settlements.len());
                self.send_fewer(settlements.len(), &refusal);
                let batch = settlements.into_iter().zip(replies);
                self.send_each(batch.map(|(settlement, reply)| Waiting { settlement, reply }).collect())
                    .await;
            }
        }
    }

    /// Sends each in a request of its own, all at once, and answers each as soon as it is answered.
    async fn send_each(&self, batch: Vec<Waiting>) {
        let each = batch.into_iter().map(async |Waiting { settlement, reply }| {
            let _ = reply.send(self.send_alone(&settlement).await);
        });
        join_all(each).await;
    }

    async fn send_alone(&self, settlement: &ChannelSettlement) -> Settled {
        let settled = self.issuer.settle(settlement).await;
        let outcome = match settled {
            Err(IssuerError::Unavailable { .. }) => "unavailable",
            Ok(_) | Err(IssuerError::Refused(_)) => "answered",
        };
        self.metrics.request(outcome, 1);
        settled
    }

    /// Takes note of what the issuer does not take, so that it is not asked for that again and again.
    fn send_fewer(&self, sent: usize, refusal: &BatchError) {
        let fewer = match refusal {
            BatchError::NoRoute => 1,
            BatchError::NotTaken { .. } | BatchError::Unavailable { .. } => sent.div_ceil(2).max(1),
        };
        // Several requests may be refused at once: each number is told once.
        if self.per_request.fetch_min(fewer, Ordering::Relaxed) > fewer {
            tracing::warn!(
                sent,
                settlements_per_request = fewer,
                error = %refusal,
                "the issuer does not settle so many at once: it is sent fewer"
            );
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
