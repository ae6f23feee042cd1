//! Payments whose payers look for them, once they are in the books: the end of the trail that began at a relayer.

use std::time::SystemTime;

use common::store::followed::Followed;
use common::store::stream::{Entry, EntryId};
use common::trail::TraceId;
use service::spans::{Kind, Span};

/// The followed payments of a page. What its call named and did not record is left out.
pub(crate) fn of(entries: &[Entry]) -> Vec<(EntryId, Followed)> {
    let mut all = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.followed.is_empty()) {
        let Ok(payments) = &entry.payments else { continue };
        let was_recorded = |followed: &&Followed| {
            let is_it = |amount, id| (amount, id) == (followed.amount, followed.channel_id);
            payments.iter().any(|payment| is_it(payment.amount, payment.channel_id))
        };
        all.extend(entry.followed.iter().filter(was_recorded).map(|followed| (entry.id, followed.clone())));
    }
    all
}

/// Says that they are in the books. `since`: when their page was read.
pub(crate) fn note(partition: u16, since: SystemTime, followed: &[(EntryId, Followed)]) {
    for (entry, Followed { channel_id, amount, trail }) in followed {
        // Without a trace of theirs there is none to be a part of.
        if let Some(trace) = &trail.trace {
            let mut span = Span::since(since, "books", Kind::Consumer, Some(trace));
            span.note("channel_id", || *channel_id);
            span.note("amount", || *amount);
            span.note("entry", || *entry);
        }
        tracing::debug!(
            parent: None,
            request_id = trail.request_id.map(tracing::field::display),
            trace_id = trail.trace.map(|trace| tracing::field::display(TraceId(trace.trace_id))),
            %channel_id, %amount, partition, %entry,
            "a followed payment is in the books"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::amount::Amount;
    use common::ids::ChannelId;
    use common::store::stream::AcceptedPayment;
    use common::trail::{RequestId, Trail};

    #[test]
    fn only_what_was_recorded_is_followed_into_the_books() {
        let channel_id = ChannelId([1; 32]);
        let followed = |amount| Followed {
            channel_id,
            amount: Amount::new(amount),
            trail: Trail { request_id: Some(RequestId::made()), trace: None },
        };
        let recorded = AcceptedPayment { channel_id, amount: Amount::new(5), proof: Vec::new() };
        let id = EntryId { ms: 3, n: 1 };
        let named = vec![followed(5), followed(4)];
        let entry = Entry { id, payments: Ok(vec![recorded]), followed: named.clone() };
        let unreadable = Entry { id, payments: Err("nonsense".to_owned()), followed: named.clone() };
        assert_eq!(of(&[unreadable, entry]), [(id, named[0].clone())]);
    }
}
