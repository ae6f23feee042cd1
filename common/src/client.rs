//! What a payer needs to pay in a scheme that it commits to at opening: everything grows from one seed, so a payer keeps
//! 32 bytes and where it stands. Voucher keys need nothing of this.
//!
//! # Layout
//!
//! * [`chain`]: the hash chain of `payword`. [`tree`]: the Merkle tree of `paytree`.
//! * [`state`]: seed, terms and what was shown, in a file.

pub mod chain;
pub mod state;
pub mod tree;

use crate::amount::Amount;
use crate::channel::SchemeKind;
use crate::ids::{ChannelId, Hash};
use crate::scheme::{paytree, payword};
use crate::voucher::Proof;
use crate::wire::{Latest, PaymentRequest};

use chain::Chain;
use tree::Tree;

/// A seed that does not go with what the payer wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// There is nothing to grow from a seed for this scheme, or not with this many steps or leaves.
    #[error(
        "expected payword with 1 to 1048576 steps, or paytree with a power of two of leaves, 2 to 1048576"
    )]
    NoCommitment,
    /// The channel was opened with another seed.
    #[error("the channel's root does not grow from this seed")]
    OtherSeed,
    /// The scheme pays whole units only.
    #[error("expected a multiple of the channel's unit, {unit}")]
    NotWholeUnits {
        /// The unit.
        unit: Amount,
    },
    /// The commitment has fewer units than that.
    #[error("expected at most {most} units")]
    TooManyUnits {
        /// How many there are.
        most: u32,
    },
}

/// What the payments of one channel are taken from.
#[derive(Clone, Debug)]
pub enum Purse {
    /// Steps of a chain.
    Payword {
        /// What the payer committed to.
        commitment: payword::Commitment,
        /// The chain behind it.
        chain: Chain,
    },
    /// Leaves of a tree.
    Paytree {
        /// What the payer committed to.
        commitment: paytree::Commitment,
        /// The tree behind it.
        tree: Tree,
    },
}

impl Purse {
    /// A chain of `length` steps that each pay `unit`.
    ///
    /// # Errors
    /// [`ClientError::NoCommitment`].
    pub fn payword(seed: Hash, unit: Amount, length: u32) -> Result<Purse, ClientError> {
        let chain = Chain::new(seed, length).ok_or(ClientError::NoCommitment)?;
        Ok(Purse::Payword { commitment: payword::Commitment { root: chain.root(), unit, length }, chain })
    }

    /// A tree of `leaves` that each pay `unit` more.
    ///
    /// # Errors
    /// [`ClientError::NoCommitment`].
    pub fn paytree(seed: Hash, unit: Amount, leaves: u32) -> Result<Purse, ClientError> {
        let tree = Tree::new(seed, leaves).ok_or(ClientError::NoCommitment)?;
        Ok(Purse::Paytree { commitment: paytree::Commitment { root: tree.root(), unit, leaves }, tree })
    }

    /// Grows again what a channel was opened with.
    ///
    /// # Errors
    /// [`ClientError::NoCommitment`], [`ClientError::OtherSeed`].
    pub fn of(scheme: SchemeKind, seed: Hash) -> Result<Purse, ClientError> {
        let purse = match scheme {
            SchemeKind::Ed25519 => return Err(ClientError::NoCommitment),
            SchemeKind::Payword(commitment) => Purse::payword(seed, commitment.unit, commitment.length)?,
            SchemeKind::Paytree(commitment) => Purse::paytree(seed, commitment.unit, commitment.leaves)?,
        };
        if purse.scheme() == scheme { Ok(purse) } else { Err(ClientError::OtherSeed) }
    }

    /// What goes into the channel's terms.
    pub fn scheme(&self) -> SchemeKind {
        match self {
            Purse::Payword { commitment, .. } => SchemeKind::Payword(*commitment),
            Purse::Paytree { commitment, .. } => SchemeKind::Paytree(*commitment),
        }
    }

    /// What one step, or one leaf, pays.
    pub fn unit(&self) -> Amount {
        match self {
            Purse::Payword { commitment, .. } => commitment.unit,
            Purse::Paytree { commitment, .. } => commitment.unit,
        }
    }

    /// The most units that can be paid.
    pub fn units_max(&self) -> u32 {
        match self {
            Purse::Payword { commitment, .. } => commitment.length,
            // Leaf 0 pays nothing.
            Purse::Paytree { commitment, .. } => commitment.leaves.saturating_sub(1),
        }
    }

    /// The complete payment of `amount` in total.
    ///
    /// # Errors
    /// [`ClientError::NotWholeUnits`], also for nothing; [`ClientError::TooManyUnits`].
    pub fn payment(&self, channel_id: ChannelId, amount: Amount) -> Result<PaymentRequest, ClientError> {
        let unit = self.unit();
        let units = match (amount.units().checked_div(unit.units()), amount.units().checked_rem(unit.units()))
        {
            (Some(units), Some(0)) if units > 0 => units,
            _ => return Err(ClientError::NotWholeUnits { unit }),
        };
        let most = self.units_max();
        let units = u32::try_from(units).ok().filter(|units| *units <= most);
        let proof = units.and_then(|units| match self {
            Purse::Payword { chain, .. } => {
                Some(Proof::Payword(payword::Proof { k: units, token: chain.token(units)? }))
            }
            Purse::Paytree { tree, .. } => tree.proof(units).map(Proof::Paytree),
        });
        let proof = proof.ok_or(ClientError::TooManyUnits { most })?;
        Ok(PaymentRequest { channel_id, cumulative_amount: amount, proof })
    }

    /// True if this purse made the payment that a relayer calls the latest. A payer goes on from nothing else.
    pub fn made(&self, latest: &Latest) -> bool {
        let made = self.payment(ChannelId([0; 32]), latest.cumulative_amount);
        made.is_ok_and(|made| made.proof == latest.proof)
    }
}

/// The payment without what a relayer that knows `latest` can work out itself.
pub fn compressed(payment: &PaymentRequest, latest: &Proof) -> PaymentRequest {
    let mut payment = payment.clone();
    if let (Proof::Paytree(proof), Proof::Paytree(latest)) = (&mut payment.proof, latest) {
        let needed = paytree::siblings_needed(proof.index, latest.index);
        proof.siblings.truncate(usize::try_from(needed).unwrap_or(usize::MAX));
    }
    payment
}
