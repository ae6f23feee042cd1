//! `ed25519`: each payment shows a voucher signed by the payer authorizer. One strict verification.

use ed25519_dalek::VerifyingKey;

use super::Scheme;
use crate::channel::CheckedTerms;
use crate::ids::Signature;
use crate::message;
use crate::voucher::{Payment, Proof, Unproven};

pub(super) struct Ed25519;

impl Scheme for Ed25519 {
    fn verify(&self, terms: &CheckedTerms, payment: &Payment) -> Result<(), Unproven> {
        let Proof::Ed25519 { expires_at, signature } = &payment.proof;
        if *expires_at != 0 && *expires_at < terms.terms().expires_at {
            return Err(Unproven::ExpiresEarly);
        }
        let message = message::voucher(&payment.channel_id, payment.cumulative_amount, *expires_at);
        if verify_strict(terms.authorizer(), &message, signature) {
            Ok(())
        } else {
            Err(Unproven::InvalidSignature)
        }
    }
}

/// The one signature check of Millrace, for vouchers and for everything else that is signed: Ed25519 as RFC 8032 has
/// it, without cofactor, refusing keys and nonces of small order, so that whatever one party takes every other takes.
pub fn verify_strict(key: &VerifyingKey, message: &[u8], signature: &Signature) -> bool {
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature.as_bytes())).is_ok()
}
