//! `millrace journal verify`, which is also `millrace verify journal`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use common::ids::{JournalRoot, PublicKey};
use common::journal::verify::{Expect, Report, Verifier};
use common::verify::usable_key;
use serde::Serialize;
use serde_json::{Value, json};

use super::PlaceArgs;
use crate::output::{Printer, fields, grouped, or_dash};

const NOTES: &str = "\
Checked are: every segment's bytes, records, counts and roots; the chain from segment to segment; that no entry is there \
twice; every payment's proof against the terms of its channel, as relayer and issuer check it; that amounts rise; and, \
with --issuer, every receipt's signature. Exit code 1 if anything is wrong; each fault is named with segment and line.

Keep the root that is printed: with --expect-root it shows that nothing up to there was cut off or written anew.";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct VerifyArgs {
    /// The issuer's public key, or a file that holds it. Without it receipts are not vouched for.
    #[arg(long, value_name = "KEY", env = "MILLRACE_ISSUER_KEY")]
    issuer: Option<String>,
    /// A root that the journal had after some segment, from an earlier verify.
    #[arg(long, value_name = "ROOT")]
    expect_root: Option<JournalRoot>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Serialize)]
struct Summary {
    ok: bool,
    segments: u64,
    first_segment: Option<u64>,
    last_segment: Option<u64>,
    root: Option<JournalRoot>,
    channels: u64,
    payments: u64,
    proofs: u64,
    settlements: u64,
    receipts: u64,
    failed: u64,
    dead: u64,
    fault_count: u64,
    faults: Vec<Value>,
}

pub(crate) async fn run(args: VerifyArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let issuer = args.issuer.as_deref().map(issuer_key).transpose()?;
    let store = args.place.store()?;
    let mut verifier = Verifier::new(Expect { issuer, root: args.expect_root });
    let listed = store.list().await?;
    let progress = printer.progress("segments", listed.len().try_into().unwrap_or(u64::MAX));
    for segment in listed {
        let bytes = store.get(segment.number).await?;
        verifier.segment(segment.number, &bytes);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let report = verifier.finish();
    for fault in &report.faults {
        printer.note(fault);
    }
    if report.fault_count > report.faults.len().try_into().unwrap_or(u64::MAX) {
        printer.note(format_args!("{} faults in all", report.fault_count));
    }
    if let Some(first) = report.first.filter(|first| *first > 1) {
        printer.note(format_args!("segments before {first} are not there: past their retention, or removed"));
    }
    if issuer.is_none() && report.settlements > 0 {
        printer.note("without --issuer the receipts of settlements are not vouched for");
    }
    let summary = summary(report);
    printer.data(&summary, text)?;
    Ok(if summary.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A key as base58, or the file that holds it.
fn issuer_key(text: &str) -> anyhow::Result<common::verify::UsableKey> {
    let key: PublicKey = match text.parse() {
        Ok(key) => key,
        Err(error) => {
            let file = std::fs::read_to_string(text).map_err(|_| error);
            file.context("--issuer: no key, and no file of one")?.trim().parse().context("--issuer")?
        }
    };
    usable_key(&key).context("--issuer: no key that signatures can be checked with")
}

fn summary(report: Report) -> Summary {
    let fault = |fault: &common::journal::segment::Fault| json!({ "segment": fault.segment, "line": fault.line, "detail": fault.detail });
    Summary {
        ok: report.fault_count == 0,
        segments: report.segments,
        first_segment: report.first,
        last_segment: report.head.map(|(number, _)| number),
        root: report.head.map(|(_, root)| root),
        channels: report.channels,
        payments: report.payments,
        proofs: report.proofs,
        settlements: report.settlements,
        receipts: report.receipts,
        failed: report.failed,
        dead: report.dead,
        fault_count: report.fault_count,
        faults: report.faults.iter().map(fault).collect(),
    }
}

fn text(summary: &Summary) -> String {
    let of = |part: u64, whole: u64| format!("{} of {}", grouped(part.into()), grouped(whole.into()));
    fields([
        (
            "journal",
            if summary.ok { "whole, and true".to_owned() } else { format!("{} faults", summary.fault_count) },
        ),
        ("segments", grouped(summary.segments.into())),
        ("first, last", format!("{}, {}", or_dash(summary.first_segment), or_dash(summary.last_segment))),
        ("channels", grouped(summary.channels.into())),
        ("payments proven", of(summary.proofs, summary.payments)),
        ("receipts proven", of(summary.receipts, summary.settlements)),
        ("channels given up on", grouped(summary.failed.into())),
        ("entries given up on", grouped(summary.dead.into())),
        ("root", or_dash(summary.root)),
    ])
}
