//! `ed25519`: each payment shows a voucher signed by the payer authorizer. One strict verification.

use super::Scheme;
use crate::channel::CheckedTerms;
use crate::message;
use crate::verify::verify_strict;
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
