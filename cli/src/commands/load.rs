//! `millrace load`: many payers at once.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use common::amount::Amount;
use common::ids::PublicKey;
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use crate::args::{IssuerArgs, duration, relayer_client};
use crate::client::{RelayerClient, Transport};
use crate::ledger::LedgerWriter;
use crate::load::payers::{self, ChannelOptions};
use crate::load::report::{Report, Summary};
use crate::load::schedule::Until;
use crate::load::{LoadOptions, Progress};
use crate::output::{Printer, figures, grouped, micros};
use crate::payer::Scheme;

const EXAMPLES: &str = "\
Examples:
  millrace load --payee PAYEE --duration 30s       64 payments in flight
  millrace load --payee PAYEE --rate 2000          2000 a second, come what may
  millrace load --payee PAYEE --transport stream   over WebSocket connections
  millrace load --payee PAYEE --scheme payword,paytree   half of the payers in each
  millrace load --payee PAYEE --payments 100000 --ledger run.ndjson
  millrace audit --ledger run.ndjson               was all of it recorded?

With --rate, a payment's latency counts from when it was to be sent: a stall shows in every payment it held up \
(times are kept to the millisecond). Without, it counts from when it was sent. Vouchers without an answer are sent \
again until their outcome is known.";

/// WebSocket connections to each relayer: a relayer serves one connection on one core at a time.
const STREAMS: usize = 4;

/// How often the progress bar is looked after.
const WATCH: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LoadArgs {
    /// Who is paid (`millrace dev` prints its own).
    #[arg(long, value_name = "KEY", env = "MILLRACE_PAYEE")]
    payee: PublicKey,
    /// Relayers, taken in turn. May be given several times or separated by commas.
    #[arg(
        long,
        value_name = "URL",
        env = "MILLRACE_RELAYER_URLS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7710,http://127.0.0.1:7712"
    )]
    relayer_url: Vec<String>,
    #[command(flatten)]
    issuer: IssuerArgs,
    /// How many payers, each with a channel of its own.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    payers: usize,
    /// Payments in flight at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    concurrency: usize,
    /// A request for each payment, or a few WebSocket connections to each relayer, shared by all payers.
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    transport: Transport,
    /// Payments a second, evenly spread; without it, as many as the answers allow.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,
    /// Stop after this time.
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "payments", default_value = "10s")]
    duration: Duration,
    /// Stop after so many payments.
    #[arg(long, value_name = "N")]
    payments: Option<u64>,
    /// What each payment adds, in atomic units.
    #[arg(long, value_name = "UNITS", default_value = "1")]
    step: Amount,
    /// How payers pay: a scheme, or several separated by commas, which they take by turns.
    #[arg(long, value_name = "SCHEME", value_enum, value_delimiter = ',', default_value = "ed25519")]
    scheme: Vec<Scheme>,
    /// Payments that the chain or tree of a new channel has room for; a tree takes up to 128 bytes of memory for each.
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..1_048_576))]
    units: u32,
    /// Deposit of each channel, in atomic units; of a chain or tree no more than it has room for.
    #[arg(long, value_name = "UNITS", default_value = "100000000")]
    capacity: Amount,
    /// How long new channels last.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = duration)]
    expires_in: Duration,
    /// What is paid in.
    #[arg(long, value_name = "NAME", default_value = "usd")]
    asset: String,
    /// Append a line of JSON for every voucher that is sent, and one for what became of it.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Keep the payers' keys, channels and state files here, and go on with those of an earlier load. Without it the keys are gone
    /// when the load ends, and the channels are left to be settled.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Ask for the close of every channel at the end.
    #[arg(long)]
    close: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a whole number, 1 or more".to_owned())
}

pub(crate) async fn run(args: LoadArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    ensure!(!args.step.is_zero(), "--step must be more than 0");
    let shutdown = service::signals::try_shutdown().context("cannot listen for Ctrl-C")?;
    let relayers: Vec<RelayerClient> = args
        .relayer_url
        .iter()
        .map(|url| Ok(relayer_client(url)?.over(args.transport, STREAMS)))
        .collect::<anyhow::Result<_>>()?;
    let first = relayers.first().context("give at least one --relayer-url")?.clone();
    let ledger = args.ledger.as_deref().map(LedgerWriter::append_to).transpose()?.map(Arc::new);
    let wanted = ChannelOptions {
        payers: args.payers,
        payee: args.payee,
        asset: args.asset.clone(),
        capacity: args.capacity,
        expires_in_s: args.expires_in.as_secs(),
        schemes: args.scheme.clone(),
        unit: args.step,
        units: args.units,
        dir: args.dir.clone(),
    };
    let issuer = args.issuer.client()?;
    let payers = u64::try_from(args.payers).unwrap_or(u64::MAX);
    let opened = Arc::new(AtomicU64::new(0));
    let bar = printer.progress("channels", payers);
    let channels = watched(bar, &opened, payers::ready(&wanted, &issuer, &first, &opened)).await?;
    let until = args.payments.map_or(Until::Elapsed(args.duration), Until::Payments);
    let options = LoadOptions {
        relayers: relayers.clone(),
        concurrency: args.concurrency,
        rate: args.rate,
        until,
        step: args.step,
        patience: Duration::from_secs(10),
    };
    let (report, channels) = pay(options, channels, ledger, shutdown, printer).await?;
    if args.close {
        let asked = AtomicU64::new(0);
        payers::request_close(&channels, &relayers, &asked).await?;
    }
    let summary = report.summary();
    printer.data(&summary, text)?;
    if let Until::Payments(payments) = until
        && summary.acknowledged < payments
    {
        printer.note("fewer payments than asked for: see the outcomes above, --capacity and --units");
    }
    Ok(if summary.acknowledged > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the load under a progress bar.
async fn pay(
    options: LoadOptions,
    channels: Vec<payers::PayingChannel>,
    ledger: Option<Arc<LedgerWriter>>,
    shutdown: CancellationToken,
    printer: &Printer,
) -> anyhow::Result<(Report, Vec<payers::PayingChannel>)> {
    let bar = match options.until {
        Until::Payments(payments) => printer.progress("payments", payments),
        Until::Elapsed(_) => printer.counter("payments"),
    };
    let progress = Arc::new(Progress::default());
    let load = crate::load::run(options, channels, ledger, Arc::clone(&progress), shutdown);
    tokio::pin!(load);
    let result = loop {
        tokio::select! {
            result = &mut load => break result,
            () = tokio::time::sleep(WATCH) => bar.set_position(progress.acknowledged()),
        }
    };
    bar.finish_and_clear();
    Ok(result?)
}

/// Waits for `work` while `bar` shows `count`.
pub(super) async fn watched<T>(bar: ProgressBar, count: &AtomicU64, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            () = tokio::time::sleep(WATCH) => bar.set_position(count.load(Ordering::Relaxed)),
        }
    };
    bar.finish_and_clear();
    result
}

fn text(summary: &Summary) -> String {
    let mut rows = vec![
        ("acknowledged".to_owned(), grouped(summary.acknowledged.into())),
        ("payments/s".to_owned(), grouped(summary.per_second.into())),
        ("seconds".to_owned(), format!("{}.{:03}", summary.elapsed_ms / 1_000, summary.elapsed_ms % 1_000)),
        ("latency p50".to_owned(), micros(summary.latency_us.p50)),
        ("latency p90".to_owned(), micros(summary.latency_us.p90)),
        ("latency p99".to_owned(), micros(summary.latency_us.p99)),
        ("latency p99.9".to_owned(), micros(summary.latency_us.p999)),
        ("latency max".to_owned(), micros(summary.latency_us.max)),
        ("outcome unknown".to_owned(), grouped(summary.unresolved.into())),
    ];
    for (outcome, count) in &summary.outcomes {
        rows.push((format!("answer {outcome}"), grouped((*count).into())));
    }
    figures(rows)
}
