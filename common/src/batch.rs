//! Settlements that go to the issuer together, and how it commits to them: one signature for all receipts of a batch,
//! and in each receipt the proof that it is one of them.
//!
//! # What is committed
//!
//! The receipts that a batch newly made, in the order of their settlements, are the leaves of one tree
//! ([`crate::merkle`]). The data of a leaf are the bytes that the issuer signs in that receipt, [`message::receipt`],
//! and nothing else: without the receipt's own signature, so that batch and receipt are two words of the issuer, each of
//! which proves on its own what was paid. The issuer signs [`message::batch`]: the root, the number of leaves (a proof
//! alone does not tell a tree of three from one of four) and the time, which all receipts of a batch share.
//!
//! A settlement that was settled before gets its first receipt again, with the place that it had then, and is no leaf.

use ed25519_dalek::SigningKey;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{ChannelId, Signature};
use crate::merkle::{self, Tree};
use crate::message;
use crate::problem::Problem;
use crate::verify::{UsableKey, verify_strict};
use crate::wire::{Inclusion, InvalidJson, Receipt, SettlementRequest};

/// `POST /v1/settlements`. Each settlement stands or falls alone: what is wrong with one is said in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettlementsRequest {
    /// [`ChannelSettlement`]s, not yet looked at; at least one.
    #[schemars(schema_with = "settlements_schema")]
    pub settlements: Vec<Value>,
}

/// What is none is said in its place, and spoils no other: so anything may stand there.
fn settlements_schema(generator: &mut SchemaGenerator) -> Schema {
    let element = generator.subschema_for::<ChannelSettlement>();
    json_schema!({ "type": "array", "minItems": 1, "items": { "anyOf": [element, true] } })
}

/// One settlement of a batch: the fields of [`SettlementRequest`], and the channel that stands in the path where one
/// settlement comes alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChannelSettlement {
    /// The channel.
    pub channel_id: ChannelId,
    /// What to settle.
    #[serde(flatten)]
    pub request: SettlementRequest,
}

impl ChannelSettlement {
    /// Reads one settlement of a batch, naming the field at fault.
    ///
    /// # Errors
    /// [`InvalidJson`]: no object, no channel id, or what [`crate::wire::from_json`] would say of the rest.
    pub fn from_value(value: Value) -> Result<Self, InvalidJson> {
        let invalid =
            |field: Option<&str>, expected: String| InvalidJson { field: field.map(str::to_owned), expected };
        let Value::Object(mut fields) = value else {
            return Err(invalid(None, "expected a JSON object".to_owned()));
        };
        let id = fields
            .remove("channel_id")
            .ok_or_else(|| invalid(None, "missing field `channel_id`".to_owned()))?;
        let channel_id =
            serde_json::from_value(id).map_err(|error| invalid(Some("channel_id"), error.to_string()))?;
        match serde_path_to_error::deserialize(Value::Object(fields)) {
            Ok(request) => Ok(ChannelSettlement { channel_id, request }),
            Err(error) => {
                let path = error.path().to_string();
                Err(invalid((path != ".").then_some(path.as_str()), error.into_inner().to_string()))
            }
        }
    }
}

/// Answer to a batch: a result for each settlement, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettlementsAnswer {
    /// What became of each.
    pub results: Vec<SettlementResult>,
}

/// What became of one settlement of a batch: the same body that it would have got alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SettlementResult {
    /// Settled, now or before.
    Settled(Receipt),
    /// Not settled.
    Refused(Problem),
}

/// What is wrong with a receipt's proof of inclusion. Names the field that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// There is no such place in the tree.
    #[error("inclusion.index: {index}, but the batch has {size} receipts, counted from 0")]
    Index {
        /// The place that is given.
        index: u64,
        /// Receipts in the batch.
        size: u64,
    },
    /// Too many siblings, or too few.
    #[error("inclusion.siblings: {found} hashes, where this place in the tree takes {expected}")]
    Length {
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// The siblings lead somewhere else.
    #[error("inclusion.siblings: they do not lead from this receipt to inclusion.root")]
    Path,
    /// The issuer has not signed this root, size and time.
    #[error("inclusion.signature: not the issuer's signature of this batch (root, size, settled_at_ms)")]
    Signature,
}

impl Inclusion {
    /// Checks that the proof leads from `receipt` to the root. What the root is worth says [`Inclusion::is_signed_with`].
    ///
    /// # Errors
    /// The first [`Flaw`].
    pub fn leads_from(&self, receipt: &Receipt) -> Result<(), Flaw> {
        let Inclusion { root, size, index, siblings, .. } = self;
        let expected = merkle::proof_len(*size, *index).ok_or(Flaw::Index { index: *index, size: *size })?;
        if siblings.len() != expected {
            return Err(Flaw::Length { found: siblings.len(), expected });
        }
        if merkle::verify(root, *size, *index, &receipt.message(), siblings) {
            Ok(())
        } else {
            Err(Flaw::Path)
        }
    }

    /// True if the owner of `key` signed this root, for a batch of this size and time.
    pub fn is_signed_with(&self, key: &UsableKey, settled_at_ms: i64) -> bool {
        verify_strict(key, &message::batch(&self.root, self.size, settled_at_ms), &self.signature)
    }

    /// Checks all of it: the batch is the issuer's, and `receipt` is in it.
    ///
    /// # Errors
    /// The first [`Flaw`].
    pub fn proves(&self, receipt: &Receipt, issuer: &UsableKey) -> Result<(), Flaw> {
        self.leads_from(receipt)?;
        if self.is_signed_with(issuer, receipt.settled_at_ms) { Ok(()) } else { Err(Flaw::Signature) }
    }
}

impl Receipt {
    /// Checks the proof of inclusion, where there is one.
    ///
    /// # Errors
    /// The first [`Flaw`].
    pub fn check_inclusion(&self, issuer: &UsableKey) -> Result<(), Flaw> {
        self.inclusion.as_ref().map_or(Ok(()), |inclusion| inclusion.proves(self, issuer))
    }
}

/// Commits to these receipts, all of one time and in this order, as one batch: puts into each its proof of inclusion.
pub fn commit(receipts: &mut [Receipt], key: &SigningKey) {
    let Some(settled_at_ms) = receipts.first().map(|receipt| receipt.settled_at_ms) else { return };
    debug_assert!(receipts.iter().all(|receipt| receipt.settled_at_ms == settled_at_ms));
    let tree = Tree::of(receipts.iter().map(Receipt::message));
    let (root, size) = (tree.root(), u64::try_from(tree.size()).unwrap_or(u64::MAX));
    let signature = Signature::of(key, &message::batch(&root, size, settled_at_ms));
    for ((place, index), receipt) in (0usize..).zip(0u64..).zip(receipts) {
        let siblings = tree.prove(place).unwrap_or_default();
        receipt.inclusion = Some(Inclusion { root, size, index, siblings, signature });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Amount;
    use crate::ids::{Hash, PublicKey};
    use crate::verify::usable_key;
    use crate::voucher::Proof;
    use serde_json::json;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn usable(seed: u8) -> UsableKey {
        usable_key(&PublicKey::of(&key(seed))).expect("an honest key")
    }

    /// Receipts of a batch, before it is committed to.
    fn receipts(count: u8) -> Vec<Receipt> {
        let receipt = |i: u8| {
            let mut receipt = Receipt {
                channel_id: ChannelId([i; 32]),
                settled_amount: Amount::new(u64::from(i)),
                refunded_amount: Amount::new(7),
                closed: true,
                settled_at_ms: 1_800_000_000_000,
                signature: Signature([0; 64]),
                inclusion: None,
            };
            receipt.signature = Signature::of(&key(1), &receipt.message());
            receipt
        };
        (0..count).map(receipt).collect()
    }

    #[test]
    fn every_receipt_of_a_batch_proves_its_own_place_and_no_other() {
        for count in [1, 2, 3, 8, 13] {
            let mut batch = receipts(count);
            commit(&mut batch, &key(1));
            for (i, receipt) in batch.iter().enumerate() {
                assert_eq!(receipt.check_inclusion(&usable(1)), Ok(()), "{i} of {count}");
                let inclusion = receipt.inclusion.as_ref().expect("committed");
                assert_eq!((inclusion.size, inclusion.index), (u64::from(count), i as u64));
                let other = &batch[(i + 1) % batch.len()];
                assert_eq!(inclusion.proves(other, &usable(1)).is_ok(), count == 1);
            }
        }
    }

    #[test]
    fn the_batch_message_is_laid_out_as_documented() {
        let bytes =
            [b"millrace:batch:1".as_slice(), &[7; 32], &[3, 0, 0, 0, 0, 0, 0, 0], &[0xfe; 1], &[0xff; 7]];
        assert_eq!(message::batch(&Hash([7; 32]), 3, -2), bytes.concat());
    }

    #[test]
    fn each_part_of_the_proof_is_checked() {
        let mut batch = receipts(3);
        commit(&mut batch, &key(1));
        let flaw = |spoil: fn(&mut Receipt, &mut Inclusion)| {
            let mut receipt = batch[1].clone();
            let mut inclusion = receipt.inclusion.take().expect("committed");
            spoil(&mut receipt, &mut inclusion);
            inclusion.proves(&receipt, &usable(1)).err()
        };
        assert_eq!(flaw(|_, _| ()), None);
        assert_eq!(flaw(|receipt, _| receipt.settled_amount = Amount::new(2)), Some(Flaw::Path));
        assert_eq!(flaw(|receipt, _| receipt.settled_at_ms += 1), Some(Flaw::Path));
        assert_eq!(flaw(|_, inclusion| inclusion.root.0[0] ^= 1), Some(Flaw::Path));
        assert_eq!(flaw(|_, inclusion| inclusion.siblings[1].0[31] ^= 1), Some(Flaw::Path));
        assert_eq!(flaw(|_, inclusion| inclusion.index = 3), Some(Flaw::Index { index: 3, size: 3 }));
        assert_eq!(flaw(|_, inclusion| inclusion.size = 0), Some(Flaw::Index { index: 1, size: 0 }));
        // The path is the same in a tree of four: only the signature tells them apart.
        assert_eq!(flaw(|_, inclusion| inclusion.size = 4), Some(Flaw::Signature));
        let short = flaw(|_, inclusion| inclusion.siblings.truncate(1));
        assert_eq!(short, Some(Flaw::Length { found: 1, expected: 2 }));
        assert_eq!(flaw(|_, inclusion| inclusion.signature.0[0] ^= 1), Some(Flaw::Signature));
        assert_eq!(batch[1].check_inclusion(&usable(2)), Err(Flaw::Signature));
        assert_eq!(
            receipts(1)[0].check_inclusion(&usable(1)),
            Ok(()),
            "a receipt of before there were batches"
        );
    }

    #[test]
    fn settlements_are_written_flat_and_read_back_by_field() {
        let proof = Proof::Ed25519 { expires_at: 0, signature: Signature([2; 64]) };
        let settlement = ChannelSettlement {
            channel_id: ChannelId([1; 32]),
            request: SettlementRequest::unsigned(Amount::new(5), Some(proof), true, u64::MAX),
        };
        let value = serde_json::to_value(&settlement).expect("JSON");
        assert!(value["cumulative_amount"].is_string() && value["channel_id"].is_string(), "{value}");
        assert_eq!(ChannelSettlement::from_value(value.clone()), Ok(settlement));
        let fault = |field: &str, with: Value| {
            let mut value = value.clone();
            value[field] = with;
            ChannelSettlement::from_value(value).expect_err("malformed")
        };
        assert_eq!(fault("channel_id", json!("abc")).field.as_deref(), Some("channel_id"));
        assert_eq!(fault("cumulative_amount", json!(5)).field.as_deref(), Some("cumulative_amount"));
        assert!(fault("amount", json!("5")).expected.contains("amount"), "unknown fields are refused");
        assert_eq!(ChannelSettlement::from_value(json!([])).expect_err("no object").field, None);
        let nameless = ChannelSettlement::from_value(json!({})).expect_err("no channel");
        assert!(nameless.expected.contains("channel_id"));
    }
}
