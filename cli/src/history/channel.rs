//! One channel at its end: what was told of it, what Redis holds, and what the issuer paid.

use common::amount::Amount;
use common::channel::Status;
use common::ids::PublicKey;
use common::verify::usable_key;
use common::wire::{IssuerChannel, IssuerStatus, Receipt};

use super::answers::{self, Told};
use super::{Found, Kind, Settlement};
use crate::audit::StoredFacts;
use crate::ledger::LedgerEntry;

/// Everything that is known of one channel.
pub(super) struct Side<'a> {
    /// The lines about it, history by history.
    pub(super) histories: &'a [Vec<&'a LedgerEntry>],
    /// Its amounts as the stream was seen to hold them.
    pub(super) stream: &'a [Amount],
    /// Redis.
    pub(super) stored: Option<&'a StoredFacts>,
    /// The issuer.
    pub(super) issued: Option<&'a IssuerChannel>,
    /// Its settlements.
    pub(super) settlements: &'a [&'a Settlement],
    /// What receipts are signed with.
    pub(super) issuer_key: &'a PublicKey,
}

impl Side<'_> {
    fn capacity(&self) -> Option<Amount> {
        let issued = self.issued.map(|channel| channel.terms.capacity);
        issued.or(self.stored.map(|channel| channel.terms.capacity))
    }

    fn recorded(&self) -> Amount {
        self.stored.map_or(Amount::ZERO, |stored| stored.accepted)
    }
}

/// Checks one channel.
pub(super) fn check(side: &Side<'_>, found: &mut Found<'_>) {
    let capacity = side.capacity();
    let mut all = Told::default();
    for entries in side.histories {
        let told = answers::sweep(entries, capacity, found);
        all.acknowledged = all.acknowledged.max(told.acknowledged);
        all.highest = all.highest.max(told.highest);
        all.shown.extend(told.shown);
        all.sent.extend(told.sent);
        all.possible.extend(told.possible);
    }
    recorded(side, &all, found);
    origins(side, &all, found);
    if let Some(stored) = side.stored {
        stored_alone(stored, found);
    }
    settled(side, &all, found);
    receipts(side, found);
}

/// What was told and what the stream held, against what Redis ended with.
fn recorded(side: &Side<'_>, told: &Told, found: &mut Found<'_>) {
    let recorded = side.recorded();
    let acknowledged = told.acknowledged.unwrap_or_default();
    if acknowledged > recorded {
        found(Kind::AcknowledgedMissing, format!("acknowledged {acknowledged}, recorded {recorded}"));
    } else if told.highest > recorded {
        found(Kind::AmountFell, format!("told {}, recorded {recorded}", told.highest));
    }
    let mut highest: Option<Amount> = None;
    for &amount in side.stream {
        match highest {
            Some(before) if amount == before => {
                found(Kind::RecordedTwice, format!("{amount} stands in the stream twice"));
            }
            Some(before) if amount < before => {
                found(Kind::AmountFell, format!("{amount} was recorded after {before}"));
            }
            _ => {}
        }
        highest = highest.max(Some(amount));
    }
    if highest.is_some_and(|highest| highest > recorded) {
        let highest = highest.unwrap_or_default();
        found(Kind::AmountFell, format!("the stream held {highest}, recorded {recorded}"));
    }
    let highest = acknowledged.max(recorded);
    if side.capacity().is_some_and(|capacity| highest > capacity) {
        let capacity = side.capacity().unwrap_or_default();
        let detail = format!("acknowledged {acknowledged}, recorded {recorded}, capacity {capacity}");
        found(Kind::CapacityPassed, detail);
    }
}

/// Every amount that anyone saw recorded was sent by the payer, and not refused each time it was.
fn origins(side: &Side<'_>, told: &Told, found: &mut Found<'_>) {
    let before = side.stored.map_or(Amount::ZERO, |stored| stored.settled_before);
    // A ledger of acknowledgements alone cannot say what was sent.
    if told.sent.is_empty() && told.acknowledged.is_some() {
        return;
    }
    let mut seen = told.shown.clone();
    seen.extend(side.stream);
    seen.insert(side.recorded());
    for amount in seen.into_iter().filter(|amount| !amount.is_zero() && *amount > before) {
        if !told.sent.contains(&amount) {
            found(Kind::NeverSent, format!("{amount} is recorded, and was never sent"));
        } else if !told.possible.contains(&amount) {
            found(Kind::RefusedButRecorded, format!("{amount} is recorded, and was refused each time"));
        }
    }
}

fn stored_alone(stored: &StoredFacts, found: &mut Found<'_>) {
    let StoredFacts { accepted, settled_before, .. } = stored;
    if !stored.proof_holds && accepted > settled_before {
        found(Kind::ProofInvalid, format!("recorded {accepted}"));
    }
    if stored.status == Status::Failed {
        found(Kind::CloseFailed, format!("recorded {accepted}"));
    }
}

/// What the issuer paid, against what was accepted.
fn settled(side: &Side<'_>, told: &Told, found: &mut Found<'_>) {
    let recorded = side.recorded();
    let Some(issued) = side.issued else {
        if side.stored.is_some() || told.acknowledged.is_some() || !side.settlements.is_empty() {
            found(Kind::MissingAtIssuer, format!("recorded {recorded}"));
        }
        return;
    };
    let settled = issued.settled_amount;
    let ended = issued.status != IssuerStatus::Open;
    if settled > issued.terms.capacity {
        let capacity = issued.terms.capacity;
        found(Kind::CapacityPassed, format!("settled {settled}, capacity {capacity}"));
    }
    if settled > recorded || (ended && settled != recorded) {
        found(Kind::SettledWrongAmount, format!("settled {settled}, recorded {recorded}"));
    }
    let acknowledged = told.acknowledged.unwrap_or_default();
    if ended && acknowledged > settled {
        found(Kind::AcceptedAfterClose, format!("acknowledged {acknowledged}, closed at {settled}"));
    }
    if side.stored.is_some_and(|stored| stored.status == Status::Closed) && !ended {
        found(Kind::SettledWrongAmount, format!("closed in Redis at {recorded}, open at the issuer"));
    }
    let closes = side.settlements.iter().filter(|settlement| settlement.close).count();
    if closes > 1 {
        found(Kind::SettledTwice, format!("closed {closes} times"));
    }
    let highest = side.settlements.iter().map(|settlement| settlement.amount).max().unwrap_or_default();
    if highest != settled {
        found(Kind::SettledWrongAmount, format!("settled {settled}, settlements say {highest}"));
    }
}

/// Every receipt is signed, is in the batch that it names, says what was settled, and is the same on both sides.
fn receipts(side: &Side<'_>, found: &mut Found<'_>) {
    let key = usable_key(side.issuer_key);
    let mut wrong = |receipt: &Receipt, settled: Amount, whose: &str| {
        let Some(key) = key.as_ref().filter(|key| receipt.is_signed_with(key)) else {
            return found(Kind::ReceiptWrong, format!("{whose}: not signed by the issuer"));
        };
        if let Err(flaw) = receipt.check_inclusion(key) {
            found(Kind::ReceiptWrong, format!("{whose}: {flaw}"));
        } else if receipt.settled_amount != settled {
            let told = receipt.settled_amount;
            found(Kind::ReceiptWrong, format!("{whose}: settled {settled}, the receipt says {told}"));
        }
    };
    for settlement in side.settlements {
        wrong(&settlement.receipt, settlement.amount, "a settlement");
    }
    let stored = side.stored.and_then(|stored| stored.receipt.as_ref());
    let issued = side.issued.and_then(|issued| issued.receipt.as_ref());
    if let Some(receipt) = stored {
        wrong(receipt, side.recorded(), "Redis");
    }
    if let (Some(receipt), Some(channel)) = (issued, side.issued) {
        wrong(receipt, channel.settled_amount, "the issuer");
    }
    let closed = side.stored.is_some_and(|stored| stored.status == Status::Closed);
    if closed && (stored.is_none() || stored != issued) {
        found(Kind::ReceiptWrong, "Redis and issuer do not hold the same receipt".to_owned());
    }
}
