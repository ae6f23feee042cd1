//! `millrace inspect leader|partitions|dead`.

use anyhow::ensure;
use common::clock::Clock;
use common::store::Store;
use common::store::read::{LeaseInfo, PartitionInfo};
use common::store::stream::EntryId;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::output::{Printer, fields, or_dash, table};

pub(in crate::commands) fn entry_id(text: &str) -> Result<EntryId, String> {
    text.parse().map_err(|_| "expected the id of an entry, such as 1700000000000-0".to_owned())
}

pub(super) async fn leader(store: &Store, printer: &Printer) -> anyhow::Result<()> {
    let lease = store.lease_info().await?;
    printer.data(&lease, |lease: &LeaseInfo| match &lease.holder {
        Some(holder) => fields([
            ("leader", holder.clone()),
            ("lease ends in", or_dash(lease.expires_in_ms.map(|ms| format!("{ms} ms")))),
            ("fencing token", lease.token.to_string()),
        ]),
        None => format!("no leader: is a settler running? (last fencing token {})", lease.token),
    })
}

pub(super) async fn partitions(store: &Store, printer: &Printer) -> anyhow::Result<()> {
    let mut infos = Vec::new();
    for partition in 0..store.partitions() {
        infos.push(store.partition_info(partition).await?);
    }
    let now_ms = Clock::system().now_ms();
    printer.data(&infos, |infos: &Vec<PartitionInfo>| {
        let header = ["partition", "seq", "entries", "unacknowledged", "oldest", "due", "fence", "dead"];
        table(
            header,
            infos.iter().map(|info| {
                let age_s = info.oldest_at_ms.map(|at| now_ms.saturating_sub(at) / 1_000);
                [
                    format!("{:02}", info.partition),
                    info.seq.to_string(),
                    info.entries.to_string(),
                    info.unacknowledged.to_string(),
                    or_dash(age_s.map(|age| format!("{age} s ago"))),
                    info.due.to_string(),
                    info.fence.to_string(),
                    info.dead.to_string(),
                ]
            }),
        )
    })
}

#[derive(Serialize)]
struct DeadEntry {
    partition: u16,
    entry: String,
    fields: Map<String, Value>,
}

pub(super) async fn dead(
    store: &Store,
    partition: Option<u16>,
    after: EntryId,
    limit: u64,
    printer: &Printer,
) -> anyhow::Result<()> {
    ensure!(
        partition.is_none_or(|partition| partition < store.partitions()),
        "there are {} partitions, counted from 0",
        store.partitions()
    );
    let mut letters = Vec::new();
    for partition in partition.map_or(0..store.partitions(), |only| only..only + 1) {
        for (entry, pairs) in store.dead(partition, after, limit).await? {
            let fields = pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
            letters.push(DeadEntry { partition, entry: entry.to_string(), fields });
        }
    }
    printer.data(&letters, |letters: &Vec<DeadEntry>| {
        if letters.is_empty() {
            return "no dead letters".to_owned();
        }
        table(
            ["partition", "entry", "what"],
            letters.iter().map(|letter| {
                let what = letter
                    .fields
                    .iter()
                    .map(|(name, value)| format!("{name}: {}", value.as_str().unwrap_or_default()));
                [
                    format!("{:02}", letter.partition),
                    letter.entry.clone(),
                    what.collect::<Vec<_>>().join("\n"),
                ]
            }),
        )
    })
}
