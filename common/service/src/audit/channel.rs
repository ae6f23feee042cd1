//! The audit of one channel.

use common::amount::Amount;
use common::channel::Status;
use common::wire::{IssuerStatus, Receipt};

use super::{ChannelFacts, IssuedFacts, Kind, Report, StoredFacts, Violation};

/// Checks one channel and adds it to the sums.
pub(super) fn check(facts: &ChannelFacts, expect_closed: bool, report: &mut Report) {
    let mut found = Vec::new();
    let mut violation = |kind, detail: String| found.push((kind, detail));
    let acknowledged = facts.acknowledged.unwrap_or_default();
    let accepted = facts.stored.as_ref().map_or(Amount::ZERO, |stored| stored.accepted);
    let settled = facts.issued.as_ref().map_or(Amount::ZERO, |issued| issued.settled);
    let mut drift = 0u128;

    match &facts.stored {
        None if acknowledged.is_zero() && settled.is_zero() => {}
        None => {
            violation(Kind::MissingInRedis, format!("acknowledged {acknowledged}, settled {settled}"));
        }
        Some(stored) => stored_alone(stored, &mut violation),
    }
    if acknowledged > accepted {
        drift += distance(acknowledged, accepted);
        violation(Kind::AcknowledgedNotRecorded, format!("acknowledged {acknowledged}, accepted {accepted}"));
    }
    match &facts.issued {
        None if facts.stored.is_some() || facts.acknowledged.is_some() => {
            drift += u128::from(accepted.units());
            violation(Kind::MissingAtIssuer, format!("accepted {accepted}"));
        }
        None => {}
        Some(issued) => issued_alone(issued, &mut violation),
    }
    if let (Some(stored), Some(issued)) = (&facts.stored, &facts.issued) {
        drift += both(stored, issued, &mut violation);
    } else {
        // Nothing in Redis: what was acknowledged and then settled is missing once, not twice.
        drift = drift.max(u128::from(settled.units()));
    }

    let ended_at_issuer = facts.issued.as_ref().is_some_and(|issued| issued.status != IssuerStatus::Open);
    let closed_in_redis = facts.stored.as_ref().is_none_or(|stored| stored.status == Status::Closed);
    if ended_at_issuer && closed_in_redis {
        report.closed += 1;
    } else {
        report.pending += 1;
        report.pending_amount += u128::from(accepted.units().saturating_sub(settled.units()));
        if expect_closed {
            let status = facts.stored.as_ref().map(|stored| stored.status);
            violation(Kind::NotClosed, format!("status in Redis {status:?}, accepted {accepted}"));
        }
    }
    report.channels += 1;
    report.acknowledged += u128::from(acknowledged.units());
    report.accepted += u128::from(accepted.units());
    report.settled += u128::from(settled.units());
    report.drift += drift;
    report.unresolved += u64::from(facts.unknown.is_some_and(|unknown| unknown > acknowledged));
    report.violations.extend(found.into_iter().map(|(kind, detail)| Violation {
        kind,
        channel_id: Some(facts.channel_id),
        detail,
    }));
}

fn stored_alone(stored: &StoredFacts, violation: &mut impl FnMut(Kind, String)) {
    let StoredFacts { accepted, terms, settled_before, .. } = stored;
    if *accepted > terms.capacity {
        violation(Kind::OverCapacity, format!("accepted {accepted}, capacity {}", terms.capacity));
    }
    // What the issuer had paid before comes without the voucher behind it.
    if !stored.proof_holds && accepted > settled_before {
        violation(Kind::ProofInvalid, format!("accepted {accepted}"));
    }
    if stored.status == Status::Failed {
        violation(Kind::CloseFailed, format!("accepted {accepted}; see `millrace inspect dead`"));
    }
}

fn issued_alone(issued: &IssuedFacts, violation: &mut impl FnMut(Kind, String)) {
    let IssuedFacts { terms, status, settled, refunded, .. } = issued;
    let paid_out = settled.checked_add(*refunded);
    let whole = match status {
        IssuerStatus::Open => refunded.is_zero() && *settled <= terms.capacity,
        IssuerStatus::Closed | IssuerStatus::Refunded => paid_out == Some(terms.capacity),
    };
    if !whole {
        let detail = format!("capacity {}, settled {settled}, refunded {refunded}", terms.capacity);
        violation(Kind::DepositAstray, detail);
    }
    if let Some(flaw) = &issued.receipt_flaw {
        violation(Kind::ReceiptNotInBatch, flaw.to_string());
    }
    match &issued.receipt {
        Some(_) if !issued.receipt_signed => {
            violation(Kind::ReceiptForged, format!("settled {settled}"));
        }
        Some(receipt) if receipt.settled_amount != *settled => {
            violation(Kind::ReceiptWrong, format!("settled {settled}, receipt {}", receipt.settled_amount));
        }
        None if *status == IssuerStatus::Closed || !settled.is_zero() => {
            violation(Kind::ReceiptWrong, format!("settled {settled}, no receipt"));
        }
        _ => {}
    }
}

/// What can only be seen side by side. Returns the drift between Redis and the issuer.
fn both(stored: &StoredFacts, issued: &IssuedFacts, violation: &mut impl FnMut(Kind, String)) -> u128 {
    let (accepted, settled) = (stored.accepted, issued.settled);
    if stored.terms != issued.terms {
        violation(Kind::TermsDiffer, "one id, two terms".to_owned());
    }
    let ended = issued.status != IssuerStatus::Open;
    match stored.status {
        Status::Closed if issued.status != IssuerStatus::Closed => {
            violation(Kind::ClosedInRedisOnly, format!("at the issuer: {:?}", issued.status));
        }
        Status::Closed if !same_settlement(stored.receipt.as_ref(), issued.receipt.as_ref()) => {
            violation(Kind::ReceiptWrong, "Redis and issuer hold different receipts".to_owned());
        }
        Status::Open if ended => {
            violation(Kind::EndedAtIssuerOnly, format!("at the issuer: {:?}", issued.status));
        }
        _ => {}
    }
    if settled > accepted {
        violation(Kind::SettledTooMuch, format!("accepted {accepted}, settled {settled}"));
        return distance(settled, accepted);
    }
    if settled < accepted && (ended || stored.status == Status::Closed) {
        violation(Kind::SettledTooLittle, format!("accepted {accepted}, settled {settled}"));
        return distance(accepted, settled);
    }
    0
}

fn same_settlement(stored: Option<&Receipt>, issued: Option<&Receipt>) -> bool {
    stored.is_some() && stored == issued
}

fn distance(a: Amount, b: Amount) -> u128 {
    u128::from(a.units().abs_diff(b.units()))
}

#[cfg(test)]
mod tests {
    use super::super::audit;
    use super::*;
    use crate::issuer_client::Books;
    use common::batch::Flaw;
    use common::channel::Terms;
    use common::ids::Signature;

    fn terms() -> Terms {
        Terms { capacity: Amount::new(100), ..common::testing::terms(1) }
    }

    fn receipt(settled: u64) -> Receipt {
        Receipt {
            channel_id: terms().id(),
            settled_amount: Amount::new(settled),
            refunded_amount: Amount::new(100 - settled),
            closed: true,
            settled_at_ms: 5,
            signature: Signature([0; 64]),
            inclusion: None,
        }
    }

    /// A channel that was paid 60, closed, and settled in full.
    fn settled() -> (ChannelFacts, StoredFacts, IssuedFacts) {
        let stored = StoredFacts {
            terms: terms(),
            status: Status::Closed,
            accepted: Amount::new(60),
            settled_before: Amount::ZERO,
            proof_holds: true,
            receipt: Some(receipt(60)),
        };
        let issued = IssuedFacts {
            terms: terms(),
            status: IssuerStatus::Closed,
            settled: Amount::new(60),
            refunded: Amount::new(40),
            receipt: Some(receipt(60)),
            receipt_signed: true,
            receipt_flaw: None,
        };
        let facts = ChannelFacts {
            channel_id: terms().id(),
            acknowledged: Some(Amount::new(60)),
            unknown: None,
            stored: Some(stored.clone()),
            issued: Some(issued.clone()),
        };
        (facts, stored, issued)
    }

    fn no_books() -> Books {
        Books { balanced: true, fault: None, accounts: 0, postings: 0, assets: Vec::new() }
    }

    type Spoil = fn(&mut ChannelFacts, &mut StoredFacts, &mut IssuedFacts);

    fn report_of(expect_closed: bool, spoil: Spoil) -> Report {
        let (mut facts, mut stored, mut issued) = settled();
        spoil(&mut facts, &mut stored, &mut issued);
        facts.stored = facts.stored.map(|_| stored);
        facts.issued = facts.issued.map(|_| issued);
        audit([&facts], &no_books(), expect_closed)
    }

    fn kinds(report: &Report) -> Vec<Kind> {
        report.violations.iter().map(|violation| violation.kind).collect()
    }

    #[test]
    fn a_channel_settled_in_full_is_clean() {
        let report = report_of(true, |_, _, _| ());
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.closed, report.acknowledged, report.accepted, report.settled), (1, 60, 60, 60));
    }

    #[test]
    fn an_unanswered_voucher_may_have_been_recorded_or_not() {
        let report = report_of(true, |facts, _, _| {
            facts.acknowledged = Some(Amount::new(50));
            facts.unknown = Some(Amount::new(60));
        });
        assert!(report.is_clean(), "recorded without an answer: accepted is above acknowledged");
        assert_eq!(report.unresolved, 1);
    }

    #[test]
    fn an_open_channel_is_pending_unless_all_should_be_closed() {
        let open: Spoil = |_, stored, issued| {
            stored.status = Status::Open;
            stored.receipt = None;
            issued.status = IssuerStatus::Open;
            issued.settled = Amount::ZERO;
            issued.refunded = Amount::ZERO;
            issued.receipt = None;
        };
        let report = report_of(false, open);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.pending, report.pending_amount, report.closed), (1, 60, 0));
        assert_eq!(kinds(&report_of(true, open)), [Kind::NotClosed]);
    }

    #[test]
    fn a_close_that_only_the_issuer_has_finished_is_pending() {
        let report = report_of(false, |_, stored, _| {
            stored.status = Status::Closing;
            stored.receipt = None;
        });
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.pending, 1);
    }

    #[test]
    fn every_kind_of_violation_is_found() {
        let cases: [(Spoil, &[Kind], u128); 16] = [
            (|f, _, _| f.stored = None, &[Kind::MissingInRedis, Kind::AcknowledgedNotRecorded], 60),
            (|f, _, _| f.issued = None, &[Kind::MissingAtIssuer, Kind::NotClosed], 60),
            (|_, s, _| s.terms.salt = 2, &[Kind::TermsDiffer], 0),
            (|f, _, _| f.acknowledged = Some(Amount::new(61)), &[Kind::AcknowledgedNotRecorded], 1),
            (|_, s, _| s.proof_holds = false, &[Kind::ProofInvalid], 0),
            (
                |_, s, i| {
                    (s.terms.capacity, i.terms.capacity) = (Amount::new(59), Amount::new(59));
                    i.refunded = Amount::ZERO;
                },
                &[Kind::OverCapacity, Kind::DepositAstray],
                0,
            ),
            (|_, s, _| s.accepted = Amount::new(61), &[Kind::SettledTooLittle], 1),
            (
                |f, s, _| {
                    s.accepted = Amount::new(59);
                    f.acknowledged = None;
                },
                &[Kind::SettledTooMuch],
                1,
            ),
            (|_, _, i| i.status = IssuerStatus::Refunded, &[Kind::ClosedInRedisOnly], 0),
            (|_, s, _| s.status = Status::Open, &[Kind::EndedAtIssuerOnly, Kind::NotClosed], 0),
            (|_, s, _| s.status = Status::Failed, &[Kind::CloseFailed, Kind::NotClosed], 0),
            (|_, _, i| i.refunded = Amount::new(39), &[Kind::DepositAstray], 0),
            (|_, _, i| i.receipt = None, &[Kind::ReceiptWrong, Kind::ReceiptWrong], 0),
            (|_, s, _| s.receipt = Some(receipt(59)), &[Kind::ReceiptWrong], 0),
            (|_, _, i| i.receipt_signed = false, &[Kind::ReceiptForged], 0),
            (|_, _, i| i.receipt_flaw = Some(Flaw::Path), &[Kind::ReceiptNotInBatch], 0),
        ];
        for (n, (spoil, expected, drift)) in cases.into_iter().enumerate() {
            let report = report_of(true, spoil);
            assert_eq!(kinds(&report), expected, "case {n}");
            assert_eq!(report.drift, drift, "case {n}");
            assert!(!report.is_clean(), "case {n}");
        }
    }

    #[test]
    fn drift_of_two_channels_does_not_cancel_out() {
        let (mut more, mut less) = (settled().0, settled().0);
        let stored = |facts: &mut ChannelFacts, amount| {
            facts.acknowledged = None;
            facts.stored.as_mut().expect("stored").accepted = Amount::new(amount);
        };
        stored(&mut more, 70);
        stored(&mut less, 50);
        let report = audit([&more, &less], &no_books(), true);
        assert_eq!((report.accepted, report.settled, report.drift), (120, 120, 20));
        assert!(!report.is_clean());
    }
}
