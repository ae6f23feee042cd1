//! `millrace journal`: what the settler has kept of payments and closes, read without Redis, issuer or settler.

mod export;
mod list;
mod show;
pub(super) mod verify;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use common::ids::ChannelId;
use common::journal::line::Line;
use common::journal::segment::{self, Segment};
use common::store::stream::EntryId;
use service::journal::JournalStore;

use crate::output::Printer;

const EXAMPLES: &str = "\
Examples:
  millrace journal list
  millrace journal show --segment 17
  millrace journal show --channel CHANNEL
  millrace journal export --format csv --from 2026-01-01 --to 2026-02-01 > january.csv
  millrace journal verify --issuer ISSUER --expect-root ROOT

The journal of `millrace dev` is found by default; else --url, or MILLRACE_JOURNAL_URL: a directory, file:///…, \
s3://bucket/…, gs://bucket/… or az://container/…, with credentials from the environment.";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum JournalCommand {
    /// The segments, with their times, sizes and roots.
    List(list::ListArgs),
    /// One segment line by line, or all that the journal holds of one channel.
    Show(show::ShowArgs),
    /// Payments, settlements and failures of a time, for other programs. Segment by segment: never all in memory.
    Export(export::ExportArgs),
    /// Check that the journal is whole and what it says is true: every segment, root, proof, amount and receipt.
    Verify(verify::VerifyArgs),
}

/// Where the journal is.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlaceArgs {
    /// The journal: what `journal.url` of the settler says.
    #[arg(long, value_name = "URL", env = "MILLRACE_JOURNAL_URL", default_value = ".millrace/dev/journal")]
    url: String,
}

impl PlaceArgs {
    fn store(&self) -> anyhow::Result<JournalStore> {
        JournalStore::at(&self.url).with_context(|| format!("--url {}", self.url))
    }
}

pub(crate) async fn run(command: JournalCommand, printer: &Printer) -> anyhow::Result<ExitCode> {
    match command {
        JournalCommand::List(args) => list::run(args, printer).await,
        JournalCommand::Show(args) => show::run(args, printer).await,
        JournalCommand::Export(args) => export::run(args).await,
        JournalCommand::Verify(args) => verify::run(args, printer).await,
    }
}

/// Reads a segment, record by record; a damaged one is an error.
async fn read(
    store: &JournalStore,
    number: u64,
    visit: impl FnMut(u64, &Line, &[u8]),
) -> anyhow::Result<Segment> {
    let bytes = store.get(number).await?;
    Ok(segment::read(number, &bytes, visit)?)
}

/// The entry that a record came from. Terms came from none.
fn entry(line: &Line) -> Option<EntryId> {
    match line {
        Line::Payment(line) => Some(line.entry),
        Line::Settlement(line) => Some(line.entry),
        Line::Failed(line) => Some(line.entry),
        Line::Dead(line) => Some(line.entry),
        Line::Header(_) | Line::Terms(_) | Line::Footer(_) => None,
    }
}

/// True if a record speaks of the channel.
fn names(line: &Line, id: &ChannelId) -> bool {
    match line {
        Line::Terms(line) => line.channel_id == *id,
        Line::Payment(line) => line.paid.channel_id == *id,
        Line::Settlement(line) => line.channel_id == *id,
        Line::Failed(line) => line.channel_id == *id,
        Line::Dead(line) => line.payments.iter().any(|paid| paid.channel_id == *id),
        Line::Header(_) | Line::Footer(_) => false,
    }
}
