//! What a payer signs.

use std::path::Path;

use common::amount::Amount;
use common::channel::Terms;
use common::ids::{ChannelId, PublicKey, Signature};
use common::message;
use common::secret::{SecretError, read_signing_key};
use common::verify::{usable_key, verify_strict};
use common::voucher::Proof;
use common::wire::{CloseRequest, Latest, OpenRequest, Party, PaymentRequest};
use ed25519_dalek::SigningKey;

/// A new key.
pub fn new_key() -> SigningKey {
    SigningKey::from_bytes(&rand::random())
}

/// Reads a key file.
///
/// # Errors
/// [`SecretError`], which never repeats what the file holds.
pub fn read_key(path: &Path) -> Result<SigningKey, SecretError> {
    read_signing_key(path)
}

/// A signed voucher, as relayers take it.
pub fn voucher(key: &SigningKey, channel_id: ChannelId, amount: Amount, expires_at: i64) -> PaymentRequest {
    let signature = Signature::of(key, &message::voucher(&channel_id, amount, expires_at));
    PaymentRequest { channel_id, cumulative_amount: amount, proof: Proof::Ed25519 { expires_at, signature } }
}

/// A signed opening.
pub fn opening(key: &SigningKey, terms: Terms) -> OpenRequest {
    let signature = Signature::of(key, &message::open(&terms.id()));
    OpenRequest { terms, signature }
}

/// A signed request to close.
pub fn close_request(key: &SigningKey, channel_id: &ChannelId, requested_by: Party) -> CloseRequest {
    CloseRequest { requested_by, signature: Signature::of(key, &message::close_request(channel_id)) }
}

/// True if `authorizer` signed the voucher that a relayer calls the latest. A payer goes on from nothing else: it
/// would otherwise sign for whatever amount a relayer makes up.
pub fn is_signed_by(latest: &Latest, authorizer: &PublicKey, channel_id: &ChannelId) -> bool {
    let Proof::Ed25519 { expires_at, signature } = &latest.proof else { return false };
    let message = message::voucher(channel_id, latest.cumulative_amount, *expires_at);
    usable_key(authorizer).is_some_and(|key| verify_strict(&key, &message, signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ones_own_voucher_is_believed_as_the_latest() {
        let (key, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let id = ChannelId([3; 32]);
        let latest_of = |key: &SigningKey| {
            let voucher = voucher(key, id, Amount::new(7), 0);
            Latest { cumulative_amount: Amount::new(7), proof: voucher.proof }
        };
        assert!(is_signed_by(&latest_of(&key), &PublicKey::of(&key), &id));
        assert!(!is_signed_by(&latest_of(&other), &PublicKey::of(&key), &id));
        let raised = Latest { cumulative_amount: Amount::new(8), ..latest_of(&key) };
        assert!(!is_signed_by(&raised, &PublicKey::of(&key), &id), "an amount that was never signed");
    }
}
