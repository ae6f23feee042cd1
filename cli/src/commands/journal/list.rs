//! `millrace journal list`.

use std::process::ExitCode;

use clap::Args;
use common::ids::JournalRoot;
use serde::Serialize;

use super::{PlaceArgs, entry, read};
use crate::output::{Printer, grouped, table};
use crate::time;

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only the last so many segments.
    #[arg(long, value_name = "N")]
    last: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Row {
    number: u64,
    closed_at_ms: u64,
    /// Times of its first and last record.
    from_ms: Option<u64>,
    to_ms: Option<u64>,
    records: u64,
    bytes: u64,
    root: JournalRoot,
}

#[derive(Debug, Serialize)]
struct Listing {
    segments: Vec<Row>,
}

pub(super) async fn run(args: ListArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let store = args.place.store()?;
    let mut listed = store.list().await?;
    if let Some(last) = args.last {
        listed = listed.split_off(listed.len().saturating_sub(last));
    }
    let mut segments = Vec::with_capacity(listed.len());
    for segment in listed {
        let (mut from_ms, mut to_ms) = (None, None);
        let found = read(&store, segment.number, |_, line, _| {
            if let Some(entry) = entry(line) {
                from_ms = Some(from_ms.map_or(entry.ms, |from: u64| from.min(entry.ms)));
                to_ms = to_ms.max(Some(entry.ms));
            }
        })
        .await?;
        segments.push(Row {
            number: segment.number,
            closed_at_ms: found.header.created_at_ms,
            from_ms,
            to_ms,
            records: found.footer.records,
            bytes: segment.bytes,
            root: found.footer.root,
        });
    }
    printer.data(&Listing { segments }, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(listing: &Listing) -> String {
    table(
        ["segment", "from", "to", "records", "bytes", "root"],
        listing.segments.iter().map(|row| {
            let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), time::text);
            [
                row.number.to_string(),
                time(row.from_ms),
                time(row.to_ms),
                grouped(row.records.into()),
                grouped(row.bytes.into()),
                row.root.to_string(),
            ]
        }),
    )
}
