//! The hash chain of `payword`: token(k) is the seed hashed `length − k` times, so token(0) is the root and the last token
//! is the seed itself.
//!
//! Payments take the chain from its end towards its seed. Values at even distances are kept, so that none costs more than
//! that many hashes: about a thousand of each for the longest chain.

use crate::ids::Hash;
use crate::scheme::STEPS_MAX;
use crate::scheme::payword::hash_times;

/// A chain, with some of its values at hand.
#[derive(Clone)]
pub struct Chain {
    length: u32,
    /// Hashes between two values that are kept.
    spacing: u32,
    /// The seed hashed 0, `spacing`, 2 · `spacing`, … times.
    kept: Vec<Hash>,
    root: Hash,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its values pay.
        f.debug_struct("Chain")
            .field("length", &self.length)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl Chain {
    /// The chain of `length` steps from `seed`, which keeps about as many values as it has hashes between them. `None`
    /// for a length that no chain has.
    pub fn new(seed: Hash, length: u32) -> Option<Chain> {
        Self::with_spacing(seed, length, length.isqrt().max(1))
    }

    /// As [`Chain::new`], with a value kept every `spacing` hashes: a larger one takes less memory and more hashing.
    pub fn with_spacing(seed: Hash, length: u32, spacing: u32) -> Option<Chain> {
        if spacing == 0 || !(1..=STEPS_MAX).contains(&length) {
            return None;
        }
        let (mut kept, mut value, mut left) = (vec![seed], seed, length);
        while let Some(rest) = left.checked_sub(spacing) {
            value = hash_times(value, spacing);
            kept.push(value);
            left = rest;
        }
        Some(Chain { length, spacing, kept, root: hash_times(value, left) })
    }

    /// What the payer commits to.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The value that leads to the root in `k` steps; `None` past the chain's length.
    pub fn token(&self, k: u32) -> Option<Hash> {
        let distance = self.length.checked_sub(k)?;
        let kept = usize::try_from(distance.checked_div(self.spacing)?).ok()?;
        Some(hash_times(*self.kept.get(kept)?, distance.checked_rem(self.spacing)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_token_leads_to_the_root_in_its_steps(
            seed: [u8; 32],
            (length, spacing, k) in (1u32..300).prop_flat_map(|n| (Just(n), 1u32..400, 0..=n)),
        ) {
            let chain = Chain::with_spacing(Hash(seed), length, spacing).expect("a length");
            let token = chain.token(k).expect("within the chain");
            prop_assert_eq!(hash_times(token, k), chain.root());
            prop_assert_eq!(hash_times(Hash(seed), length - k), token);
            prop_assert_eq!(chain.token(length + 1), None);
            prop_assert_eq!(Chain::new(Hash(seed), length).expect("a length").root(), chain.root());
        }
    }

    #[test]
    fn lengths_that_no_chain_has_are_refused() {
        assert!(Chain::new(Hash([1; 32]), 0).is_none());
        assert!(Chain::new(Hash([1; 32]), STEPS_MAX + 1).is_none());
        assert!(Chain::with_spacing(Hash([1; 32]), 5, 0).is_none());
    }
}
