//! Payment schemes: how a payment proves its amount. One file each, behind one trait, and one line in `schemes!`: the
//! accept script, the streams and the routes know nothing of them.
//!
//! `ed25519` signs each amount. The others commit to all amounts at once when the channel is opened, and a payment reveals
//! one of them; such a proof says its amount itself, in units of the commitment.

mod ed25519;
mod hashes;
pub mod paytree;
pub mod payword;

use std::fmt;
use std::marker::PhantomData;

use bytes::BufMut;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::amount::Amount;
use crate::channel::{CheckedTerms, InvalidTerms};
use crate::ids::{Hash, Signature};
use crate::voucher::{InvalidProof, Payment, Unproven};

/// Most steps of a chain, and most leaves of a tree. An issuer may have to take each step of a chain to settle it: a
/// million of them are about a tenth of a second.
pub const STEPS_MAX: u32 = 1 << 20;

/// A scheme in which the payer commits to all amounts when the channel is opened. Pure: no clock, no store.
trait PaymentScheme {
    /// What the payer commits to.
    type Commitment;
    /// What a payment shows, and, complete, what is kept of it.
    type Proof;
    /// The scheme's byte in the channel id.
    const ID_BYTE: u8;

    /// Appends the commitment as the channel id has it.
    fn write_commitment(commitment: &Self::Commitment, bytes: &mut Vec<u8>);
    /// Checks that payments can be made under the commitment.
    fn check_commitment(commitment: &Self::Commitment) -> Result<(), InvalidTerms>;
    /// The hash that all proofs lead to. No two channels may share it: what is revealed on one would pay on the other.
    fn root(commitment: &Self::Commitment) -> &Hash;
    /// How many units the proof is for.
    fn units(proof: &Self::Proof) -> u32;
    /// Appends the proof as Redis keeps it.
    fn write_proof(proof: &Self::Proof, bytes: &mut impl BufMut);
    /// Reads what [`PaymentScheme::write_proof`] wrote.
    fn read_proof(bytes: &[u8]) -> Option<Self::Proof>;
    /// The amount that `proof` proves, and the proof made complete: so that it can be checked without `known`, which is
    /// a complete proof of the same channel that was checked before. `steps_max` bounds the work.
    fn verify(
        commitment: &Self::Commitment,
        proof: &Self::Proof,
        known: Option<&Self::Proof>,
        steps_max: u32,
    ) -> Result<(Amount, Self::Proof), Unproven>;
}

/// What helps to check a proof, and bounds the work of it.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// A complete proof of the same channel that was checked before.
    pub known: Option<&'a Proof>,
    /// Most hashes in a row.
    pub steps_max: u32,
}

impl Check<'_> {
    /// From the channel's terms alone, whatever it costs.
    pub const FROM_TERMS: Check<'static> = Check { known: None, steps_max: u32::MAX };
}

macro_rules! schemes {
    ($($(#[$doc:meta])* $name:ident = $module:ident;)*) => {
        /// How payments on a channel prove their amount, with what the payer committed to. Fixed at opening.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum SchemeKind {
            /// A voucher signed by the payer authorizer.
            Ed25519,
            $($(#[$doc])* $name($module::Commitment),)*
        }

        /// What shows that the payer agreed to an amount; one variant a scheme.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Proof {
            /// A signed voucher. In JSON it is spread over the body that carries it.
            #[serde(skip)]
            Ed25519 {
                /// Unix time in seconds until which the voucher is good; 0 for ever.
                expires_at: i64,
                /// The payer authorizer's signature of [`crate::message::voucher`].
                signature: Signature,
            },
            $($(#[$doc])* #[serde(deserialize_with = "from_object")] $name($module::Proof),)*
        }

        impl SchemeKind {
            /// The scheme's name.
            pub const fn name(&self) -> &'static str {
                match self {
                    SchemeKind::Ed25519 => "ed25519",
                    $(SchemeKind::$name(_) => stringify!($module),)*
                }
            }

            /// The scheme's byte and its commitment, as the channel id has them.
            pub(crate) fn write_to(&self, bytes: &mut Vec<u8>) {
                match self {
                    SchemeKind::Ed25519 => bytes.push(ed25519::ID_BYTE),
                    $(SchemeKind::$name(commitment) => {
                        bytes.push(<$module::$name as PaymentScheme>::ID_BYTE);
                        $module::$name::write_commitment(commitment, bytes);
                    })*
                }
            }

            /// Checks that payments can be made in the scheme.
            pub(crate) fn check(&self) -> Result<(), InvalidTerms> {
                match self {
                    SchemeKind::Ed25519 => Ok(()),
                    $(SchemeKind::$name(commitment) => $module::$name::check_commitment(commitment),)*
                }
            }

            /// The hash that all proofs of the channel lead to, where the scheme has one. Whoever learned a proof on one
            /// channel could pay with it on any other of the same root, so an issuer takes each only once.
            pub fn root(&self) -> Option<&Hash> {
                match self {
                    SchemeKind::Ed25519 => None,
                    $(SchemeKind::$name(commitment) => Some($module::$name::root(commitment)),)*
                }
            }
        }

        impl Proof {
            /// How many units of its channel's commitment the proof is for; `None` where amounts are signed.
            pub fn units(&self) -> Option<u32> {
                match self {
                    Proof::Ed25519 { .. } => None,
                    $(Proof::$name(proof) => Some($module::$name::units(proof)),)*
                }
            }

            /// Appends what [`Proof::to_bytes`] gives.
            pub fn write_to(&self, bytes: &mut impl BufMut) {
                match self {
                    Proof::Ed25519 { expires_at, signature } => ed25519::write_proof(*expires_at, signature, bytes),
                    $(Proof::$name(proof) => $module::$name::write_proof(proof, bytes),)*
                }
            }

            /// Reads what [`Proof::to_bytes`] wrote for a channel of this scheme.
            ///
            /// # Errors
            /// [`InvalidProof`].
            pub fn from_bytes(scheme: SchemeKind, bytes: &[u8]) -> Result<Proof, InvalidProof> {
                match scheme {
                    SchemeKind::Ed25519 => ed25519::read_proof(bytes),
                    $(SchemeKind::$name(_) => $module::$name::read_proof(bytes).map(Proof::$name),)*
                }
                .ok_or(InvalidProof)
            }
        }

        /// The amount that `payment` proves under `terms`, and its proof, complete.
        pub(crate) fn verify(
            terms: &CheckedTerms,
            payment: &Payment,
            check: Check<'_>,
        ) -> Result<(Amount, Proof), Unproven> {
            match (&terms.terms().scheme, &payment.proof) {
                (SchemeKind::Ed25519, Proof::Ed25519 { expires_at, signature }) => {
                    let amount = ed25519::verify(terms, payment.cumulative_amount, *expires_at, signature)?;
                    Ok((amount, payment.proof.clone()))
                }
                $((SchemeKind::$name(commitment), Proof::$name(proof)) => {
                    let known = match check.known {
                        Some(Proof::$name(known)) => Some(known),
                        _ => None,
                    };
                    let (amount, proof) = $module::$name::verify(commitment, proof, known, check.steps_max)?;
                    match payment.cumulative_amount {
                        Some(stated) if stated != amount => Err(Unproven::OtherAmount { proven: amount }),
                        _ => Ok((amount, Proof::$name(proof))),
                    }
                })*
                _ => Err(Unproven::WrongScheme { scheme: terms.terms().scheme.name() }),
            }
        }
    };
}

schemes! {
    /// Steps of a hash chain.
    Payword = payword;
    /// Leaves of a Merkle tree.
    Paytree = paytree;
}

/// Reads an object of named fields. Serde would also take an array of the values in the order of the fields.
fn from_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_map(Object(PhantomData))
}

/// `root[32] || u64le(unit) || u64le(count)`.
fn write_commitment(root: &Hash, unit: Amount, count: u32, bytes: &mut Vec<u8>) {
    bytes.extend(root.as_bytes());
    bytes.extend(unit.units().to_le_bytes());
    bytes.extend(u64::from(count).to_le_bytes());
}

/// A unit is worth something, and all of them together are an amount.
fn check_unit(field: &'static str, unit: Amount, count: u32) -> Result<(), InvalidTerms> {
    match owed(count, unit) {
        Ok(most) if !most.is_zero() => Ok(()),
        _ => Err(InvalidTerms {
            field,
            expected: "more than 0, and all units together at most 18446744073709551615",
        }),
    }
}

/// What `count` units are.
fn owed(count: u32, unit: Amount) -> Result<Amount, Unproven> {
    // The terms were checked: all units of the channel together are an amount.
    unit.units().checked_mul(u64::from(count)).map(Amount::new).ok_or(Unproven::InvalidSignature)
}

#[cfg(test)]
mod tests;
