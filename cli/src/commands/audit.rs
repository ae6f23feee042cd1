//! `millrace audit`: did money go astray?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use common::clock::Clock;
use common::ids::PublicKey;
use serde::Serialize;
use service::journal::JournalStore;

use crate::args::{IssuerArgs, RedisArgs};
use crate::audit::{Report, audit, gather, journal, metrics};
use crate::output::{Printer, figures, grouped, or_dash, table};

const EXAMPLES: &str = "\
Examples:
  millrace audit                                  Redis against the issuer
  millrace audit --ledger run.ndjson              and what payers were told
  millrace audit --ledger run.ndjson --expect-closed
  millrace audit --journal .millrace/dev/journal  and what the journal holds
  millrace audit --metrics http://127.0.0.1:7711 --metrics http://127.0.0.1:7800
                                                  and what relayer and settler say of themselves

For every channel: acknowledged (ledger) <= accepted (Redis) = settled (issuer, where closed). Signatures of the \
latest voucher and of each receipt are checked anew, and the receipt's place in its batch; sums are integers; exit code 1 if anything is wrong. \
In metrics, received = accepted + duplicate + rejected + unknown + in flight at a relayer, and accepted = settled + \
unsettled + dead at a settler, where the leader shows what the books in Redis hold.";

/// How long a payment may be on its way into the journal, in ms: some times the age at which segments are closed.
const JOURNALED_WITHIN_MS: u64 = 60_000;

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
    /// The journal, as `journal.url` of the settler names it: it must be whole, and its last payment of each closed
    /// channel the one that was settled.
    #[arg(long, value_name = "URL")]
    journal: Option<String>,
    /// The admin listener of a relayer or settler, whose metrics must add up. May be given several times; the leading
    /// settler's are also held against Redis.
    #[arg(long, value_name = "URL")]
    metrics: Vec<String>,
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
    let journaled = match &args.journal {
        Some(url) => {
            let store = JournalStore::at(url).context("--journal")?;
            Some(journal::read(&store, &issuer_key).await.context("the audit is incomplete")?)
        }
        None => None,
    };
    let facts =
        gather::channels(known, &store, &issuer, &issuer_key).await.context("the audit is incomplete")?;
    let books = issuer.books().await.context("the audit is incomplete")?;
    let mut report = audit(&facts, &books, args.expect_closed);
    if let Some(journaled) = &journaled {
        let settled_before_ms = Clock::system().now_ms().saturating_sub(JOURNALED_WITHIN_MS);
        journal::check(&facts, journaled, settled_before_ms, &mut report);
    }
    let metrics = if args.metrics.is_empty() {
        None
    } else {
        let found = metrics::check(&args.metrics, &store, &mut report.violations).await;
        Some(found.context("the audit is incomplete")?)
    };
    let findings = Findings { report, metrics };
    printer.data(&findings, |findings| text(&findings.report, findings.metrics.as_ref()))?;
    Ok(if findings.report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All that an audit found.
#[derive(Serialize)]
struct Findings {
    #[serde(flatten)]
    report: Report,
    /// What metrics say, where they were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<metrics::Found>,
}

pub(super) fn text(report: &Report, metrics: Option<&metrics::Found>) -> String {
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
    let sums = match metrics {
        Some(found) => format!("{sums}\n{}", identities(found)),
        None => sums,
    };
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

fn identities(found: &metrics::Found) -> String {
    let rows = found.identities.iter().map(|identity| {
        let part = |(name, sum): &(&str, u128)| format!("{name} {}", grouped(*sum));
        let parts: Vec<String> = identity.parts.iter().map(part).collect();
        let sign = if identity.holds { "=" } else { "is not" };
        [
            identity.url.clone(),
            format!("{} {} {sign} {}", identity.of, grouped(identity.whole), parts.join(" + ")),
        ]
    });
    table(["metrics of", "what they say"], rows)
}

/// A kind as it stands in JSON.
fn name(kind: crate::audit::Kind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
