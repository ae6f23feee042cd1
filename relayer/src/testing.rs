//! Channels and payments for the tests of this crate.

use common::amount::Amount;
use common::channel::Terms;
use common::ids::Signature;

use common::message;
use common::voucher::{Payment, Proof, VerifiedVoucher};
use common::wire::{IssuerChannel, IssuerStatus};

pub(crate) use common::testing::{key, public, terms};

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
