//! One payment in flight at a time, over a share of the channels.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::problem::Code;
use common::wire::{Latest, Outcome, PaymentAnswer};

use super::Shared;
use super::payers::PayingChannel;
use super::report::Report;
use crate::client::{RelayerClient, RelayerError};
use crate::ledger::LedgerError;
use crate::payer::Paying;

/// First pause before the same voucher is sent again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Longest pause before the same voucher is sent again.
const PAUSE_MAX: Duration = Duration::from_millis(500);

pub(super) struct Worker {
    shared: Arc<Shared>,
    channels: Vec<PayingChannel>,
    turn: usize,
    relayer: usize,
    report: Report,
}

/// What a refusal means for the voucher.
enum Next {
    /// Send the same one again, after a pause at least this long.
    Again(Duration),
    /// Send the same one again, with all of its proof.
    Complete,
    /// Go on from what the relayer calls the latest payment, if it is ours.
    GoOnFrom(Box<Latest>),
    /// The channel takes no more payments.
    ChannelIsDone,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, channels: Vec<PayingChannel>, number: usize) -> Self {
        Worker { shared, channels, turn: number, relayer: number, report: Report::default() }
    }

    /// Pays until the schedule ends or no channel is left to pay from.
    pub(super) async fn run(mut self) -> Result<(Report, Vec<PayingChannel>), LedgerError> {
        let shared = Arc::clone(&self.shared);
        while let Some(channel) = self.next_channel() {
            if shared.cancel.is_cancelled() {
                break;
            }
            let Some(due) = shared.schedule.take() else { break };
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                () = shared.cancel.cancelled() => break,
            }
            self.pay(channel, due).await?;
        }
        Ok((self.report, self.channels))
    }

    /// The next channel that can pay once more, by turns.
    fn next_channel(&mut self) -> Option<usize> {
        for _ in 0..self.channels.len() {
            self.turn = self.turn.wrapping_add(1);
            let i = self.turn % self.channels.len();
            let channel = &self.channels[i];
            let next = channel.latest.checked_add(self.shared.step);
            if !channel.done && next.is_some_and(|next| next <= channel.capacity) {
                return Some(i);
            }
        }
        None
    }

    /// Makes one payment and sends it until its outcome is known.
    async fn pay(&mut self, i: usize, due: Instant) -> Result<(), LedgerError> {
        let channel = &mut self.channels[i];
        let amount = channel.latest.checked_add(self.shared.step);
        let Some(mut paying) = amount.and_then(|amount| channel.paying(amount).ok()) else {
            channel.done = true;
            return Ok(());
        };
        let (mut pause, mut noted, mut give_up_at) = (PAUSE_MIN, false, None);
        for attempt in 1usize.. {
            let relayer = self.next_relayer();
            let error = match self.present(&paying, &relayer).await? {
                Ok(answer) => {
                    self.acknowledged(i, &paying, answer.outcome, due);
                    return Ok(());
                }
                Err(error) => error,
            };
            self.report.count(error.label());
            noted |= error.outcome_is_unknown();
            if error.was_not_sent() && attempt % self.shared.relayers.len() != 0 {
                // A relayer is away, and a neighbour of it has not been asked yet.
                continue;
            }
            match next(&error, &paying) {
                Next::Again(at_least) => {
                    // Patience counts from the end of the load: until then a voucher is worth any number of attempts.
                    if self.shared.cancel.is_cancelled() || self.shared.schedule.is_over() {
                        let limit = *give_up_at.get_or_insert_with(|| Instant::now() + self.shared.patience);
                        if Instant::now() >= limit {
                            self.report.unresolved += u64::from(noted);
                            return Ok(());
                        }
                    }
                    tokio::time::sleep(pause.max(at_least)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Next::Complete => paying.complete(),
                Next::GoOnFrom(latest) => {
                    let channel = &mut self.channels[i];
                    channel.done = !channel.go_on_from(&latest);
                    return Ok(());
                }
                Next::ChannelIsDone => {
                    self.channels[i].done = true;
                    self.report.unresolved += u64::from(noted);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Sends a payment, and writes down that it was sent, with all of its proof, and what came of it.
    async fn present(
        &self,
        paying: &Paying,
        relayer: &RelayerClient,
    ) -> Result<Result<PaymentAnswer, RelayerError>, LedgerError> {
        let Some(ledger) = &self.shared.ledger else {
            return Ok(relayer.pay(&paying.sent).await);
        };
        let attempt = ledger.sent(&paying.complete, relayer.url())?;
        let answer = relayer.pay(&paying.sent).await;
        ledger.told(attempt, &paying.complete, &answer, relayer.url())?;
        Ok(answer)
    }

    fn acknowledged(&mut self, i: usize, paying: &Paying, outcome: Outcome, due: Instant) {
        let latency = due.elapsed();
        let name = match outcome {
            Outcome::Accepted => "accepted",
            Outcome::Duplicate => "duplicate",
        };
        self.channels[i].paid(&paying.complete);
        self.report.acknowledge(name, self.shared.step, latency);
        self.shared.progress.count();
    }

    fn next_relayer(&mut self) -> RelayerClient {
        self.relayer = self.relayer.wrapping_add(1);
        self.shared.relayers[self.relayer % self.shared.relayers.len()].clone()
    }
}

fn next(error: &RelayerError, paying: &Paying) -> Next {
    let RelayerError::Refused(problem) = error else {
        return Next::Again(Duration::ZERO);
    };
    if let (Code::StaleAmount | Code::StepTooLarge, Some(latest)) = (problem.code, &problem.latest) {
        return Next::GoOnFrom(Box::new(latest.clone()));
    }
    match problem.code {
        Code::MissingSiblings if paying.sent != paying.complete => Next::Complete,
        Code::OutcomeUnknown
        | Code::Internal
        | Code::RateLimited
        | Code::Overloaded
        | Code::StoreUnavailable
        | Code::IssuerUnavailable => {
            // A relayer's own advice is in whole seconds, for clients that do not know another relayer to ask.
            let advised = Duration::from_secs(problem.retry_after_s.unwrap_or(0));
            Next::Again(if problem.code == Code::RateLimited { advised } else { Duration::ZERO })
        }
        _ => Next::ChannelIsDone,
    }
}
