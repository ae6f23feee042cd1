//! `millrace verify receipt`: one channel's settlement, from its receipt and the issuer's public key alone.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use common::amount::Amount;
use common::batch::Flaw;
use common::ids::{ChannelId, Hash, PublicKey};
use common::verify::usable_key;
use common::wire::{InvalidJson, Receipt, from_json};
use serde::{Deserialize, Serialize};

use super::file;
use crate::output::{Printer, fields};
use crate::time;

const EXAMPLES: &str = "\
Examples:
  millrace channel show CHANNEL --json > closed.json
  millrace verify receipt closed.json --issuer KEY
  curl -s http://127.0.0.1:7710/v1/channels/CHANNEL | millrace verify receipt - --issuer KEY

Asks nobody. Checked are the issuer's signature of the receipt, its signature of the batch that the receipt was settled \
in, and the proof that the receipt is one of that batch. Exit code 1, with the reason, if anything does not hold.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReceiptArgs {
    /// JSON of a receipt, or of a channel that holds one, as relayer, issuer and `millrace` give it; - reads stdin.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The issuer's public key, base58. Take it from whom you trust, not from whoever gave you the receipt.
    #[arg(long, value_name = "KEY")]
    issuer: PublicKey,
}

pub(super) fn run(args: &ReceiptArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let (name, text) = file::read(&args.file)?;
    let proven = receipt_in(&text)
        .and_then(|receipt| prove(&receipt, &args.issuer))
        .with_context(|| format!("{name} proves nothing"))?;
    printer.data(&proven, in_words)?;
    Ok(ExitCode::SUCCESS)
}

/// Why a file does not prove a settlement. Names the field that is at fault, as far as one can be told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unproven {
    #[error("expected JSON of a receipt, or of a channel with a field `receipt`: {0}")]
    Json(InvalidJson),
    #[error("receipt: none; the channel has not been settled")]
    NoReceipt,
    #[error("receipt.channel_id: {receipt}, but the channel is {channel}")]
    OtherChannel { receipt: ChannelId, channel: ChannelId },
    #[error("--issuer: {0} is no key that signatures can be checked with")]
    Key(PublicKey),
    #[error(
        "signature: nothing here is signed by {0}: another issuer's receipt, or settled_at_ms or several fields were changed"
    )]
    OtherIssuer(PublicKey),
    #[error(
        "signature: the issuer signed the batch but not this receipt: channel_id, settled_amount, refunded_amount, \
         closed or signature was changed"
    )]
    Changed,
    #[error("signature: the issuer has not signed this receipt: a field of it or the signature was changed")]
    NotSigned,
    #[error(
        "inclusion: none; the issuer signed the receipt, and did not commit to a batch with it (one of before it did so?)"
    )]
    NotIncluded,
    #[error("{0}")]
    Flawed(Flaw),
}

/// A channel, as far as it matters here.
#[derive(Deserialize)]
struct WithReceipt {
    channel_id: Option<ChannelId>,
    receipt: Option<Receipt>,
}

/// The receipt in a file, be it alone or with its channel.
fn receipt_in(text: &[u8]) -> Result<Receipt, Unproven> {
    let outer: serde_json::Map<String, serde_json::Value> = from_json(text).map_err(Unproven::Json)?;
    if !outer.contains_key("receipt") {
        return from_json(text).map_err(Unproven::Json);
    }
    let WithReceipt { channel_id, receipt } = from_json(text).map_err(Unproven::Json)?;
    let receipt = receipt.ok_or(Unproven::NoReceipt)?;
    match channel_id {
        Some(channel) if channel != receipt.channel_id => {
            Err(Unproven::OtherChannel { receipt: receipt.channel_id, channel })
        }
        _ => Ok(receipt),
    }
}

/// What is proven.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Proven {
    issuer: PublicKey,
    channel_id: ChannelId,
    settled_amount: Amount,
    refunded_amount: Amount,
    closed: bool,
    settled_at_ms: i64,
    batch: Batch,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Batch {
    root: Hash,
    size: u64,
    index: u64,
}

/// Checks all there is before it says what is wrong: which of the signatures hold tells what was changed.
fn prove(receipt: &Receipt, issuer: &PublicKey) -> Result<Proven, Unproven> {
    let key = usable_key(issuer).ok_or(Unproven::Key(*issuer))?;
    let signed = receipt.is_signed_with(&key);
    let Some(inclusion) = &receipt.inclusion else {
        return Err(if signed { Unproven::NotIncluded } else { Unproven::NotSigned });
    };
    let path = inclusion.leads_from(receipt);
    let batch_signed = inclusion.is_signed_with(&key, receipt.settled_at_ms);
    match (signed, batch_signed, path) {
        (true, true, Ok(())) => Ok(Proven {
            issuer: *issuer,
            channel_id: receipt.channel_id,
            settled_amount: receipt.settled_amount,
            refunded_amount: receipt.refunded_amount,
            closed: receipt.closed,
            settled_at_ms: receipt.settled_at_ms,
            batch: Batch { root: inclusion.root, size: inclusion.size, index: inclusion.index },
        }),
        (true, _, Err(flaw)) => Err(Unproven::Flawed(flaw)),
        (true, false, Ok(())) => Err(Unproven::Flawed(Flaw::Signature)),
        (false, true, _) => Err(Unproven::Changed),
        (false, false, _) => Err(Unproven::OtherIssuer(*issuer)),
    }
}

fn in_words(proven: &Proven) -> String {
    let Batch { root, size, index } = proven.batch;
    let table = fields([
        ("channel", proven.channel_id.to_string()),
        ("paid to the payee", proven.settled_amount.to_string()),
        ("given back to the payer", proven.refunded_amount.to_string()),
        ("the channel is", if proven.closed { "closed" } else { "open: more may follow" }.to_owned()),
        ("settled at", u64::try_from(proven.settled_at_ms).map(time::text).unwrap_or_default()),
        ("batch root", root.to_string()),
        ("place in the batch", format!("leaf {} of {size}", u128::from(index) + 1)),
    ]);
    format!("{table}\nproven: issuer {} signed this receipt, and the batch that it is in", proven.issuer)
}

#[cfg(test)]
mod tests;
