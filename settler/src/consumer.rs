//! From entries of accepted payments to what is known of their channels: first and last payment, and when to look
//! at them next. One task a partition's stream, whose entries name channels of any partition.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::amount::Amount;
use common::channel::{Status, Terms};
use common::fault_point;
use common::ids::ChannelId;
use common::store::StoreError;
use common::store::read::StoredChannel;
use common::store::settle::{ChannelUpdate, PAYMENTS_PER_PAGE, ReadFrom};
use common::store::stream::{Entry, EntryId};
use service::spans::{Kind, Span};

use crate::followed;
use crate::journal::trail::Trail;
use crate::leadership::Leadership;
use crate::policy::{Decision, View, decide};

/// Channels of a page that are held in memory with all that Redis holds of them, at once.
const CHANNELS_PER_READ: usize = 256;

/// Channels in one call of the script: bounds how long it keeps Redis from everything else.
const UPDATES_PER_CALL: usize = 512;

/// Where a predecessor may have left entries, and where this leader left those whose reading ended in an error.
const FROM_THE_START: ReadFrom = ReadFrom::Unacknowledged(EntryId::ZERO);

/// Reads one stream: first all that was read before and never acknowledged, then what is new.
pub(crate) async fn run(leadership: Arc<Leadership>, partition: u16) {
    let poll = Duration::from_millis(leadership.app.config.consumer.poll_ms);
    let mut from = FROM_THE_START;
    let mut trail = leadership.journal.clone().map(|journal| Trail::new(journal, partition));
    while !leadership.is_draining() {
        let again = trail.as_ref().and_then(Trail::resume).map(ReadFrom::Unacknowledged);
        let taken = take_page(&leadership, partition, again.unwrap_or(from), &mut trail).await;
        let page = match acknowledge(&leadership, taken, &mut trail).await {
            Ok(page) => page,
            Err(error) => {
                leadership.trouble(&error, "reading payments", partition).await;
                // What was read without an answer, or not written down, is unacknowledged: it comes first again.
                from = FROM_THE_START;
                trail.iter_mut().for_each(Trail::restart);
                continue;
            }
        };
        match (again, from, page.last) {
            (Some(_), _, None) => trail.iter_mut().for_each(Trail::caught_up),
            (Some(_), _, Some(_)) => {}
            // Entries up to the last one are in the books now; those above are the next page.
            (None, ReadFrom::Unacknowledged(_), Some(last)) => from = ReadFrom::Unacknowledged(last),
            (None, ReadFrom::Unacknowledged(_), None) => from = ReadFrom::New,
            (None, ReadFrom::New, _) if page.is_full => {}
            (None, ReadFrom::New, _) => leadership.pause(poll).await,
        }
    }
    if let Some(mut trail) = trail {
        trail.finish(&leadership).await;
    }
}

/// After a page: acknowledges what the journal has stored, where one is kept.
async fn acknowledge(
    leadership: &Leadership,
    taken: Result<Page, StoreError>,
    trail: &mut Option<Trail>,
) -> Result<Page, StoreError> {
    let page = taken?;
    if let Some(trail) = trail {
        let given_up = trail.acknowledge(leadership).await?;
        leadership.app.metrics.dead_letters.inc_by(given_up.try_into().unwrap_or(u64::MAX));
    }
    Ok(page)
}

/// What was read of a stream.
struct Page {
    last: Option<EntryId>,
    /// True if there may be more right now.
    is_full: bool,
}

/// Reads a page of entries and writes down what it says of channels of whichever partitions. Without a journal that is
/// all, and they are acknowledged with it; else they are handed over to the journal.
async fn take_page(
    leadership: &Leadership,
    partition: u16,
    from: ReadFrom,
    trail: &mut Option<Trail>,
) -> Result<Page, StoreError> {
    // A page is held in memory from here on. The semaphore is never closed.
    let _slot = leadership.page_slots.acquire().await;
    let app = &leadership.app;
    let count = app.config.consumer.entries_per_read;
    let entries = app.store.read_accepted(&leadership.lease, partition, from, count).await?;
    let last = entries.last().map(|entry| entry.id);
    if entries.is_empty() {
        return Ok(Page { last, is_full: false });
    }
    fault_point::reach("entries_read");
    let since = SystemTime::now();
    let mut span = Span::begin("page", Kind::Internal, None);
    let followed = followed::of(&entries);
    let timer = app.metrics.page_seconds.start_timer();
    let again = trail.as_ref().is_some_and(|trail| trail.is_resumed_by(from));
    let gathered = gather(&entries);
    let (payments, number) = (gathered.payments, entries.len());
    let is_full = number >= count || payments >= PAYMENTS_PER_PAGE;
    span.note("partition", || partition);
    span.note("entries", || number);
    span.note("payments", || payments);
    let page = Read { partition, from, entries };
    write_down(leadership, page, gathered, trail).await.inspect_err(|error| span.fail(error))?;
    fault_point::reach("entries_applied");
    timer.observe_duration();
    if !again {
        followed::note(partition, since, &followed);
        app.metrics.entries.inc_by(counted(number));
        app.metrics.payments.inc_by(counted(payments));
    }
    Ok(Page { last, is_full })
}

fn counted(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What was read of a stream, and from where on.
struct Read {
    partition: u16,
    from: ReadFrom,
    entries: Vec<Entry>,
}

/// Puts a page into the books, and acknowledges its entries with the last of it, unless a journal is to store them first.
async fn write_down(
    leadership: &Leadership,
    page: Read,
    gathered: Gathered,
    trail: &mut Option<Trail>,
) -> Result<(), StoreError> {
    let Read { partition, from, entries } = page;
    let Gathered { channels, mut dead, .. } = gathered;
    let (store, lease) = (&leadership.app.store, &leadership.lease);
    let partitions: BTreeSet<u16> = channels.keys().map(|id| store.partition_of(id)).collect();
    let _writing = leadership.books.of(&partitions).await;
    let Learned { updates, terms } = learn(leadership, channels, &mut dead).await?;
    for (id, reason) in &dead {
        tracing::error!(partition, entry = %id, reason, "an entry of accepted payments is given up on");
    }
    // Writing a channel down twice changes nothing, so only the last call needs to be one with the acknowledgements: a
    // crash before it leaves the entries to the next leader.
    let last = updates.len().saturating_sub(updates.len().min(UPDATES_PER_CALL));
    let (first, last) = updates.split_at(last);
    for chunk in first.chunks(UPDATES_PER_CALL) {
        store.apply(lease, partition, chunk, &[], &[]).await?;
        fault_point::reach("page_half_applied");
    }
    if let Some(trail) = trail {
        store.apply(lease, partition, last, &[], &[]).await?;
        trail.hand_over(from, &entries, &dead, &terms);
        if !fault_point::is_broken("journal_before_trim") {
            return Ok(());
        }
    }
    let read: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
    let dead: Vec<(EntryId, String)> = dead.into_iter().collect();
    store.apply(lease, partition, last, &read, &dead).await?;
    leadership.app.metrics.dead_letters.inc_by(counted(dead.len()));
    Ok(())
}

/// What a page says of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Paid {
    amount: Amount,
    first_at_ms: u64,
    last_at_ms: u64,
    entries: Vec<EntryId>,
}

/// A page, by channel.
struct Gathered {
    channels: HashMap<ChannelId, Paid>,
    /// Entries to give up on, with the reason.
    dead: BTreeMap<EntryId, String>,
    payments: usize,
}

/// Puts the payments of a page together by channel. Entries that cannot be read are dead.
fn gather(entries: &[Entry]) -> Gathered {
    let mut gathered = Gathered { channels: HashMap::new(), dead: BTreeMap::new(), payments: 0 };
    for entry in entries {
        let at_ms = entry.id.ms;
        match &entry.payments {
            Err(reason) => drop(gathered.dead.insert(entry.id, reason.clone())),
            Ok(payments) => {
                for payment in payments {
                    gathered.payments = gathered.payments.saturating_add(1);
                    let paid = gathered.channels.entry(payment.channel_id).or_insert_with(|| Paid {
                        amount: payment.amount,
                        first_at_ms: at_ms,
                        last_at_ms: at_ms,
                        entries: Vec::new(),
                    });
                    paid.amount = paid.amount.max(payment.amount);
                    paid.first_at_ms = paid.first_at_ms.min(at_ms);
                    paid.last_at_ms = paid.last_at_ms.max(at_ms);
                    if paid.entries.last() != Some(&entry.id) {
                        paid.entries.push(entry.id);
                    }
                }
            }
        }
    }
    gathered
}

/// What Redis says of the channels of a page.
struct Learned {
    updates: Vec<ChannelUpdate>,
    /// Their terms, where a journal wants them.
    terms: HashMap<ChannelId, Terms>,
}

/// Reads the channels of a page and decides when to look at each next. A payment of a channel that Redis does not hold
/// any more makes its entries dead: nobody could settle it, and nobody may forget it.
async fn learn(
    leadership: &Leadership,
    channels: HashMap<ChannelId, Paid>,
    dead: &mut BTreeMap<EntryId, String>,
) -> Result<Learned, StoreError> {
    let mut updates = Vec::with_capacity(channels.len());
    let mut terms = HashMap::new();
    let channels: Vec<(ChannelId, Paid)> = channels.into_iter().collect();
    for channels in channels.chunks(CHANNELS_PER_READ) {
        let ids: Vec<ChannelId> = channels.iter().map(|(id, _)| *id).collect();
        let found = leadership.app.store.channels_anywhere(&ids).await?;
        for ((id, paid), found) in channels.iter().zip(found) {
            let reason = match found {
                Ok(Some(channel)) => {
                    updates.push(update(leadership, *id, paid, &channel));
                    if leadership.journal.is_some() {
                        terms.insert(*id, channel.terms);
                    }
                    continue;
                }
                Ok(None) => format!("channel {id} is not known"),
                Err(StoreError::Corrupt { key, detail }) => {
                    format!("channel {id} cannot be read: {key}: {detail}")
                }
                Err(error) => return Err(error),
            };
            for entry in &paid.entries {
                dead.entry(*entry)
                    .and_modify(|reasons| *reasons = format!("{reasons}; {reason}"))
                    .or_insert(reason.clone());
            }
        }
    }
    Ok(Learned { updates, terms })
}

fn update(leadership: &Leadership, id: ChannelId, paid: &Paid, channel: &StoredChannel) -> ChannelUpdate {
    let app = &leadership.app;
    let now_ms = app.clock.now_ms();
    let due_at_ms = if channel.state.status == Status::Open {
        let view = View::of(channel, now_ms).with_payments(paid.amount, paid.first_at_ms, paid.last_at_ms);
        match decide(&app.live.load().policy, &view) {
            // The loop over due channels finds it there: closes begin in one place.
            Decision::Close(_) => now_ms,
            Decision::Wait { until_ms } => until_ms,
        }
    } else {
        // Only an open channel takes a new time (see apply.lua).
        now_ms
    };
    ChannelUpdate {
        channel_id: id,
        paid_at_ms: Some((paid.first_at_ms, paid.last_at_ms)),
        due_at_ms,
        amount: paid.amount,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::store::stream::AcceptedPayment;

    fn entry(ms: u64, payments: &[(u8, u64)]) -> Entry {
        let payments = payments.iter().map(|(channel, amount)| AcceptedPayment {
            channel_id: ChannelId([*channel; 32]),
            amount: Amount::new(*amount),
            proof: Vec::new(),
        });
        Entry { id: EntryId { ms, n: 0 }, payments: Ok(payments.collect()), followed: Vec::new() }
    }

    #[test]
    fn a_page_is_put_together_by_channel() {
        let entries = [entry(10, &[(1, 5), (2, 7), (1, 6)]), entry(20, &[(1, 9)])];
        let gathered = gather(&entries);
        assert_eq!((gathered.payments, gathered.channels.len()), (4, 2));
        assert!(gathered.dead.is_empty());
        let expected = Paid {
            amount: Amount::new(9),
            first_at_ms: 10,
            last_at_ms: 20,
            entries: vec![entries[0].id, entries[1].id],
        };
        assert_eq!(gathered.channels[&ChannelId([1; 32])], expected);
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_dead_and_does_not_hold_up_the_others() {
        let unreadable =
            Entry { id: EntryId { ms: 5, n: 1 }, payments: Err("nonsense".to_owned()), followed: Vec::new() };
        let gathered = gather(&[unreadable, entry(10, &[(1, 5)])]);
        assert_eq!(gathered.dead[&EntryId { ms: 5, n: 1 }], "nonsense");
        assert_eq!(gathered.channels.len(), 1);
    }
}
