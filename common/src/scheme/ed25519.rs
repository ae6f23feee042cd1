//! `ed25519`: each payment shows a voucher signed by the payer authorizer. One strict verification.

use bytes::BufMut;

use crate::amount::Amount;
use crate::channel::CheckedTerms;
use crate::ids::Signature;
use crate::message;
use crate::verify::verify_strict;
use crate::voucher::{Proof, Unproven};

/// The scheme's byte in the channel id. It commits to nothing: the payer authorizer's key stands there already.
pub(super) const ID_BYTE: u8 = 0;

/// `i64le(expires_at) || signature[64]`.
pub(super) fn write_proof(expires_at: i64, signature: &Signature, bytes: &mut impl BufMut) {
    bytes.put_i64_le(expires_at);
    bytes.put_slice(signature.as_bytes());
}

pub(super) fn read_proof(bytes: &[u8]) -> Option<Proof> {
    let (expires_at, signature) = bytes.split_first_chunk()?;
    let signature = Signature(signature.try_into().ok()?);
    Some(Proof::Ed25519 { expires_at: i64::from_le_bytes(*expires_at), signature })
}

/// Checks the signature. A voucher does not say its amount by itself: it signs the one that is stated.
pub(super) fn verify(
    terms: &CheckedTerms,
    stated: Option<Amount>,
    expires_at: i64,
    signature: &Signature,
) -> Result<Amount, Unproven> {
    let amount = stated.ok_or(Unproven::InvalidSignature)?;
    if expires_at != 0 && expires_at < terms.terms().expires_at {
        return Err(Unproven::ExpiresEarly);
    }
    let message = message::voucher(&terms.id(), amount, expires_at);
    if verify_strict(terms.authorizer(), &message, signature) {
        Ok(amount)
    } else {
        Err(Unproven::InvalidSignature)
    }
}
