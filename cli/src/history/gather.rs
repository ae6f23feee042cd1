//! Collects what a check looks at: histories from files, channels from Redis, the books from the issuer and from its
//! database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use common::amount::Amount;
use common::ids::{ChannelId, PublicKey};
use common::store::Store;
use common::wire::IssuerChannel;
use rusqlite::{Connection, OpenFlags};
use service::issuer_client::{ChannelQuery, IssuerClient};

use super::{Account, History, IssuerBooks, Leg, RedisSnapshot, Settlement};
use crate::audit::facts::of_redis;
use crate::ledger::{self, LedgerError};

/// Keys looked at by one SCAN.
const SCAN_COUNT: u32 = 1_000;

/// Channels on one page of the issuer's.
const PAGE: u32 = 1_000;

/// Reads histories, each in the order of its lines.
///
/// # Errors
/// A file cannot be read.
pub fn histories(paths: &[PathBuf]) -> Result<Vec<History>, LedgerError> {
    paths
        .iter()
        .map(|path| {
            let mut history = History::new();
            ledger::read(path, |entry| history.push(entry))?;
            Ok(history)
        })
        .collect()
}

/// Reads every channel that Redis holds. What its streams held must be watched while it is there.
///
/// # Errors
/// Redis does not answer.
pub async fn redis(store: &Store) -> anyhow::Result<RedisSnapshot> {
    let mut snapshot = RedisSnapshot::default();
    for partition in 0..store.partitions() {
        let mut cursor = None;
        loop {
            let (ids, next) = store.channel_page(partition, cursor.as_deref(), SCAN_COUNT).await?;
            for id in ids {
                if let Some(channel) = store.channel(&id).await? {
                    snapshot.channels.insert(id, of_redis(channel));
                }
            }
            if next.is_none() {
                break;
            }
            cursor = next;
        }
    }
    Ok(snapshot)
}

/// Reads the books: channels as the issuer shows them, settlements and postings past it, from its database.
///
/// # Errors
/// The issuer does not answer, or the file is not the reference issuer's.
pub async fn issuer(
    client: &IssuerClient,
    public_key: PublicKey,
    database: &Path,
) -> anyhow::Result<IssuerBooks> {
    let mut channels = BTreeMap::<ChannelId, IssuerChannel>::new();
    let mut query = ChannelQuery { limit: Some(PAGE), ..ChannelQuery::default() };
    loop {
        let page = client.channels(&query).await.context("the issuer does not list its channels")?;
        channels.extend(page.channels.into_iter().map(|channel| (channel.channel_id, channel)));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let books = client.books().await.context("the issuer does not show its books")?;
    let fault = (!books.balanced).then(|| books.fault.unwrap_or_else(|| "not balanced".to_owned()));
    let (settlements, legs) =
        recorded(database).with_context(|| format!("cannot read {}", database.display()))?;
    Ok(IssuerBooks { public_key, channels, settlements, legs, fault })
}

/// Settlements and postings as they stand in the database.
fn recorded(database: &Path) -> anyhow::Result<(Vec<Settlement>, Vec<Leg>)> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut settlements = Vec::new();
    let mut statement =
        connection.prepare("SELECT channel_id, cumulative_amount, close, receipt FROM settlements")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let receipt: String = row.get(3)?;
        settlements.push(Settlement {
            channel_id: ChannelId(row.get(0)?),
            amount: Amount::new(u64::from_be_bytes(row.get(1)?)),
            close: row.get(2)?,
            receipt: serde_json::from_str(&receipt)?,
        });
    }
    let mut legs = Vec::new();
    let mut statement = connection.prepare(
        "SELECT p.operation_id, p.asset, p.amount, f.kind, f.owner, t.kind, t.owner FROM postings p
         LEFT JOIN accounts f ON f.id = p.from_account LEFT JOIN accounts t ON t.id = p.to_account ORDER BY p.id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (operation, asset): (i64, String) = (row.get(0)?, row.get(1)?);
        let units = i128::from(u64::from_be_bytes(row.get(2)?));
        let from = account(row.get(3)?, row.get(4)?)?;
        let to = account(row.get(5)?, row.get(6)?)?;
        legs.push(Leg { operation, account: from, asset: asset.clone(), units: -units });
        legs.push(Leg { operation, account: to, asset, units });
    }
    Ok((settlements, legs))
}

fn account(kind: String, owner: Vec<u8>) -> anyhow::Result<Account> {
    let owner = || <[u8; 32]>::try_from(owner.as_slice()).context("an owner of 32 bytes");
    Ok(match kind.as_str() {
        "issuance" => Account::Issuance,
        "party" => Account::Party(PublicKey(owner()?)),
        "escrow" => Account::Escrow(ChannelId(owner()?)),
        other => anyhow::bail!("an account of unknown kind {other}"),
    })
}
