//! What cannot be done for less: reading entries and nothing else, asking the issuer and nothing else. Each on the
//! settler's core, on one thread, with the settler's own libraries and as much at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use common::store::Store;
use common::store::stream::EntryId;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::ground::Ground;
use super::issuer::BARE_ROUTE;
use crate::machine::{Machine, cpu_of_this_thread};
use crate::stage;

/// A settlement's size.
const REQUEST_BYTES: usize = 450;

/// What so many of something took.
pub(super) struct Reading {
    pub(super) count: u64,
    pub(super) elapsed: Duration,
    pub(super) cpu: Duration,
}

/// Runs `work` on the settler's core, with a runtime of its own, and takes the time.
fn timed<F: Future<Output = anyhow::Result<u64>>>(
    machine: &Machine,
    work: impl FnOnce() -> F + Send,
) -> anyhow::Result<Reading> {
    machine.beside_server(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (began, cpu) = (Instant::now(), cpu_of_this_thread()?);
        let count = runtime.block_on(work())?;
        Ok(Reading { count, elapsed: began.elapsed(), cpu: cpu_of_this_thread()?.saturating_sub(cpu) })
    })
}

/// Reads all entries, page by page, all partitions at once.
pub(super) fn read_all(machine: &Machine, ground: &Ground, page: u64) -> anyhow::Result<Reading> {
    let config = ground.redis_config();
    timed(machine, || async move {
        let store = stage::connect(&config).await?;
        let partitions = store.partitions();
        let pages = stream::iter(0..partitions).map(|partition| read_partition(&store, partition, page));
        pages.buffer_unordered(partitions.into()).try_fold(0, async |sum, read| Ok(sum + read)).await
    })
}

async fn read_partition(store: &Store, partition: u16, page: u64) -> anyhow::Result<u64> {
    let (mut from, mut read) = (EntryId::ZERO, 0u64);
    loop {
        let entries = store.entries(partition, from, page).await?;
        let Some(last) = entries.last() else { return Ok(read) };
        read += u64::try_from(entries.len())?;
        from = EntryId { ms: last.id.ms, n: last.id.n + 1 };
    }
}

/// Sends so many requests of a settlement's size, so many at once, and reads the answers.
pub(super) fn ask(machine: &Machine, ground: &Ground, count: u64, at_once: usize) -> anyhow::Result<Reading> {
    let url = format!("{}{BARE_ROUTE}", ground.issuer_url);
    timed(machine, || async move {
        let client = reqwest::Client::builder().no_proxy().build().context("a client")?;
        let (client, url) = (&client, &url);
        let answers = stream::iter(0..count).map(async |_| {
            let answer = client.post(url).body(vec![b'0'; REQUEST_BYTES]).send().await?.error_for_status()?;
            answer.bytes().await
        });
        let answered = answers.buffer_unordered(at_once).try_fold(0, async |sum, _| Ok(sum + 1)).await?;
        ensure!(answered == count, "{answered} answers to {count} requests");
        Ok(answered)
    })
}
