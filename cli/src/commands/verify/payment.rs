//! `millrace verify payment`: that a payee has taken a payment, from a relayer's answer and the payee's public key alone.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Args;
use common::amount::Amount;
use common::ids::{ChannelId, PublicKey};
use common::wire::{PaymentAnswer, from_json};
use serde::Serialize;

use super::file;
use crate::output::{Printer, fields};
use crate::time;

const EXAMPLES: &str = "\
Examples:
  millrace pay CHANNEL --key payer.key --add 5 --json > paid.json
  millrace verify payment paid.json --payee KEY

Asks nobody. Checked is the signature of the receipt in the answer, by the payee or by a key that the payee has \
certified. Exit code 1, with the reason, if anything does not hold.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PaymentArgs {
    /// A relayer's answer to a payment, with its receipt; - reads stdin.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The payee's public key, base58, as it stands in the channel's terms.
    #[arg(long, value_name = "KEY")]
    payee: PublicKey,
}

/// What is proven.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Proven {
    payee: PublicKey,
    channel_id: ChannelId,
    cumulative_amount: Amount,
    accepted_at_ms: i64,
    signed_by: PublicKey,
}

pub(super) fn run(args: &PaymentArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let (name, text) = file::read(&args.file)?;
    let proven = prove(&text, &args.payee).with_context(|| format!("{name} proves nothing"))?;
    printer.data(&proven, |proven| {
        let table = fields([
            ("channel", proven.channel_id.to_string()),
            ("paid in total", proven.cumulative_amount.to_string()),
            ("taken at", u64::try_from(proven.accepted_at_ms).map(time::text).unwrap_or_default()),
            ("signed by", proven.signed_by.to_string()),
        ]);
        format!("{table}\nproven: payee {} has taken this payment", proven.payee)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn prove(text: &[u8], payee: &PublicKey) -> anyhow::Result<Proven> {
    let answer: PaymentAnswer =
        from_json(text).map_err(|error| anyhow!("expected a relayer's answer to a payment: {error}"))?;
    let PaymentAnswer { channel_id, cumulative_amount, receipt, .. } = answer;
    let receipt = receipt.context("receipt: none; the relayer gives no receipts (receipts.enabled)")?;
    receipt.check(payee, &channel_id, cumulative_amount).map_err(|error| anyhow!("receipt.{error}"))?;
    let (accepted_at_ms, signed_by) = (receipt.accepted_at_ms, receipt.signed_by);
    Ok(Proven { payee: *payee, channel_id: *channel_id, cumulative_amount, accepted_at_ms, signed_by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::Signature;
    use common::message;
    use common::wire::{KeyCertificate, Outcome, PaymentReceipt};
    use ed25519_dalek::SigningKey;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    /// Signed by key 2, which key 1, the payee, has certified until second 10.
    fn answer(accepted_at_ms: i64) -> PaymentAnswer {
        let (channel_id, cumulative_amount) = (ChannelId([7; 32]), Amount::new(5));
        let (signed_by, expires_at) = (PublicKey::of(&key(2)), 10);
        let certificate = KeyCertificate {
            key: signed_by,
            expires_at,
            signature: Signature::of(&key(1), &message::receipt_key(&signed_by, expires_at)),
        };
        let message = message::payment_receipt(&channel_id, cumulative_amount, accepted_at_ms);
        let signature = Signature::of(&key(2), &message);
        let receipt = PaymentReceipt { accepted_at_ms, signed_by, certificate: Some(certificate), signature };
        PaymentAnswer {
            channel_id: channel_id.into(),
            cumulative_amount,
            outcome: Outcome::Accepted,
            receipt: Some(Box::new(receipt)),
        }
    }

    #[test]
    fn only_the_payees_word_for_exactly_this_payment_proves_it() {
        let payee = PublicKey::of(&key(1));
        let proves = |answer: &PaymentAnswer, payee: &PublicKey| {
            let text = serde_json::to_vec(answer).expect("JSON");
            prove(&text, payee).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(proves(&answer(9_000), &payee), Ok(()));
        type Spoil = fn(&mut PaymentAnswer, &mut PaymentReceipt);
        let cases: [(&str, Spoil); 8] = [
            ("receipt.signature", |answer, _| answer.cumulative_amount = Amount::new(6)),
            ("receipt.signature", |answer, _| answer.channel_id = ChannelId([8; 32]).into()),
            ("receipt.signature", |_, receipt| receipt.accepted_at_ms += 1),
            ("receipt.signature", |_, receipt| receipt.signature.0[5] ^= 1),
            ("receipt.signed_by", |_, receipt| receipt.certificate = None),
            ("receipt.signed_by", |_, receipt| receipt.signed_by = PublicKey::of(&key(3))),
            ("receipt.certificate.signature", |_, receipt| {
                if let Some(certificate) = &mut receipt.certificate {
                    certificate.expires_at += 1;
                }
            }),
            ("receipt.certificate.expires_at", |_, receipt| {
                *receipt = *answer(11_000).receipt.expect("it has one");
            }),
        ];
        for (fault, spoil) in cases {
            let mut answer = answer(9_000);
            let mut receipt = *answer.receipt.take().expect("it has one");
            spoil(&mut answer, &mut receipt);
            answer.receipt = Some(Box::new(receipt));
            let refused = proves(&answer, &payee).expect_err(fault);
            assert!(refused.starts_with(fault), "{fault}: {refused}");
        }
        let other = proves(&answer(9_000), &PublicKey::of(&key(4))).expect_err("another payee");
        assert!(other.starts_with("receipt.certificate.signature"), "{other}");
        let without = PaymentAnswer { receipt: None, ..answer(9_000) };
        assert!(proves(&without, &payee).expect_err("none").starts_with("receipt: none"));
    }
}
