//! The issuer's books, added up anew: nothing that it says of them is believed.

use std::collections::BTreeMap;

use common::amount::Amount;
use common::ids::ChannelId;

use super::{Account, IssuerBooks, Kind, Violation};

/// What an escrow took in and gave out.
#[derive(Default)]
struct Escrow {
    taken_in: i128,
    to_payee: i128,
    to_others: i128,
}

/// Checks the postings by themselves, and against what each channel says was paid.
pub(super) fn check(issuer: &IssuerBooks, violations: &mut Vec<Violation>) {
    let mut found = |kind, channel_id, detail: String| {
        violations.push(Violation { kind, channel_id, detail });
    };
    if let Some(fault) = &issuer.fault {
        found(Kind::PostingsUnbalanced, None, fault.clone());
    }
    let mut operations = BTreeMap::<(i64, &str), i128>::new();
    let mut balances = BTreeMap::<(Account, &str), i128>::new();
    for leg in &issuer.legs {
        let sum = operations.entry((leg.operation, &leg.asset)).or_default();
        *sum = sum.saturating_add(leg.units);
        let balance = balances.entry((leg.account, &leg.asset)).or_default();
        *balance = balance.saturating_add(leg.units);
        if *balance < 0 && leg.account != Account::Issuance {
            let detail = format!("operation {} leaves {balance} in {:?}", leg.operation, leg.account);
            found(Kind::PostingsUnbalanced, None, detail);
        }
    }
    for ((operation, asset), sum) in operations {
        if sum != 0 {
            let detail = format!("the postings of operation {operation} sum to {sum} {asset}");
            found(Kind::PostingsUnbalanced, None, detail);
        }
    }

    let escrows = escrows(issuer);
    for (id, channel) in &issuer.channels {
        let units = |amount: Amount| i128::from(amount.units());
        let (settled, refunded) = (units(channel.settled_amount), units(channel.refunded_amount));
        let nothing = Escrow::default();
        let escrow = escrows.get(id).unwrap_or(&nothing);
        if escrow.to_payee > settled {
            let detail = format!("the payee got {}, settled {settled}", escrow.to_payee);
            found(Kind::SettledTwice, Some(*id), detail);
        } else if escrow.to_payee < settled {
            let detail = format!("the payee got {}, settled {settled}", escrow.to_payee);
            found(Kind::PostingsUnbalanced, Some(*id), detail);
        }
        if escrow.to_others != refunded || escrow.taken_in != units(channel.terms.capacity) {
            let detail = format!(
                "capacity {}, taken in {}; refunded {refunded}, given back {}",
                channel.terms.capacity, escrow.taken_in, escrow.to_others
            );
            found(Kind::PostingsUnbalanced, Some(*id), detail);
        }
    }
}

fn escrows(issuer: &IssuerBooks) -> BTreeMap<ChannelId, Escrow> {
    // What each operation took out of an escrow is what it gave to parties: an operation concerns one channel.
    let mut escrows = BTreeMap::<ChannelId, Escrow>::new();
    let mut from = BTreeMap::<i64, ChannelId>::new();
    for leg in &issuer.legs {
        if let Account::Escrow(id) = leg.account {
            if leg.units >= 0 {
                let escrow = escrows.entry(id).or_default();
                escrow.taken_in = escrow.taken_in.saturating_add(leg.units);
            } else {
                from.insert(leg.operation, id);
            }
        }
    }
    for leg in &issuer.legs {
        let (Account::Party(party), Some(id)) = (leg.account, from.get(&leg.operation)) else { continue };
        let payee = issuer.channels.get(id).map(|channel| channel.terms.payee);
        let escrow = escrows.entry(*id).or_default();
        let given = if payee == Some(party) { &mut escrow.to_payee } else { &mut escrow.to_others };
        *given = given.saturating_add(leg.units);
    }
    escrows
}
