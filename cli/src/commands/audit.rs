//! `millrace audit`: did money go astray?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use common::ids::PublicKey;

use crate::args::{IssuerArgs, RedisArgs};
use crate::audit::{Report, audit, gather};
use crate::output::{Printer, figures, grouped, or_dash, table};

const EXAMPLES: &str = "\
Examples:
  millrace audit                                  Redis against the issuer
  millrace audit --ledger run.ndjson              and what payers were told
  millrace audit --ledger run.ndjson --expect-closed

For every channel: acknowledged (ledger) <= accepted (Redis) = settled (issuer, where closed). Signatures of the \
latest voucher and of each receipt are checked anew, and the receipt's place in its batch; sums are integers; exit code 1 if anything is wrong.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AuditArgs {
    /// A ledger of `millrace load`. May be given several times.
    #[arg(long, value_name = "FILE")]
    ledger: Vec<PathBuf>,
    /// The issuer's public key, base58, to check receipts with; without it the issuer is asked, and believed.
    #[arg(long, value_name = "KEY")]
    issuer_key: Option<PublicKey>,
    /// Every channel must be closed.
    #[arg(long)]
    expect_closed: bool,
    #[command(flatten)]
    issuer: IssuerArgs,
    #[command(flatten)]
    redis: RedisArgs,
}

pub(crate) async fn run(args: AuditArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let known = gather::ledgers(&args.ledger)?;
    let issuer = args.issuer.client()?;
    let issuer_key = match args.issuer_key {
        Some(key) => key,
        None => issuer.info().await.context("cannot ask the issuer for its key")?.public_key,
    };
    let (_, store) = args.redis.connect_to_look().await?;
    let facts =
        gather::channels(known, &store, &issuer, &issuer_key).await.context("the audit is incomplete")?;
    let books = issuer.books().await.context("the audit is incomplete")?;
    let report = audit(&facts, &books, args.expect_closed);
    printer.data(&report, text)?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn text(report: &Report) -> String {
    let sums = figures([
        ("channels", grouped(report.channels.into())),
        ("  closed", grouped(report.closed.into())),
        ("  to be settled", grouped(report.pending.into())),
        ("acknowledged (ledger)", grouped(report.acknowledged)),
        ("accepted (Redis)", grouped(report.accepted)),
        ("settled (issuer)", grouped(report.settled)),
        ("to be settled", grouped(report.pending_amount)),
        ("outcome unknown, channels", grouped(report.unresolved.into())),
        ("drift", grouped(report.drift)),
    ]);
    if report.is_clean() {
        return format!("{sums}\nclean: nothing is missing, nothing is paid twice");
    }
    let violations = table(
        ["violation", "channel", "detail"],
        report
            .violations
            .iter()
            .map(|violation| [name(violation.kind), or_dash(violation.channel_id), violation.detail.clone()]),
    );
    format!("{sums}\n{violations}\nviolations: {}", report.violations.len())
}

/// A kind as it stands in JSON.
fn name(kind: crate::audit::Kind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
