//! Settlement: redeeming a voucher, once, for the difference to what was paid before.

use common::amount::Amount;
use common::channel::{SchemeKind, Terms};
use common::ids::{ChannelId, Signature};
use common::message;
use common::problem::{Code, Problem};
use common::voucher::{Payment, Proof, Unproven, VerifiedVoucher};
use common::wire::{IssuerChannel, IssuerStatus, Latest, Receipt, SettlementRequest};

use super::accounts::{Locked, change_locked, highest_fencing_token, raise_fencing_token};
use super::books::{Operation, OperationKind, Place};
use super::channels::{has_passed, known_and_held, rest_of, signed_by};
use super::sql::Tx;
use super::{LedgerError, Rules};

/// A receipt, or why there is none although the payee asked for it. Both are committed: a fencing token that the payee
/// signed has been seen, whatever became of the rest.
pub(super) type Outcome = Result<Settled, Box<Problem>>;

/// Checks the proof of a settlement before its transaction begins, where that may take long: a chain is hashed step by
/// step, and meanwhile nobody else could settle. `None`: it is quick, or the request is refused before it comes to that.
pub(super) fn prove_ahead(
    terms: &Terms,
    id: &ChannelId,
    request: &SettlementRequest,
) -> Option<Result<(), Unproven>> {
    if terms.scheme == SchemeKind::Ed25519 || by_payee(terms, id, request).is_err() {
        return None;
    }
    let Ok(Redeemed::Payment(payment)) = Redeemed::of(id, request) else { return None };
    let checked = terms.clone().check().ok()?;
    Some(VerifiedVoucher::verify(&checked, payment).map(drop))
}

/// Whether the payee of the channel asks for this.
fn by_payee(terms: &Terms, id: &ChannelId, request: &SettlementRequest) -> Result<(), LedgerError> {
    let signed = message::settle(id, request.cumulative_amount, request.close, request.fencing_token);
    signed_by(&terms.payee, &signed, &request.payee_signature)
}

/// A settlement that took place.
#[derive(Debug)]
pub(super) enum Settled {
    /// Now. Its receipt still lacks its place in the batch.
    Now(Box<Receipt>),
    /// Before: the text of its first receipt.
    Before(String),
}

/// Redeems a voucher, as one of the batch of `at_ms`. The order of the checks is part of the contract.
/// `proven`: what [`prove_ahead`] said.
///
/// # Errors
/// What leaves nothing behind: a request of the wrong shape, an unknown channel, one not signed by the payee, one with
/// a stale token.
pub(super) fn settle(
    tx: &dyn Tx,
    rules: &Rules,
    at_ms: i64,
    id: &ChannelId,
    request: &SettlementRequest,
    proven: Option<Result<(), Unproven>>,
) -> Result<Outcome, LedgerError> {
    let redeemed = Redeemed::of(id, request)?;
    let channel = known_and_held(tx, id)?;
    by_payee(&channel.terms, id, request)?;
    check_fencing_token(tx, rules, &channel, request.fencing_token)?;
    // Before the look at the channel: a closed channel still answers what closed it.
    if let Some(receipt) = recorded(tx, id, request)? {
        return Ok(Ok(Settled::Before(receipt)));
    }
    match check(rules, &channel, request, &redeemed, proven) {
        Ok(()) => pay(tx, rules, at_ms, &channel, request, &redeemed)
            .map(|receipt| Ok(Settled::Now(Box::new(receipt)))),
        Err(LedgerError::Refused(problem)) => Ok(Err(problem)),
        Err(error) => Err(error),
    }
}

/// What a settlement redeems.
enum Redeemed {
    /// Nothing: the channel is closed without a payment.
    Nothing,
    /// A payment, not yet checked.
    Payment(Payment),
}

impl Redeemed {
    fn of(id: &ChannelId, request: &SettlementRequest) -> Result<Self, LedgerError> {
        let malformed = LedgerError::malformed;
        let SettlementRequest { cumulative_amount, expires_at, close, .. } = *request;
        let proof = request.proof().map_err(|error| {
            LedgerError::malformed(error.field.as_deref().unwrap_or("signature"), &error.expected)
        })?;
        match proof {
            None if !cumulative_amount.is_zero() => Err(malformed("signature", "the voucher's signature")),
            None if !close => {
                Err(malformed("cumulative_amount", "more than 0, unless the channel is closed"))
            }
            None if expires_at.is_some_and(|at| at != 0) => {
                Err(malformed("expires_at", "0, where there is no voucher"))
            }
            None => Ok(Redeemed::Nothing),
            Some(_) if cumulative_amount.is_zero() => {
                Err(malformed("signature", "none, where nothing is redeemed"))
            }
            Some(proof) => Ok(Redeemed::Payment(Payment {
                channel_id: *id,
                cumulative_amount: Some(cumulative_amount),
                proof,
            })),
        }
    }

    /// As the channel keeps it.
    fn latest(&self, cumulative_amount: Amount) -> Option<Latest> {
        match self {
            Redeemed::Nothing => None,
            Redeemed::Payment(payment) => Some(Latest { cumulative_amount, proof: payment.proof.clone() }),
        }
    }
}

/// A settler that was replaced learns it here, even when it repeats what it settled itself.
fn check_fencing_token(
    tx: &dyn Tx,
    rules: &Rules,
    channel: &IssuerChannel,
    token: u64,
) -> Result<(), LedgerError> {
    let payee = &channel.terms.payee;
    let highest = highest_fencing_token(tx, payee)?.unwrap_or_default();
    if token < highest && !is_broken(rules) {
        let mut problem = Problem::new(Code::StaleFencingToken);
        problem.highest_fencing_token = Some(highest);
        return Err(problem.into());
    }
    raise_fencing_token(tx, payee, token)
}

/// True where a test wants to see what happens without the check of tokens.
fn is_broken(rules: &Rules) -> bool {
    #[cfg(all(feature = "fault-points", debug_assertions))]
    return rules.development.takes_stale_tokens;
    #[cfg(not(all(feature = "fault-points", debug_assertions)))]
    {
        let _ = rules;
        false
    }
}

fn recorded(tx: &dyn Tx, id: &ChannelId, request: &SettlementRequest) -> Result<Option<String>, LedgerError> {
    tx.first(
        "SELECT receipt FROM settlements WHERE channel_id = ?1 AND cumulative_amount = ?2 AND close = ?3",
        &[id.into(), request.cumulative_amount.into(), request.close.into()],
    )?
    .map(|row| row.get(0))
    .transpose()
}

/// Whether the channel can still pay this, and whether its payer agreed to it.
fn check(
    rules: &Rules,
    channel: &IssuerChannel,
    request: &SettlementRequest,
    redeemed: &Redeemed,
    proven: Option<Result<(), Unproven>>,
) -> Result<(), LedgerError> {
    let terms = &channel.terms;
    if channel.status != IssuerStatus::Open {
        return Err(Code::ChannelClosed.into());
    }
    if has_passed(rules, terms.expires_at) {
        return Err(Code::ChannelExpired.into());
    }
    if request.cumulative_amount > terms.capacity {
        return Err(Problem::new(Code::OverCapacity)
            .detail(format_args!("the capacity is {}", terms.capacity))
            .into());
    }
    let is_stale = if request.close {
        request.cumulative_amount < channel.settled_amount
    } else {
        request.cumulative_amount <= channel.settled_amount
    };
    if is_stale {
        let mut problem = Problem::new(Code::StaleAmount);
        problem.latest = channel.settled.clone();
        return Err(problem.into());
    }
    let Redeemed::Payment(payment) = redeemed else {
        return Ok(());
    };
    if let Proof::Ed25519 { expires_at, .. } = payment.proof
        && expires_at != 0
        && has_passed(rules, expires_at)
    {
        return Err(Problem::new(Code::ChannelExpired).detail("the voucher has expired").into());
    }
    let proven = match proven {
        Some(proven) => proven,
        None => {
            let checked = terms.clone().check().map_err(LedgerError::inconsistent)?;
            VerifiedVoucher::verify(&checked, payment.clone()).map(drop)
        }
    };
    proven.map_err(|unproven| match unproven {
        Unproven::ExpiresEarly => LedgerError::malformed("expires_at", unproven),
        Unproven::InvalidSignature => Code::InvalidSignature.into(),
        unproven => Problem::new(Code::InvalidSignature).detail(unproven).into(),
    })
}

/// Moves the money, and keeps the receipt for a repeat. Its text is final once [`complete`] has kept it.
fn pay(
    tx: &dyn Tx,
    rules: &Rules,
    at_ms: i64,
    channel: &IssuerChannel,
    request: &SettlementRequest,
    redeemed: &Redeemed,
) -> Result<Receipt, LedgerError> {
    let (id, terms) = (&channel.channel_id, &channel.terms);
    let settled_amount = request.cumulative_amount;
    let lower = || LedgerError::inconsistent("a settlement below what was settled");
    let paid = settled_amount.checked_sub(channel.settled_amount).ok_or_else(lower)?;
    let held = rest_of(channel)?;
    let rest = held.checked_sub(paid).ok_or_else(lower)?;
    let refunded_amount = if request.close { rest } else { Amount::ZERO };
    let released = if request.close { held } else { paid };

    let operation = Operation::begin(tx, OperationKind::Settle, &terms.asset, at_ms)?;
    operation.post(Place::Escrow(id), Place::Party(&terms.payee), paid)?;
    operation.post(Place::Escrow(id), Place::Party(&terms.payer), refunded_amount)?;
    change_locked(tx, &terms.payer, &terms.asset, Locked::Less(released))?;

    let receipt = signed_receipt(rules, id, settled_amount, refunded_amount, request.close, at_ms);
    let text = serde_json::to_string(&receipt).map_err(LedgerError::inconsistent)?;
    let latest = redeemed.latest(settled_amount).map(|latest| serde_json::to_string(&latest)).transpose();
    let latest = latest.map_err(LedgerError::inconsistent)?;
    let status = if request.close { "closed" } else { "open" };
    tx.execute(
        "UPDATE channels SET status = ?2, settled_amount = ?3, refunded_amount = ?4, settled = ?5, receipt = ?6
         WHERE channel_id = ?1",
        &[
            id.into(),
            status.into(),
            settled_amount.into(),
            refunded_amount.into(),
            latest.as_deref().into(),
            text.as_str().into(),
        ],
    )?;
    tx.execute(
        "INSERT INTO settlements (channel_id, cumulative_amount, close, fencing_token, receipt)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        &[
            id.into(),
            settled_amount.into(),
            request.close.into(),
            request.fencing_token.into(),
            text.as_str().into(),
        ],
    )?;
    Ok(receipt)
}

/// Keeps the receipt of a new settlement with its place in the batch, for every repeat; gives back its text.
pub(super) fn complete(tx: &dyn Tx, receipt: &Receipt) -> Result<String, LedgerError> {
    let text = serde_json::to_string(receipt).map_err(LedgerError::inconsistent)?;
    let (id, amount, closed) = (&receipt.channel_id, receipt.settled_amount, receipt.closed);
    tx.execute("UPDATE channels SET receipt = ?2 WHERE channel_id = ?1", &[id.into(), text.as_str().into()])?;
    tx.execute(
        "UPDATE settlements SET receipt = ?4 WHERE channel_id = ?1 AND cumulative_amount = ?2 AND close = ?3",
        &[id.into(), amount.into(), closed.into(), text.as_str().into()],
    )?;
    Ok(text)
}

fn signed_receipt(
    rules: &Rules,
    id: &ChannelId,
    settled_amount: Amount,
    refunded_amount: Amount,
    closed: bool,
    settled_at_ms: i64,
) -> Receipt {
    let message = message::receipt(id, settled_amount, refunded_amount, closed, settled_at_ms);
    Receipt {
        channel_id: *id,
        settled_amount,
        refunded_amount,
        closed,
        settled_at_ms,
        signature: Signature::of(&rules.signing_key, &message),
        inclusion: None,
    }
}
