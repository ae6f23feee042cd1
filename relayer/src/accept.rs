//! What happens to a payment: decode, terms, proof, record. Nothing is written before the proof held.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::amount::Amount;
use common::clock::Clock;
use common::ids::{ChannelId, PublicKey, SpelledId};
use common::store::{Store, StoreError};
use common::voucher::{Payment, VerifiedVoucher};
use common::wire::{Outcome, PaymentAnswer, payment_from_json};
use futures::{StreamExt, stream};
use tokio::sync::oneshot;

use crate::batcher::{Answer, Batchers, Job};
use crate::channels::{Channel, Channels, LookupError, StoreAndIssuer};
use crate::error::Refusal;
use crate::metrics::{Ending, Metrics, Ticket};
use crate::readiness::Health;
use crate::receipts::Receipts;
use crate::tuning::Tuning;

/// Channels of one batch that are looked up, or registered, at once.
const LOOKUPS_AT_ONCE: usize = 16;

/// Proofs of one batch that are checked in a row before others get their turn: about half a millisecond.
const CHECKS_IN_A_ROW: usize = 16;

/// Everything that a payment needs on its way.
pub(crate) struct Acceptor {
    pub(crate) channels: Channels<StoreAndIssuer>,
    pub(crate) batchers: Batchers,
    pub(crate) store: Store,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    pub(crate) tuning: Tuning,
    pub(crate) receipts: Option<Receipts>,
}

/// A payment whose proof held.
pub(crate) struct Proven {
    pub(crate) voucher: Arc<VerifiedVoucher>,
    pub(crate) channel: Arc<Channel>,
    /// When it did.
    pub(crate) at: Instant,
}

/// What a payment is for: what its answer names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    channel_id: SpelledId,
    payee: PublicKey,
    cumulative_amount: Amount,
}

impl Named {
    pub(crate) fn of(voucher: &VerifiedVoucher, channel: &Channel) -> Self {
        Named {
            channel_id: *voucher.spelled_id(),
            payee: channel.terms.terms().payee,
            cumulative_amount: voucher.cumulative_amount(),
        }
    }
}

/// Where one payment of a batch is.
enum Slot {
    Ended(Result<Outcome, Refusal>),
    Submitted(oneshot::Receiver<Answer>),
    Unregistered(Box<Job>),
}

impl Acceptor {
    /// Counts one payment in.
    ///
    /// # Errors
    /// Too many are in flight; counted as ended.
    pub(crate) fn receive(&self) -> Result<Ticket, Refusal> {
        let received = self.metrics.receive_one(self.tuning.bounds().payments_in_flight_max);
        received.map_err(|ticket| refuse([ticket], TOO_MANY_IN_FLIGHT))
    }

    /// Counts the payments of a batch in, all or none.
    ///
    /// # Errors
    /// Too many are in flight; counted as ended.
    pub(crate) fn receive_batch(&self, count: usize) -> Result<Vec<Ticket>, Refusal> {
        let received = self.metrics.receive(count, self.tuning.bounds().payments_in_flight_max);
        received.map_err(|tickets| refuse(tickets, TOO_MANY_IN_FLIGHT))
    }

    /// Takes one payment. What is done for a request has room for all that it may ever need: what is seldom needed is boxed,
    /// here and below.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(crate) async fn accept(&self, mut ticket: Ticket, body: &[u8]) -> Result<PaymentAnswer, Refusal> {
        let Proven { voucher, channel, at } = match self.read(body, &mut ticket).await {
            Ok(proven) => proven,
            Err(refusal) => return Err(refuse([ticket], refusal)),
        };
        let named = Named::of(&voucher, &channel);
        let outcome = match self.record(Job { voucher, channel, ticket, since: at }).await? {
            Answer::Final(result) => result?,
            Answer::Unregistered(job) => Box::pin(self.register_and_record(*job)).await?,
        };
        Ok(self.answer(named, outcome))
    }

    /// Records a payment on a channel that Redis does not know yet.
    async fn register_and_record(&self, job: Job) -> Result<Outcome, Refusal> {
        if let Err(refusal) = self.register(&job.channel).await {
            return Err(refuse([job.ticket], refusal));
        }
        after_registration(self.record(Job { since: Instant::now(), ..job }).await?)
    }

    /// What a payer is told of a payment that was taken.
    pub(crate) fn answer(&self, named: Named, outcome: Outcome) -> PaymentAnswer {
        let Named { channel_id, payee, cumulative_amount } = named;
        let receipt = self.receipts.as_ref().and_then(|receipts| {
            let started = Instant::now();
            let receipt = receipts.sign(&payee, &channel_id, cumulative_amount, self.clock.now_ms());
            self.metrics.receipt_took(started.elapsed());
            receipt.map(Box::new)
        });
        PaymentAnswer { channel_id, cumulative_amount, outcome, receipt }
    }

    /// Takes the payments of a batch, those of one channel in the order given. A ticket each.
    pub(crate) async fn accept_batch(
        &self,
        mut tickets: Vec<Ticket>,
        bodies: &[&[u8]],
    ) -> Vec<Result<PaymentAnswer, Refusal>> {
        let payments = self.decode_all(bodies, &mut tickets);
        self.accept_all(tickets, payments).await
    }

    /// As [`Acceptor::accept_batch`], of payments that were read already.
    pub(crate) async fn accept_all(
        &self,
        tickets: Vec<Ticket>,
        payments: Vec<Result<Payment, Refusal>>,
    ) -> Vec<Result<PaymentAnswer, Refusal>> {
        let (slots, named) = self.submit_all(payments, tickets).await;
        let slots = self.register_all(settle(slots).await).await;
        let results = settle(slots).await.into_iter().map(|slot| match slot {
            Slot::Ended(result) => result,
            Slot::Submitted(_) => Err(no_answer()),
            Slot::Unregistered(job) => after_registration(Answer::Unregistered(job)),
        });
        results
            .zip(named)
            .map(|(result, named)| {
                let outcome = result?;
                // Only what was proven was taken.
                Ok(self.answer(named.ok_or_else(no_answer)?, outcome))
            })
            .collect()
    }

    /// Checks payments and submits those that hold. Also says what each is for, as far as that was proven.
    async fn submit_all(
        &self,
        payments: Vec<Result<Payment, Refusal>>,
        tickets: Vec<Ticket>,
    ) -> (Vec<Slot>, Vec<Option<Named>>) {
        let with_terms = |payment: Result<Payment, Refusal>| async move {
            let payment = payment?;
            let (channel, _) = self.terms(&payment.channel_id, Instant::now()).await?;
            Ok((payment, channel))
        };
        // Looked up several at once, and taken up in the order given.
        let looked_up = stream::iter(payments).map(with_terms).buffered(LOOKUPS_AT_ONCE);
        let mut looked_up = std::pin::pin!(looked_up.zip(stream::iter(tickets)).enumerate());
        let (mut slots, mut named) = (Vec::new(), Vec::new());
        while let Some((index, (found, ticket))) = looked_up.next().await {
            let proven = match found {
                Ok((payment, channel)) => self.check(payment, channel, Instant::now()).await,
                Err(refusal) => Err(refusal),
            };
            named.push(proven.as_ref().ok().map(|proven| Named::of(&proven.voucher, &proven.channel)));
            slots.push(match proven {
                Ok(Proven { voucher, channel, at }) => {
                    self.submit(Job { voucher, channel, ticket, since: at })
                }
                Err(refusal) => Slot::Ended(Err(refuse([ticket], refusal))),
            });
            if index % CHECKS_IN_A_ROW == CHECKS_IN_A_ROW - 1 {
                tokio::task::yield_now().await;
            }
        }
        (slots, named)
    }

    /// Registers each channel that Redis did not know once, and submits its payments again, in order.
    async fn register_all(&self, slots: Vec<Slot>) -> Vec<Slot> {
        let unregistered: HashMap<ChannelId, Arc<Channel>> = slots
            .iter()
            .filter_map(|slot| match slot {
                Slot::Unregistered(job) => Some((*job.voucher.channel_id(), Arc::clone(&job.channel))),
                _ => None,
            })
            .collect();
        if unregistered.is_empty() {
            return slots;
        }
        let register = |(id, channel): (ChannelId, Arc<Channel>)| async move {
            let result = self.register(&channel).await;
            (id, result)
        };
        let registered: HashMap<ChannelId, Result<(), Refusal>> =
            stream::iter(unregistered).map(register).buffer_unordered(LOOKUPS_AT_ONCE).collect().await;
        slots
            .into_iter()
            .map(|slot| match slot {
                Slot::Unregistered(job) => match registered.get(job.voucher.channel_id()) {
                    Some(Err(refusal)) => Slot::Ended(Err(refuse([job.ticket], refusal.clone()))),
                    _ => self.submit(Job { since: Instant::now(), ..*job }),
                },
                other => other,
            })
            .collect()
    }

    fn submit(&self, job: Job) -> Slot {
        match self.batchers.submit(job) {
            Ok(answer) => Slot::Submitted(answer),
            Err(refusal) => Slot::Ended(Err(refusal)),
        }
    }

    async fn record(&self, job: Job) -> Result<Answer, Refusal> {
        self.batchers.submit(job)?.await.map_err(|_| no_answer())
    }

    async fn read(&self, body: &[u8], ticket: &mut Ticket) -> Result<Proven, Refusal> {
        let (payment, decoded_at) = self.decode(body, Instant::now(), ticket);
        let payment = payment?;
        let (channel, found_at) = self.terms(&payment.channel_id, decoded_at).await?;
        self.check(payment, channel, found_at).await
    }

    /// Reads the payment of `ticket`, begun at `started`. Also says when it was done: what follows begins then.
    pub(crate) fn decode(
        &self,
        body: &[u8],
        started: Instant,
        ticket: &mut Ticket,
    ) -> (Result<Payment, Refusal>, Instant) {
        let payment = payment_from_json(body).map_err(Refusal::Malformed);
        if let Ok(payment) = &payment {
            ticket.is_of(&payment.channel_id);
        }
        let done_at = Instant::now();
        self.metrics.parse_took(done_at.duration_since(started));
        (payment, done_at)
    }

    fn decode_all(&self, bodies: &[&[u8]], tickets: &mut [Ticket]) -> Vec<Result<Payment, Refusal>> {
        let mut started = Instant::now();
        let decode = |(body, ticket): (&&[u8], &mut Ticket)| {
            let (payment, done_at) = self.decode(body, started, ticket);
            started = done_at;
            payment
        };
        bodies.iter().zip(tickets).map(decode).collect()
    }

    /// The terms of a channel, while payments are taken at all. They are waited for since `started`. Also says when they
    /// were there: a look at the clock costs as much as counting, so each ends one stage and begins the next.
    pub(crate) async fn terms(
        &self,
        id: &ChannelId,
        started: Instant,
    ) -> Result<(Arc<Channel>, Instant), Refusal> {
        if !self.health.is_accepting() {
            return Err(Refusal::NotReady);
        }
        if let Some(channel) = self.channels.at_hand(id) {
            // In less time than it takes to look at the clock.
            self.metrics.terms_took(Duration::ZERO);
            return Ok((channel, started));
        }
        let channel = self.channels.get(id).await;
        let found_at = Instant::now();
        self.metrics.terms_took(found_at.duration_since(started));
        if let Err(LookupError::Store(error)) = &channel {
            self.health.store_failed(error, "reading a channel");
        }
        Ok((channel?, found_at))
    }

    /// Checks the proof, begun at `started`, and what else must hold before Redis is asked.
    pub(crate) async fn check(
        &self,
        payment: Payment,
        channel: Arc<Channel>,
        started: Instant,
    ) -> Result<Proven, Refusal> {
        self.refuse_expired(&channel)?;
        let (voucher, at) = self.prove(&channel, &payment, started).await?;
        self.tuning.limits.check_channel(voucher.channel_id()).await.map_err(Refusal::RateLimited)?;
        Ok(Proven { voucher, channel, at })
    }

    /// Refuses what could not be settled any more before the channel ends.
    pub(crate) fn refuse_expired(&self, channel: &Channel) -> Result<(), Refusal> {
        let until_s = channel.last_payment_s(self.tuning.bounds().settle_margin_s);
        if self.clock.now_s() >= until_s { Err(Refusal::Expired { until_s }) } else { Ok(()) }
    }

    /// Makes a channel known to Redis, starting from what the issuer has paid already.
    pub(crate) async fn register(&self, channel: &Channel) -> Result<(), Refusal> {
        if channel.recovery != self.store.recovery() {
            // What the issuer had paid was asked before; the next attempt asks again.
            let detail = "Redis was recovered meanwhile".to_owned();
            return Err(Refusal::Store(StoreError::Unavailable { detail }));
        }
        let settled = channel.settled.as_ref().map(|(amount, proof)| (*amount, proof));
        // Due at once: when a channel is to be closed is for the settler's policy to say, also if no payment follows.
        let due_at_ms = self.clock.now_ms();
        self.store.register_channel(&channel.terms, settled, due_at_ms).await.map_err(|error| {
            self.health.store_failed(&error, "registering a channel");
            Refusal::before_accept(error)
        })
    }
}

const TOO_MANY_IN_FLIGHT: Refusal = Refusal::Overloaded("too many payments are in flight");

/// Counts payments as refused, and says why.
pub(crate) fn refuse(tickets: impl IntoIterator<Item = Ticket>, refusal: Refusal) -> Refusal {
    for ticket in tickets {
        ticket.end(Ending::Refused(refusal.code()));
    }
    refusal
}

/// Waits for the answers to all that were submitted.
async fn settle(slots: Vec<Slot>) -> Vec<Slot> {
    let mut settled = Vec::with_capacity(slots.len());
    for slot in slots {
        settled.push(match slot {
            Slot::Submitted(answer) => match answer.await {
                Ok(Answer::Final(result)) => Slot::Ended(result),
                Ok(Answer::Unregistered(job)) => Slot::Unregistered(job),
                Err(_) => Slot::Ended(Err(no_answer())),
            },
            other => other,
        });
    }
    settled
}

/// The answer to a payment on a channel that was just registered: if Redis does not know it now, it is not the Redis
/// that it was registered with.
pub(crate) fn after_registration(answer: Answer) -> Result<Outcome, Refusal> {
    match answer {
        Answer::Final(result) => result,
        Answer::Unregistered(job) => {
            let detail = "a channel is gone that was just registered".to_owned();
            Err(refuse([job.ticket], Refusal::Store(StoreError::Unavailable { detail })))
        }
    }
}

/// The batcher was cut off with the call on its way.
pub(crate) fn no_answer() -> Refusal {
    Refusal::Store(StoreError::OutcomeUnknown { detail: "the relayer stopped".to_owned() })
}
