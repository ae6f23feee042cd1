//! The schema of a payment: every form that a relayer reads, and no other. Reading itself is [`super::payment_from_json`],
//! which is quicker than what would follow from these types, and names the field at fault.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::PaymentRequest;
use crate::ids::{ChannelId, Signature};
use crate::voucher::Proof;

/// A payment: a signed voucher, or the proof of another scheme.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum PaymentForm {
    Voucher(VoucherForm),
    Proof(ProofPaymentForm),
}

/// Of a channel that is paid by vouchers (`ed25519`).
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "VoucherPayment")]
#[expect(dead_code, reason = "only its schema is used")]
struct VoucherForm {
    /// The channel that pays.
    channel_id: ChannelId,
    /// Total owed on the channel so far, this payment included.
    cumulative_amount: PositiveAmount,
    /// Unix time in seconds until which the voucher is good; 0 or absent for one that never expires.
    #[serde(default)]
    #[schemars(range(min = 0))]
    expires_at: i64,
    /// The payer authorizer's signature of [`crate::message::voucher`].
    signature: Signature,
}

/// Of a channel that is paid in another scheme (`payword`, `paytree`).
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ProofPayment")]
#[expect(dead_code, reason = "only its schema is used")]
struct ProofPaymentForm {
    /// The channel that pays.
    channel_id: ChannelId,
    /// Total owed on the channel so far, this payment included: what the proof says, where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PositiveAmount")]
    cumulative_amount: Option<PositiveAmount>,
    /// The proof, under the scheme's name.
    proof: Proof,
}

/// An amount that is more than 0.
struct PositiveAmount;

impl JsonSchema for PositiveAmount {
    fn schema_name() -> Cow<'static, str> {
        "PositiveAmount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[1-9][0-9]{0,19}$",
            "maxLength": 20,
            "description": "atomic units as a canonical decimal string, 1 to 18446744073709551615",
        })
    }
}

impl JsonSchema for PaymentRequest {
    fn schema_name() -> Cow<'static, str> {
        "PaymentRequest".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        PaymentForm::json_schema(generator)
    }
}
