//! What a payer signs and shows.

use std::path::Path;
use std::sync::Arc;

use common::amount::Amount;
use common::channel::{SchemeKind, Terms};
use common::client::{ClientError, Purse, compressed};
use common::ids::{ChannelId, Hash, PublicKey, Signature};
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

/// The payment schemes by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Scheme {
    /// Signed vouchers.
    #[default]
    Ed25519,
    /// A hash chain.
    Payword,
    /// A Merkle tree.
    Paytree,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Scheme; 3] = [Scheme::Ed25519, Scheme::Payword, Scheme::Paytree];

    /// The scheme of a channel.
    pub fn of(kind: &SchemeKind) -> Scheme {
        match kind {
            SchemeKind::Ed25519 => Scheme::Ed25519,
            SchemeKind::Payword(_) => Scheme::Payword,
            SchemeKind::Paytree(_) => Scheme::Paytree,
        }
    }

    /// As terms and command lines have it.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Ed25519 => "ed25519",
            Scheme::Payword => "payword",
            Scheme::Paytree => "paytree",
        }
    }

    /// What pays at least `units` of `unit`, grown from `seed`: as many steps, or the next power of two of leaves. `None`
    /// for the scheme that grows from none.
    ///
    /// # Errors
    /// There are no commitments so large.
    pub fn purse(self, seed: Hash, unit: Amount, units: u32) -> Result<Option<Purse>, ClientError> {
        match self {
            Scheme::Ed25519 => Ok(None),
            Scheme::Payword => Purse::payword(seed, unit, units).map(Some),
            Scheme::Paytree => {
                // Leaf 0 pays nothing.
                let leaves = units.checked_add(1).and_then(u32::checked_next_power_of_two);
                Purse::paytree(seed, unit, leaves.ok_or(ClientError::NoCommitment)?).map(Some)
            }
        }
    }
}

/// What the payments of a channel are made with.
#[derive(Clone, Debug)]
pub enum Means {
    /// Vouchers that this key signs.
    Key(Box<SigningKey>),
    /// What was committed to when the channel was opened.
    Purse(Arc<Purse>),
}

impl Means {
    /// What goes into the terms of a channel that is paid from so.
    pub fn scheme(&self) -> SchemeKind {
        match self {
            Means::Key(_) => SchemeKind::Ed25519,
            Means::Purse(purse) => purse.scheme(),
        }
    }

    /// What every amount is a multiple of.
    pub fn unit(&self) -> Amount {
        match self {
            Means::Key(_) => Amount::new(1),
            Means::Purse(purse) => purse.unit(),
        }
    }

    /// The complete payment of `amount` in total.
    ///
    /// # Errors
    /// The commitment has no such amount.
    pub fn payment(&self, channel_id: ChannelId, amount: Amount) -> Result<PaymentRequest, ClientError> {
        match self {
            Means::Key(key) => Ok(voucher(key, channel_id, amount, 0)),
            Means::Purse(purse) => purse.payment(channel_id, amount),
        }
    }

    /// True if these means made what a relayer calls the latest payment. A payer goes on from nothing else.
    pub fn made(&self, channel_id: &ChannelId, latest: &Latest) -> bool {
        match self {
            Means::Key(key) => is_signed_by(latest, &PublicKey::of(key), channel_id),
            Means::Purse(purse) => purse.made(latest),
        }
    }
}

/// A payment as it is to be proven for ever, and as it is sent to a relayer that knows the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paying {
    /// With all of its proof.
    pub complete: PaymentRequest,
    /// Without what the relayer can work out itself.
    pub sent: PaymentRequest,
}

impl Paying {
    /// Leaves out what follows from `latest`, the proof of the latest payment that a relayer is known to have.
    pub fn after(complete: PaymentRequest, latest: Option<&Proof>) -> Paying {
        let sent = latest.map_or_else(|| complete.clone(), |latest| compressed(&complete, latest));
        Paying { complete, sent }
    }

    /// Leaves out nothing any more: the relayer does not know what it was thought to.
    pub fn complete(&mut self) {
        self.sent = self.complete.clone();
    }
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

    #[test]
    fn a_payment_of_a_tree_is_smaller_by_all_that_the_one_before_proved() {
        let (id, units) = (ChannelId([3; 32]), 1_023u32);
        let purse = Scheme::Paytree.purse(Hash([7; 32]), Amount::new(1), units).expect("a tree");
        let means = Means::Purse(Arc::new(purse.expect("a purse")));
        let (mut latest, mut plain, mut small, mut siblings) = (None, 0, 0, 0);
        for amount in 1..=u64::from(units) {
            let paying =
                Paying::after(means.payment(id, Amount::new(amount)).expect("in it"), latest.as_ref());
            let bytes = |payment: &PaymentRequest| serde_json::to_vec(payment).expect("JSON").len();
            (plain, small) = (plain + bytes(&paying.complete), small + bytes(&paying.sent));
            let Proof::Paytree(proof) = &paying.sent.proof else { panic!("a tree pays by leaves") };
            siblings += proof.siblings.len();
            latest = Some(paying.complete.proof);
        }
        let units = usize::try_from(units).expect("small");
        // What README.md and docs/SCHEMES.md say, but for the ends of lines.
        assert!((655..=660).contains(&(plain / units)), "{} bytes a payment plain", plain / units);
        assert!((234..=239).contains(&(small / units)), "{} bytes a payment compressed", small / units);
        // One on average, the ten of the first included, which has nothing to go by.
        assert_eq!(siblings, 1_023);
    }

    #[test]
    fn what_is_written_down_holds_from_the_terms_alone_and_what_is_sent_does_not() {
        use common::voucher::{Unproven, VerifiedVoucher};
        let purse = Scheme::Paytree.purse(Hash([7; 32]), Amount::new(5), 100).expect("a tree");
        let means = Means::Purse(Arc::new(purse.expect("a purse")));
        let terms = Terms { scheme: means.scheme(), ..common::testing::terms(7) };
        let terms = terms.check().expect("terms of a channel");
        let of = |amount| means.payment(terms.id(), Amount::new(amount)).expect("in the tree");
        let paying = Paying::after(of(35), Some(&of(30).proof));
        let verify = |payment: &PaymentRequest| VerifiedVoucher::verify(&terms, payment.clone().into());
        assert!(verify(&paying.complete).is_ok());
        assert!(matches!(verify(&paying.sent), Err(Unproven::MissingSiblings { .. })));
    }
}
