//! What one payer side was told about one channel, in order.

use std::collections::BTreeSet;

use common::amount::Amount;
use common::problem::Code;

use super::{Found, Kind};
use crate::ledger::{LedgerEntry, LedgerOutcome};

/// What the answers of one history come to.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Highest acknowledged amount.
    pub(super) acknowledged: Option<Amount>,
    /// Highest amount that anyone was told, acknowledged or shown as the latest.
    pub(super) highest: Amount,
    /// Every amount that was shown as the latest.
    pub(super) shown: BTreeSet<Amount>,
    /// Every amount that was sent.
    pub(super) sent: BTreeSet<Amount>,
    /// Of these, the ones that may have been recorded: acknowledged, unknown, or not answered yet.
    pub(super) possible: BTreeSet<Amount>,
}

/// What was known for certain from some line on.
#[derive(Clone, Copy, Debug)]
struct Known {
    from: u64,
    highest: Amount,
    /// The amount that a close had pinned, where a close had begun.
    closing: Option<Option<Amount>>,
}

/// Goes through the lines of one history about one channel. `capacity` where it is known.
pub(super) fn sweep(entries: &[&LedgerEntry], capacity: Option<Amount>, found: &mut Found<'_>) -> Told {
    let mut told = Told::default();
    let mut known: Vec<Known> = Vec::new();
    let mut accepted = BTreeSet::new();
    let mut open = std::collections::BTreeMap::new();
    for entry in entries {
        if entry.outcome == LedgerOutcome::Sent {
            told.sent.insert(entry.cumulative_amount);
            open.insert(entry.seq, entry.cumulative_amount);
            continue;
        }
        if let Some(attempt) = entry.attempt {
            open.remove(&attempt);
        }
        if entry.outcome.is_acknowledged() || entry.outcome.is_unknown() {
            told.possible.insert(entry.cumulative_amount);
        }
        let floor = entry.attempt.and_then(|attempt| {
            let before = known.partition_point(|known| known.from < attempt);
            known.get(before.checked_sub(1)?).copied()
        });
        judge(entry, floor, capacity, found);
        if entry.outcome == LedgerOutcome::Accepted && !accepted.insert(entry.cumulative_amount) {
            found(Kind::Contradiction, format!("{} was accepted twice", entry.cumulative_amount));
        }
        note(entry, &mut told, &mut known);
    }
    told.possible.extend(open.into_values());
    told
}

/// The latest amount of the channel that an answer states.
fn stated(entry: &LedgerEntry) -> Option<Amount> {
    match entry.outcome {
        LedgerOutcome::Accepted | LedgerOutcome::Duplicate | LedgerOutcome::Observed => {
            Some(entry.cumulative_amount)
        }
        LedgerOutcome::Rejected => entry.latest,
        _ => None,
    }
}

fn says_closing(entry: &LedgerEntry) -> bool {
    entry.outcome == LedgerOutcome::Rejected
        && matches!(entry.code, Some(Code::ChannelClosing | Code::ChannelClosed))
}

/// Adds an answer to what is known from its line on.
fn note(entry: &LedgerEntry, told: &mut Told, known: &mut Vec<Known>) {
    let Some(amount) = stated(entry) else { return };
    if entry.outcome.is_acknowledged() {
        told.acknowledged = told.acknowledged.max(Some(amount));
    } else {
        told.shown.insert(amount);
    }
    let before = known.last();
    let closing = before.and_then(|known| known.closing);
    let after = Known {
        from: entry.seq,
        highest: amount.max(told.highest),
        closing: closing.or(says_closing(entry).then_some(entry.latest)),
    };
    told.highest = after.highest;
    if before.is_none_or(|known| known.highest != after.highest || known.closing != after.closing) {
        known.push(after);
    }
}

/// Whether an answer can be true, given what was known before its question was asked.
fn judge(entry: &LedgerEntry, floor: Option<Known>, capacity: Option<Amount>, found: &mut Found<'_>) {
    let amount = entry.cumulative_amount;
    let line = entry.seq;
    if let Some(floor) = floor {
        let highest = floor.highest;
        match stated(entry) {
            Some(latest) if latest < highest => {
                found(Kind::AmountFell, format!("{latest} was told at {line}, after {highest}"));
            }
            Some(latest) if latest == highest && entry.outcome == LedgerOutcome::Accepted => {
                let detail = format!("{amount} was accepted at {line}, though it was the latest already");
                found(Kind::Contradiction, detail);
            }
            _ => {}
        }
        if let Some(pinned) = floor.closing {
            if entry.outcome.is_acknowledged() {
                let detail = format!("{amount} was acknowledged at {line}, after a close had begun");
                found(Kind::AcceptedAfterClose, detail);
            }
            if let (Some(pinned), Some(latest)) = (pinned, stated(entry))
                && latest > pinned
            {
                let detail = format!("{latest} was told at {line}, after a close had begun at {pinned}");
                found(Kind::AcceptedAfterClose, detail);
            }
        }
    }
    if entry.outcome != LedgerOutcome::Rejected {
        return;
    }
    match (entry.code, entry.latest, capacity) {
        (Some(Code::StaleAmount), Some(latest), _) if amount > latest => {
            found(Kind::Contradiction, format!("{amount} was stale at {line}, though above {latest}"));
        }
        (Some(Code::OverCapacity), _, Some(capacity)) if amount <= capacity => {
            let detail = format!("{amount} was over capacity at {line}, though that is {capacity}");
            found(Kind::Contradiction, detail);
        }
        _ => {}
    }
}
