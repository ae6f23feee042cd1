//! The lines of a segment: a header, records, a footer, one JSON object each.

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::channel::Terms;
use crate::ids::{ChannelId, Hash, JournalRoot, PublicKey};
use crate::store::stream::EntryId;
use crate::text::hex;
use crate::wire::Receipt;

/// Any line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// The first line.
    Header(Header),
    /// Before the first payment of a channel in a segment.
    Terms(TermsLine),
    /// An accepted payment.
    Payment(PaymentLine),
    /// A channel was closed.
    Settlement(SettlementLine),
    /// A channel was given up on.
    Failed(FailedLine),
    /// A stream entry was given up on, wholly or in part.
    Dead(DeadLine),
    /// The last line.
    Footer(Footer),
}

/// Says what a segment is part of, and how far the journal reaches with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this form.
    pub format: u32,
    /// The segment's number; the first is 1.
    pub number: u64,
    /// Root of the journal before this segment; 32 zero bytes before the first.
    pub previous: JournalRoot,
    /// When it was closed, in ms since 1970.
    pub created_at_ms: u64,
    /// Whose journal this is.
    pub source: Source,
    /// For each partition that has entries in the journal, the last of them, this segment included.
    pub positions: Vec<Position>,
}

/// Whose journal: streams of another payee, or of other partitions, have entries of the same ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The payee.
    pub payee: PublicKey,
    /// What its keys in Redis start with.
    pub prefix: String,
    /// Number of partitions.
    pub partitions: u16,
}

/// How far the journal reaches in the streams of one partition: it holds every entry up to these, and none after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The partition.
    pub partition: u16,
    /// Last entry of accepted payments; `0-0` for none.
    pub accepted: EntryId,
    /// Last close that ended; `0-0` for none.
    pub settled: EntryId,
}

/// The terms of a channel, which its id commits to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermsLine {
    /// The channel.
    pub channel_id: ChannelId,
    /// What was agreed at opening.
    pub terms: Terms,
}

/// An accepted payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentLine {
    /// Whose stream it stood in.
    pub partition: u16,
    /// The entry there; its first number is when it was accepted, in ms since 1970.
    pub entry: EntryId,
    /// What was paid.
    #[serde(flatten)]
    pub paid: Paid,
}

/// What a payment says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// The channel that paid.
    pub channel_id: ChannelId,
    /// Total owed on it, this payment included.
    pub cumulative_amount: Amount,
    /// The stored proof (see [`crate::voucher::Proof::to_bytes`]), in hexadecimal.
    #[serde(with = "hex")]
    pub proof: Vec<u8>,
}

/// A channel was closed, and the issuer's word for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementLine {
    /// The channel's partition.
    pub partition: u16,
    /// The entry in the stream of ended closes.
    pub entry: EntryId,
    /// The channel.
    pub channel_id: ChannelId,
    /// What was pinned for it.
    pub cumulative_amount: Amount,
    /// The issuer's receipt.
    pub receipt: Receipt,
}

/// The issuer refused a settlement for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedLine {
    /// The channel's partition.
    pub partition: u16,
    /// The entry in the stream of ended closes.
    pub entry: EntryId,
    /// The channel.
    pub channel_id: ChannelId,
    /// What was pinned for it.
    pub cumulative_amount: Amount,
    /// The issuer's words.
    pub reason: String,
}

/// What of an entry is given up on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLine {
    /// Whose stream it stood in.
    pub partition: u16,
    /// True if that was the stream of ended closes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    /// The entry there.
    pub entry: EntryId,
    /// Why.
    pub reason: String,
    /// Its payments on channels that Redis does not hold. Those on other channels are lines of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payments: Vec<Paid>,
}

/// Proves the lines above it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footer {
    /// Lines between header and footer.
    pub records: u64,
    /// Root of the Merkle tree over them (see [`crate::merkle`]); a leaf is a line without its line feed.
    pub records_root: Hash,
    /// Root of the journal up to and with this segment.
    pub root: JournalRoot,
}

impl Line {
    /// The line, without its line feed.
    pub fn to_json(&self) -> Vec<u8> {
        // Numbers, texts and lists have a JSON form, and a vector takes what is written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
