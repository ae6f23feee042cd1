//! `millrace inspect channels|channel`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use common::amount::Amount;
use common::channel::{Status, Terms};
use common::ids::ChannelId;
use common::store::Store;
use common::store::read::StoredChannel;
use common::wire::{Latest, Receipt};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use crate::commands::verify::place;
use crate::output::{self, Printer, fields, or_dash, table, yes_no};

/// Channels that are read at once.
const IN_FLIGHT: usize = 32;

/// Where a page ends: a partition and Redis' own cursor in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    partition: u16,
    scan: Option<String>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.scan.as_deref().unwrap_or("0"))
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || "expected the `next` of the page before, such as 3:1024".to_owned();
        let (partition, scan) = text.split_once(':').ok_or_else(invalid)?;
        if scan.is_empty() || !scan.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let scan = (scan != "0").then(|| scan.to_owned());
        Ok(Cursor { partition: partition.parse().map_err(|_| invalid())?, scan })
    }
}

/// A channel in Redis, as JSON.
#[derive(Serialize)]
struct Shown {
    channel_id: ChannelId,
    partition: u16,
    status: Status,
    latest: Option<Latest>,
    amount: Amount,
    capacity: Amount,
    settled_before: Amount,
    due_at_ms: Option<u64>,
    first_at_ms: Option<u64>,
    last_at_ms: Option<u64>,
    close_requested_at_ms: Option<u64>,
    closing_at_ms: Option<u64>,
    closing_reason: Option<String>,
    attempts: u64,
    last_error: Option<String>,
    receipt: Option<Receipt>,
    terms: Terms,
}

#[derive(Serialize)]
struct Page {
    channels: Vec<Shown>,
    next: Option<String>,
}

pub(super) async fn page(
    store: &Store,
    after: Option<Cursor>,
    limit: u32,
    printer: &Printer,
) -> anyhow::Result<()> {
    let mut at = after.unwrap_or(Cursor { partition: 0, scan: None });
    ensure!(
        at.partition < store.partitions(),
        "--after names partition {}, which there is not",
        at.partition
    );
    let wanted = usize::try_from(limit)?;
    let mut ids = Vec::new();
    // A page ends where Redis' own does: a cursor in the middle of one does not exist.
    let next = loop {
        let (found, scan) = store.channel_page(at.partition, at.scan.as_deref(), limit).await?;
        ids.extend(found);
        at = match scan {
            Some(scan) => Cursor { scan: Some(scan), ..at },
            None => Cursor { partition: at.partition + 1, scan: None },
        };
        if at.partition >= store.partitions() {
            break None;
        }
        if ids.len() >= wanted {
            break Some(at.to_string());
        }
    };
    let channels: Vec<Option<Shown>> = futures::stream::iter(ids)
        .map(async |id| read(store, &id).await)
        .buffered(IN_FLIGHT)
        .try_collect()
        .await?;
    let page = Page { channels: channels.into_iter().flatten().collect(), next };
    printer.data(&page, page_text)?;
    if let Some(next) = &page.next {
        printer.note(format_args!("next page: --after {next}"));
    }
    Ok(())
}

fn page_text(page: &Page) -> String {
    table(
        ["channel", "partition", "status", "amount", "capacity", "close asked for", "attempts"],
        page.channels.iter().map(|channel| {
            [
                channel.channel_id.to_string(),
                format!("{:02}", channel.partition),
                format!("{:?}", channel.status).to_lowercase(),
                channel.amount.to_string(),
                channel.capacity.to_string(),
                yes_no(channel.close_requested_at_ms.is_some()),
                channel.attempts.to_string(),
            ]
        }),
    )
}

pub(super) async fn one(store: &Store, id: &ChannelId, printer: &Printer) -> anyhow::Result<()> {
    let channel = read(store, id).await?.with_context(|| {
        format!("Redis does not know {id}: it learns of a channel at its first payment or close request")
    })?;
    printer.data(&channel, |channel| {
        let inclusion = channel.receipt.as_ref().and_then(|receipt| receipt.inclusion.as_ref());
        fields([
            ("channel", channel.channel_id.to_string()),
            ("partition", format!("{:02}", channel.partition)),
            ("status", format!("{:?}", channel.status).to_lowercase()),
            ("scheme", output::scheme(&channel.terms.scheme)),
            ("amount", channel.amount.to_string()),
            ("proof", or_dash(channel.latest.as_ref().map(|latest| output::proof(&latest.proof)))),
            ("capacity", channel.capacity.to_string()),
            ("settled before", channel.settled_before.to_string()),
            ("payer", channel.terms.payer.to_string()),
            ("payee", channel.terms.payee.to_string()),
            ("asset", channel.terms.asset.clone()),
            ("expires at", format!("{} (Unix time)", channel.terms.expires_at)),
            ("due at, ms", or_dash(channel.due_at_ms)),
            ("first unsettled payment at, ms", or_dash(channel.first_at_ms)),
            ("last payment read at, ms", or_dash(channel.last_at_ms)),
            ("close requested at, ms", or_dash(channel.close_requested_at_ms)),
            ("close began at, ms", or_dash(channel.closing_at_ms)),
            ("because", or_dash(channel.closing_reason.as_ref())),
            ("attempts to settle", channel.attempts.to_string()),
            ("last error", or_dash(channel.last_error.as_ref())),
            ("receipt", or_dash(channel.receipt.as_ref().map(|receipt| receipt.signature))),
            ("place in its batch", or_dash(inclusion.map(place))),
        ])
    })
}

async fn read(store: &Store, id: &ChannelId) -> anyhow::Result<Option<Shown>> {
    let Some(channel) = store.channel(id).await? else { return Ok(None) };
    let due_at_ms = store.due_at(id).await?;
    Ok(Some(shown(*id, store.partition_of(id), due_at_ms, channel)))
}

fn shown(channel_id: ChannelId, partition: u16, due_at_ms: Option<u64>, channel: StoredChannel) -> Shown {
    let proof = channel.state.proof(channel.terms.scheme);
    Shown {
        channel_id,
        partition,
        status: channel.state.status,
        latest: proof.map(|proof| Latest { cumulative_amount: channel.state.amount, proof }),
        amount: channel.state.amount,
        capacity: channel.state.capacity,
        settled_before: channel.settled_before,
        due_at_ms,
        first_at_ms: channel.first_at_ms,
        last_at_ms: channel.last_at_ms,
        close_requested_at_ms: channel.close_requested_at_ms,
        closing_at_ms: channel.closing_at_ms,
        closing_reason: channel.closing_reason,
        attempts: channel.attempts,
        last_error: channel.last_error,
        receipt: channel.receipt,
        terms: channel.terms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_they_were_printed() {
        for text in ["0:0", "15:18446744073709551615"] {
            assert_eq!(text.parse::<Cursor>().map(|cursor| cursor.to_string()).as_deref(), Ok(text));
        }
        for wrong in ["", "3", "3:", ":3", "x:3", "3:x", "99999:0"] {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
        }
    }
}
