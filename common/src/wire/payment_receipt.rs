//! The payee's signed word for a payment, and for the key that gives it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::ids::{ChannelId, PublicKey, Signature};
use crate::message;
use crate::verify::{usable_key, verify_strict};

/// The payee's signed word that it has taken a payment: with it a payer can show what it has paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentReceipt {
    /// When the payment was found recorded, in ms since 1970.
    pub accepted_at_ms: i64,
    /// Who signed: the payee, or a key that it has certified.
    pub signed_by: PublicKey,
    /// The payee's word for that key; absent where the payee itself signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<KeyCertificate>,
    /// The signature of [`message::payment_receipt`].
    pub signature: Signature,
}

/// The payee's word that another key may sign payment receipts for it: so no relayer needs the key that settles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyCertificate {
    /// That key.
    pub key: PublicKey,
    /// Unix time in seconds after which it may not.
    pub expires_at: i64,
    /// The payee's signature of [`message::receipt_key`].
    pub signature: Signature,
}

/// What is wrong with a payment receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReceipt {
    /// The signer is neither the payee nor certified.
    #[error("signed_by: expected the payee, or a key that it has certified")]
    WrongSigner,
    /// The certificate is not the payee's.
    #[error("certificate.signature: it is not the payee's")]
    WrongCertificate,
    /// The certificate had ended.
    #[error("certificate.expires_at: the certificate had ended when the receipt was signed")]
    Expired,
    /// The signature is not for this payment.
    #[error("signature: it does not check for this channel, amount and time")]
    WrongSignature,
}

impl KeyCertificate {
    /// True if `payee` signed exactly this certificate.
    pub fn is_signed_by(&self, payee: &PublicKey) -> bool {
        let message = message::receipt_key(&self.key, self.expires_at);
        usable_key(payee).is_some_and(|key| verify_strict(&key, &message, &self.signature))
    }
}

impl PaymentReceipt {
    /// Checks that `payee` has taken this payment.
    ///
    /// # Errors
    /// [`InvalidReceipt`].
    pub fn check(
        &self,
        payee: &PublicKey,
        channel_id: &ChannelId,
        cumulative_amount: Amount,
    ) -> Result<(), InvalidReceipt> {
        match &self.certificate {
            None if self.signed_by != *payee => return Err(InvalidReceipt::WrongSigner),
            None => {}
            Some(certificate) if certificate.key != self.signed_by => {
                return Err(InvalidReceipt::WrongSigner);
            }
            Some(certificate) if !certificate.is_signed_by(payee) => {
                return Err(InvalidReceipt::WrongCertificate);
            }
            Some(certificate) if self.accepted_at_ms.div_euclid(1_000) > certificate.expires_at => {
                return Err(InvalidReceipt::Expired);
            }
            Some(_) => {}
        }
        let message = message::payment_receipt(channel_id, cumulative_amount, self.accepted_at_ms);
        match usable_key(&self.signed_by) {
            Some(key) if verify_strict(&key, &message, &self.signature) => Ok(()),
            _ => Err(InvalidReceipt::WrongSignature),
        }
    }
}
