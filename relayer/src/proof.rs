//! Checking a payment's proof with what is known of its channel: memory first, and Redis where that is not enough. What
//! is known never decides whether a payment holds, only how much of its proof must be shown and hashed.

use std::sync::Arc;
use std::time::Instant;

use common::channel::SchemeKind;
use common::scheme::Check;
use common::store::StoreError;
use common::voucher::{Payment, Proof, Unproven, VerifiedVoucher};
use common::wire::Latest;

use crate::accept::Acceptor;
use crate::channels::Channel;
use crate::error::Refusal;

impl Acceptor {
    /// Checks the proof of a payment, begun at `started`. Also says when it was done.
    ///
    /// # Errors
    /// Why it does not hold, or that Redis could not be asked for what would help to tell.
    pub(crate) async fn prove(
        &self,
        channel: &Channel,
        payment: &Payment,
        started: Instant,
    ) -> Result<(Arc<VerifiedVoucher>, Instant), Refusal> {
        if channel.terms.terms().scheme == SchemeKind::Ed25519 {
            let (voucher, proven_at) = self.verify(channel, payment, None, started)?;
            return Ok((Arc::new(voucher), proven_at));
        }
        let known = channel.known();
        let known = known.as_ref().map(|known| known.proof());
        let settled = channel.settled.as_ref().map(|(_, proof)| proof);
        let (voucher, proven_at) = match self.verify(channel, payment, known.or(settled), started) {
            // The channel may have gone on at other relayers, also if none had taken a payment when it was looked up.
            Err(Unproven::StepTooLarge { .. } | Unproven::MissingSiblings { .. }) => {
                Box::pin(self.prove_from_store(channel, payment)).await?
            }
            proven => proven?,
        };
        let voucher = Arc::new(voucher);
        channel.proven(&voucher);
        Ok((voucher, proven_at))
    }

    async fn prove_from_store(
        &self,
        channel: &Channel,
        payment: &Payment,
    ) -> Result<(VerifiedVoucher, Instant), Refusal> {
        let id = channel.terms.id();
        let stored = self.store.channel(&id).await.map_err(|error| {
            self.health.store_failed(&error, "reading a channel");
            Refusal::before_accept(error)
        })?;
        let latest = match stored {
            Some(stored) => {
                channel.seen_in_store();
                let proof = stored.state.proof(channel.terms.terms().scheme);
                proof.map(|proof| Latest { cumulative_amount: stored.state.amount, proof })
            }
            None if channel.is_in_store() => {
                let detail = format!("channel {id} is gone");
                return Err(Refusal::Store(StoreError::Unavailable { detail }));
            }
            None => {
                let settled = channel.settled.clone();
                settled.map(|(cumulative_amount, proof)| Latest { cumulative_amount, proof })
            }
        };
        let known = latest.as_ref().map(|latest| &latest.proof);
        match self.verify(channel, payment, known, Instant::now()) {
            Err(unproven @ (Unproven::StepTooLarge { .. } | Unproven::MissingSiblings { .. })) => {
                let is_stale = known.is_some_and(|known| is_below(&payment.proof, known));
                // Too far below to be worth checking: it would not be taken if it held.
                Err(if is_stale { Refusal::Stale(latest) } else { Refusal::OutOfReach { unproven, latest } })
            }
            proven => Ok(proven?),
        }
    }

    fn verify(
        &self,
        channel: &Channel,
        payment: &Payment,
        known: Option<&Proof>,
        started: Instant,
    ) -> Result<(VerifiedVoucher, Instant), Unproven> {
        let check = Check { known, steps_max: self.tuning.bounds().steps_max };
        let verified = VerifiedVoucher::verify_with(&channel.terms, payment, check);
        let done_at = Instant::now();
        self.metrics.verify_took(done_at.duration_since(started));
        verified.map(|voucher| (voucher, done_at))
    }
}

/// True if the payment is for fewer units than the latest one.
fn is_below(proof: &Proof, latest: &Proof) -> bool {
    matches!((proof.units(), latest.units()), (Some(units), Some(latest)) if units < latest)
}
