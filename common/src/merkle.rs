//! Merkle trees as RFC 6962 (section 2.1) has them, over SHA-256: a leaf is hashed after a byte 0x00, two nodes after a
//! byte 0x01, so that neither can stand for the other.

use sha2::{Digest, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// The root over `leaves` in their order; of none, the SHA-256 of nothing. Holds one hash a level, whatever their number.
pub fn root<L: AsRef<[u8]>>(leaves: impl IntoIterator<Item = L>) -> Hash {
    let mut tree = Growing::default();
    for leaf in leaves {
        tree.push(leaf.as_ref());
    }
    tree.root()
}

/// A tree that leaves are added to one by one.
#[derive(Clone, Debug, Default)]
pub struct Growing {
    /// Roots of the full subtrees so far, the largest first, each with its height.
    peaks: Vec<(u32, Hash)>,
}

impl Growing {
    /// Adds a leaf at the end.
    pub fn push(&mut self, leaf: &[u8]) {
        let mut height = 0u32;
        let mut hash: Hash = Sha256::new().chain_update([0]).chain_update(leaf).finalize().into();
        while let Some((_, left)) = self.peaks.pop_if(|(peak, _)| *peak == height) {
            hash = node(&left, &hash);
            height = height.saturating_add(1);
        }
        self.peaks.push((height, hash));
    }

    /// The root over all leaves so far.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev().map(|(_, hash)| *hash);
        let Some(last) = peaks.next() else {
            return Sha256::digest([]).into();
        };
        peaks.fold(last, |right, left| node(&left, &right))
    }
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(hash: Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The definition in the RFC, word by word: split at the largest power of two below the number of leaves.
    fn by_the_rfc(leaves: &[&[u8]]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => Sha256::new().chain_update([0]).chain_update(leaf).finalize().into(),
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node(&by_the_rfc(left), &by_the_rfc(right))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_rfc() {
        let leaves: Vec<Vec<u8>> = (0..70u8).map(|i| vec![i; usize::from(i)]).collect();
        for n in 0..=leaves.len() {
            let leaves: Vec<&[u8]> = leaves[..n].iter().map(Vec::as_slice).collect();
            assert_eq!(root(&leaves), by_the_rfc(&leaves), "{n} leaves");
        }
    }

    #[test]
    fn known_roots_are_what_certificate_transparency_logs_give() {
        let none: [&[u8]; 0] = [];
        assert_eq!(hex(root(none)), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let two: [&[u8]; 2] = [b"", b"\x00"];
        assert_eq!(hex(root(two)), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
    }
}
