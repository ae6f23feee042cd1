//! `millrace verify`: checks what others hand over, without asking anyone.

mod receipt;

use std::process::ExitCode;

use clap::Subcommand;
use common::wire::Inclusion;

use crate::output::Printer;

#[derive(Debug, Subcommand)]
pub(crate) enum VerifyCommand {
    /// Check a settlement by its receipt alone, with nothing but the issuer's public key.
    Receipt(receipt::ReceiptArgs),
}

pub(crate) fn run(command: VerifyCommand, printer: &Printer) -> anyhow::Result<ExitCode> {
    match command {
        VerifyCommand::Receipt(args) => receipt::run(&args, printer),
    }
}

/// A receipt's place in its batch, for a person.
pub(crate) fn place(inclusion: &Inclusion) -> String {
    let Inclusion { root, size, index, .. } = inclusion;
    format!("leaf {} of {size} under {root}", u128::from(*index) + 1)
}
