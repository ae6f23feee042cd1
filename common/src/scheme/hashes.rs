//! SHA-256 of what payments are made of: a value of 32 bytes, or two nodes side by side. A hash function for data of any
//! length keeps it in a buffer and pads what is left there, which costs half as much again as so short a hash itself, where
//! processors have instructions for it. Here the padding is known beforehand; the compression function is the library's.
//!
//! Source: FIPS 180-4, 5.1.1 (padding), 5.3.3 (initial value).

use sha2::block_api::compress256;

const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// What follows 32 bytes: a bit, and their number of bits, up to the end of a block.
const AFTER_VALUE: [u8; 32] = padding(256);

/// What follows 64 bytes.
const AFTER_NODES: [u8; 64] = padding(512);

const fn padding<const LEN: usize>(bits: u16) -> [u8; LEN] {
    let mut padding = [0; LEN];
    padding[0] = 0x80;
    [padding[LEN - 2], padding[LEN - 1]] = bits.to_be_bytes();
    padding
}

/// The hash of a token or a secret.
pub(super) fn of_value(value: &[u8; 32]) -> [u8; 32] {
    of_blocks(&[joined(value, &AFTER_VALUE)])
}

/// The hash of two nodes of a tree.
pub(super) fn of_nodes(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    of_blocks(&[joined(left, right), AFTER_NODES])
}

fn joined(first: &[u8; 32], second: &[u8; 32]) -> [u8; 64] {
    let mut block = [0; 64];
    let (start, end) = block.split_at_mut(32);
    start.copy_from_slice(first);
    end.copy_from_slice(second);
    block
}

fn of_blocks(blocks: &[[u8; 64]]) -> [u8; 32] {
    let mut state = INITIAL;
    compress256(&mut state, blocks);
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    proptest! {
        #[test]
        fn short_hashes_are_those_of_the_library(left: [u8; 32], right: [u8; 32]) {
            prop_assert_eq!(of_value(&left), <[u8; 32]>::from(Sha256::digest(left)));
            prop_assert_eq!(of_nodes(&left, &right), <[u8; 32]>::from(Sha256::digest([left, right].concat())));
        }
    }
}
