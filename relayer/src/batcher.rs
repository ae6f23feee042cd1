//! Vouchers on their way into Redis. One that comes while its lane is idle is sent at once; those that come while a call
//! is on its way go together in the next. Whoever sent a voucher may leave: it is recorded and counted all the
//! same.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::ids::ChannelId;
use common::store::accept::Verdict;
use common::store::followed::Followed;
use common::store::{Store, StoreError};
use common::voucher::VerifiedVoucher;
use common::wire::Outcome;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::channels::Channel;
use crate::config::BatcherConfig;
use crate::error::{Refusal, ending, judge};
use crate::metrics::{Ending, Metrics, Ticket};
use crate::readiness::Health;

/// A round of the runtime in which nobody had anything to do takes less than this, and a single signature more.
const IDLE_ROUND: Duration = Duration::from_micros(10);

/// Where vouchers are recorded.
pub(crate) trait Recorder: Send + Sync + 'static {
    /// See [`Store::lanes`].
    fn lanes(&self) -> u16;

    /// See [`Store::lane_of`].
    fn lane_of(&self, id: &ChannelId) -> u16;

    /// See [`Store::accept_followed`].
    fn accept(
        &self,
        vouchers: &[Arc<VerifiedVoucher>],
        followed: &[Followed],
    ) -> impl Future<Output = Result<Vec<Verdict>, StoreError>> + Send;

    /// See [`Store::report_lost`].
    fn report_lost(&self, detail: String) -> StoreError;
}

impl Recorder for Store {
    fn lanes(&self) -> u16 {
        Store::lanes(self)
    }

    fn lane_of(&self, id: &ChannelId) -> u16 {
        Store::lane_of(self, id)
    }

    fn accept(
        &self,
        vouchers: &[Arc<VerifiedVoucher>],
        followed: &[Followed],
    ) -> impl Future<Output = Result<Vec<Verdict>, StoreError>> + Send {
        self.accept_followed(vouchers, followed)
    }

    fn report_lost(&self, detail: String) -> StoreError {
        Store::report_lost(self, detail)
    }
}

/// A voucher to be recorded.
#[derive(Debug)]
pub(crate) struct Job {
    /// What to record. Shared with the channel that may know it as its latest, and light to hand on.
    pub(crate) voucher: Arc<VerifiedVoucher>,
    /// The channel that pays.
    pub(crate) channel: Arc<Channel>,
    /// Ended by the batcher, unless it is handed back.
    pub(crate) ticket: Ticket,
    /// Since when it could be recorded.
    pub(crate) since: Instant,
}

/// What became of a job.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The end of it; already counted.
    Final(Result<Outcome, Refusal>),
    /// Redis does not know the channel yet: register it, and submit the job again.
    Unregistered(Box<Job>),
}

#[derive(Debug)]
struct Waiting {
    job: Job,
    reply: oneshot::Sender<Answer>,
}

/// One queue a lane, each emptied by a task of its own.
#[derive(Debug)]
pub(crate) struct Batchers<R = Store> {
    recorder: Arc<R>,
    queues: Vec<mpsc::Sender<Waiting>>,
    stop: CancellationToken,
    workers: TaskTracker,
}

impl<R: Recorder> Batchers<R> {
    /// Starts a worker for each lane.
    pub(crate) fn start(
        config: &BatcherConfig,
        recorder: R,
        health: &Arc<Health>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (stop, workers) = (CancellationToken::new(), TaskTracker::new());
        let recorder = Arc::new(recorder);
        let queues = (0..recorder.lanes())
            .map(|lane| {
                let (sender, queue) = mpsc::channel(config.queue_max);
                let worker = Worker {
                    lane,
                    recorder: Arc::clone(&recorder),
                    calls_max: config.calls_in_flight_per_lane,
                    vouchers_max: config.vouchers_per_call_max,
                    gather_max: Duration::from_micros(config.gather_max_us),
                    health: Arc::clone(health),
                    metrics: Arc::clone(metrics),
                };
                workers.spawn(worker.run(queue, stop.clone()));
                sender
            })
            .collect();
        workers.close();
        Self { recorder, queues, stop, workers }
    }

    /// Hands a job over; jobs of one channel are recorded in the order in which they are submitted.
    ///
    /// # Errors
    /// The queue is full or closed. The job is counted as ended.
    pub(crate) fn submit(&self, job: Job) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let lane = self.recorder.lane_of(job.voucher.channel_id());
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { job, reply };
        let refused = match self.queues.get(usize::from(lane)) {
            Some(queue) => match queue.try_send(waiting) {
                Ok(()) => return Ok(answer),
                Err(mpsc::error::TrySendError::Full(waiting)) => {
                    (waiting, Refusal::Overloaded("too many payments wait for Redis"))
                }
                Err(mpsc::error::TrySendError::Closed(waiting)) => (waiting, Refusal::NotReady),
            },
            None => (waiting, Refusal::NotReady),
        };
        let (waiting, refusal) = refused;
        waiting.job.ticket.end(Ending::Refused(refusal.code()));
        Err(refusal)
    }

    /// Takes no more jobs, and waits until all that were submitted are answered.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.workers.wait().await;
    }
}

struct Worker<R> {
    lane: u16,
    recorder: Arc<R>,
    calls_max: usize,
    vouchers_max: usize,
    gather_max: Duration,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl<R: Recorder> Worker<R> {
    async fn run(self, mut queue: mpsc::Receiver<Waiting>, stop: CancellationToken) {
        let mut calls = FuturesUnordered::new();
        let (mut open, mut before) = (true, 0);
        while open || !calls.is_empty() {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !queue.is_closed() => queue.close(),
                Some(()) = calls.next() => {}
                first = queue.recv(), if open && calls.len() < self.calls_max => match first {
                    Some(first) => {
                        // An answer that is on its way is not kept waiting.
                        if !calls.is_empty() {
                            before = 0;
                        }
                        let gathered = self.gather(first, &mut queue, before).await;
                        before = gathered.len();
                        calls.push(self.call_or_say_why_not(gathered));
                    }
                    None => open = false,
                }
            }
        }
    }

    /// What goes in one call with `first`. A call costs Redis as much as some twenty vouchers in it, so that it pays to wait
    /// for those that others are about to submit: of the vouchers at hand when the call before, of `before` vouchers, ended,
    /// and those it had, three in four. The fourth is left to be worked on while this call is on its way.
    ///
    /// Nobody waits for what is not being worked on: a round lets everyone go on who can, and after one in which nobody
    /// could, the call goes out.
    async fn gather(
        &self,
        first: Waiting,
        queue: &mut mpsc::Receiver<Waiting>,
        before: usize,
    ) -> Vec<Waiting> {
        let at_hand = queue.len().saturating_add(1).saturating_add(before);
        let enough = self.vouchers_max.min(at_hand.saturating_sub(at_hand / 4));
        let mut gathered = vec![first];
        let (mut round_at, mut nobody_could) = (Instant::now(), false);
        let until = round_at.checked_add(self.gather_max);
        loop {
            let here = gathered.len();
            while gathered.len() < self.vouchers_max
                && let Ok(waiting) = queue.try_recv()
            {
                gathered.push(waiting);
            }
            let in_vain = nobody_could && gathered.len() == here;
            if gathered.len() >= enough || in_vain || until.is_none_or(|until| round_at >= until) {
                return gathered;
            }
            tokio::task::yield_now().await;
            let now = Instant::now();
            nobody_could = now.duration_since(round_at) < IDLE_ROUND;
            round_at = now;
        }
    }

    /// One panic must not end the lane.
    async fn call_or_say_why_not(&self, gathered: Vec<Waiting>) {
        if AssertUnwindSafe(self.call(gathered)).catch_unwind().await.is_err() {
            // Tickets and replies are gone with it: whoever waits is told that the outcome is unknown.
            tracing::error!(lane = self.lane, "a call to Redis panicked");
        }
    }

    async fn call(&self, gathered: Vec<Waiting>) {
        let number = gathered.len();
        self.metrics.called(number);
        let mut vouchers = Vec::with_capacity(number);
        let mut rest = Vec::with_capacity(number);
        let mut followed = Vec::new();
        for Waiting { job: Job { voucher, channel, mut ticket, since }, reply } in gathered {
            followed.extend(ticket.sent(&voucher, number));
            vouchers.push(voucher);
            rest.push((channel, ticket, reply, since));
        }
        let answer = self.recorder.accept(&vouchers, &followed).await;
        // One look at the clock for all of the call.
        let answered_at = Instant::now();
        self.metrics.store_took(rest.iter().map(|(_, _, _, since)| answered_at.duration_since(*since)));
        match answer {
            Ok(verdicts) => {
                for ((voucher, verdict), (channel, ticket, reply, since)) in
                    vouchers.into_iter().zip(verdicts).zip(rest)
                {
                    self.answer(Job { voucher, channel, ticket, since }, verdict, reply);
                }
            }
            Err(error) => {
                self.health.store_failed(&error, "recording payments");
                for (_, ticket, reply, _) in rest {
                    conclude(ticket, Err(Refusal::Store(error.clone())), reply);
                }
            }
        }
    }

    fn answer(&self, job: Job, verdict: Verdict, reply: oneshot::Sender<Answer>) {
        match judge(verdict, &job.channel.terms) {
            Some(result) => {
                job.channel.seen_in_store();
                if let Err(Refusal::Store(error)) = &result {
                    self.health.store_failed(error, "recording payments");
                }
                conclude(job.ticket, result, reply);
            }
            // Redis knew the channel once and nothing ever removes one.
            None if job.channel.is_in_store() => {
                let detail = format!("channel {} is gone", job.voucher.channel_id());
                let error = self.recorder.report_lost(detail);
                self.health.store_failed(&error, "recording payments");
                conclude(job.ticket, Err(Refusal::Store(error)), reply);
            }
            None => {
                let mut job = job;
                job.ticket.came_back();
                // Where the payer has left, the ticket ends here: nothing was recorded.
                let _ = reply.send(Answer::Unregistered(Box::new(job)));
            }
        }
    }
}

/// Counts a payment's end and tells whoever sent it, if they are still there.
fn conclude(ticket: Ticket, result: Result<Outcome, Refusal>, reply: oneshot::Sender<Answer>) {
    ticket.end(ending(&result));
    let _ = reply.send(Answer::Final(result));
}

#[cfg(test)]
mod tests;
