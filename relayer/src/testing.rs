//! Channels and payments for the tests of this crate.

use common::amount::Amount;
use common::channel::{SchemeKind, Terms};
use common::ids::{PublicKey, Signature};
use common::message;
use common::voucher::{Payment, Proof, VerifiedVoucher};
use common::wire::{IssuerChannel, IssuerStatus};
use ed25519_dalek::SigningKey;

/// A signing key for each seed.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// Its public key.
pub(crate) fn public(seed: u8) -> PublicKey {
    PublicKey::of(&key(seed))
}

/// Terms of a channel for each salt: issuer 1, payer 2, payee 3.
pub(crate) fn terms(salt: u64) -> Terms {
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

/// The channel of these terms, as an issuer that has it open answers.
pub(crate) fn issued(terms: Terms) -> IssuerChannel {
    IssuerChannel {
        channel_id: terms.id(),
        terms,
        status: IssuerStatus::Open,
        settled_amount: Amount::ZERO,
        refunded_amount: Amount::ZERO,
        settled: None,
        receipt: None,
        opened_at_ms: 0,
    }
}

/// A voucher of that channel.
pub(crate) fn voucher(salt: u64, amount: u64) -> VerifiedVoucher {
    let terms = terms(salt).check().expect("usable terms");
    let message = message::voucher(&terms.id(), Amount::new(amount), 0);
    let signature = Signature::of(&key(2), &message);
    let proof = Proof::Ed25519 { expires_at: 0, signature };
    let payment = Payment { channel_id: terms.id(), cumulative_amount: Some(Amount::new(amount)), proof };
    VerifiedVoucher::verify(&terms, payment).expect("signed by the payer")
}
