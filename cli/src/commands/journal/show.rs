//! `millrace journal show`.

use std::process::ExitCode;

use clap::Args;
use common::ids::ChannelId;
use common::journal::line::Line;
use common::journal::segment::Lines;
use serde::Serialize;

use super::{PlaceArgs, names, read};
use crate::output::{Printer, table};
use crate::time;

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// All that the journal holds of this channel.
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<ChannelId>,
    /// This segment, as it was written: header, records, footer.
    #[arg(long, value_name = "N")]
    segment: Option<u64>,
}

/// A record, and where it stands.
#[derive(Debug, Serialize)]
struct Found {
    segment: u64,
    line: u64,
    record: Line,
}

#[derive(Debug, Serialize)]
struct OfChannel {
    channel_id: ChannelId,
    records: Vec<Found>,
}

pub(super) async fn run(args: ShowArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let store = args.place.store()?;
    if let Some(number) = args.what.segment {
        let bytes = store.get(number).await?;
        let mut lines = Lines::new(number, &bytes)?;
        while let Some((_, text)) = lines.next_line()? {
            // A line is one document, for people and for scripts.
            printer.line(&text)?;
        }
    }
    if let Some(channel_id) = args.what.channel {
        let mut records = Vec::new();
        for segment in store.list().await? {
            read(&store, segment.number, |line, record, _| {
                if names(record, &channel_id) {
                    records.push(Found { segment: segment.number, line, record: record.clone() });
                }
            })
            .await?;
        }
        printer.data(&OfChannel { channel_id, records }, text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(found: &OfChannel) -> String {
    let rows = found.records.iter().filter_map(|Found { segment, line, record }| {
        let at = |entry: &common::store::stream::EntryId| time::text(entry.ms);
        let [kind, at, amount, detail] = match record {
            Line::Payment(line) => [
                "payment".to_owned(),
                at(&line.entry),
                line.paid.cumulative_amount.to_string(),
                String::new(),
            ],
            Line::Settlement(line) => {
                let refunded = format!("refunded {}", line.receipt.refunded_amount);
                ["settlement".to_owned(), at(&line.entry), line.receipt.settled_amount.to_string(), refunded]
            }
            Line::Failed(line) => {
                let amount = line.cumulative_amount.to_string();
                ["failed".to_owned(), at(&line.entry), amount, line.reason.clone()]
            }
            Line::Dead(line) => ["dead".to_owned(), at(&line.entry), "-".to_owned(), line.reason.clone()],
            Line::Terms(_) | Line::Header(_) | Line::Footer(_) => return None,
        };
        Some([kind, at, amount, format!("{segment}:{line}"), detail])
    });
    table(["kind", "at", "amount", "segment:line", "detail"], rows)
}
