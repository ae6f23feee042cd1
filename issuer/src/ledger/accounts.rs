//! Accounts: registering, reading, and what a party has locked.

use common::amount::Amount;
use common::ids::PublicKey;
use common::verify::usable_key;
use common::wire::{Account, Balance};
use rusqlite::{OptionalExtension, Transaction, params};

use super::books::{Operation, OperationKind, Place};
use super::schema::{amount, number, stored};
use super::{LedgerError, Rules};

/// Registers a key; a new one gets the starting balance where the issuer hands out play money.
pub(super) fn register(
    tx: &Transaction<'_>,
    rules: &Rules,
    public_key: &PublicKey,
) -> Result<Account, LedgerError> {
    if usable_key(public_key).is_none() {
        return Err(LedgerError::malformed("public_key", "an Ed25519 public key that is not of small order"));
    }
    let now_ms = rules.now_ms();
    let is_new = tx
        .prepare_cached(
            "INSERT INTO parties (public_key, registered_at_ms) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )?
        .execute(params![public_key.0, now_ms])?
        == 1;
    let development = &rules.development;
    if is_new && development.enabled && !development.starting_balance.is_zero() {
        Operation::begin(tx, OperationKind::Issue, &development.asset, now_ms)?.post(
            Place::Issuance,
            Place::Party(public_key),
            development.starting_balance,
        )?;
    }
    read(tx, public_key)?.ok_or_else(|| LedgerError::inconsistent("a registered key has no account"))
}

/// Reads an account; `None` for a key that was never registered.
pub(super) fn read(tx: &Transaction<'_>, public_key: &PublicKey) -> Result<Option<Account>, LedgerError> {
    let Some(highest_fencing_token) = highest_fencing_token(tx, public_key)? else {
        return Ok(None);
    };
    let balances = tx
        .prepare_cached(
            "SELECT asset, balance, locked FROM accounts WHERE kind = 'party' AND owner = ?1 ORDER BY asset",
        )?
        .query_map([public_key.0], |row| {
            Ok(Balance { asset: row.get(0)?, available: amount(row.get(1)?), locked: amount(row.get(2)?) })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Account { public_key: *public_key, balances, highest_fencing_token }))
}

/// True if the key was registered.
pub(super) fn is_registered(tx: &Transaction<'_>, public_key: &PublicKey) -> Result<bool, LedgerError> {
    Ok(highest_fencing_token(tx, public_key)?.is_some())
}

/// The highest fencing token seen from a payee, 0 if none; `None` for a key that was never registered.
pub(super) fn highest_fencing_token(
    tx: &Transaction<'_>,
    payee: &PublicKey,
) -> Result<Option<u64>, LedgerError> {
    Ok(tx
        .prepare_cached("SELECT highest_fencing_token FROM parties WHERE public_key = ?1")?
        .query_row([payee.0], |row| row.get(0).map(number))
        .optional()?)
}

/// Keeps the highest fencing token seen from a payee.
pub(super) fn raise_fencing_token(
    tx: &Transaction<'_>,
    payee: &PublicKey,
    token: u64,
) -> Result<(), LedgerError> {
    tx.prepare_cached(
        "UPDATE parties SET highest_fencing_token = ?2 WHERE public_key = ?1 AND highest_fencing_token < ?2",
    )?
    .execute(params![payee.0, stored(token)])?;
    Ok(())
}

/// A change of what a payer has locked in escrow. Goes with the posting that it repeats.
#[derive(Clone, Copy, Debug)]
pub(super) enum Locked {
    /// A deposit went into escrow.
    More(Amount),
    /// Some of it left, to whomever.
    Less(Amount),
}

/// Notes a change of what `payer` has locked.
pub(super) fn change_locked(
    tx: &Transaction<'_>,
    payer: &PublicKey,
    asset: &str,
    change: Locked,
) -> Result<(), LedgerError> {
    let before: Amount = tx
        .prepare_cached("SELECT locked FROM accounts WHERE kind = 'party' AND owner = ?1 AND asset = ?2")?
        .query_row(params![payer.0, asset], |row| row.get(0).map(amount))?;
    let after = match change {
        Locked::More(more) => before.checked_add(more),
        Locked::Less(less) => before.checked_sub(less),
    }
    .ok_or_else(|| LedgerError::inconsistent(format_args!("{payer} cannot have {before} {asset} locked")))?;
    tx.prepare_cached("UPDATE accounts SET locked = ?3 WHERE kind = 'party' AND owner = ?1 AND asset = ?2")?
        .execute(params![payer.0, asset, stored(after.units())])?;
    Ok(())
}
