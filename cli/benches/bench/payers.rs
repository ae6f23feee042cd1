//! Those who pay: every voucher signed and every request written before the clock runs.

use std::sync::Arc;

use cli::load::payers::PayingChannel;
use common::amount::Amount;
use common::wire::{BatchResult, Outcome, PaymentAnswer, PaymentRequest};

use crate::client::{Exchange, Queue, post};
use crate::machine::Machine;
use crate::stream;

/// What each payment adds. With 1, a channel's amount says how many payments were made on it.
const STEP: u64 = 1;

/// Requests prepared for a connection, as a multiple of its share, and some more: some connections are served more often
/// than others.
const SHARES: u64 = 2;
const SPARE: u64 = 8;

/// How vouchers are put into requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One a request: `POST /v1/payments`.
    Single,
    /// So many a request: `POST /v1/payments/batch`, a JSON array.
    Array(u64),
    /// So many a request: `POST /v1/payments/batch`, a JSON object a line.
    Lines(u64),
    /// So many messages on their way at once: `GET /v1/payments/stream`.
    Stream(u64),
}

impl Form {
    /// Vouchers in a request.
    pub(crate) fn vouchers(self) -> u64 {
        match self {
            Form::Single => 1,
            Form::Array(count) | Form::Lines(count) | Form::Stream(count) => count,
        }
    }
}

/// The payers on one connection. Their channels pay in turn; none of them pays on another connection, which could
/// overtake.
struct Lane {
    channels: Vec<PayingChannel>,
    signed: u64,
    /// Proofs are shown whole.
    complete: bool,
}

/// All payers, and what their connections are to send.
pub(crate) struct Payers {
    lanes: Vec<Lane>,
    /// What each connection is to send.
    pub(crate) queues: Vec<Queue>,
}

impl Payers {
    /// Shares `channels` out over so many connections. There must be at least one for each. `complete`: each payment
    /// shows all of its proof, also what a relayer knows from the one before.
    pub(crate) fn share_out(channels: Vec<PayingChannel>, connections: usize, complete: bool) -> Payers {
        let mut lanes: Vec<Lane> =
            (0..connections).map(|_| Lane { channels: Vec::new(), signed: 0, complete }).collect();
        for (i, channel) in channels.into_iter().enumerate() {
            lanes[i % connections].channels.push(channel);
        }
        Payers { queues: vec![Queue::new(); connections], lanes }
    }

    /// Fills the queues, so that `payments` can be paid though some connections be quicker than others. Keep to one form:
    /// what was prepared and not sent is sent next time.
    ///
    /// # Errors
    /// Threads cannot be let loose.
    pub(crate) fn prepare(&mut self, machine: &Machine, form: Form, payments: u64) -> anyhow::Result<()> {
        let lanes = u64::try_from(self.lanes.len())?;
        let share = payments.div_ceil(form.vouchers()).div_ceil(lanes);
        let wanted = usize::try_from(share * SHARES + SPARE)?;
        let per_thread = self.lanes.len().div_ceil(machine.cores().len());
        std::thread::scope(|scope| {
            let signers: Vec<_> = self
                .lanes
                .chunks_mut(per_thread)
                .zip(self.queues.chunks_mut(per_thread))
                .map(|(lanes, queues)| {
                    scope.spawn(move || {
                        machine.unpin_this_thread()?;
                        for (lane, queue) in lanes.iter_mut().zip(queues) {
                            while queue.len() < wanted {
                                queue.push_back(Arc::new(lane.next(form)));
                            }
                        }
                        anyhow::Ok(())
                    })
                })
                .collect();
            signers
                .into_iter()
                .try_for_each(|signer| signer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// The channels with what was acknowledged on them: everything that is not in a queue any more.
    pub(crate) fn end(self) -> Vec<PayingChannel> {
        let mut ended = Vec::new();
        for (lane, queue) in self.lanes.into_iter().zip(self.queues) {
            let unsent: u64 = queue.iter().map(|exchange| exchange.payments).sum();
            let sent = lane.signed - unsent;
            ended.extend(lane.after(sent));
        }
        ended
    }
}

impl Lane {
    /// The next request.
    fn next(&mut self, form: Form) -> Exchange {
        let payments = form.vouchers();
        let vouchers: Vec<PaymentRequest> = (0..payments).map(|_| self.sign()).collect();
        let results: Vec<BatchResult> = vouchers
            .iter()
            .map(|voucher| {
                BatchResult::Taken(PaymentAnswer {
                    channel_id: voucher.channel_id.into(),
                    cumulative_amount: voucher.cumulative_amount,
                    outcome: Outcome::Accepted,
                    receipt: None,
                })
            })
            .collect();
        let (request, answer) = match form {
            Form::Single => (post("/v1/payments", "application/json", &lines(&vouchers)), lines(&results)),
            Form::Array(_) => {
                (post("/v1/payments/batch", "application/json", &json(&vouchers)), json(&results))
            }
            Form::Lines(_) => {
                (post("/v1/payments/batch", "application/x-ndjson", &lines(&vouchers)), lines(&results))
            }
            Form::Stream(_) => (stream::sent(&vouchers), stream::received(&results)),
        };
        Exchange { request, answer: answer.trim_ascii_end().to_vec(), payments }
    }

    /// The voucher of payment `signed`: the channels pay in turn.
    fn sign(&mut self) -> PaymentRequest {
        let (turn, round) = self.turn(self.signed);
        self.signed += 1;
        let channel = &mut self.channels[turn];
        let amount = Amount::new(channel.latest.units() + (round + 1) * STEP);
        let paying = channel.paying(amount).expect("commitments are larger than any run");
        if self.complete {
            return paying.complete;
        }
        // What is prepared is sent in this order: each payment follows the one before.
        channel.proof = Some(paying.complete.proof);
        paying.sent
    }

    /// Which channel makes the `n`th payment, and how many it has made before.
    fn turn(&self, n: u64) -> (usize, u64) {
        let channels = u64::try_from(self.channels.len()).expect("channels are fewer than 2^64");
        let turn = usize::try_from(n % channels).expect("less than the number of channels");
        (turn, n / channels)
    }

    /// The channels after so many payments.
    fn after(self, payments: u64) -> Vec<PayingChannel> {
        let (next, rounds) = self.turn(payments);
        let paid = self.channels.into_iter().enumerate().map(|(i, mut channel)| {
            let made = rounds + u64::from(i < next);
            channel.latest = Amount::new(channel.latest.units() + made * STEP);
            // What was prepared and not sent proves nothing.
            channel.proof = None;
            channel
        });
        paid.collect()
    }
}

/// One value a line.
pub(crate) fn lines<T: serde::Serialize>(values: &[T]) -> Vec<u8> {
    values.iter().flat_map(|value| [json(value), b"\n".to_vec()].concat()).collect()
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("bodies of the wire have no maps with keys that are no texts")
}
