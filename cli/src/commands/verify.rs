//! `millrace verify`: checks what others hand over, without asking anyone.

mod file;
mod payment;
mod receipt;

use std::process::ExitCode;

use clap::Subcommand;
use common::wire::Inclusion;

use super::journal::verify as journal;
use crate::output::Printer;

#[derive(Debug, Subcommand)]
pub(crate) enum VerifyCommand {
    /// Check a settlement by its receipt alone, with nothing but the issuer's public key.
    Receipt(receipt::ReceiptArgs),
    /// Check that a payee has taken a payment, with nothing but the payee's public key.
    Payment(payment::PaymentArgs),
    /// Check the settler's own record, as `millrace journal verify` does.
    Journal(journal::VerifyArgs),
}

pub(crate) async fn run(command: VerifyCommand, printer: &Printer) -> anyhow::Result<ExitCode> {
    match command {
        VerifyCommand::Receipt(args) => receipt::run(&args, printer),
        VerifyCommand::Payment(args) => payment::run(&args, printer),
        VerifyCommand::Journal(args) => journal::run(args, printer).await,
    }
}

/// A receipt's place in its batch, for a person.
pub(crate) fn place(inclusion: &Inclusion) -> String {
    let Inclusion { root, size, index, .. } = inclusion;
    format!("leaf {} of {size} under {root}", u128::from(*index) + 1)
}
