//! JSON bodies as they cross HTTP between payer, relayer, settler and issuer. Unknown fields are refused.

mod payment_form;
mod payment_receipt;
mod proof;
mod settlement;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::amount::Amount;
use crate::channel::{Status, Terms};
use crate::ids::{ChannelId, PublicKey, Signature, SpelledId};
use crate::problem::Problem;
use crate::voucher::{Payment, Proof};
use proof::{ProofForm, one_proof};

pub use payment_receipt::{InvalidReceipt, KeyCertificate, PaymentReceipt};
pub use proof::spread;
pub use settlement::{Inclusion, Receipt, SettlementRequest};

/// A body that has not the documented form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{expected}", .field.as_ref().map(|f| format!("{f}: ")).unwrap_or_default())]
pub struct InvalidJson {
    /// Path of the field at fault, where one can be named.
    pub field: Option<String>,
    /// What is wrong with it.
    pub expected: String,
}

impl InvalidJson {
    fn of(field: &str, expected: &str) -> Self {
        InvalidJson { field: Some(field.to_owned()), expected: expected.to_owned() }
    }

    fn missing(field: &str) -> Self {
        InvalidJson { field: None, expected: format!("missing field `{field}`") }
    }
}

/// Reads a JSON body, which is always an object, naming the field at fault.
///
/// # Errors
/// [`InvalidJson`]: not JSON, wrong type, wrong length, non-canonical amount, unknown or missing field.
pub fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, InvalidJson> {
    // Serde would also take an array of the values in the order of the fields.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(InvalidJson { field: None, expected: "expected a JSON object".to_owned() });
    }
    // The plain reader is the fast path; only a body that fails is read again to find out where. As a text, which was
    // looked at once as a whole: reading bytes would look at each string by itself.
    match std::str::from_utf8(body).ok().and_then(|text| serde_json::from_str(text).ok()) {
        Some(value) => Ok(value),
        None => {
            let mut reader = serde_json::Deserializer::from_slice(body);
            match serde_path_to_error::deserialize::<_, T>(&mut reader) {
                Ok(_) => {
                    Err(InvalidJson { field: None, expected: "expected one JSON value, in UTF-8".to_owned() })
                }
                Err(error) => {
                    let path = error.path().to_string();
                    Err(InvalidJson {
                        field: (path != ".").then_some(path),
                        expected: error.into_inner().to_string(),
                    })
                }
            }
        }
    }
}

/// `POST /v1/payments`, and one element of a batch. Its schema is `payment_form`, which says what a relayer reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRequest {
    /// The channel that pays.
    pub channel_id: ChannelId,
    /// Total owed on the channel so far, this payment included; more than 0. A proof that says its amount itself may
    /// stand without it.
    pub cumulative_amount: Amount,
    /// What shows that the payer agreed to it.
    #[serde(flatten, with = "spread")]
    pub proof: Proof,
}

impl From<PaymentRequest> for Payment {
    fn from(PaymentRequest { channel_id, cumulative_amount, proof }: PaymentRequest) -> Self {
        Payment { channel_id, cumulative_amount: Some(cumulative_amount), proof }
    }
}

/// [`PaymentRequest`] as a relayer reads it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyPayment {
    channel_id: ChannelId,
    #[serde(default, deserialize_with = "present")]
    cumulative_amount: Option<Amount>,
    #[serde(default, deserialize_with = "present")]
    expires_at: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    signature: Option<Signature>,
    #[serde(default, deserialize_with = "present")]
    proof: Option<Proof>,
}

/// Reads a field that may be absent, but not `null`.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads a [`PaymentRequest`].
///
/// # Errors
/// [`InvalidJson`], naming the field at fault.
pub fn payment_from_json(body: &[u8]) -> Result<Payment, InvalidJson> {
    let AnyPayment { channel_id, cumulative_amount, expires_at, signature, proof } = from_json(body)?;
    if cumulative_amount.is_some_and(Amount::is_zero) {
        return Err(InvalidJson::of("cumulative_amount", "expected more than 0"));
    }
    let proof = one_proof(expires_at, signature, proof)?.ok_or_else(|| InvalidJson::missing("signature"))?;
    if cumulative_amount.is_none() && matches!(proof, Proof::Ed25519 { .. }) {
        return Err(InvalidJson::missing("cumulative_amount"));
    }
    Ok(Payment { channel_id, cumulative_amount, proof })
}

/// What became of a payment that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Recorded now.
    Accepted,
    /// Recorded before: this is the latest voucher.
    Duplicate,
}

impl Outcome {
    /// As it stands in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Duplicate => "duplicate",
        }
    }
}

/// Answer to a payment that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentAnswer {
    /// The channel that paid.
    #[schemars(with = "ChannelId")]
    pub channel_id: SpelledId,
    /// Total owed on the channel.
    pub cumulative_amount: Amount,
    /// Whether it was recorded now or before.
    pub outcome: Outcome,
    /// The payee's signed word for it, where the relayer gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Box<PaymentReceipt>>,
}

impl PaymentAnswer {
    /// Its JSON, as [`Serialize`] has it, without the search for what would have to be escaped: there is nothing.
    pub fn to_json(&self) -> String {
        let (id, outcome, mut amount) = (self.channel_id.text(), self.outcome.as_str(), itoa::Buffer::new());
        let amount = amount.format(self.cumulative_amount.units());
        // Only a map with keys that are no texts could fail to become JSON.
        let receipt = self.receipt.as_ref().map(|receipt| serde_json::to_string(receipt).unwrap_or_default());
        let (before_receipt, receipt) = match &receipt {
            Some(receipt) => (r#","receipt":"#, receipt.as_str()),
            None => ("", ""),
        };
        // In one piece of memory that it fills.
        [
            r#"{"channel_id":""#,
            id,
            r#"","cumulative_amount":""#,
            amount,
            r#"","outcome":""#,
            outcome,
            r#"""#,
            before_receipt,
            receipt,
            "}",
        ]
        .concat()
    }
}

/// One result of a batch, in the order of the batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum BatchResult {
    /// Taken.
    Taken(PaymentAnswer),
    /// Refused; the same body that a single payment would have got.
    Refused(Problem),
}

/// The latest accepted payment of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Latest {
    /// Its amount.
    pub cumulative_amount: Amount,
    /// What proves it, complete: a payer that lost its state finds here where to go on.
    #[serde(flatten, with = "spread")]
    #[schemars(with = "ProofForm")]
    pub proof: Proof,
}

/// `GET /v1/channels/{id}` of a relayer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RelayerChannel {
    /// The channel.
    pub channel_id: ChannelId,
    /// What was agreed at opening.
    pub terms: Terms,
    /// Where it stands.
    pub status: Status,
    /// The most that it can pay.
    pub capacity: Amount,
    /// The latest accepted voucher, if there is one.
    pub latest: Option<Latest>,
    /// True once a close was asked for.
    pub close_requested: bool,
    /// The issuer's receipt, once closed.
    pub receipt: Option<Receipt>,
}

/// Who asks for a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The payer.
    Payer,
    /// The payee.
    Payee,
}

/// `POST /v1/channels/{id}/close`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseRequest {
    /// Who signed.
    pub requested_by: Party,
    /// That party's signature of [`crate::message::close_request`].
    pub signature: Signature,
}

/// Answer to a close request (202): the settler will close the channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CloseAnswer {
    /// The channel.
    pub channel_id: ChannelId,
    /// Where it stands now.
    pub status: Status,
}

/// `GET /v1/issuer`: who this issuer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IssuerInfo {
    /// The key that signs receipts and stands in every channel id.
    pub public_key: PublicKey,
    /// True where accounts start with play money.
    pub development: bool,
}

/// `POST /v1/accounts`. Registering a known key again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountRequest {
    /// The account's key.
    pub public_key: PublicKey,
}

/// An account as the issuer keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// The account's key.
    pub public_key: PublicKey,
    /// One entry an asset, in the order of their names.
    pub balances: Vec<Balance>,
    /// Highest fencing token that this account has settled under as a payee; 0 if never.
    pub highest_fencing_token: u64,
}

/// What an account holds of one asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Balance {
    /// The asset.
    pub asset: String,
    /// Free to open channels with.
    pub available: Amount,
    /// Locked in open channels that this account pays from.
    pub locked: Amount,
}

/// `POST /v1/channels`. Sending the same opening again gives the same channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// What is agreed on.
    pub terms: Terms,
    /// The payer's signature of [`crate::message::open`].
    pub signature: Signature,
}

/// Where a channel stands with the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IssuerStatus {
    /// The deposit is locked.
    Open,
    /// Settled for good by the payee.
    Closed,
    /// Expired and taken back by the payer.
    Refunded,
}

/// A channel as the issuer keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IssuerChannel {
    /// The channel.
    pub channel_id: ChannelId,
    /// What was agreed at opening.
    pub terms: Terms,
    /// Where it stands.
    pub status: IssuerStatus,
    /// Paid to the payee so far.
    pub settled_amount: Amount,
    /// Given back to the payer.
    pub refunded_amount: Amount,
    /// The voucher behind `settled_amount`, if anything was settled.
    pub settled: Option<Latest>,
    /// The receipt of the latest settlement.
    pub receipt: Option<Receipt>,
    /// When it was opened, in ms since 1970.
    pub opened_at_ms: i64,
}

/// A page of channels, `GET /v1/channels?payer=&payee=&after=&limit=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IssuerChannelPage {
    /// Channels in the order of their ids.
    pub channels: Vec<IssuerChannel>,
    /// Pass as `after` for the next page; absent on the last.
    pub next: Option<ChannelId>,
}

/// `POST /v1/channels/{id}/refund`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundRequest {
    /// The payer's signature of [`crate::message::refund`].
    pub signature: Signature,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> Vec<u8> {
        let mut value = serde_json::json!({
            "channel_id": ChannelId([1; 32]), "cumulative_amount": "5", "signature": Signature([2; 64]),
        });
        change(value.as_object_mut().expect("an object"));
        serde_json::to_vec(&value).expect("JSON")
    }

    fn field_at_fault(body: &[u8]) -> Option<String> {
        payment_from_json(body).expect_err("malformed").field
    }

    #[test]
    fn malformed_payments_name_the_field() {
        let number = body(|v| drop(v.insert("cumulative_amount".into(), 5.into())));
        assert_eq!(field_at_fault(&number).as_deref(), Some("cumulative_amount"));
        let zero = body(|v| drop(v.insert("cumulative_amount".into(), "0".into())));
        assert_eq!(field_at_fault(&zero).as_deref(), Some("cumulative_amount"));
        let short = body(|v| drop(v.insert("signature".into(), "abc".into())));
        assert_eq!(field_at_fault(&short).as_deref(), Some("signature"));
        let negative = body(|v| drop(v.insert("expires_at".into(), (-1).into())));
        assert_eq!(field_at_fault(&negative).as_deref(), Some("expires_at"));
        let unknown = body(|v| drop(v.insert("amount".into(), "5".into())));
        assert!(payment_from_json(&unknown).expect_err("unknown").expected.contains("amount"));
        assert!(payment_from_json(b"{} {}").is_err());
        assert!(payment_from_json(b"{").is_err());
        let values = serde_json::json!([ChannelId([1; 32]), "5", 0, Signature([2; 64])]).to_string();
        assert!(payment_from_json(values.as_bytes()).is_err(), "values without their names");
        assert!(payment_from_json(&body(|_| ())).is_ok());
    }

    #[test]
    fn both_writers_of_an_answer_agree() {
        let signed_by = PublicKey([9; 32]);
        let receipt =
            PaymentReceipt { accepted_at_ms: 7, signed_by, signature: Signature([3; 64]), certificate: None };
        for receipt in [None, Some(Box::new(receipt))] {
            for (units, outcome) in [(0, Outcome::Accepted), (u64::MAX, Outcome::Duplicate)] {
                let cumulative_amount = Amount::new(units);
                let channel_id = ChannelId([0xff; 32]).into();
                let answer =
                    PaymentAnswer { channel_id, cumulative_amount, outcome, receipt: receipt.clone() };
                assert_eq!(answer.to_json(), serde_json::to_string(&answer).expect("JSON"));
            }
        }
    }
}
