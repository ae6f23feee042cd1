//! `millrace keys`: signing keys in files that only their owner can read.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use common::ids::PublicKey;
use common::secret::write_signing_key;
use serde::Serialize;

use crate::output::Printer;
use crate::payer;

const EXAMPLES: &str = "\
Examples:
  millrace keys new payer.key
  millrace keys show payer.key";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum KeysCommand {
    /// Make a new key. The file holds the base58 seed, is readable by its owner alone, and is never overwritten.
    New {
        /// The file to make.
        #[arg(value_name = "FILE")]
        file: PathBuf,
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
    printer.data(&make_or_read(command)?, |info| info.public_key.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn make_or_read(command: KeysCommand) -> anyhow::Result<KeyInfo> {
    Ok(match command {
        KeysCommand::New { file } => {
            let key = payer::new_key();
            write_signing_key(&file, &key).with_context(|| {
                format!(
                    "cannot make {}; a key file is never overwritten: choose another name",
                    file.display()
                )
            })?;
            KeyInfo { public_key: PublicKey::of(&key), file }
        }
        KeysCommand::Show { file } => KeyInfo { public_key: PublicKey::of(&payer::read_key(&file)?), file },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a temp dir");
        let file = dir.path().join("payer.key");
        let make = || make_or_read(KeysCommand::New { file: file.clone() });
        make().expect("a new file");
        let before = std::fs::read(&file).expect("there");
        assert!(make().is_err(), "it exists");
        assert_eq!(std::fs::read(&file).expect("there"), before);
    }
}
