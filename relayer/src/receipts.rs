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

#[cfg(test)]
mod tests {
    use super::*;
    use common::secret::{SecretRef, write_signing_key};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn certificate(payee: u8, certified: u8, expires_at: i64) -> KeyCertificate {
        let key_certified = PublicKey::of(&key(certified));
        let signature = Signature::of(&key(payee), &message::receipt_key(&key_certified, expires_at));
        KeyCertificate { key: key_certified, expires_at, signature }
    }

    /// What signs with key `signer` for payee 1, at second 50.
    fn receipts(signer: u8, certificate: Option<KeyCertificate>) -> Result<Option<Receipts>, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (key_file, file) = (dir.path().join("key"), dir.path().join("certificate"));
        write_signing_key(&key_file, &key(signer)).expect("a new file");
        let certificate = certificate.map(|certificate| {
            std::fs::write(&file, serde_json::to_string(&certificate).expect("JSON")).expect("writable");
            file
        });
        let signing_key = Some(SecretRef::File(key_file.display().to_string()));
        let config = ReceiptsConfig { enabled: true, signing_key, certificate };
        Receipts::new(&config, &PublicKey::of(&key(1)), 50).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_key_signs_only_where_payers_would_take_its_word() {
        let refusal = |signer, certificate| receipts(signer, certificate).err().expect("refused");
        assert!(refusal(2, None).contains("receipts.certificate: expected a file"));
        assert!(refusal(2, Some(certificate(1, 3, 99))).contains("receipts.certificate: it is for"));
        assert!(refusal(2, Some(certificate(4, 2, 99))).contains("not signed by the payee"));
        assert!(refusal(2, Some(certificate(1, 2, 50))).contains("it ended at 50"));
        for (signer, certificate) in [(1, None), (2, Some(certificate(1, 2, 99)))] {
            let receipts = receipts(signer, certificate).expect("usable").expect("enabled");
            let (id, amount) = (ChannelId([9; 32]), Amount::new(5));
            let receipt = receipts.sign(&id, amount, 60_000).expect("within its time");
            assert_eq!(receipt.check(&PublicKey::of(&key(1)), &id, amount), Ok(()));
            assert_eq!(
                receipts.sign(&id, amount, 100_000).is_some(),
                signer == 1,
                "the certificate has ended"
            );
        }
    }
}
