//! Channels: opening against a locked deposit, reading, and giving back what an expired one still holds.

use common::amount::Amount;
use common::channel::Terms;
use common::ids::{ChannelId, Hash, PublicKey, Signature};
use common::message;
use common::problem::{Code, Problem};
use common::verify::{usable_key, verify_strict};
use common::wire::{IssuerChannel, IssuerChannelPage, IssuerStatus, OpenRequest, RefundRequest};
use serde::de::DeserializeOwned;
use service::issuer_client::ChannelQuery;

use super::accounts::{Locked, change_locked, is_registered};
use super::books::{Operation, OperationKind, Place};
use super::sql::{Lock, Row, Tx, Value};
use super::{LedgerError, Opened, Rules};

const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1_000;

const COLUMNS: &str =
    "channel_id, terms, status, settled_amount, refunded_amount, settled, receipt, opened_at_ms";

/// Opens a channel, or finds the one that this opening made before.
pub(super) fn open(tx: &dyn Tx, rules: &Rules, request: &OpenRequest) -> Result<Opened, LedgerError> {
    let OpenRequest { terms, signature } = request.clone();
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
    // Only the payer's money moves; and the same opening twice at once is by one payer.
    tx.lock(Lock::Party(&terms.payer))?;
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
    tx.execute(
        "INSERT INTO channels (channel_id, payer, payee, terms, opened_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        &[(&id).into(), (&terms.payer).into(), (&terms.payee).into(), text.as_str().into(), now_ms.into()],
    )?;
    if let Some(root) = terms.scheme.root() {
        commit(tx, root, &id)?;
    }
    known(tx, &id).map(|channel| Opened::New(Box::new(channel)))
}

/// Takes a commitment for this channel alone. Two channels that come with it at once: the database lets one have it.
fn commit(tx: &dyn Tx, root: &Hash, id: &ChannelId) -> Result<(), LedgerError> {
    let taken = tx.execute(
        "INSERT INTO commitments (root, channel_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        &[root.into(), id.into()],
    )?;
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
    tx: &dyn Tx,
    rules: &Rules,
    id: &ChannelId,
    request: &RefundRequest,
) -> Result<IssuerChannel, LedgerError> {
    tx.lock(Lock::PartiesOf(&[*id]))?;
    let channel = known_and_held(tx, id)?;
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
    tx.execute(
        "UPDATE channels SET status = 'refunded', refunded_amount = ?2 WHERE channel_id = ?1",
        &[id.into(), rest.into()],
    )?;
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
pub(super) fn known(tx: &dyn Tx, id: &ChannelId) -> Result<IssuerChannel, LedgerError> {
    read(tx, id)?.ok_or(Code::UnknownChannel.into())
}

/// Reads a channel that must be there and is about to change.
pub(super) fn known_and_held(tx: &dyn Tx, id: &ChannelId) -> Result<IssuerChannel, LedgerError> {
    let channel = known(tx, id)?;
    tx.check_held(&channel.terms.payer)?;
    tx.check_held(&channel.terms.payee)?;
    Ok(channel)
}

/// Reads a channel.
pub(super) fn read(tx: &dyn Tx, id: &ChannelId) -> Result<Option<IssuerChannel>, LedgerError> {
    tx.first(&format!("SELECT {COLUMNS} FROM channels WHERE channel_id = ?1"), &[id.into()])?
        .map(|row| from_row(&row))
        .transpose()
}

/// Reads a page of channels.
pub(super) fn page(tx: &dyn Tx, query: &ChannelQuery) -> Result<IssuerChannelPage, LedgerError> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(LedgerError::malformed("limit", format_args!("1 to {PAGE_MAX}")));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let after = query.after.map(|id| id.0.to_vec()).unwrap_or_default();
    // One row more than asked for tells whether there is a next page.
    let fetched = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    // Conditions are only there when asked for: each then has an index to go by.
    let mut sql = format!("SELECT {COLUMNS} FROM channels WHERE channel_id > ?1");
    let mut values: Vec<Value<'_>> = vec![after.as_slice().into(), fetched.into()];
    for (column, key) in [("payer", &query.payer), ("payee", &query.payee)] {
        if let Some(key) = key {
            values.push(key.into());
            sql.push_str(&format!(" AND {column} = ?{}", values.len()));
        }
    }
    sql.push_str(" ORDER BY channel_id LIMIT ?2");
    let rows = tx.rows(&sql, &values)?;
    let mut channels = rows.iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
    let has_more = channels.len() > limit;
    channels.truncate(limit);
    let next = channels.last().filter(|_| has_more).map(|last| last.channel_id);
    Ok(IssuerChannelPage { channels, next })
}

fn from_row(row: &Row) -> Result<IssuerChannel, LedgerError> {
    let status = serde_json::Value::String(row.get(2)?);
    Ok(IssuerChannel {
        channel_id: ChannelId(row.get(0)?),
        terms: from_text(&row.get::<String>(1)?)?,
        status: serde_json::from_value(status).map_err(LedgerError::inconsistent)?,
        settled_amount: row.get(3)?,
        refunded_amount: row.get(4)?,
        settled: row.get::<Option<String>>(5)?.map(|text| from_text(&text)).transpose()?,
        receipt: row.get::<Option<String>>(6)?.map(|text| from_text(&text)).transpose()?,
        opened_at_ms: row.get(7)?,
    })
}

fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, LedgerError> {
    serde_json::from_str(text).map_err(LedgerError::inconsistent)
}
