//! `millrace keys`: signing keys in files that only their owner can read.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use common::ids::{PublicKey, Signature};
use common::message;
use common::secret::write_signing_key;
use common::wire::KeyCertificate;
use serde::Serialize;

use crate::args::{KeyArgs, RedisArgs};
use crate::output::{Printer, grouped, table};
use crate::payer;

const EXAMPLES: &str = "\
Examples:
  millrace keys new payer.key
  millrace keys show payer.key
  millrace keys status --retired OLD_PAYEE
  millrace keys certify --key payee.key --for RECEIPT_KEY --expires-at 1798761600 > receipts.json";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum KeysCommand {
    /// Make a new key. The file holds the base58 seed, is readable by its owner alone, and is never overwritten.
    New {
        /// The file to make.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Have the payee certify a key that signs payment receipts for it, and can do nothing else: what a relayer's
    /// receipts.certificate names.
    Certify {
        #[command(flatten)]
        key: KeyArgs,
        /// The public half of the key that will sign receipts.
        #[arg(long = "for", value_name = "PUBLIC_KEY")]
        certified: PublicKey,
        /// When the certificate ends, as Unix time in seconds.
        #[arg(long, value_name = "TIME", value_parser = clap::value_parser!(i64).range(1..))]
        expires_at: i64,
    },
    /// Count the channels in Redis that have not ended, by the payee's key that they pay: a key that still has some cannot
    /// be taken from the settlers.
    Status(StatusArgs),
    /// Show the public half of a key; the secret half is never printed.
    Show {
        /// A key file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Exit with 1 if channels pay this key.
    #[arg(long, value_name = "KEY")]
    retired: Vec<PublicKey>,
    /// Look at no more channels than about so many.
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    most: u64,
    #[command(flatten)]
    redis: RedisArgs,
}

/// What is printed of a key.
#[derive(Serialize)]
struct InUse {
    payee: PublicKey,
    channels: u64,
}

/// What is printed of all.
#[derive(Serialize)]
struct Status {
    payees: Vec<InUse>,
    unreadable: u64,
    complete: bool,
}

#[derive(Serialize)]
struct KeyInfo {
    public_key: PublicKey,
    file: PathBuf,
}

pub(crate) async fn run(command: KeysCommand, printer: &Printer) -> anyhow::Result<ExitCode> {
    match command {
        KeysCommand::Status(args) => return status(args, printer).await,
        KeysCommand::New { file } => show(printer, &make(file)?)?,
        KeysCommand::Show { file } => {
            show(printer, &KeyInfo { public_key: PublicKey::of(&payer::read_key(&file)?), file })?;
        }
        KeysCommand::Certify { key, certified, expires_at } => {
            let signature = Signature::of(&key.read()?, &message::receipt_key(&certified, expires_at));
            let certificate = KeyCertificate { key: certified, expires_at, signature };
            let json = serde_json::to_string(&certificate)?;
            printer.data(&certificate, |_| json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(args: StatusArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let (_, store) = args.redis.connect_to_look().await?;
    let census = store.census(args.most).await?;
    let in_use = args.retired.iter().any(|key| census.by_payee.contains_key(key));
    let payees = census.by_payee.into_iter().map(|(payee, channels)| InUse { payee, channels }).collect();
    let status = Status { payees, unreadable: census.unreadable, complete: census.is_complete };
    printer.data(&status, |status| {
        let rows = status.payees.iter().map(|used| [used.payee.to_string(), grouped(used.channels.into())]);
        table(["payee", "channels that have not ended"], rows)
    })?;
    if !status.complete {
        printer.note("there are more channels than --most: this is not all");
    }
    if status.unreadable > 0 {
        printer
            .note(format_args!("{} channels cannot be read: `millrace inspect channels`", status.unreadable));
    }
    let is_certain = status.complete && status.unreadable == 0;
    let failed = !args.retired.is_empty() && (in_use || !is_certain);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(printer: &Printer, info: &KeyInfo) -> anyhow::Result<()> {
    printer.data(info, |info| info.public_key.to_string())
}

fn make(file: PathBuf) -> anyhow::Result<KeyInfo> {
    let key = payer::new_key();
    write_signing_key(&file, &key).with_context(|| {
        format!("cannot make {}; a key file is never overwritten: choose another name", file.display())
    })?;
    Ok(KeyInfo { public_key: PublicKey::of(&key), file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a temp dir");
        let file = dir.path().join("payer.key");
        let make = || make(file.clone());
        make().expect("a new file");
        let before = std::fs::read(&file).expect("there");
        assert!(make().is_err(), "it exists");
        assert_eq!(std::fs::read(&file).expect("there"), before);
    }
}
