//! `millrace verify`: proofs that hold without anyone who is part of them.

use std::process::ExitCode;

use clap::Subcommand;

use super::journal::verify::{self, VerifyArgs};
use crate::output::Printer;

#[derive(Debug, Subcommand)]
pub(crate) enum VerifyCommand {
    /// The settler's own record, as `millrace journal verify` does.
    Journal(VerifyArgs),
}

pub(crate) async fn run(command: VerifyCommand, printer: &Printer) -> anyhow::Result<ExitCode> {
    match command {
        VerifyCommand::Journal(args) => verify::run(args, printer).await,
    }
}
