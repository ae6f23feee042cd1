//! `paytree`: a Merkle tree whose leaves are hashes of secrets. The payer committed to its root; payment i shows the
//! secret of leaf i and the path from there to the root, and owes i units.
//!
//! Secrets and not leaves are shown: the path of one leaf reveals the hash of its neighbour, which must not be enough to
//! take the next payment. A leaf hashes 32 bytes and a node 64, so neither can be taken for the other.
//!
//! A payment may leave out the upper siblings that an accepted one has proven already. Say that j was accepted and that d
//! is the highest bit in which i and j differ. From level d + 1 on both have the same ancestors. At level d they are each
//! other's sibling: where i's path must arrive is j's sibling there, and i's sibling is j's ancestor. So the d lowest
//! siblings are all that is new: none, for every other payment of a sequence, and one on average.

use bytes::BufMut;
use rs_merkle::{Hasher, MerkleProof};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{PaymentScheme, STEPS_MAX, hashes, owed};
use crate::amount::Amount;
use crate::channel::InvalidTerms;
use crate::ids::Hash;
use crate::voucher::Unproven;

/// What the payer commits to at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PaytreeCommitment")]
pub struct Commitment {
    /// The tree's root.
    pub root: Hash,
    /// Atomic units that each leaf pays beyond the one before; more than 0.
    pub unit: Amount,
    /// Leaves of the tree: a power of two, 2 to 1048576. The first one, leaf 0, pays nothing.
    pub leaves: u32,
}

/// What a payment shows. What is kept of it has all its siblings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PaytreeProof")]
pub struct Proof {
    /// The leaf, which is also the number of units paid so far: 1 to one less than there are leaves.
    pub index: u32,
    /// The secret whose hash is the leaf.
    pub secret: Hash,
    /// The siblings of the path from the leaf upwards; those that the latest payment has proven may be left out.
    pub siblings: Vec<Hash>,
}

/// How nodes are hashed: SHA-256(left || right).
#[derive(Clone, Copy, Debug)]
pub struct Nodes;

impl Hasher for Nodes {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        match right {
            Some(right) => hashes::of_nodes(left, right),
            // Only where the number of leaves is no power of two.
            None => *left,
        }
    }
}

pub(super) struct Paytree;

impl PaymentScheme for Paytree {
    type Commitment = Commitment;
    type Proof = Proof;
    const ID_BYTE: u8 = 2;

    /// `root[32] || u64le(unit) || u64le(leaves)`.
    fn write_commitment(commitment: &Commitment, bytes: &mut Vec<u8>) {
        super::write_commitment(&commitment.root, commitment.unit, commitment.leaves, bytes);
    }

    fn check_commitment(commitment: &Commitment) -> Result<(), InvalidTerms> {
        let leaves = commitment.leaves;
        if !leaves.is_power_of_two() || !(2..=STEPS_MAX).contains(&leaves) {
            let expected = "a power of two, 2 to 1048576";
            return Err(InvalidTerms { field: "scheme.paytree.leaves", expected });
        }
        super::check_unit("scheme.paytree.unit", commitment.unit, leaves)
    }

    fn units(proof: &Proof) -> u32 {
        proof.index
    }

    /// `u32le(index) || secret[32] || sibling[32] …`.
    fn write_proof(proof: &Proof, bytes: &mut impl BufMut) {
        bytes.put_u32_le(proof.index);
        bytes.put_slice(proof.secret.as_bytes());
        proof.siblings.iter().for_each(|sibling| bytes.put_slice(sibling.as_bytes()));
    }

    fn read_proof(bytes: &[u8]) -> Option<Proof> {
        let (index, bytes) = bytes.split_first_chunk()?;
        let (secret, bytes) = bytes.split_first_chunk()?;
        let (siblings, []) = bytes.as_chunks() else { return None };
        let siblings = siblings.iter().copied().map(Hash).collect();
        Some(Proof { index: u32::from_le_bytes(*index), secret: Hash(*secret), siblings })
    }

    fn root(commitment: &Commitment) -> &Hash {
        &commitment.root
    }

    fn verify(
        commitment: &Commitment,
        proof: &Proof,
        known: Option<&Proof>,
        _steps_max: u32,
    ) -> Result<(Amount, Proof), Unproven> {
        let leaves = commitment.leaves;
        if proof.index == 0 || proof.index >= leaves {
            let most = leaves.saturating_sub(1);
            return Err(Unproven::OutOfRange { field: "proof.paytree.index", least: 1, most });
        }
        let depth = leaves.trailing_zeros();
        let known = known.filter(|known| known.siblings.len() == level(depth));
        let (subtree, siblings) = match known {
            Some(known) if known.index == proof.index => {
                // Siblings and leaf of one place in one tree: there are no others.
                let same = known.secret == proof.secret && known.siblings.starts_with(&proof.siblings);
                let proven = same.then(|| known.clone()).ok_or(Unproven::InvalidSignature)?;
                return Ok((owed(proof.index, commitment.unit)?, proven));
            }
            Some(known) => {
                let parting = known.index ^ proof.index;
                // They differ, so there is a highest bit.
                let height = parting.checked_ilog2().unwrap_or(0);
                let top = known.siblings.get(level(height)).copied().unwrap_or(commitment.root);
                (Subtree { top, height }, completed(proof, known, height)?)
            }
            None => (Subtree { top: commitment.root, height: depth }, proof.siblings.clone()),
        };
        if siblings.len() < level(depth) {
            let given = u32::try_from(siblings.len()).unwrap_or(u32::MAX);
            return Err(Unproven::MissingSiblings { given, needed: depth });
        }
        if siblings.len() > level(depth) || !subtree.holds(proof.index, &proof.secret, &siblings) {
            return Err(Unproven::InvalidSignature);
        }
        let proven = Proof { index: proof.index, secret: proof.secret, siblings };
        Ok((owed(proof.index, commitment.unit)?, proven))
    }
}

/// Paths of no more nodes are climbed by hand: rs_merkle makes a tree of each, which for payments in a sequence, most of
/// which show a node or two, would cost more than their hashes.
const SHORT: u32 = 7;

/// A part of the tree whose top is known.
struct Subtree {
    top: Hash,
    height: u32,
}

impl Subtree {
    /// True if the path of leaf `index` of the whole tree leads to the top.
    fn holds(&self, index: u32, secret: &Hash, siblings: &[Hash]) -> bool {
        let Some(path) = siblings.get(..level(self.height)) else { return false };
        if self.height <= SHORT {
            return climbed(index, secret, path) == self.top;
        }
        let Some(leaves) = 1usize.checked_shl(self.height) else { return false };
        let index = level(index) & leaves.saturating_sub(1);
        let leaf = hashes::of_value(secret.as_bytes());
        let path = path.iter().map(|sibling| sibling.0).collect();
        MerkleProof::<Nodes>::new(path).verify(self.top.0, &[index], &[leaf], leaves)
    }
}

/// All siblings of a payment, of which those above `height` follow from `known`, which parts from it there.
fn completed(proof: &Proof, known: &Proof, height: u32) -> Result<Vec<Hash>, Unproven> {
    let shown = proof.siblings.len();
    let Some(own) = proof.siblings.get(..level(height)) else {
        let given = u32::try_from(shown).unwrap_or(u32::MAX);
        return Err(Unproven::MissingSiblings { given, needed: height });
    };
    // In one piece from the beginning: it is as long as the one it follows from.
    let mut siblings = Vec::with_capacity(known.siblings.len().max(shown));
    siblings.extend_from_slice(own);
    siblings.push(ancestor(known, height));
    siblings.extend(known.siblings.iter().skip(siblings.len()));
    // What was shown although it was known must be what is known.
    if siblings.starts_with(&proof.siblings) { Ok(siblings) } else { Err(Unproven::InvalidSignature) }
}

/// The node above a proven leaf at this level.
fn ancestor(proof: &Proof, height: u32) -> Hash {
    climbed(proof.index, &proof.secret, proof.siblings.get(..level(height)).unwrap_or(&proof.siblings))
}

/// The node that the path from the leaf of this secret leads to, past these siblings.
fn climbed(index: u32, secret: &Hash, siblings: &[Hash]) -> Hash {
    let leaf = hashes::of_value(secret.as_bytes());
    Hash(siblings.iter().enumerate().fold(leaf, |node, (level, sibling)| {
        if index.checked_shr(u32::try_from(level).unwrap_or(u32::MAX)).unwrap_or(0) & 1 == 0 {
            Nodes::concat_and_hash(&node, Some(&sibling.0))
        } else {
            Nodes::concat_and_hash(&sibling.0, Some(&node))
        }
    }))
}

/// A level, or an index, as the length of something in memory.
fn level(level: u32) -> usize {
    usize::try_from(level).unwrap_or(usize::MAX)
}

/// How many siblings a payment of leaf `index` needs to show to someone who knows leaf `known`.
pub fn siblings_needed(index: u32, known: u32) -> u32 {
    (index ^ known).checked_ilog2().unwrap_or(0)
}
