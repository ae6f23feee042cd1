//! `millrace upgrade`: once every process is of this version, have them write what only it can read.

use std::process::ExitCode;

use clap::Args;
use common::store::schema::{NEWEST, OLDEST};
use serde::Serialize;

use crate::args::RedisArgs;
use crate::output::{Printer, fields};

const EXAMPLES: &str = "\
Examples:
  millrace upgrade         which schema is in effect, and whether this version brings a newer one
  millrace upgrade --yes   every relayer and settler is of this version: write the newer one

Processes of an older version notice it at their next look at Redis, refuse to go on, and say so at /readyz. There is \
no way back: to run an older version again, restore a backup. docs/OPERATIONS.md goes through it.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpgradeArgs {
    /// Raise it.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    redis: RedisArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    /// In effect now.
    schema: u16,
    /// What this version works with.
    oldest: u16,
    newest: u16,
    /// True if this command raised it.
    upgraded: bool,
}

pub(crate) async fn run(args: UpgradeArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let (_, store) = args.redis.connect_to_look().await?;
    let before = if args.yes { store.raise_schema().await? } else { store.look_at_schema().await? };
    let report =
        Report { schema: store.schema(), oldest: OLDEST, newest: NEWEST, upgraded: store.schema() != before };
    printer.data(&report, |report| {
        fields([
            ("schema in effect", report.schema.to_string()),
            ("this version works with", format!("{} to {}", report.oldest, report.newest)),
        ])
    })?;
    printer.note(match (report.upgraded, report.schema < NEWEST) {
        (true, _) => "raised: relayers and settlers go by it from their next look at Redis on",
        (false, true) => "once every relayer and every settler is of this version: millrace upgrade --yes",
        (false, false) => "nothing to do",
    });
    Ok(ExitCode::SUCCESS)
}
