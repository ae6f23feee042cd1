//! What a payee asks the issuer to settle, and the issuer's word that it has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proof::{ProofForm, one_proof};
use super::{InvalidJson, present};
use crate::amount::Amount;
use crate::ids::{ChannelId, Hash, PublicKey, Signature};
use crate::message;
use crate::verify::{UsableKey, usable_key, verify_strict};
use crate::voucher::Proof;

/// `POST /v1/channels/{id}/settlements`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettlementRequest {
    /// The amount to redeem, cumulative.
    pub cumulative_amount: Amount,
    /// The voucher's expiry, as signed; absent for 0, and where there is no voucher.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0))]
    pub expires_at: Option<i64>,
    /// The voucher's signature. No proof at all stands only where a channel that was never paid from is closed with
    /// amount 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Of another scheme: its proof, complete, under the scheme's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// True to end the channel and give the rest back.
    pub close: bool,
    /// The settler's fencing token.
    pub fencing_token: u64,
    /// The payee's signature of [`message::settle`].
    pub payee_signature: Signature,
}

impl SettlementRequest {
    /// A request that redeems `proof`, for a payee still to sign it.
    pub fn unsigned(
        cumulative_amount: Amount,
        proof: Option<Proof>,
        close: bool,
        fencing_token: u64,
    ) -> SettlementRequest {
        let (expires_at, signature, proof) = match proof.map(ProofForm::from) {
            Some(form) => (form.expires_at, form.signature, form.proof),
            None => (None, None, None),
        };
        let payee_signature = Signature([0; 64]);
        SettlementRequest {
            cumulative_amount,
            expires_at,
            signature,
            proof,
            close,
            fencing_token,
            payee_signature,
        }
    }

    /// The proof that is redeemed; `None` without one.
    ///
    /// # Errors
    /// [`InvalidJson`], where the fields that make it up contradict one another.
    pub fn proof(&self) -> Result<Option<Proof>, InvalidJson> {
        one_proof(self.expires_at, self.signature, self.proof.clone())
    }
}

/// The issuer's signed word that money has moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// The channel.
    pub channel_id: ChannelId,
    /// Paid to the payee on this channel, in total.
    pub settled_amount: Amount,
    /// Given back to the payer.
    pub refunded_amount: Amount,
    /// True if the channel has ended.
    pub closed: bool,
    /// When, in ms since 1970.
    pub settled_at_ms: i64,
    /// The issuer's signature of [`message::receipt`].
    pub signature: Signature,
    /// The receipt's place in the batch that it was settled with; none only where the issuer commits to no batches, or
    /// did not yet when it made the receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inclusion: Option<Inclusion>,
}

impl Receipt {
    /// True if `issuer` signed exactly this receipt.
    pub fn is_signed_by(&self, issuer: &PublicKey) -> bool {
        usable_key(issuer).is_some_and(|key| self.is_signed_with(&key))
    }

    /// True if the owner of `key`, decoded by [`usable_key`], signed exactly this receipt.
    pub fn is_signed_with(&self, key: &UsableKey) -> bool {
        verify_strict(key, &self.message(), &self.signature)
    }

    /// What the issuer signed: [`message::receipt`]. Also the receipt's leaf in the tree of its batch.
    pub fn message(&self) -> Vec<u8> {
        message::receipt(
            &self.channel_id,
            self.settled_amount,
            self.refunded_amount,
            self.closed,
            self.settled_at_ms,
        )
    }
}

/// Proof that a receipt is one of those that the issuer committed to when it settled a batch: see [`crate::batch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    /// Root of the batch's tree.
    pub root: Hash,
    /// Receipts in the batch; at least 1.
    pub size: u64,
    /// The place of this one among them, from 0.
    pub index: u64,
    /// Siblings of the nodes on the way from this receipt to the root, in that order; at most 64.
    pub siblings: Vec<Hash>,
    /// The issuer's signature of [`message::batch`].
    pub signature: Signature,
}
