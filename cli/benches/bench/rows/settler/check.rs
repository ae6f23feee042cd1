//! Whether the run is worth a figure: every channel closed exactly once, for exactly its latest accepted amount, with a
//! receipt that the issuer signed; nothing waiting, nothing given up on.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use common::channel::Status;
use common::ids::ChannelId;
use common::verify::usable_key;

use super::ground::Ground;
use super::issuer::Books;
use super::payments::Channels;

/// Compares the issuer's books, Redis, and what was paid. Gives back the books.
///
/// # Errors
/// Anything that is not as it must be.
pub(super) async fn everything(ground: &Ground, channels: &Channels) -> anyhow::Result<Books> {
    let books = Books::fetch(&ground.issuer_url).await?;
    let issuer = usable_key(&ground.issuer_key).context("the issuer's key is none")?;
    ensure!(books.stale == 0, "{} settlements under an old token, with one settler", books.stale);
    let settled: HashMap<&ChannelId, _> = books.closed.iter().map(|(id, amounts)| (id, amounts)).collect();
    ensure!(settled.len() == channels.len(), "{} channels settled of {}", settled.len(), channels.len());
    for channel in channels.iter() {
        let (id, paid) = (channel.id(), channel.paid());
        let amounts = settled.get(&id).with_context(|| format!("{id} was never settled"))?;
        ensure!(**amounts == [paid], "{id}: settled for {amounts:?}, and {paid} was accepted");
        let found = ground.store.channel(&id).await?.with_context(|| format!("Redis has lost {id}"))?;
        let receipt = found.receipt.with_context(|| format!("{id} has no receipt"))?;
        let ended = (found.state.status, found.state.amount, receipt.settled_amount, receipt.closed);
        ensure!(ended == (Status::Closed, paid, paid, true), "{id}: {ended:?}, and {paid} was accepted");
        ensure!(receipt.is_signed_with(&issuer), "{id}: the receipt is not the issuer's");
        ensure!(receipt.inclusion.is_some(), "{id}: the receipt names no batch");
        receipt.check_inclusion(&issuer).with_context(|| id.to_string())?;
    }
    for partition in 0..ground.store.partitions() {
        let info = ground.store.partition_info(partition).await?;
        let left = (info.entries, info.unacknowledged, info.due, info.dead);
        ensure!(left == (0, 0, 0, 0), "partition {partition} has something left: {info:?}");
    }
    Ok(books)
}
