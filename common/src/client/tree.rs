//! The Merkle tree of `paytree`: the secret of leaf i is SHA-256(seed || u64be(i)), its leaf the hash of that.

use rs_merkle::{Hasher as _, MerkleTree};
use sha2::{Digest, Sha256};

use crate::ids::Hash;
use crate::scheme::STEPS_MAX;
use crate::scheme::paytree::{Nodes, Proof};

/// A tree with all its nodes: 64 bytes for each leaf.
#[derive(Clone)]
pub struct Tree {
    seed: Hash,
    leaves: u32,
    root: Hash,
    nodes: MerkleTree<Nodes>,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The seed pays.
        f.debug_struct("Tree").field("leaves", &self.leaves).field("root", &self.root).finish_non_exhaustive()
    }
}

impl Tree {
    /// The tree of `leaves` that grows from `seed`. `None` for a number of leaves that no tree has.
    pub fn new(seed: Hash, leaves: u32) -> Option<Tree> {
        if !leaves.is_power_of_two() || !(2..=STEPS_MAX).contains(&leaves) {
            return None;
        }
        let hashes: Vec<[u8; 32]> =
            (0..leaves).map(|index| Nodes::hash(secret(&seed, index).as_bytes())).collect();
        let nodes = MerkleTree::from_leaves(&hashes);
        let root = Hash(nodes.root()?);
        Some(Tree { seed, leaves, root, nodes })
    }

    /// What the payer commits to.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The complete proof of a leaf; `None` past the last.
    pub fn proof(&self, index: u32) -> Option<Proof> {
        let at = usize::try_from(index).ok().filter(|_| index < self.leaves)?;
        let siblings = self.nodes.proof(&[at]).proof_hashes().iter().copied().map(Hash).collect();
        Some(Proof { index, secret: secret(&self.seed, index), siblings })
    }
}

fn secret(seed: &Hash, index: u32) -> Hash {
    Hash(
        Sha256::new()
            .chain_update(seed.as_bytes())
            .chain_update(u64::from(index).to_be_bytes())
            .finalize()
            .into(),
    )
}
