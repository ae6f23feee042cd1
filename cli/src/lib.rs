//! `millrace`: start a stack, pay through it, measure it, look into it, and check that no money went astray.
//!
//! # Layout
//!
//! * `commands`: one file a subcommand. `args`: the command line and what several subcommands take.
//! * [`stack`]: Redis, issuer, settlers and relayers as child processes.
//! * [`client`], [`payer`]: the paying side: a relayer's client, and everything that a payer signs.
//! * [`load`]: many payers at once, with latencies that do not hide a stalled server. [`ledger`]: what was acknowledged.
//! * [`audit`]: ledger, Redis and issuer against each other. The core is a pure function.
//! * [`history`]: whether everything that payers were told can be true. [`chaos`]: a stack under a load and seeded faults.
//! * [`output`], `failure`: tables or JSON on stdout, one line on stderr, an exit code.

mod args;
pub mod audit;
pub mod chaos;
pub mod client;
mod commands;
mod failure;
pub mod history;
pub mod ledger;
pub mod load;
pub mod output;
pub mod payer;
pub mod stack;
mod time;

use std::process::ExitCode;

use clap::Parser as _;

/// Runs the command line of this process. Exit codes: 0 done, 1 failed or a check did not hold, 2 wrong usage.
pub fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let printer = output::Printer::new(cli.json);
    match commands::run(cli.command, &printer) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
