//! `millrace keys`: signing keys in files that only their owner can read.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use common::ids::{PublicKey, Signature};
use common::message;
use common::secret::write_signing_key;
use common::wire::KeyCertificate;
use serde::Serialize;

use crate::args::KeyArgs;
use crate::output::Printer;
use crate::payer;

const EXAMPLES: &str = "\
Examples:
  millrace keys new payer.key
  millrace keys show payer.key
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
    /// Show the public half of a key; the secret half is never printed.
    Show {
        /// A key file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Serialize)]
struct KeyInfo {
    public_key: PublicKey,
    file: PathBuf,
}

pub(crate) fn run(command: KeysCommand, printer: &Printer) -> anyhow::Result<ExitCode> {
    match command {
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
