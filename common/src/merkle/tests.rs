use super::*;
use proptest::prelude::*;

/// Section 2.1 of RFC 6962, word for word: MTH({}) is the hash of nothing, MTH({d}) that of a leaf, and a longer list is
/// split at the largest power of two below its length.
fn naive_root(leaves: &[Vec<u8>]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => Sha256::digest([&[0x00], leaf.as_slice()].concat()).into(),
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            let node = [[0x01].as_slice(), &naive_root(left), &naive_root(right)].concat();
            Sha256::digest(node).into()
        }
    }
}

/// PATH(m, D[n]) of section 2.1.1.
fn naive_path(index: usize, leaves: &[Vec<u8>]) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, sibling) = if index < k {
        (naive_path(index, left), naive_root(right))
    } else {
        (naive_path(index - k, right), naive_root(left))
    };
    path.push(Hash(sibling));
    path
}

/// The largest power of two below `n`.
fn split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

/// Different leaves, some empty, some as long as an inner node.
fn leaves(count: usize, seed: u8) -> Vec<Vec<u8>> {
    (0..count).map(|i| vec![seed ^ u8::try_from(i).expect("few leaves"); i % 66]).collect()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

/// The leaves and roots that the certificate-transparency project tests its implementations of RFC 6962 with.
#[test]
fn roots_are_those_of_the_published_vectors() {
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let leaves = LEAVES.map(hex);
    for (size, root) in ROOTS.iter().enumerate() {
        assert_eq!(Tree::of(&leaves[..size]).root().0.as_slice(), hex(root), "{size} leaves");
    }
    // Proofs of the same project, for the same leaves.
    const PROOFS: [(usize, usize, &[&str]); 3] = [
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
    ];
    for (leaf, size, siblings) in PROOFS {
        let proof = Tree::of(&leaves[..size]).prove(leaf - 1).expect("a leaf");
        let expected: Vec<Vec<u8>> = siblings.iter().map(|sibling| hex(sibling)).collect();
        assert_eq!(proof.iter().map(|hash| hash.0.to_vec()).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn every_size_up_to_70_has_the_roots_and_proofs_of_the_rfc() {
    for size in 1..=70 {
        let leaves = leaves(size, 0xa5);
        let tree = Tree::of(&leaves);
        assert_eq!((tree.root().0, tree.size()), (naive_root(&leaves), size));
        for (index, leaf) in leaves.iter().enumerate() {
            let siblings = tree.prove(index).expect("a leaf");
            assert_eq!(siblings, naive_path(index, &leaves), "leaf {index} of {size}");
            assert!(verify(&tree.root(), size as u64, index as u64, leaf, &siblings));
            assert_eq!(proof_len(size as u64, index as u64), Some(siblings.len()));
        }
        assert_eq!(tree.prove(size), None);
    }
}

proptest! {
    #[test]
    fn no_other_proof_is_taken(
        size in 1usize..=70,
        at in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        seed in any::<u8>(),
        flip in any::<prop::sample::Index>(),
    ) {
        let leaves = leaves(size, seed);
        let tree = Tree::of(&leaves);
        let index = at.index(size);
        let (n, i, leaf) = (size as u64, index as u64, leaves[index].as_slice());
        let good = tree.prove(index).expect("a leaf");
        let taken = |n, i, leaf: &[u8], siblings: &[Hash]| verify(&tree.root(), n, i, leaf, siblings);
        prop_assert!(taken(n, i, leaf, &good));
        prop_assert!(!verify(&Hash([seed; 32]), n, i, leaf, &good));
        prop_assert!(!taken(n, i, &[leaf, b"x"].concat(), &good));
        let another = other.index(size);
        if another != index {
            prop_assert!(!taken(n, another as u64, leaf, &good), "at another place");
        }
        prop_assert!(!taken(n, n, leaf, &good) && !taken(n, u64::MAX, leaf, &good) && !taken(0, 0, leaf, &good));
        let longer = [good.as_slice(), &[Hash([seed; 32])]].concat();
        prop_assert!(!taken(n, i, leaf, &longer), "one too many");
        if let Some((_, shorter)) = good.split_last() {
            prop_assert!(!taken(n, i, leaf, shorter), "one too few");
            let mut changed = good.clone();
            let bit = flip.index(good.len() * 256);
            changed[bit / 256].0[bit % 256 / 8] ^= 1 << (bit % 8);
            prop_assert!(!taken(n, i, leaf, &changed), "one changed");
        }
    }
}

#[test]
fn sizes_that_no_tree_has_are_refused_without_harm() {
    for (size, index) in [(u64::MAX, 0), (u64::MAX, u64::MAX - 1), (1 << 63, (1 << 63) - 1)] {
        let length = proof_len(size, index).expect("a place");
        assert!(length <= 64);
        assert!(!verify(&Hash([1; 32]), size, index, b"leaf", &vec![Hash([2; 32]); length]));
        assert!(!verify(&Hash([1; 32]), size, index, b"leaf", &[]));
    }
}

/// Broken on purpose: leaves and inner nodes are hashed alike.
#[derive(Clone)]
struct WithoutPrefixes;

impl Hasher for WithoutPrefixes {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }
}

/// Passes the inner node above the first two of four leaves off as the first leaf of a tree of two. True if it is taken.
fn inner_node_is_taken_for_a_leaf<H: Hasher<Hash = [u8; 32]>>() -> bool {
    let leaves: Vec<[u8; 32]> = leaves(4, 7).iter().map(|data| H::hash(data)).collect();
    let tree = MerkleTree::<H>::from_leaves(&leaves);
    let forged = [leaves[0], leaves[1]].concat();
    let sibling = H::concat_and_hash(&leaves[2], Some(&leaves[3]));
    MerkleProof::<H>::new(vec![sibling]).verify(tree.root().expect("a root"), &[0], &[H::hash(&forged)], 2)
}

#[test]
fn an_inner_node_cannot_be_passed_off_as_a_leaf_but_could_be_without_prefixes() {
    assert!(!inner_node_is_taken_for_a_leaf::<Rfc6962>());
    assert!(inner_node_is_taken_for_a_leaf::<WithoutPrefixes>(), "or this test could not fail");
}
