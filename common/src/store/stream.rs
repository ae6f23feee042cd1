//! Entries of the streams: of accepted payments, one an accept call with a field for each payment in it, whichever
//! partitions their channels are of; and of closes that ended, one each.

use std::fmt;
use std::str::FromStr;

use fred::types::Value;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::followed::{self, Followed};
use crate::amount::Amount;
use crate::ids::ChannelId;
use crate::text::FromText;
use crate::wire::Receipt;

/// The id of a stream entry: time in ms since 1970 by Redis' clock, and a number within that ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Time in ms since 1970.
    pub ms: u64,
    /// Position within the ms.
    pub n: u64,
}

impl EntryId {
    /// Before every entry.
    pub const ZERO: EntryId = EntryId { ms: 0, n: 0 };
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.n)
    }
}

impl FromStr for EntryId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, n) = text.split_once('-').unwrap_or((text, ""));
        Ok(EntryId { ms: ms.parse()?, n: n.parse()? })
    }
}

impl Serialize for EntryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntryId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(FromText::VISITOR)
    }
}

/// One accepted payment of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedPayment {
    /// The channel that paid.
    pub channel_id: ChannelId,
    /// Total owed on it, with this payment.
    pub amount: Amount,
    /// The proof, as stored.
    pub proof: Vec<u8>,
}

/// An entry: what one accept call recorded, or why it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: EntryId,
    /// Its payments in the order they were accepted; `Err` with the reason if no version of Millrace wrote it.
    pub payments: Result<Vec<AcceptedPayment>, String>,
    /// Those of its call's payments that are followed. One that is not among the payments was not recorded.
    pub followed: Vec<Followed>,
}

/// A close that ended, as its script told the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedClose {
    /// The channel.
    pub channel_id: ChannelId,
    /// What was pinned.
    pub amount: Amount,
    /// The issuer's receipt, or why the channel was given up on.
    pub ending: Result<Receipt, String>,
}

/// An entry of the stream of closes that ended; `Err` with the reason if no version of Millrace wrote it.
pub type EndedEntry = (EntryId, Result<EndedClose, String>);

/// Reads what `finish_close.lua` and `fail_close.lua` wrote.
pub(super) fn parse_ended(reply: Value) -> Option<Vec<EndedEntry>> {
    let parse = |entry: Value| {
        let mut parts = entry.into_array().into_iter();
        let id = parts.next()?.as_str()?.parse().ok()?;
        let fields = parts.next().map(Value::into_array).unwrap_or_default();
        Some((id, ended_close(&fields).ok_or_else(|| "not a close that ended".to_owned())))
    };
    reply.into_array().into_iter().map(parse).collect()
}

fn ended_close(fields: &[Value]) -> Option<EndedClose> {
    let text = |wanted: &str| {
        let (pairs, _) = fields.as_chunks();
        pairs.iter().find_map(|[name, value]| (name.as_str()? == wanted).then(|| value.as_str())?)
    };
    let ending = match (text("receipt"), text("reason")) {
        (Some(receipt), None) => Ok(serde_json::from_str(&receipt).ok()?),
        (None, Some(reason)) => Err(reason.into_owned()),
        _ => return None,
    };
    let amount = Amount::from_lua(text("amount")?.as_bytes()).ok()?;
    Some(EndedClose { channel_id: text("id")?.parse().ok()?, amount, ending })
}

/// Reads `{{id, {field, value, …}}, …}` as XREADGROUP and XRANGE give it.
#[doc(hidden)]
pub fn parse_entries(reply: Value) -> Option<Vec<Entry>> {
    reply.into_array().into_iter().map(parse_entry).collect()
}

fn parse_entry(entry: Value) -> Option<Entry> {
    let mut parts = entry.into_array().into_iter();
    let id = parts.next()?.as_str()?.parse().ok()?;
    let fields = match parts.next() {
        Some(Value::Array(fields)) => fields,
        // Read, never acknowledged, and removed from the stream by hand since.
        _ => {
            let payments = Err("the entry was removed from the stream".to_owned());
            return Some(Entry { id, payments, followed: Vec::new() });
        }
    };
    // It comes last.
    let (fields, followed) = match fields.as_slice() {
        [fields @ .., name, text] if name.as_bytes() == Some(followed::FIELD.as_bytes()) => {
            (fields, text.as_bytes().map(followed::read).unwrap_or_default())
        }
        fields => (fields, Vec::new()),
    };
    let payments = fields
        .chunks(2)
        .map(|pair| match pair {
            [id, value] => parse_payment(id, value),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| "not a list of channel id and amount with proof".to_owned());
    Some(Entry { id, payments, followed })
}

fn parse_payment(id: &Value, value: &Value) -> Option<AcceptedPayment> {
    let (amount, proof) = value.as_bytes()?.split_at_checked(20)?;
    Some(AcceptedPayment {
        channel_id: id.as_str()?.parse().ok()?,
        amount: Amount::from_lua(amount).ok()?,
        proof: proof.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, fields: Vec<Value>) -> Value {
        Value::Array(vec![Value::Array(vec![id.into(), Value::Array(fields)])])
    }

    #[test]
    fn an_entry_gives_its_payments_in_order() {
        let id = ChannelId([3; 32]);
        let fields = [5u64, 6].iter().flat_map(|amount| {
            [Value::from(id.to_string()), Value::from(format!("{}p", Amount::new(*amount).to_lua()))]
        });
        let entries = parse_entries(entry("17-2", fields.collect())).expect("a reply");
        assert_eq!(entries[0].id, EntryId { ms: 17, n: 2 });
        let payments = entries[0].payments.as_ref().expect("payments");
        let amounts: Vec<u64> = payments.iter().map(|p| p.amount.units()).collect();
        assert_eq!((amounts, payments[0].channel_id), (vec![5, 6], id));
    }

    #[test]
    fn an_entry_may_say_which_of_its_payments_are_followed() {
        let id = ChannelId([3; 32]);
        let text = format!("[[\"{id}\",\"5\",\"a-request\",\"\"]]");
        let payment = [Value::from(id.to_string()), Value::from(format!("{}p", Amount::new(5).to_lua()))];
        let trail = [Value::from(followed::FIELD), Value::from(text)];
        let both = [payment.clone(), trail.clone()].concat();
        let entries = parse_entries(entry("17-2", both)).expect("a reply");
        assert_eq!(entries[0].payments.as_ref().map(Vec::len), Ok(1));
        let request_id = entries[0].followed[0].trail.request_id.expect("given");
        assert_eq!((request_id.as_str(), entries[0].followed[0].amount), ("a-request", Amount::new(5)));
        // Nowhere else is it anything but a payment that cannot be read.
        let entries = parse_entries(entry("17-2", [trail, payment].concat())).expect("a reply");
        assert!(entries[0].payments.is_err());
    }

    #[test]
    fn an_entry_of_another_form_is_kept_with_a_reason() {
        for fields in [vec!["a".into(), "b".into()], vec!["a".into()]] {
            let entries = parse_entries(entry("17-2", fields)).expect("a reply");
            assert!(entries[0].payments.is_err());
        }
        assert_eq!(parse_entries(entry("nonsense", vec![])), None);
    }
}
