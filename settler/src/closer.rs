//! One close: stop the channel and pin its voucher, have the issuer settle it, keep the receipt. Each step can be
//! repeated, so whoever comes after a crash begins anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::amount::Amount;
use common::batch::ChannelSettlement;
use common::channel::Status;
use common::fault_point;
use common::ids::ChannelId;
use common::problem::{Code, Problem};
use common::store::StoreError;
use common::store::read::StoredChannel;
use common::store::settle::Ended;
use common::wire::Receipt;
use service::issuer_client::IssuerError;
use service::spans::{Kind, Span};
use service::trail::{self, RequestTrail};

use crate::leadership::{Hold, Leadership};
use crate::settlement::{self, Payee, Redeemable};

/// Times in one attempt that the issuer may ask for a higher token: one is what a lost count takes.
const RAISES_MAX: usize = 3;

/// What an attempt to close came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Settled, and the receipt is kept.
    Closed,
    /// It had ended before.
    Already,
    /// No final answer: it comes again.
    Retry,
    /// Given up on: kept, listed, for a person to look at.
    Failed,
    /// The receipt is not for what Redis holds now.
    Mismatch,
}

impl Outcome {
    /// Every outcome.
    pub(crate) const ALL: [Outcome; 5] =
        [Outcome::Closed, Outcome::Already, Outcome::Retry, Outcome::Failed, Outcome::Mismatch];

    /// As a metric label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Outcome::Closed => "closed",
            Outcome::Already => "already",
            Outcome::Retry => "retry",
            Outcome::Failed => "failed",
            Outcome::Mismatch => "mismatch",
        }
    }
}

/// A close under way.
struct Close<'a> {
    leadership: &'a Arc<Leadership>,
    id: ChannelId,
    channel: &'a StoredChannel,
    reason: &'static str,
}

/// Closes a channel, as far as this attempt gets. After an error of the store the channel is still due, and comes
/// again.
pub(crate) async fn close(
    leadership: &Arc<Leadership>,
    hold: &Hold,
    channel: &StoredChannel,
    reason: &'static str,
) {
    let id = hold.id;
    let metrics = &leadership.app.metrics;
    metrics.closes_in_flight.inc();
    let in_flight = scopeguard(|| metrics.closes_in_flight.dec());
    let mut span = Span::begin("close", Kind::Internal, None);
    span.note("channel_id", || id);
    span.note("reason", || reason);
    // What the issuer is asked beside the settlement itself is asked in its name.
    let trail = Arc::new(RequestTrail::own(&span));
    let request_id = *trail.id();
    match trail::follow(trail, (Close { leadership, id, channel, reason }).run()).await {
        Ok(outcome) => {
            span.note("outcome", || outcome.as_str());
            if outcome != Outcome::Retry {
                metrics.money.ended(&id);
            }
            metrics.close(outcome.as_str(), reason);
            tracing::debug!(%request_id, channel_id = %id, reason, outcome = outcome.as_str(), "close");
        }
        Err(error) => {
            span.fail(&error);
            metrics.close("store_error", reason);
            let partition = leadership.app.store.partition_of(&id);
            leadership.trouble(&error, "closing a channel", partition).await;
        }
    }
    drop(in_flight);
}

/// Runs `at_end` when dropped, also when the close is abandoned.
fn scopeguard(at_end: impl FnMut()) -> impl Drop {
    struct AtEnd<F: FnMut()>(F);
    impl<F: FnMut()> Drop for AtEnd<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    AtEnd(at_end)
}

impl Close<'_> {
    async fn run(&self) -> Result<Outcome, StoreError> {
        let app = &self.leadership.app;
        let lease = &self.leadership.lease;
        let pinned = app.store.begin_close(lease, &self.id, app.clock.now_ms(), self.reason).await?;
        fault_point::reach("close_begun");
        let Some(pinned) = pinned else {
            // It was there when it was read: the next look at it says so at length.
            return Ok(Outcome::Retry);
        };
        match pinned.status {
            Status::Closing => self.leadership.note_closing(self.id, self.channel, pinned.amount),
            Status::Closed | Status::Failed => return Ok(Outcome::Already),
            Status::Open => {
                let detail = "open after begin_close".to_owned();
                return Err(StoreError::Corrupt { key: app.store.keys().state(&self.id), detail });
            }
        }
        let terms = &self.channel.terms;
        let Some(payee) = app.payees.of(&terms.payee) else {
            // Its key was here when the close began. It is not given up: whoever has the key can settle it.
            app.keyless.met(terms.payee);
            return self.retry(&format!("the key of payee {} is not configured", terms.payee)).await;
        };
        let Some(redeemable) = settlement::decode(terms.scheme, &pinned) else {
            let problem = Problem::new(Code::InvalidSignature).detail("the stored proof cannot be read");
            return self.fail(pinned.amount, &problem).await;
        };
        match self.settle(payee, &redeemable).await? {
            Ok(receipt) => self.finish(&redeemable, &receipt).await,
            Err(IssuerError::Unavailable { detail }) => self.retry(&detail).await,
            Err(IssuerError::Refused(problem)) => self.reconcile(&redeemable, &problem).await,
        }
    }

    /// Has the issuer settle. A token that it finds too low is lifted, if the lease is still ours.
    async fn settle(
        &self,
        payee: &Payee,
        redeemable: &Redeemable,
    ) -> Result<Result<Receipt, IssuerError>, StoreError> {
        let app = &self.leadership.app;
        for _ in 0..RAISES_MAX {
            let token = self.leadership.lease.token()?.get();
            let request = settlement::request(payee, &self.id, redeemable, token);
            fault_point::reach("request_signed");
            let sent_at = Instant::now();
            let answer = self.leadership.settle(ChannelSettlement { channel_id: self.id, request }).await;
            fault_point::reach("answer_received");
            let outcome = match &answer {
                Ok(_) => "receipt",
                Err(IssuerError::Refused(_)) => "refused",
                Err(IssuerError::Unavailable { .. }) => "unavailable",
            };
            app.metrics.issuer(outcome, sent_at.elapsed());
            self.leadership.issuer_answers(match &answer {
                Err(IssuerError::Unavailable { detail }) => Some(detail),
                _ => None,
            });
            match answer {
                Err(IssuerError::Refused(problem)) if problem.code == Code::StaleFencingToken => {
                    match problem.highest_fencing_token.filter(|highest| *highest > token) {
                        Some(highest) => self.leadership.raise_token(token, highest).await?,
                        // It contradicts itself; it may think better of it later.
                        None => break,
                    }
                }
                answer => return Ok(answer),
            }
        }
        let detail = "the issuer calls the highest fencing token stale".to_owned();
        Ok(Err(IssuerError::Unavailable { detail }))
    }

    async fn finish(&self, redeemable: &Redeemable, receipt: &Receipt) -> Result<Outcome, StoreError> {
        let app = &self.leadership.app;
        if !settlement::proves_close(receipt, &app.issuer_key, &self.id, redeemable.amount) {
            return self.retry("the receipt does not prove this close").await;
        }
        let json = match serde_json::to_string(receipt) {
            Ok(json) => json,
            Err(error) => return self.retry(&error.to_string()).await,
        };
        let lease = &self.leadership.lease;
        let now_ms = app.clock.now_ms();
        let journaled = self.leadership.journal.is_some();
        let amount = redeemable.amount;
        let ended = app.store.finish_close(lease, &self.id, amount, &json, now_ms, journaled).await?;
        fault_point::reach("close_finished");
        match ended {
            Ended::Now => {
                let paid =
                    receipt.settled_amount.checked_sub(self.channel.settled_before).unwrap_or_default();
                app.metrics.settled_units.inc_by(paid.units());
                app.metrics.refunded_units.inc_by(receipt.refunded_amount.units());
                Ok(Outcome::Closed)
            }
            Ended::Already => Ok(Outcome::Already),
            Ended::Mismatch(now_pinned) => {
                let problem = Problem::new(Code::Internal).detail(format_args!(
                    "settled {}, but {now_pinned} is pinned now; receipt {json}",
                    redeemable.amount
                ));
                self.fail(now_pinned, &problem).await?;
                Ok(Outcome::Mismatch)
            }
            Ended::NotClosing => {
                tracing::error!(
                    channel_id = %self.id, amount = %redeemable.amount, receipt = json,
                    "settled, but the channel is not closing any more"
                );
                Ok(Outcome::Mismatch)
            }
        }
    }

    /// No final answer: the channel comes again after a while, for ever.
    async fn retry(&self, error: &str) -> Result<Outcome, StoreError> {
        let app = &self.leadership.app;
        let now_ms = app.clock.now_ms();
        let expires_at_ms = u64::try_from(self.channel.terms.expires_at).unwrap_or(0).saturating_mul(1_000);
        let until_expiry = Duration::from_millis(expires_at_ms.saturating_sub(now_ms));
        let delay = settlement::retry_delay(&app.live.load().closes, self.channel.attempts, until_expiry);
        let next_at_ms = now_ms.saturating_add(delay.as_millis().try_into().unwrap_or(u64::MAX));
        tracing::debug!(channel_id = %self.id, error, delay_ms = delay.as_millis(), "the close is tried again");
        let attempts = app.store.retry_close(&self.leadership.lease, &self.id, next_at_ms, error).await?;
        Ok(if attempts.is_some() { Outcome::Retry } else { Outcome::Already })
    }

    /// A final no. It may be one to a repetition: the issuer that has closed the channel for exactly this amount has
    /// settled it, whoever got the receipt then.
    async fn reconcile(&self, redeemable: &Redeemable, refusal: &Problem) -> Result<Outcome, StoreError> {
        let app = &self.leadership.app;
        match app.issuer.channel(&self.id).await {
            Ok(found) => {
                let paid = found.as_ref().map_or(Amount::ZERO, |channel| channel.settled_amount);
                if paid > redeemable.amount {
                    // Nobody but this payee's settlers could have it settled, and they go by what Redis holds.
                    return Err(app.store.report_lost(format!(
                        "channel {} holds {}, and the issuer has paid {paid} already",
                        self.id, redeemable.amount
                    )));
                }
                let receipt = found.and_then(|channel| {
                    settlement::earlier_receipt(channel, &app.issuer_key, redeemable.amount)
                });
                match receipt {
                    Some(receipt) => self.finish(redeemable, &receipt).await,
                    None => self.fail(redeemable.amount, refusal).await,
                }
            }
            Err(IssuerError::Unavailable { detail }) => self.retry(&detail).await,
            Err(IssuerError::Refused(_)) => self.fail(redeemable.amount, refusal).await,
        }
    }

    /// Gives up: the channel is kept and listed, and someone is told.
    async fn fail(&self, amount: Amount, problem: &Problem) -> Result<Outcome, StoreError> {
        let app = &self.leadership.app;
        let code = problem.code;
        let reason = match &problem.detail {
            Some(detail) => format!("{code}: {detail}"),
            None => code.to_string(),
        };
        let lease = &self.leadership.lease;
        let (now_ms, journaled) = (app.clock.now_ms(), self.leadership.journal.is_some());
        match app.store.fail_close(lease, &self.id, now_ms, &reason, journaled).await? {
            Ended::Now => {
                app.metrics.dead_letters.inc();
                tracing::error!(
                    channel_id = %self.id, %amount, closing_reason = self.reason, error = reason,
                    "the channel cannot be settled and is given up on: kept as failed, listed among the dead letters"
                );
                Ok(Outcome::Failed)
            }
            Ended::Already | Ended::Mismatch(_) | Ended::NotClosing => Ok(Outcome::Already),
        }
    }
}
