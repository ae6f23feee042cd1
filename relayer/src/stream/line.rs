//! The payments of one connection that have no answer yet, in the order in which they came, which is that of their
//! answers.
//!
//! Most need nothing but Redis: they are checked and submitted at once, one after the other, and nobody waits for an
//! earlier answer. A payment on a channel that must be looked up or registered first takes the detour of its channel,
//! where later ones of that channel line up behind it, so that they stay in order and hold up no other channel.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use common::ids::ChannelId;
use common::voucher::Payment;
use common::wire::PaymentAnswer;
use futures::FutureExt as _;
use service::trail;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::accept::{Acceptor, Named, Proven, after_registration, no_answer, refuse};
use crate::batcher::{Answer, Job};
use crate::error::Refusal;
use crate::handlers::App;
use crate::metrics::Ticket;

/// Detours of one connection that look up or register their channels at once.
const DETOURS_AT_ONCE: usize = 16;

/// Payments of a detour that go on together.
const DETOUR_BATCH_MAX: usize = 64;

/// What the client is told of a payment.
pub(super) type Answered = Result<PaymentAnswer, Refusal>;

/// Where one payment is.
enum Place {
    Answered(Answered),
    Submitted { named: Named, answer: oneshot::Receiver<Answer> },
    OnDetour { channel_id: ChannelId, answer: oneshot::Receiver<Answered> },
}

/// A payment that waits on a detour.
struct Waiting {
    ticket: Ticket,
    payment: Payment,
    reply: oneshot::Sender<Answered>,
}

/// The way of one channel that must be looked up or registered first.
struct Detour {
    queue: mpsc::UnboundedSender<Waiting>,
    unanswered: usize,
    /// What has not been submitted when the connection ends is abandoned, as for a request whose client leaves.
    _task: AbortOnDropHandle<()>,
}

/// See the module. Its length is the caller's to bound.
pub(super) struct Line {
    app: Arc<App>,
    places: VecDeque<Place>,
    detours: HashMap<ChannelId, Detour>,
    detours_at_once: Arc<Semaphore>,
}

impl Line {
    pub(super) fn new(app: Arc<App>) -> Self {
        let detours_at_once = Arc::new(Semaphore::new(DETOURS_AT_ONCE));
        Line { app, places: VecDeque::new(), detours: HashMap::new(), detours_at_once }
    }

    /// Payments without an answer.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Puts a payment in line that was refused before it was looked at.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        self.places.push_back(Place::Answered(Err(refusal)));
    }

    /// Puts a payment in line, and on its way.
    pub(super) async fn take(&mut self, mut ticket: Ticket, body: &[u8]) {
        let place = match self.app.acceptor.decode(body, Instant::now(), &mut ticket).0 {
            Ok(payment) => self.start(ticket, payment).await,
            Err(refusal) => Place::Answered(Err(refuse([ticket], refusal))),
        };
        self.places.push_back(place);
    }

    async fn start(&mut self, ticket: Ticket, payment: Payment) -> Place {
        let acceptor = &self.app.acceptor;
        if !acceptor.health.is_accepting() {
            return Place::Answered(Err(refuse([ticket], Refusal::NotReady)));
        }
        let channel_id = payment.channel_id;
        let on_detour = !self.detours.is_empty() && self.detours.contains_key(&channel_id);
        if !on_detour && let Some(channel) = acceptor.channels.get_known(&channel_id) {
            return match acceptor.check(payment, channel, Instant::now()).await {
                Ok(proven) => submit(acceptor, proven, ticket),
                Err(refusal) => Place::Answered(Err(refuse([ticket], refusal))),
            };
        }
        let (reply, answer) = oneshot::channel();
        let detour = self.detours.entry(channel_id).or_insert_with(|| {
            let (queue, waiting) = mpsc::unbounded_channel();
            let run = run_detour(Arc::clone(&self.app), Arc::clone(&self.detours_at_once), waiting);
            let task = tokio::spawn(trail::follow_on(run));
            Detour { queue, unanswered: 0, _task: AbortOnDropHandle::new(task) }
        });
        detour.unanswered = detour.unanswered.saturating_add(1);
        // A detour that has failed drops what it is sent, and with it the reply: its outcome is unknown.
        let _ = detour.queue.send(Waiting { ticket, payment, reply });
        Place::OnDetour { channel_id, answer }
    }

    /// The answer to the first in line, once there is one; `None` if nobody is in line.
    pub(super) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answered>> {
        let answered = match self.places.front_mut() {
            None => return Poll::Ready(None),
            Some(Place::Answered(_)) => None,
            Some(Place::Submitted { named, answer }) => {
                let named = *named;
                let answer = ready!(answer.poll_unpin(cx));
                // Only a channel that Redis is not known to know is ever unregistered, and those take detours.
                let result = answer.map_err(|_| no_answer()).and_then(after_registration);
                let acceptor = &self.app.acceptor;
                Some(result.map(|outcome| acceptor.answer(named, outcome)))
            }
            Some(Place::OnDetour { channel_id, answer }) => {
                let channel_id = *channel_id;
                let answered = ready!(answer.poll_unpin(cx)).unwrap_or_else(|_| Err(no_answer()));
                self.leave_detour(&channel_id);
                Some(answered)
            }
        };
        match (self.places.pop_front(), answered) {
            (Some(Place::Answered(answered)), None) => Poll::Ready(Some(answered)),
            (_, answered) => Poll::Ready(answered),
        }
    }

    /// Ends a detour with its last answer: whatever comes next on the channel can follow nothing of it any more.
    fn leave_detour(&mut self, channel_id: &ChannelId) {
        if let Some(detour) = self.detours.get_mut(channel_id) {
            detour.unanswered = detour.unanswered.saturating_sub(1);
            if detour.unanswered == 0 {
                self.detours.remove(channel_id);
            }
        }
    }
}

fn submit(acceptor: &Acceptor, proven: Proven, ticket: Ticket) -> Place {
    let Proven { voucher, channel, at } = proven;
    let named = Named::of(&voucher, &channel);
    match acceptor.batchers.submit(Job { voucher, channel, ticket, since: at }) {
        Ok(answer) => Place::Submitted { named, answer },
        Err(refusal) => Place::Answered(Err(refusal)),
    }
}

/// Takes what waits together, as a batch is taken, until the connection needs the detour no more.
async fn run_detour(
    app: Arc<App>,
    detours_at_once: Arc<Semaphore>,
    mut queue: mpsc::UnboundedReceiver<Waiting>,
) {
    let mut together = Vec::new();
    while queue.recv_many(&mut together, DETOUR_BATCH_MAX).await > 0 {
        let Ok(_turn) = detours_at_once.acquire().await else { return };
        let (mut tickets, mut payments, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        for Waiting { ticket, payment, reply } in together.drain(..) {
            tickets.push(ticket);
            payments.push(Ok(payment));
            replies.push(reply);
        }
        for (answered, reply) in app.acceptor.accept_all(tickets, payments).await.into_iter().zip(replies) {
            let _ = reply.send(answered);
        }
    }
}
