//! The proof behind a payment, and the type that says it was checked.

use crate::amount::Amount;
use crate::channel::{CheckedTerms, SchemeKind};
use crate::ids::{ChannelId, Signature};
use crate::scheme;

/// A payment as it was sent: decoded, not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The channel that pays.
    pub channel_id: ChannelId,
    /// Total owed on the channel, in atomic units, this payment included.
    pub cumulative_amount: Amount,
    /// What shows that the payer agreed to it.
    pub proof: Proof,
}

/// What shows that the payer agreed to an amount; one variant a scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A signed voucher.
    Ed25519 {
        /// Unix time in seconds until which the voucher is good; 0 for ever.
        expires_at: i64,
        /// The payer authorizer's signature of [`crate::message::voucher`].
        signature: Signature,
    },
}

/// Stored proof bytes that no scheme wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored proof has an unknown form")]
pub struct InvalidProof;

impl Proof {
    /// The bytes kept in Redis: for `ed25519`, `i64le(expires_at) || signature[64]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes);
        bytes
    }

    /// Appends what [`Proof::to_bytes`] gives.
    pub fn write_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Proof::Ed25519 { expires_at, signature } => {
                bytes.extend(expires_at.to_le_bytes());
                bytes.extend(signature.as_bytes());
            }
        }
    }

    /// Reads what [`Proof::to_bytes`] wrote for a channel of this scheme.
    pub fn from_bytes(scheme: SchemeKind, bytes: &[u8]) -> Result<Proof, InvalidProof> {
        match scheme {
            SchemeKind::Ed25519 => {
                let (expires_at, signature) = bytes.split_at_checked(8).ok_or(InvalidProof)?;
                Ok(Proof::Ed25519 {
                    expires_at: i64::from_le_bytes(expires_at.try_into().map_err(|_| InvalidProof)?),
                    signature: Signature(signature.try_into().map_err(|_| InvalidProof)?),
                })
            }
        }
    }
}

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// The signature or hash does not check for these terms.
    #[error("the proof does not check against the channel's terms")]
    InvalidSignature,
    /// The proof is of another scheme than the channel.
    #[error("the channel was opened in another payment scheme")]
    WrongScheme,
    /// The voucher ends before its channel does: the payee might be left without a valid one.
    #[error("the voucher expires before its channel")]
    ExpiresEarly,
}

/// A payment whose proof holds for the terms of its channel. The store takes nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedVoucher {
    channel_id: ChannelId,
    cumulative_amount: Amount,
    proof: Proof,
}

impl VerifiedVoucher {
    /// Checks `payment` against the terms of its channel, by the channel's scheme.
    ///
    /// # Errors
    /// [`Unproven`], when the payer did not agree to this amount on this channel in these terms.
    pub fn verify(terms: &CheckedTerms, payment: Payment) -> Result<VerifiedVoucher, Unproven> {
        if payment.channel_id != terms.id() {
            return Err(Unproven::InvalidSignature);
        }
        scheme::of(terms.terms().scheme).verify(terms, &payment)?;
        Ok(VerifiedVoucher {
            channel_id: payment.channel_id,
            cumulative_amount: payment.cumulative_amount,
            proof: payment.proof,
        })
    }

    /// The channel that pays.
    pub fn channel_id(&self) -> &ChannelId {
        &self.channel_id
    }

    /// Total owed on the channel, in atomic units.
    pub fn cumulative_amount(&self) -> Amount {
        self.cumulative_amount
    }

    /// The proof that was checked.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }
}
