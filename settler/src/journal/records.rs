//! From entries of the streams to the lines of a segment.

use std::collections::HashMap;

use common::channel::Terms;
use common::ids::ChannelId;
use common::journal::line::{DeadLine, FailedLine, Line, Paid, PaymentLine, SettlementLine};
use common::store::stream::{AcceptedPayment, EndedEntry, Entry};

use super::{Item, Stream};

/// What the journal takes of an entry of accepted payments. `terms` holds the channels that Redis knows; payments on
/// others stand in a line of their own, with `dead`, the reason why the entry is given up on.
pub(crate) fn of_accepted(
    partition: u16,
    entry: &Entry,
    dead: Option<&String>,
    terms: &HashMap<ChannelId, Terms>,
) -> Item {
    let mut item =
        Item { stream: Stream::Accepted(partition), id: entry.id, channels: Vec::new(), lines: Vec::new() };
    let mut unknown = Vec::new();
    for payment in entry.payments.iter().flatten() {
        let AcceptedPayment { channel_id, amount, proof } = payment.clone();
        let paid = Paid { channel_id, cumulative_amount: amount, proof };
        if terms.contains_key(&channel_id) {
            item.channels.push(channel_id);
            item.push(&Line::Payment(PaymentLine { partition, entry: entry.id, paid }));
        } else {
            unknown.push(paid);
        }
    }
    if let Some(reason) = dead {
        let (entry, reason) = (entry.id, reason.clone());
        item.push(&Line::Dead(DeadLine { partition, settled: false, entry, reason, payments: unknown }));
    }
    item
}

/// What the journal takes of a close that ended.
pub(crate) fn of_ended(partition: u16, (entry, ended): EndedEntry) -> Item {
    let mut item =
        Item { stream: Stream::Settled(partition), id: entry, channels: Vec::new(), lines: Vec::new() };
    item.push(&match ended {
        Err(reason) => Line::Dead(DeadLine { partition, settled: true, entry, reason, payments: Vec::new() }),
        Ok(ended) => {
            let (channel_id, cumulative_amount) = (ended.channel_id, ended.amount);
            match ended.ending {
                Ok(receipt) => {
                    let line = SettlementLine { partition, entry, channel_id, cumulative_amount, receipt };
                    Line::Settlement(line)
                }
                Err(reason) => {
                    Line::Failed(FailedLine { partition, entry, channel_id, cumulative_amount, reason })
                }
            }
        }
    });
    item
}

impl Item {
    fn push(&mut self, line: &Line) {
        self.lines.extend(line.to_json());
        self.lines.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::amount::Amount;
    use common::testing::terms;

    use common::store::stream::EntryId;

    fn kinds(item: &Item) -> Vec<String> {
        let lines = item.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let kind = |line| {
            serde_json::from_slice::<serde_json::Value>(line).ok()?["kind"].as_str().map(str::to_owned)
        };
        lines.filter_map(kind).collect()
    }

    #[test]
    fn payments_of_a_dead_entry_are_kept_where_they_belong() {
        let (known, gone) = (terms(1), ChannelId([9; 32]));
        let payment = |channel_id| AcceptedPayment { channel_id, amount: Amount::new(5), proof: vec![1, 2] };
        let id = EntryId { ms: 7, n: 1 };
        let entry =
            Entry { id, payments: Ok(vec![payment(known.id()), payment(gone)]), followed: Vec::new() };
        let terms = HashMap::from([(known.id(), known.clone())]);
        let item = of_accepted(3, &entry, Some(&"unknown".to_owned()), &terms);
        assert_eq!((item.stream, item.id), (Stream::Accepted(3), id));
        assert_eq!(item.channels, [known.id()]);
        assert_eq!(kinds(&item), ["payment", "dead"]);
        assert!(String::from_utf8_lossy(&item.lines).contains(&gone.to_string()));

        let unreadable = Entry { id, payments: Err("nonsense".to_owned()), followed: Vec::new() };
        assert_eq!(kinds(&of_accepted(3, &unreadable, Some(&"nonsense".to_owned()), &terms)), ["dead"]);
    }

    #[test]
    fn what_the_scripts_did_not_write_is_kept_as_dead() {
        let item = of_ended(3, (EntryId { ms: 7, n: 1 }, Err("not a close that ended".to_owned())));
        assert_eq!((item.stream, kinds(&item)), (Stream::Settled(3), vec!["dead".to_owned()]));
    }
}
