//! The payee's signed word for a payment. A relayer holds a key for it that the payee has certified, or, if the payee
//! wants it so, the payee's own: the first can at worst acknowledge what was never paid, the second could settle.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use common::amount::Amount;
use common::ids::{ChannelId, PublicKey, Signature};
use common::message;
use common::wire::{KeyCertificate, PaymentReceipt, from_json};
use ed25519_dalek::SigningKey;

use crate::config::ReceiptsConfig;

/// Reads a certificate for `certified`, and says whose it is.
fn read_certificate(
    path: &Path,
    certified: &PublicKey,
    payees: &[PublicKey],
    now_s: i64,
) -> anyhow::Result<(PublicKey, Option<KeyCertificate>)> {
    let text = std::fs::read(path)
        .with_context(|| format!("receipts.certificate: cannot read {}", path.display()))?;
    let certificate: KeyCertificate =
        from_json(&text).with_context(|| format!("receipts.certificate: {}", path.display()))?;
    ensure!(
        certificate.key == *certified,
        "receipts.certificate: it is for {}, receipts.signing_key is {certified}",
        certificate.key
    );
    let payee = payees.iter().find(|payee| certificate.is_signed_by(payee));
    let payee = payee.with_context(|| {
        format!("receipts.certificate: {} is not signed by the payee, or one of them", path.display())
    })?;
    ensure!(
        certificate.expires_at > now_s,
        "receipts.certificate: it ended at {} (Unix time in seconds)",
        certificate.expires_at
    );
    Ok((*payee, Some(certificate)))
}

/// Signs receipts.
pub(crate) struct Receipts {
    key: SigningKey,
    public: PublicKey,
    /// Of each payee; `None` where the key is that payee's own.
    certificates: Vec<(PublicKey, Option<KeyCertificate>)>,
    has_ended: AtomicBool,
}

impl Receipts {
    /// What signs receipts for these payees; `None` where none are given.
    ///
    /// # Errors
    /// The key or a certificate cannot be read, or no payer of one of these payees would take its word.
    pub(crate) fn new(
        config: &ReceiptsConfig,
        payees: &[PublicKey],
        now_s: i64,
    ) -> anyhow::Result<Option<Receipts>> {
        let Some(key) = config.signing_key.as_ref().filter(|_| config.enabled) else { return Ok(None) };
        let key = key.read_signing_key().context("receipts.signing_key")?;
        let public = PublicKey::of(&key);
        let paths = config.certificate.iter().chain(&config.further_certificates);
        let mut certificates = paths
            .map(|path| read_certificate(path, &public, payees, now_s))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for payee in payees.iter().filter(|payee| certificates.iter().all(|(of, _)| of != *payee)) {
            ensure!(
                public == *payee,
                "receipts.certificate: expected a file, as receipts.signing_key is not the payee's own key; {payee} \
                 has certified none (further payees: receipts.further_certificates)"
            );
        }
        certificates.extend(payees.contains(&public).then_some((public, None)));
        Ok(Some(Receipts { key, public, certificates, has_ended: AtomicBool::new(false) }))
    }

    /// The receipt of a payment that is recorded; `None` once the certificate has ended, as nobody would take it.
    pub(crate) fn sign(
        &self,
        payee: &PublicKey,
        channel_id: &ChannelId,
        cumulative_amount: Amount,
        now_ms: u64,
    ) -> Option<PaymentReceipt> {
        let accepted_at_ms = i64::try_from(now_ms).ok()?;
        let (_, certificate) = self.certificates.iter().find(|(of, _)| of == payee)?;
        if let Some(certificate) = certificate
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
            certificate: certificate.clone(),
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
        let config = ReceiptsConfig { enabled: true, signing_key, certificate, ..ReceiptsConfig::default() };
        Receipts::new(&config, &[PublicKey::of(&key(1))], 50).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_key_signs_only_where_payers_would_take_its_word() {
        let refusal = |signer, certificate| receipts(signer, certificate).err().expect("refused");
        assert!(refusal(2, None).contains("receipts.certificate: expected a file"));
        assert!(refusal(2, Some(certificate(1, 3, 99))).contains("receipts.certificate: it is for"));
        assert!(refusal(2, Some(certificate(4, 2, 99))).contains("is not signed by the payee"));
        assert!(refusal(2, Some(certificate(1, 2, 50))).contains("it ended at 50"));
        for (signer, certificate) in [(1, None), (2, Some(certificate(1, 2, 99)))] {
            let receipts = receipts(signer, certificate).expect("usable").expect("enabled");
            let (id, amount) = (ChannelId([9; 32]), Amount::new(5));
            let receipt =
                receipts.sign(&PublicKey::of(&key(1)), &id, amount, 60_000).expect("within its time");
            assert_eq!(receipt.check(&PublicKey::of(&key(1)), &id, amount), Ok(()));
            assert_eq!(
                receipts.sign(&PublicKey::of(&key(1)), &id, amount, 100_000).is_some(),
                signer == 1,
                "the certificate has ended"
            );
        }
    }

    #[test]
    fn each_payee_of_a_rotation_certifies_the_key_for_itself() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str| dir.path().join(name);
        write_signing_key(&file("key"), &key(9)).expect("a new file");
        for payee in [1, 2] {
            let json = serde_json::to_string(&certificate(payee, 9, 99)).expect("JSON");
            std::fs::write(file(&payee.to_string()), json).expect("writable");
        }
        let payees = [1, 2].map(|payee| PublicKey::of(&key(payee)));
        let mut config = ReceiptsConfig {
            enabled: true,
            signing_key: Some(SecretRef::File(file("key").display().to_string())),
            certificate: Some(file("2")),
            further_certificates: Vec::new(),
        };
        let Err(error) = Receipts::new(&config, &payees, 50) else { panic!("payee 1 has certified nothing") };
        assert!(format!("{error:#}").contains(&payees[0].to_string()), "{error:#}");
        config.further_certificates.push(file("1"));
        let receipts = Receipts::new(&config, &payees, 50).expect("usable").expect("enabled");
        let (id, amount) = (ChannelId([9; 32]), Amount::new(5));
        for payee in payees {
            let receipt = receipts.sign(&payee, &id, amount, 60_000).expect("within its time");
            assert_eq!(receipt.check(&payee, &id, amount), Ok(()));
        }
    }
}
