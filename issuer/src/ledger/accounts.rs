//! Accounts: registering, reading, and what a party has locked.

use common::amount::Amount;
use common::ids::PublicKey;
use common::verify::usable_key;
use common::wire::{Account, Balance};

use super::books::{Operation, OperationKind, Place};
use super::sql::{Lock, Tx};
use super::{LedgerError, Rules};

/// Registers a key; a new one gets the starting balance where the issuer hands out play money.
pub(super) fn register(tx: &dyn Tx, rules: &Rules, public_key: &PublicKey) -> Result<Account, LedgerError> {
    if usable_key(public_key).is_none() {
        return Err(LedgerError::malformed("public_key", "an Ed25519 public key that is not of small order"));
    }
    let now_ms = rules.now_ms();
    let inserted = tx.execute(
        "INSERT INTO parties (public_key, registered_at_ms) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        &[public_key.into(), now_ms.into()],
    )?;
    let development = &rules.development;
    if inserted == 1 && development.enabled && !development.starting_balance.is_zero() {
        // Nobody else sees the new party before this transaction ends; what was issued, everybody changes.
        tx.lock(Lock::Party(public_key))?;
        tx.lock(Lock::Issuance)?;
        Operation::begin(tx, OperationKind::Issue, &development.asset, now_ms)?.post(
            Place::Issuance,
            Place::Party(public_key),
            development.starting_balance,
        )?;
    }
    read(tx, public_key)?.ok_or_else(|| LedgerError::inconsistent("a registered key has no account"))
}

/// Reads an account; `None` for a key that was never registered.
pub(super) fn read(tx: &dyn Tx, public_key: &PublicKey) -> Result<Option<Account>, LedgerError> {
    let Some(highest_fencing_token) = highest_fencing_token(tx, public_key)? else {
        return Ok(None);
    };
    let rows = tx.rows(
        "SELECT asset, balance, locked FROM accounts WHERE kind = 'party' AND owner = ?1 ORDER BY asset",
        &[public_key.into()],
    )?;
    let balances = rows
        .iter()
        .map(|row| Ok(Balance { asset: row.get(0)?, available: row.get(1)?, locked: row.get(2)? }))
        .collect::<Result<Vec<_>, LedgerError>>()?;
    Ok(Some(Account { public_key: *public_key, balances, highest_fencing_token }))
}

/// True if the key was registered.
pub(super) fn is_registered(tx: &dyn Tx, public_key: &PublicKey) -> Result<bool, LedgerError> {
    Ok(highest_fencing_token(tx, public_key)?.is_some())
}

/// The highest fencing token seen from a payee, 0 if none; `None` for a key that was never registered.
pub(super) fn highest_fencing_token(tx: &dyn Tx, payee: &PublicKey) -> Result<Option<u64>, LedgerError> {
    tx.first("SELECT highest_fencing_token FROM parties WHERE public_key = ?1", &[payee.into()])?
        .map(|row| row.get(0))
        .transpose()
}

/// Keeps the highest fencing token seen from a payee.
pub(super) fn raise_fencing_token(tx: &dyn Tx, payee: &PublicKey, token: u64) -> Result<(), LedgerError> {
    tx.execute(
        "UPDATE parties SET highest_fencing_token = ?2 WHERE public_key = ?1 AND highest_fencing_token < ?2",
        &[payee.into(), token.into()],
    )?;
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
    tx: &dyn Tx,
    payer: &PublicKey,
    asset: &str,
    change: Locked,
) -> Result<(), LedgerError> {
    tx.check_held(payer)?;
    let before: Amount = tx
        .one(
            "SELECT locked FROM accounts WHERE kind = 'party' AND owner = ?1 AND asset = ?2",
            &[payer.into(), asset.into()],
        )?
        .get(0)?;
    let after = match change {
        Locked::More(more) => before.checked_add(more),
        Locked::Less(less) => before.checked_sub(less),
    }
    .ok_or_else(|| LedgerError::inconsistent(format_args!("{payer} cannot have {before} {asset} locked")))?;
    tx.execute(
        "UPDATE accounts SET locked = ?3 WHERE kind = 'party' AND owner = ?1 AND asset = ?2",
        &[payer.into(), asset.into(), after.into()],
    )?;
    Ok(())
}
