//! What an audit looks at, made of what Redis and issuer answer: signatures of vouchers and receipts are checked here.

use common::ids::PublicKey;
use common::store::read::StoredChannel;
use common::verify::usable_key;
use common::voucher::{Payment, VerifiedVoucher};
use common::wire::IssuerChannel;

use super::{IssuedFacts, StoredFacts};

/// What Redis holds of a channel, with its latest proof checked anew.
pub fn of_redis(channel: StoredChannel) -> StoredFacts {
    StoredFacts {
        proof_holds: proof_holds(&channel),
        status: channel.state.status,
        accepted: channel.state.amount,
        settled_before: channel.settled_before,
        terms: channel.terms,
        receipt: channel.receipt,
    }
}

/// Whether the stored proof is one that the issuer would honour; an unpaid channel needs none.
fn proof_holds(channel: &StoredChannel) -> bool {
    if channel.state.amount.is_zero() {
        return true;
    }
    let Ok(terms) = channel.terms.clone().check() else {
        return false;
    };
    channel.state.proof(channel.terms.scheme).is_some_and(|proof| {
        let cumulative_amount = Some(channel.state.amount);
        let payment = Payment { channel_id: terms.id(), cumulative_amount, proof };
        VerifiedVoucher::verify(&terms, payment).is_ok()
    })
}

/// What the issuer holds of a channel, with its receipt checked against the issuer's key.
pub fn of_issuer(channel: IssuerChannel, issuer_key: &PublicKey) -> IssuedFacts {
    let key = usable_key(issuer_key);
    IssuedFacts {
        receipt_signed: channel
            .receipt
            .as_ref()
            .is_none_or(|receipt| key.as_ref().is_some_and(|key| receipt.is_signed_with(key))),
        receipt_flaw: channel
            .receipt
            .as_ref()
            .zip(key.as_ref())
            .and_then(|(receipt, key)| receipt.check_inclusion(key).err()),
        terms: channel.terms,
        status: channel.status,
        settled: channel.settled_amount,
        refunded: channel.refunded_amount,
        receipt: channel.receipt,
    }
}
