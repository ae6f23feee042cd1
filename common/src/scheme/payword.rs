//! `payword`: a chain of hashes. The payer committed to its end, `root`; the k-th payment shows the value that hashes
//! to `root` in k steps, and owes k units. Costs a hash for each step since a value that is known already.
//!
//! Source: R. L. Rivest and A. Shamir, "PayWord and MicroMint: two simple micropayment schemes", 1996.

use bytes::BufMut;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PaymentScheme, STEPS_MAX, hashes, owed};
use crate::amount::Amount;
use crate::channel::InvalidTerms;
use crate::ids::Hash;
use crate::voucher::Unproven;

/// What the payer commits to at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PaywordCommitment")]
pub struct Commitment {
    /// The chain's end: the value of step 0.
    pub root: Hash,
    /// Atomic units that each step pays; more than 0.
    pub unit: Amount,
    /// Steps of the chain, 1 to 1048576.
    pub length: u32,
}

/// What a payment shows, and what is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PaywordProof")]
pub struct Proof {
    /// Steps paid so far, this payment included: 1 to the chain's length.
    pub k: u32,
    /// The value that hashes to the root in `k` steps.
    pub token: Hash,
}

pub(super) struct Payword;

impl PaymentScheme for Payword {
    type Commitment = Commitment;
    type Proof = Proof;
    const ID_BYTE: u8 = 1;

    /// `root[32] || u64le(unit) || u64le(length)`.
    fn write_commitment(commitment: &Commitment, bytes: &mut Vec<u8>) {
        super::write_commitment(&commitment.root, commitment.unit, commitment.length, bytes);
    }

    fn check_commitment(commitment: &Commitment) -> Result<(), InvalidTerms> {
        if commitment.length == 0 || commitment.length > STEPS_MAX {
            return Err(InvalidTerms { field: "scheme.payword.length", expected: "1 to 1048576" });
        }
        super::check_unit("scheme.payword.unit", commitment.unit, commitment.length)
    }

    fn units(proof: &Proof) -> u32 {
        proof.k
    }

    /// `u32le(k) || token[32]`.
    fn write_proof(proof: &Proof, bytes: &mut impl BufMut) {
        bytes.put_u32_le(proof.k);
        bytes.put_slice(proof.token.as_bytes());
    }

    fn read_proof(bytes: &[u8]) -> Option<Proof> {
        let (k, token) = bytes.split_first_chunk()?;
        Some(Proof { k: u32::from_le_bytes(*k), token: Hash(token.try_into().ok()?) })
    }

    fn root(commitment: &Commitment) -> &Hash {
        &commitment.root
    }

    fn verify(
        commitment: &Commitment,
        proof: &Proof,
        known: Option<&Proof>,
        steps_max: u32,
    ) -> Result<(Amount, Proof), Unproven> {
        if proof.k == 0 || proof.k > commitment.length {
            return Err(Unproven::OutOfRange { field: "proof.payword.k", least: 1, most: commitment.length });
        }
        // The value of step 0 is known to everyone.
        let root = Proof { k: 0, token: commitment.root };
        let nearest =
            [Some(&root), known].into_iter().flatten().min_by_key(|known| known.k.abs_diff(proof.k));
        let known = nearest.unwrap_or(&root);
        let steps = known.k.abs_diff(proof.k);
        if steps > steps_max {
            return Err(Unproven::StepTooLarge { steps, most: steps_max });
        }
        // The later value leads to the earlier one.
        let (later, earlier) = if proof.k > known.k { (proof, known) } else { (known, proof) };
        if hash_times(later.token, steps) != earlier.token {
            return Err(Unproven::InvalidSignature);
        }
        Ok((owed(proof.k, commitment.unit)?, *proof))
    }
}

/// The value that `steps` hashes lead to.
pub fn hash_times(token: Hash, steps: u32) -> Hash {
    (0..steps).fold(token, |token, _| Hash(hashes::of_value(token.as_bytes())))
}
