//! The proof behind a payment, and the type that says it was checked.

use crate::amount::Amount;
use crate::channel::CheckedTerms;
use crate::ids::{ChannelId, SpelledId};
use crate::scheme::{self, Check};

pub use crate::scheme::Proof;

/// A payment as it was sent: decoded, not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The channel that pays.
    pub channel_id: ChannelId,
    /// Total owed on the channel, in atomic units, this payment included, where the payment states it. One that proves
    /// its amount by itself need not.
    pub cumulative_amount: Option<Amount>,
    /// What shows that the payer agreed to it.
    pub proof: Proof,
}

/// Stored proof bytes that no scheme wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored proof has an unknown form")]
pub struct InvalidProof;

impl Proof {
    /// The bytes kept in Redis: for `ed25519`, `i64le(expires_at) || signature[64]`; for `payword`, `u32le(k) ||
    /// token[32]`; for `paytree`, `u32le(index) || secret[32] || siblings[32 each]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes);
        bytes
    }
}

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// The signature or hash does not check for these terms.
    #[error("the proof does not check against the channel's terms")]
    InvalidSignature,
    /// The proof is of another scheme than the channel.
    #[error("the channel was opened in another payment scheme: {scheme}")]
    WrongScheme {
        /// The channel's.
        scheme: &'static str,
    },
    /// The voucher ends before its channel does: the payee might be left without a valid one.
    #[error("the voucher expires before its channel")]
    ExpiresEarly,
    /// The proof holds, for another amount than is stated.
    #[error("the proof is for {proven}")]
    OtherAmount {
        /// What it proves.
        proven: Amount,
    },
    /// The commitment has no such step or leaf.
    #[error("{field}: expected {least} to {most}")]
    OutOfRange {
        /// The field at fault.
        field: &'static str,
        /// The first one.
        least: u32,
        /// The last one.
        most: u32,
    },
    /// More steps from a known value than anyone is willing to hash for one payment.
    #[error("{steps} steps from the nearest known payment, expected at most {most}: pay in smaller steps")]
    StepTooLarge {
        /// Steps from the nearest known value.
        steps: u32,
        /// The bound.
        most: u32,
    },
    /// Siblings were left out that do not follow from what is known.
    #[error("{given} siblings, expected the lowest {needed} at least")]
    MissingSiblings {
        /// How many were shown.
        given: u32,
        /// How many it takes.
        needed: u32,
    },
}

/// A payment whose proof holds for the terms of its channel. The store takes nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedVoucher {
    channel_id: SpelledId,
    cumulative_amount: Amount,
    proof: Proof,
}

impl VerifiedVoucher {
    /// Checks `payment` against the terms of its channel alone, by the channel's scheme.
    ///
    /// # Errors
    /// [`Unproven`], when the payer did not agree to this amount on this channel in these terms.
    pub fn verify(terms: &CheckedTerms, payment: Payment) -> Result<VerifiedVoucher, Unproven> {
        Self::verify_with(terms, &payment, Check::FROM_TERMS)
    }

    /// As [`VerifiedVoucher::verify`], with a proof at hand that was checked before, and bounded work.
    ///
    /// # Errors
    /// As there; [`Unproven::StepTooLarge`] and [`Unproven::MissingSiblings`] may be otherwise with a later proof at hand.
    pub fn verify_with(
        terms: &CheckedTerms,
        payment: &Payment,
        check: Check<'_>,
    ) -> Result<VerifiedVoucher, Unproven> {
        let channel_id = *terms.spelled_id();
        if payment.channel_id != *channel_id {
            return Err(Unproven::InvalidSignature);
        }
        let (cumulative_amount, proof) = scheme::verify(terms, payment, check)?;
        Ok(VerifiedVoucher { channel_id, cumulative_amount, proof })
    }

    /// The channel that pays.
    pub fn channel_id(&self) -> &ChannelId {
        &self.channel_id
    }

    /// [`VerifiedVoucher::channel_id`], with its text.
    pub fn spelled_id(&self) -> &SpelledId {
        &self.channel_id
    }

    /// Total owed on the channel, in atomic units.
    pub fn cumulative_amount(&self) -> Amount {
        self.cumulative_amount
    }

    /// The proof that was checked, complete.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }
}
