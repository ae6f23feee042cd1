//! The payee's signed word for a payment. A relayer holds a key for it that the payee has certified, or, if the payee
//! wants it so, the payee's own: the first can at worst acknowledge what was never paid, the second could settle.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use common::amount::Amount;
use common::ids::{ChannelId, PublicKey, Signature};
use common::message;
use common::wire::{KeyCertificate, PaymentReceipt, from_json};
use ed25519_dalek::SigningKey;

use crate::config::ReceiptsConfig;

/// Signs receipts.
pub(crate) struct Receipts {
    key: SigningKey,
    public: PublicKey,
    certificate: Option<KeyCertificate>,
    has_ended: AtomicBool,
}

impl Receipts {
    /// What signs receipts for `payee`; `None` where none are given.
    ///
    /// # Errors
    /// The key or its certificate cannot be read, or no payer of this payee would take its word.
    pub(crate) fn new(
        config: &ReceiptsConfig,
        payee: &PublicKey,
        now_s: i64,
    ) -> anyhow::Result<Option<Receipts>> {
        let Some(key) = config.signing_key.as_ref().filter(|_| config.enabled) else { return Ok(None) };
        let key = key.read_signing_key().context("receipts.signing_key")?;
        let public = PublicKey::of(&key);
        let certificate = match &config.certificate {
            Some(path) => {
                let text = std::fs::read(path)
                    .with_context(|| format!("receipts.certificate: cannot read {}", path.display()))?;
                let certificate: KeyCertificate =
                    from_json(&text).with_context(|| format!("receipts.certificate: {}", path.display()))?;
                ensure!(
                    certificate.key == public,
                    "receipts.certificate: it is for {}, receipts.signing_key is {public}",
                    certificate.key
                );
                ensure!(
                    certificate.is_signed_by(payee),
                    "receipts.certificate: it is not signed by the payee {payee}"
                );
                ensure!(
                    certificate.expires_at > now_s,
                    "receipts.certificate: it ended at {} (Unix time in seconds)",
                    certificate.expires_at
                );
                Some(certificate)
            }
            None => {
                ensure!(
                    public == *payee,
                    "receipts.certificate: expected a file, as receipts.signing_key is not the payee's own key"
                );
                None
            }
        };
        Ok(Some(Receipts { key, public, certificate, has_ended: AtomicBool::new(false) }))
    }

    /// The receipt of a payment that is recorded; `None` once the certificate has ended, as nobody would take it.
    pub(crate) fn sign(
        &self,
        channel_id: &ChannelId,
        cumulative_amount: Amount,
        now_ms: u64,
    ) -> Option<PaymentReceipt> {
        let accepted_at_ms = i64::try_from(now_ms).ok()?;
        if let Some(certificate) = &self.certificate
            && accepted_at_ms.div_euclid(1_000) > certificate.expires_at
        {
            if !self.has_ended.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    expires_at = certificate.expires_at,
                    "the certificate for receipts has ended: payments are taken without receipts"
                );
            }
            return None;
        }
        let message = message::payment_receipt(channel_id, cumulative_amount, accepted_at_ms);
        Some(PaymentReceipt {
            accepted_at_ms,
            signed_by: self.public,
            certificate: self.certificate.clone(),
            signature: Signature::of(&self.key, &message),
        })
    }
}
