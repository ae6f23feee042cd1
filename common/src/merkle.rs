//! Merkle trees over SHA-256, with the hashes and the shape of RFC 6962, section 2.1 (unchanged in RFC 9162): a leaf is
//! `SHA-256(0x00 || data)`, an inner node `SHA-256(0x01 || left || right)`. Without the two prefixes an inner node could
//! be passed off as a leaf.
//!
//! `rs_merkle` builds the trees. It has no prefixes of its own, and where the RFC splits at the largest power of two, it
//! goes level by level and lifts the last node of an odd level as it is: both come to the same roots and the same proofs,
//! which a test shows.

use rs_merkle::{Hasher, MerkleProof, MerkleTree};
use sha2::{Digest, Sha256};

use crate::ids::Hash;

const LEAF_PREFIX: u8 = 0x00;
const NODE_PREFIX: u8 = 0x01;

/// Hashes as RFC 6962 does.
#[derive(Clone, Copy, Debug)]
struct Rfc6962;

impl Hasher for Rfc6962 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update([LEAF_PREFIX]).chain_update(data).finalize().into()
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        match right {
            Some(right) => Sha256::new()
                .chain_update([NODE_PREFIX])
                .chain_update(left)
                .chain_update(right)
                .finalize()
                .into(),
            None => *left,
        }
    }
}

/// A tree over a list of data, in their order.
#[derive(Clone)]
pub struct Tree {
    nodes: MerkleTree<Rfc6962>,
    size: usize,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("root", &self.root()).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Tree {
    /// The tree over these leaves.
    pub fn of<T: AsRef<[u8]>>(leaves: impl IntoIterator<Item = T>) -> Tree {
        let leaves: Vec<[u8; 32]> = leaves.into_iter().map(|data| Rfc6962::hash(data.as_ref())).collect();
        Tree { nodes: MerkleTree::from_leaves(&leaves), size: leaves.len() }
    }

    /// How many leaves it has.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Its root; of a tree without leaves the SHA-256 of nothing, as the RFC has it.
    pub fn root(&self) -> Hash {
        Hash(self.nodes.root().unwrap_or_else(|| Sha256::digest([]).into()))
    }

    /// The siblings of the nodes on the way from leaf `index` up to the root, from the leaf's own on; `None` where there
    /// is no such leaf.
    pub fn prove(&self, index: usize) -> Option<Vec<Hash>> {
        let proof = (index < self.size).then(|| self.nodes.proof(&[index]))?;
        Some(proof.proof_hashes().iter().copied().map(Hash).collect())
    }
}

/// How many siblings prove leaf `index` of a tree of `size`; `None` where there is no such leaf.
pub fn proof_len(size: u64, index: u64) -> Option<usize> {
    if index >= size {
        return None;
    }
    // From the leaves up: a node has no sibling only where it is the last of an odd level.
    let (mut level, mut node, mut siblings) = (size, index, 0usize);
    while level > 1 {
        if node & 1 == 1 || node.checked_add(1)? < level {
            siblings = siblings.checked_add(1)?;
        }
        (level, node) = (level.div_ceil(2), node >> 1);
    }
    Some(siblings)
}

/// True if `siblings` lead from this data, as leaf `index` of a tree of `size`, to `root`. There is one such list at most.
pub fn verify(root: &Hash, size: u64, index: u64, leaf: &[u8], siblings: &[Hash]) -> bool {
    // The library takes a list that is too long.
    if proof_len(size, index) != Some(siblings.len()) {
        return false;
    }
    let (Ok(size), Ok(index)) = (usize::try_from(size), usize::try_from(index)) else {
        return false;
    };
    let proof = MerkleProof::<Rfc6962>::new(siblings.iter().map(|sibling| sibling.0).collect());
    proof.verify(root.0, &[index], &[Rfc6962::hash(leaf)], size)
}

/// A tree that leaves are added to one by one, of which only the root is asked: it holds one hash a level.
#[derive(Clone, Debug, Default)]
pub struct Growing {
    /// Roots of the full subtrees so far, the largest first, each with its height.
    peaks: Vec<(u32, [u8; 32])>,
}

impl Growing {
    /// Adds a leaf at the end.
    pub fn push(&mut self, leaf: &[u8]) {
        let mut height = 0u32;
        let mut hash = Rfc6962::hash(leaf);
        while let Some((_, left)) = self.peaks.pop_if(|(peak, _)| *peak == height) {
            hash = Rfc6962::concat_and_hash(&left, Some(&hash));
            height = height.saturating_add(1);
        }
        self.peaks.push((height, hash));
    }

    /// The root over all leaves so far, the one that [`Tree::root`] gives for them.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev().map(|(_, hash)| *hash);
        let Some(last) = peaks.next() else {
            return Hash(Sha256::digest([]).into());
        };
        Hash(peaks.fold(last, |right, left| Rfc6962::concat_and_hash(&left, Some(&right))))
    }
}

#[cfg(test)]
mod tests;
