//! `millrace journal export`.

use std::io::{self, BufWriter};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use common::ids::ChannelId;
use common::journal::line::Line;
use common::text::hex;

use super::{PlaceArgs, entry, names, read};
use crate::time;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// `ndjson`: the journal's own lines, terms included, so that each payment can still be proven. `csv`: a row a
    /// record, for spreadsheets.
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// Only records of this channel.
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<ChannelId>,
    /// Only records from this time on: 2026-01-31, 2026-01-31T08:30:00Z, or ms since 1970.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    from: Option<u64>,
    /// Only records before this time.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    to: Option<u64>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Ndjson,
    Csv,
}

impl ExportArgs {
    fn wants(&self, line: &Line) -> bool {
        let at_ms = entry(line).map(|entry| entry.ms);
        // Terms have no time; whoever takes payments takes them along.
        let in_time = at_ms
            .is_none_or(|at| self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to));
        in_time && self.channel.is_none_or(|id| names(line, &id))
    }
}

/// Where records go.
enum Sink<W: io::Write> {
    Ndjson(W),
    Csv(Box<csv::Writer<W>>),
}

const COLUMNS: [&str; 12] = [
    "kind",
    "segment",
    "partition",
    "entry",
    "at",
    "channel_id",
    "cumulative_amount",
    "settled_amount",
    "refunded_amount",
    "reason",
    "proof",
    "signature",
];

pub(super) async fn run(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let store = args.place.store()?;
    let out = BufWriter::new(io::stdout().lock());
    let mut sink = match args.format {
        Format::Ndjson => Sink::Ndjson(out),
        Format::Csv => {
            let mut writer = csv::Writer::from_writer(out);
            writer.write_record(COLUMNS).context("cannot write to stdout")?;
            Sink::Csv(Box::new(writer))
        }
    };
    for segment in store.list().await? {
        let mut written = Ok(());
        read(&store, segment.number, |_, line, text| {
            if written.is_ok() && args.wants(line) {
                written = sink.record(segment.number, line, text);
            }
        })
        .await?;
        match written.and_then(|()| sink.flush()) {
            Ok(()) => {}
            // Whoever read has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error).context("cannot write to stdout"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl<W: io::Write> Sink<W> {
    fn record(&mut self, segment: u64, line: &Line, text: &[u8]) -> io::Result<()> {
        match self {
            Sink::Ndjson(out) => {
                out.write_all(text)?;
                out.write_all(b"\n")
            }
            Sink::Csv(out) => {
                for row in rows(segment, line) {
                    out.write_record(row)?;
                }
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Ndjson(out) => out.flush(),
            Sink::Csv(out) => out.flush(),
        }
    }
}

/// A record as rows: one, but for a dead entry, which has one for each of its payments, and for terms, which have none.
fn rows(segment: u64, line: &Line) -> Vec<[String; COLUMNS.len()]> {
    let row = |kind: &str, partition: u16, channel: &dyn std::fmt::Display, rest: [String; 6]| {
        let entry = entry(line).unwrap_or_default();
        let [amount, settled, refunded, reason, proof, signature] = rest;
        [
            kind.to_owned(),
            segment.to_string(),
            partition.to_string(),
            entry.to_string(),
            time::text(entry.ms),
            channel.to_string(),
            amount,
            settled,
            refunded,
            reason,
            proof,
            signature,
        ]
    };
    let none = String::new;
    match line {
        Line::Payment(line) => {
            let (amount, proof) = (line.paid.cumulative_amount.to_string(), hex::encode(&line.paid.proof));
            let rest = [amount, none(), none(), none(), proof, none()];
            vec![row("payment", line.partition, &line.paid.channel_id, rest)]
        }
        Line::Settlement(line) => {
            let receipt = &line.receipt;
            let rest = [
                line.cumulative_amount.to_string(),
                receipt.settled_amount.to_string(),
                receipt.refunded_amount.to_string(),
                none(),
                none(),
                receipt.signature.to_string(),
            ];
            vec![row("settlement", line.partition, &line.channel_id, rest)]
        }
        Line::Failed(line) => {
            let amount = line.cumulative_amount.to_string();
            let rest = [amount, none(), none(), line.reason.clone(), none(), none()];
            vec![row("failed", line.partition, &line.channel_id, rest)]
        }
        Line::Dead(line) if line.payments.is_empty() => {
            let rest = [none(), none(), none(), line.reason.clone(), none(), none()];
            vec![row("dead", line.partition, &"", rest)]
        }
        Line::Dead(line) => {
            let of = |paid: &common::journal::line::Paid| {
                let (amount, proof) = (paid.cumulative_amount.to_string(), hex::encode(&paid.proof));
                let rest = [amount, none(), none(), line.reason.clone(), proof, none()];
                row("dead", line.partition, &paid.channel_id, rest)
            };
            line.payments.iter().map(of).collect()
        }
        Line::Terms(_) | Line::Header(_) | Line::Footer(_) => Vec::new(),
    }
}
