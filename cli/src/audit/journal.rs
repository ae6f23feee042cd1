//! The audit against the journal: the last payment that it holds of a channel is the one that was settled.

use std::collections::HashMap;

use common::amount::Amount;
use common::channel::Status;
use common::ids::{ChannelId, PublicKey};
use common::journal::line::Line;
use common::journal::segment;
use common::journal::verify::{Expect, Report as Verified, Verifier};
use common::verify::usable_key;
use service::journal::{JournalError, JournalStore};

use super::{ChannelFacts, Kind, Report, Violation};

/// What a journal says.
#[derive(Clone, Debug, Default)]
pub struct Journaled {
    /// The highest amount of each channel.
    pub highest: HashMap<ChannelId, Amount>,
    /// What verify finds.
    pub verified: Verified,
}

/// Reads a whole journal and verifies it on the way.
///
/// # Errors
/// It cannot be read.
pub async fn read(store: &JournalStore, issuer: &PublicKey) -> Result<Journaled, JournalError> {
    let mut verifier = Verifier::new(Expect { issuer: usable_key(issuer), root: None });
    let mut highest = HashMap::<ChannelId, Amount>::new();
    for listed in store.list().await? {
        let bytes = store.get(listed.number).await?;
        verifier.segment(listed.number, &bytes);
        // What is damaged is among the verifier's faults.
        let _ = segment::read(listed.number, &bytes, |_, line, _| {
            if let Line::Payment(line) = line {
                let amount = highest.entry(line.paid.channel_id).or_default();
                *amount = (*amount).max(line.paid.cumulative_amount);
            }
        });
    }
    Ok(Journaled { highest, verified: verifier.finish() })
}

/// Adds what is wrong with the journal, by itself and beside Redis, which was read after it. Channels that were settled
/// before `settled_before_ms` must be in it to their last payment. Those that it does not name paid before it was kept,
/// or before the first segment that is there.
pub fn check(facts: &[ChannelFacts], journaled: &Journaled, settled_before_ms: u64, report: &mut Report) {
    let faults = journaled.verified.faults.iter().map(|fault| (None, fault.to_string()));
    let differing = facts.iter().filter_map(|facts| {
        let (stored, last) = (facts.stored.as_ref()?, *journaled.highest.get(&facts.channel_id)?);
        let accepted = stored.accepted;
        let settled_at_ms = stored.receipt.as_ref().map_or(0, |receipt| receipt.settled_at_ms);
        let is_settled =
            stored.status == Status::Closed && u64::try_from(settled_at_ms).unwrap_or(0) < settled_before_ms;
        // Else there may be payments on their way into the journal.
        let fits = if is_settled { last == accepted } else { last <= accepted };
        let detail = format!("the last payment in the journal is {last}, accepted {accepted}");
        (!fits).then_some((Some(facts.channel_id), detail))
    });
    let found = faults.chain(differing);
    report.violations.extend(found.map(|(channel_id, detail)| Violation {
        kind: Kind::JournalDiffers,
        channel_id,
        detail,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::StoredFacts;

    fn found(status: Status, accepted: u64, journaled: Option<u64>) -> usize {
        let terms = common::testing::terms(1);
        let channel_id = terms.id();
        let stored = StoredFacts {
            terms,
            status,
            accepted: Amount::new(accepted),
            settled_before: Amount::ZERO,
            proof_holds: true,
            receipt: None,
        };
        let facts = ChannelFacts {
            channel_id,
            acknowledged: None,
            unknown: None,
            stored: Some(stored),
            issued: None,
        };
        let highest = journaled.map(|amount| (channel_id, Amount::new(amount))).into_iter().collect();
        let mut report = Report::default();
        check(&[facts], &Journaled { highest, ..Journaled::default() }, u64::MAX, &mut report);
        report.violations.iter().filter(|violation| violation.kind == Kind::JournalDiffers).count()
    }

    #[test]
    fn the_last_payment_in_the_journal_is_the_one_that_was_settled() {
        assert_eq!(found(Status::Closed, 9, Some(9)), 0);
        assert_eq!(found(Status::Closed, 9, Some(8)), 1);
        assert_eq!(found(Status::Closed, 9, Some(10)), 1);
        assert_eq!(found(Status::Open, 9, Some(8)), 0, "on its way");
        assert_eq!(found(Status::Open, 9, Some(10)), 1, "Redis has lost it");
        assert_eq!(found(Status::Closed, 9, None), 0, "from before the journal");
    }
}
