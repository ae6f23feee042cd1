//! What unit tests of any crate start from: keys that a number names, and a channel between them. In no build but theirs.

use ed25519_dalek::SigningKey;

use crate::amount::Amount;
use crate::channel::{SchemeKind, Terms};
use crate::ids::PublicKey;

/// The signing key of a number.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// Its public half.
pub fn public(seed: u8) -> PublicKey {
    PublicKey::of(&key(seed))
}

/// Terms of a channel for each salt: issuer 1, payer and authorizer 2, payee 3; 1,000 usd, until 2100, paid by vouchers.
pub fn terms(salt: u64) -> Terms {
    Terms {
        issuer: public(1),
        payer: public(2),
        payer_authorizer: public(2),
        payee: public(3),
        asset: "usd".to_owned(),
        capacity: Amount::new(1_000),
        expires_at: 4_102_444_800,
        salt,
        scheme: SchemeKind::Ed25519,
    }
}
