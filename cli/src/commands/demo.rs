//! `millrace demo`: payments, a crash, a successor, and an audit to the last unit.

mod failover;
mod story;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use common::amount::Amount;

use crate::commands::dev;
use crate::output::Printer;
use crate::stack::StackOptions;
use story::Story;

const EXAMPLES: &str = "\
Examples:
  millrace demo
  millrace demo --payers 200 --payments 100000
  millrace demo --json

Everything runs on this machine, on free ports and in a temporary directory that is removed at the end. \
Exit code 1 if a single unit is missing or paid twice.";

/// How long the lease of a leader lasts that is heard of no more: short, so that the demo is.
const LEASE_TTL_MS: u64 = 2_000;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// How many payers, each with a channel of its own.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    payers: u64,
    /// How many payments, over all payers.
    #[arg(long, value_name = "N", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(2..))]
    payments: u64,
    /// What each payment adds, in atomic units.
    #[arg(long, value_name = "UNITS", default_value = "7")]
    step: Amount,
    /// How many relayers.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=16))]
    relayers: u64,
    /// Keep keys, data and logs here, instead of in a temporary directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<std::path::PathBuf>,
}

pub(crate) async fn run(args: DemoArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let shutdown = service::signals::try_shutdown().context("cannot listen for Ctrl-C")?;
    // Removed when it goes out of scope, which is after the stack has stopped.
    let temporary =
        tempfile::Builder::new().prefix("millrace-demo-").tempdir().context("no temporary directory")?;
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let mut options = StackOptions::new(dir, dev::this_binary()?);
    options.relayers = usize::try_from(args.relayers)?;
    options.settlers = 2;
    options.config.settler = vec![
        ("lease.ttl_ms".to_owned(), LEASE_TTL_MS.to_string()),
        // A lease must outlast a lost renewal.
        ("redis.command_timeout_ms".to_owned(), (LEASE_TTL_MS / 4).to_string()),
        ("lease.standby_poll_ms".to_owned(), "100".to_owned()),
        // The payers end their channels themselves here; nothing closes under them.
        ("policy.idle_max_s".to_owned(), "null".to_owned()),
    ];
    printer.note("Starting Redis, an issuer with play money, two settlers and the relayers …");
    let Some(stack) = dev::start(options, &shutdown).await? else {
        return Ok(ExitCode::FAILURE);
    };
    let mut story = Story { stack, printer, args: &args };
    let told = tokio::select! {
        told = story.tell() => told.map(Some),
        () = shutdown.cancelled() => Ok(None),
    };
    // The settler that the story kills has ended with SIGKILL, and that is no news.
    story.stack.stop().await;
    let Some(ending) = told? else {
        printer.note("called off");
        return Ok(ExitCode::FAILURE);
    };
    printer.data(&ending, story::text)?;
    Ok(if ending.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
