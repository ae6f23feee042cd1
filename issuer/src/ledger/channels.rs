//! Channels: opening against a locked deposit, reading, and giving back what an expired one still holds.

use common::amount::Amount;
use common::channel::Terms;
use common::ids::{ChannelId, Hash, PublicKey, Signature};
use common::message;
use common::problem::{Code, Problem};
use common::verify::{usable_key, verify_strict};
use common::wire::{IssuerChannel, IssuerChannelPage, IssuerStatus, OpenRequest, RefundRequest};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, ToSql, Transaction, params};
use serde::de::DeserializeOwned;
use service::issuer_client::ChannelQuery;

use super::accounts::{Locked, change_locked, is_registered};
use super::books::{Operation, OperationKind, Place};
use super::schema::{amount, stored};
use super::{LedgerError, Opened, Rules};

const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1_000;

const COLUMNS: &str =
    "channel_id, terms, status, settled_amount, refunded_amount, settled, receipt, opened_at_ms";

/// Opens a channel, or finds the one that this opening made before.
pub(super) fn open(tx: &Transaction<'_>, rules: &Rules, request: OpenRequest) -> Result<Opened, LedgerError> {
    let OpenRequest { terms, signature } = request;
    if terms.issuer != rules.public_key {
        return Err(LedgerError::malformed(
            "terms.issuer",
            format_args!("the key of this issuer, {}", rules.public_key),
        ));
    }
    let checked = terms
        .check()
        .map_err(|error| LedgerError::malformed(&format!("terms.{}", error.field), error.expected))?;
    let (id, terms) = (checked.id(), checked.terms());
    signed_by(&terms.payer, &message::open(&id), &signature)?;
    if let Some(channel) = read(tx, &id)? {
        return Ok(Opened::Before(Box::new(channel)));
    }
    check_lifetime(rules, terms)?;
    for (field, party) in [("terms.payer", &terms.payer), ("terms.payee", &terms.payee)] {
        if !is_registered(tx, party)? {
            return Err(Problem::new(Code::UnknownAccount).field(field).into());
        }
    }
    let now_ms = rules.now_ms();
    Operation::begin(tx, OperationKind::Open, &terms.asset, now_ms)?.post(
        Place::Party(&terms.payer),
        Place::Escrow(&id),
        terms.capacity,
    )?;
    change_locked(tx, &terms.payer, &terms.asset, Locked::More(terms.capacity))?;
    let text = serde_json::to_string(terms).map_err(LedgerError::inconsistent)?;
    tx.prepare_cached(
        "INSERT INTO channels (channel_id, payer, payee, terms, opened_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![id.0, terms.payer.0, terms.payee.0, text, now_ms])?;
    if let Some(root) = terms.scheme.root() {
        commit(tx, root, &id)?;
    }
    known(tx, &id).map(|channel| Opened::New(Box::new(channel)))
}

/// Takes a commitment for this channel alone.
fn commit(tx: &Transaction<'_>, root: &Hash, id: &ChannelId) -> Result<(), LedgerError> {
    let taken = tx
        .prepare_cached("INSERT INTO commitments (root, channel_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![root.0, id.0])?;
    if taken == 0 {
        return Err(Problem::new(Code::CommitmentReused).field("terms.scheme").into());
    }
    Ok(())
}

fn check_lifetime(rules: &Rules, terms: &Terms) -> Result<(), LedgerError> {
    let left_s = terms.expires_at.saturating_sub(rules.clock.now_s());
    let limits = rules.limits.load();
    let (min_s, max_s) = (limits.channel_lifetime_min_s, limits.channel_lifetime_max_s);
    match u64::try_from(left_s) {
        Ok(left_s) if (min_s..=max_s).contains(&left_s) => Ok(()),
        _ => Err(LedgerError::malformed(
            "terms.expires_at",
            format_args!("{min_s} to {max_s} seconds from now"),
        )),
    }
}

/// Gives the rest of an expired channel back to its payer.
pub(super) fn refund(
    tx: &Transaction<'_>,
    rules: &Rules,
    id: &ChannelId,
    request: &RefundRequest,
) -> Result<IssuerChannel, LedgerError> {
    let channel = known(tx, id)?;
    let terms = &channel.terms;
    signed_by(&terms.payer, &message::refund(id), &request.signature)?;
    match channel.status {
        IssuerStatus::Refunded => return Ok(channel),
        IssuerStatus::Closed => return Err(Code::ChannelClosed.into()),
        IssuerStatus::Open if !has_passed(rules, terms.expires_at) => {
            return Err(Code::ChannelNotExpired.into());
        }
        IssuerStatus::Open => {}
    }
    let rest = rest_of(&channel)?;
    Operation::begin(tx, OperationKind::Refund, &terms.asset, rules.now_ms())?.post(
        Place::Escrow(id),
        Place::Party(&terms.payer),
        rest,
    )?;
    change_locked(tx, &terms.payer, &terms.asset, Locked::Less(rest))?;
    tx.prepare_cached("UPDATE channels SET status = 'refunded', refunded_amount = ?2 WHERE channel_id = ?1")?
        .execute(params![id.0, stored(rest.units())])?;
    known(tx, id)
}

/// True once a Unix time in seconds is over. Settling ends and refunding begins here: never both at one time.
pub(super) fn has_passed(rules: &Rules, unix_s: i64) -> bool {
    rules.clock.now_s() > unix_s
}

/// What an open channel still holds.
pub(super) fn rest_of(channel: &IssuerChannel) -> Result<Amount, LedgerError> {
    channel
        .terms
        .capacity
        .checked_sub(channel.settled_amount)
        .ok_or_else(|| LedgerError::inconsistent("more was settled than deposited"))
}

/// `invalid_signature` unless `key` signed `message`.
pub(super) fn signed_by(key: &PublicKey, message: &[u8], signature: &Signature) -> Result<(), LedgerError> {
    match usable_key(key) {
        Some(key) if verify_strict(&key, message, signature) => Ok(()),
        _ => Err(Code::InvalidSignature.into()),
    }
}

/// Reads a channel that must be there.
pub(super) fn known(tx: &Transaction<'_>, id: &ChannelId) -> Result<IssuerChannel, LedgerError> {
    read(tx, id)?.ok_or(Code::UnknownChannel.into())
}

/// Reads a channel.
pub(super) fn read(tx: &Transaction<'_>, id: &ChannelId) -> Result<Option<IssuerChannel>, LedgerError> {
    Ok(tx
        .prepare_cached(&format!("SELECT {COLUMNS} FROM channels WHERE channel_id = ?1"))?
        .query_row([id.0], from_row)
        .optional()?)
}

/// Reads a page of channels.
pub(super) fn page(tx: &Transaction<'_>, query: &ChannelQuery) -> Result<IssuerChannelPage, LedgerError> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(LedgerError::malformed("limit", format_args!("1 to {PAGE_MAX}")));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let after = query.after.map(|id| id.0.to_vec()).unwrap_or_default();
    let (payer, payee) = (query.payer.map(|key| key.0), query.payee.map(|key| key.0));
    // One row more than asked for tells whether there is a next page.
    let fetched = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    // Conditions are only there when asked for: each then has an index to go by.
    let mut sql = format!("SELECT {COLUMNS} FROM channels WHERE channel_id > :after");
    let mut values: Vec<(&str, &dyn ToSql)> = vec![(":after", &after), (":fetched", &fetched)];
    if let Some(payer) = &payer {
        sql.push_str(" AND payer = :payer");
        values.push((":payer", payer));
    }
    if let Some(payee) = &payee {
        sql.push_str(" AND payee = :payee");
        values.push((":payee", payee));
    }
    sql.push_str(" ORDER BY channel_id LIMIT :fetched");
    let mut channels =
        tx.prepare_cached(&sql)?.query_map(values.as_slice(), from_row)?.collect::<Result<Vec<_>, _>>()?;
    let has_more = channels.len() > limit;
    channels.truncate(limit);
    let next = channels.last().filter(|_| has_more).map(|last| last.channel_id);
    Ok(IssuerChannelPage { channels, next })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<IssuerChannel> {
    let status: String = row.get(2)?;
    Ok(IssuerChannel {
        channel_id: ChannelId(row.get(0)?),
        terms: from_text(1, &row.get::<_, String>(1)?)?,
        status: from_value(2, serde_json::Value::String(status))?,
        settled_amount: amount(row.get(3)?),
        refunded_amount: amount(row.get(4)?),
        settled: row.get::<_, Option<String>>(5)?.map(|text| from_text(5, &text)).transpose()?,
        receipt: row.get::<_, Option<String>>(6)?.map(|text| from_text(6, &text)).transpose()?,
        opened_at_ms: row.get(7)?,
    })
}

fn from_text<T: DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| unreadable(column, error))
}

fn from_value<T: DeserializeOwned>(column: usize, value: serde_json::Value) -> rusqlite::Result<T> {
    serde_json::from_value(value).map_err(|error| unreadable(column, error))
}

fn unreadable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
