//! Double entry. Money moves only by a posting from one account to another, so every operation's sum is zero; the
//! balances beside them are a convenience that [`verify`] checks.

use std::collections::{BTreeMap, HashMap};

use common::amount::Amount;
use common::channel::Terms;
use common::ids::{ChannelId, PublicKey};
use common::problem::{Code, Problem};
use service::issuer_client::{AssetBooks, Books};

use super::LedgerError;
use super::sql::Tx;

/// Why money moves.
#[derive(Clone, Copy, Debug)]
pub(super) enum OperationKind {
    Issue,
    Open,
    Settle,
    Refund,
}

impl OperationKind {
    const fn as_str(self) -> &'static str {
        match self {
            OperationKind::Issue => "issue",
            OperationKind::Open => "open",
            OperationKind::Settle => "settle",
            OperationKind::Refund => "refund",
        }
    }
}

/// Where money can be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// Where an asset comes from.
    Issuance,
    /// A party's free balance.
    Party(&'a PublicKey),
    /// What a channel still holds.
    Escrow(&'a ChannelId),
}

impl Place<'_> {
    fn kind_and_owner(&self) -> (&'static str, &[u8]) {
        match self {
            Place::Issuance => ("issuance", &[]),
            Place::Party(key) => ("party", key.as_bytes()),
            Place::Escrow(channel) => ("escrow", channel.as_bytes()),
        }
    }
}

/// The postings of one operation in one asset, within the transaction that is the operation.
pub(super) struct Operation<'a> {
    tx: &'a dyn Tx,
    asset: &'a str,
    id: i64,
}

impl<'a> Operation<'a> {
    /// Begins an operation.
    pub(super) fn begin(
        tx: &'a dyn Tx,
        kind: OperationKind,
        asset: &'a str,
        at_ms: i64,
    ) -> Result<Self, LedgerError> {
        let sql = "INSERT INTO operations (kind, at_ms) VALUES (?1, ?2) RETURNING id";
        let id = tx.one(sql, &[kind.as_str().into(), at_ms.into()])?.get(0)?;
        Ok(Self { tx, asset, id })
    }

    /// Moves `amount`; nothing, where it is zero.
    ///
    /// # Errors
    /// `insufficient_funds`, where it is not there to be moved, or the asset's issuance is used up.
    pub(super) fn post(&self, from: Place<'_>, to: Place<'_>, amount: Amount) -> Result<(), LedgerError> {
        if amount.is_zero() {
            return Ok(());
        }
        let (from_id, from_balance) = self.account(&from)?;
        let (to_id, to_balance) = self.account(&to)?;
        // The issuance's balance counts what was issued: its limit is what keeps every other balance in range.
        let from_after = match from {
            Place::Issuance => from_balance.checked_add(amount),
            Place::Party(_) | Place::Escrow(_) => from_balance.checked_sub(amount),
        }
        .ok_or_else(|| self.insufficient(&from, from_balance, amount))?;
        let to_after = to_balance
            .checked_add(amount)
            .ok_or_else(|| LedgerError::inconsistent("a balance would pass everything that was issued"))?;
        self.set_balance(from_id, from_after)?;
        self.set_balance(to_id, to_after)?;
        self.tx.execute(
            "INSERT INTO postings (operation_id, from_account, to_account, asset, amount)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            &[self.id.into(), from_id.into(), to_id.into(), self.asset.into(), amount.into()],
        )?;
        Ok(())
    }

    fn insufficient(&self, from: &Place<'_>, balance: Amount, amount: Amount) -> LedgerError {
        let problem = Problem::new(Code::InsufficientFunds);
        match from {
            Place::Issuance => problem
                .detail(format_args!("{balance} {} are issued: {amount} more cannot be", self.asset))
                .into(),
            Place::Party(_) => {
                problem.detail(format_args!("{balance} {} available, {amount} needed", self.asset)).into()
            }
            Place::Escrow(channel) => LedgerError::inconsistent(format_args!(
                "channel {channel} holds {balance}, {amount} should leave it"
            )),
        }
    }

    /// The account's row and balance, made where there is none yet.
    fn account(&self, place: &Place<'_>) -> Result<(i64, Amount), LedgerError> {
        if let Place::Party(key) = place {
            self.tx.check_held(key)?;
        }
        let (kind, owner) = place.kind_and_owner();
        let key = [kind.into(), owner.into(), self.asset.into()];
        let sql = "SELECT id, balance FROM accounts WHERE kind = ?1 AND owner = ?2 AND asset = ?3";
        if let Some(found) = self.tx.first(sql, &key)? {
            return Ok((found.get(0)?, found.get(1)?));
        }
        let sql = "INSERT INTO accounts (kind, owner, asset) VALUES (?1, ?2, ?3) RETURNING id";
        Ok((self.tx.one(sql, &key)?.get(0)?, Amount::ZERO))
    }

    fn set_balance(&self, account_id: i64, balance: Amount) -> Result<(), LedgerError> {
        let sql = "UPDATE accounts SET balance = ?2 WHERE id = ?1";
        self.tx.execute(sql, &[account_id.into(), balance.into()]).map(drop)
    }
}

/// An account while the books are added up.
struct Tally {
    kind: String,
    owner: Vec<u8>,
    asset: String,
    balance: Amount,
    locked: Amount,
    /// What the postings so far leave there; for an issuance, what they took from there.
    posted: u128,
}

/// The sums of one asset. They cannot overflow: each adds up at most 2^63 rows of 64 bits.
#[derive(Default)]
struct Sums {
    issued: u128,
    held: u128,
    escrowed: u128,
}

/// Adds the books up anew: balances from postings, locked sums from escrows, escrows from channels, assets as a whole.
pub(super) fn verify(tx: &dyn Tx) -> Result<Books, LedgerError> {
    let mut tallies = tallies(tx)?;
    let mut faults = Vec::new();
    let postings = replay_postings(tx, &mut tallies, &mut faults)?;
    for tally in tallies.values() {
        if tally.posted != u128::from(tally.balance.units()) {
            faults.push(format!(
                "{} {} of {}: balance {}, postings leave {}",
                tally.kind,
                bs58_of(&tally.owner),
                tally.asset,
                tally.balance,
                tally.posted
            ));
        }
    }
    compare_with_channels(tx, &tallies, &mut faults)?;
    let mut sums: BTreeMap<&str, Sums> = BTreeMap::new();
    for tally in tallies.values() {
        let sums = sums.entry(&tally.asset).or_default();
        let sum = match tally.kind.as_str() {
            "issuance" => &mut sums.issued,
            "party" => &mut sums.held,
            _ => &mut sums.escrowed,
        };
        *sum += u128::from(tally.balance.units());
    }
    let mut assets = Vec::new();
    for (asset, sums) in sums {
        if sums.issued != sums.held + sums.escrowed {
            faults.push(format!(
                "{asset}: issued {}, held {}, locked {}",
                sums.issued, sums.held, sums.escrowed
            ));
        }
        let amount = |sum: u128| u64::try_from(sum).map_or(Amount::MAX, Amount::new);
        assets.push(AssetBooks {
            asset: asset.to_owned(),
            issued: amount(sums.issued),
            held: amount(sums.held),
            locked: amount(sums.escrowed),
        });
    }
    let accounts = u64::try_from(tallies.len()).unwrap_or(u64::MAX);
    Ok(Books { balanced: faults.is_empty(), fault: faults.into_iter().next(), accounts, postings, assets })
}

fn tallies(tx: &dyn Tx) -> Result<HashMap<i64, Tally>, LedgerError> {
    let mut tallies = HashMap::new();
    tx.each("SELECT id, kind, owner, asset, balance, locked FROM accounts", &[], &mut |row| {
        let tally = Tally {
            kind: row.get(1)?,
            owner: row.get(2)?,
            asset: row.get(3)?,
            balance: row.get(4)?,
            locked: row.get(5)?,
            posted: 0,
        };
        tallies.insert(row.get(0)?, tally);
        Ok(())
    })?;
    Ok(tallies)
}

/// Applies every posting in order; no account but an issuance may ever have given what it did not have.
fn replay_postings(
    tx: &dyn Tx,
    tallies: &mut HashMap<i64, Tally>,
    faults: &mut Vec<String>,
) -> Result<u64, LedgerError> {
    let mut count = 0u64;
    let sql = "SELECT id, from_account, to_account, asset, amount FROM postings ORDER BY id";
    tx.each(sql, &[], &mut |row| {
        count += 1;
        let id: i64 = row.get(0)?;
        let asset: String = row.get(3)?;
        let moved = u128::from(row.get::<u64>(4)?);
        let (from, to): (i64, i64) = (row.get(1)?, row.get(2)?);
        for (account, is_source) in [(from, true), (to, false)] {
            let Some(tally) = tallies.get_mut(&account) else {
                faults.push(format!("posting {id} names no account"));
                continue;
            };
            if tally.asset != asset {
                faults.push(format!("posting {id} moves {asset} through an account of {}", tally.asset));
            }
            // An issuance counts what left it; it is never paid into.
            let adds = (tally.kind == "issuance") == is_source;
            let after = if adds { tally.posted.checked_add(moved) } else { tally.posted.checked_sub(moved) };
            match after {
                Some(after) => tally.posted = after,
                None => faults.push(format!("posting {id} takes more than was there")),
            }
        }
        Ok(())
    })?;
    Ok(count)
}

/// Each escrow holds what its channel has not paid out, and each payer has locked what its escrows hold.
fn compare_with_channels(
    tx: &dyn Tx,
    tallies: &HashMap<i64, Tally>,
    faults: &mut Vec<String>,
) -> Result<(), LedgerError> {
    let mut escrows: HashMap<&[u8], Amount> =
        tallies.values().filter(|t| t.kind == "escrow").map(|t| (t.owner.as_slice(), t.balance)).collect();
    let mut locked: HashMap<(Vec<u8>, String), u128> = HashMap::new();
    let sql = "SELECT channel_id, terms, status, settled_amount, refunded_amount FROM channels";
    tx.each(sql, &[], &mut |row| {
        let id: [u8; 32] = row.get(0)?;
        let terms: String = row.get(1)?;
        let terms: Terms = serde_json::from_str(&terms).map_err(LedgerError::inconsistent)?;
        let is_open = row.get::<String>(2)? == "open";
        let (settled, refunded): (Amount, Amount) = (row.get(3)?, row.get(4)?);
        let rest = terms.capacity.checked_sub(settled).and_then(|rest| rest.checked_sub(refunded));
        let escrow = escrows.remove(id.as_slice());
        if escrow != rest || (!is_open && rest != Some(Amount::ZERO)) {
            faults.push(format!("channel {}: escrow {escrow:?}, should hold {rest:?}", ChannelId(id)));
        }
        *locked.entry((terms.payer.0.to_vec(), terms.asset)).or_default() +=
            u128::from(escrow.unwrap_or_default().units());
        Ok(())
    })?;
    if !escrows.is_empty() {
        faults.push(format!("{} escrows belong to no channel", escrows.len()));
    }
    for tally in tallies.values().filter(|tally| tally.kind == "party") {
        let expected = locked.remove(&(tally.owner.clone(), tally.asset.clone())).unwrap_or_default();
        if u128::from(tally.locked.units()) != expected {
            faults.push(format!(
                "{} has {} locked, escrows hold {expected}",
                bs58_of(&tally.owner),
                tally.locked
            ));
        }
    }
    Ok(())
}

/// An owner for a person to read; empty for an issuance.
fn bs58_of(owner: &[u8]) -> String {
    <[u8; 32]>::try_from(owner).map(|raw| PublicKey(raw).to_string()).unwrap_or_default()
}
