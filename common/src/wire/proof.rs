//! The one form of a proof in JSON, in whatever body carries it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::InvalidJson;
use crate::ids::Signature;
use crate::voucher::Proof;

/// A proof in JSON: a voucher's fields stand in the body that carries them, any other proof under its scheme's name.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct ProofForm {
    /// Of a voucher: Unix time in seconds; 0 or absent for one that never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<i64>,
    /// Of a voucher: the payer authorizer's signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<Signature>,
    /// Of another scheme: its proof, under the scheme's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) proof: Option<Proof>,
}

impl From<Proof> for ProofForm {
    fn from(proof: Proof) -> Self {
        match proof {
            Proof::Ed25519 { expires_at, signature } => {
                ProofForm { expires_at: Some(expires_at), signature: Some(signature), proof: None }
            }
            proof => ProofForm { expires_at: None, signature: None, proof: Some(proof) },
        }
    }
}

/// Writes and reads a proof in this form.
pub mod spread {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::{InvalidJson, Proof, ProofForm, one_proof};

    /// For `#[serde(flatten, with = "…")]`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(proof: &Proof, serializer: S) -> Result<S::Ok, S::Error> {
        ProofForm::from(proof.clone()).serialize(serializer)
    }

    /// For `#[serde(flatten, with = "…")]`.
    ///
    /// # Errors
    /// No proof, or more than one.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Proof, D::Error> {
        let form = ProofForm::deserialize(deserializer)?;
        let proof = one_proof(form.expires_at, form.signature, form.proof).map_err(D::Error::custom)?;
        proof.ok_or_else(|| D::Error::custom(InvalidJson::missing("signature")))
    }
}

/// The one proof that a body carries: spread over it for `ed25519`, under its name for the others. `None` without one.
pub(super) fn one_proof(
    expires_at: Option<i64>,
    signature: Option<Signature>,
    proof: Option<Proof>,
) -> Result<Option<Proof>, InvalidJson> {
    match (signature, proof) {
        (Some(_), Some(_)) => Err(InvalidJson::of("signature", "expected none, where there is a proof")),
        (None, Some(_)) if expires_at.is_some() => {
            Err(InvalidJson::of("expires_at", "expected none, where there is a proof"))
        }
        (None, proof) => Ok(proof),
        (Some(_), None) if expires_at.is_some_and(|at| at < 0) => {
            Err(InvalidJson::of("expires_at", "expected 0 (never) or a Unix time in seconds"))
        }
        (Some(signature), None) => {
            Ok(Some(Proof::Ed25519 { expires_at: expires_at.unwrap_or_default(), signature }))
        }
    }
}
