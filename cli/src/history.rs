//! Whether what payers were told, what Redis holds and what the issuer paid can all be true at once.
//!
//! An [audit](crate::audit) compares where three sides stand. This looks at how they came to stand there: every answer
//! that a payer got, in the order in which it got them, must be one that a correct system could have given.
//!
//! [`check`] is pure. Everything in it is an integer.
//!
//! # Layout
//!
//! * `answers`: what was told, in order. `channel`: one channel at its end. `postings`: the issuer's books.
//! * [`gather`]: collects what the check looks at.
//!
//! # What order means here
//!
//! Lines of one history stand in the order in which they happened at the payer ([`crate::ledger`]). What was told
//! before a voucher was sent is therefore known to have been true before that voucher was looked at: it is the *floor*
//! of its answer. What was told while it was under way says nothing about it.

mod answers;
mod channel;
pub mod gather;
mod postings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use common::amount::Amount;
use common::ids::{ChannelId, PublicKey};
use common::wire::{IssuerChannel, Receipt};
use serde::Serialize;

use crate::audit::StoredFacts;
use crate::ledger::LedgerEntry;

/// What one payer side sent and was told, in order.
pub type History = Vec<LedgerEntry>;

/// What Redis holds, and what its streams were seen to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisSnapshot {
    /// Every channel.
    pub channels: BTreeMap<ChannelId, StoredFacts>,
    /// Records of accepted payments, those of a channel in the order of their recording, as far as anyone saw them:
    /// acknowledged entries are trimmed.
    pub stream: Vec<Recorded>,
}

/// An accepted payment in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The channel that paid.
    pub channel_id: ChannelId,
    /// Total owed on it.
    pub amount: Amount,
}

/// What the issuer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerBooks {
    /// What receipts are signed with.
    pub public_key: PublicKey,
    /// Every channel.
    pub channels: BTreeMap<ChannelId, IssuerChannel>,
    /// Every settlement that ever took place.
    pub settlements: Vec<Settlement>,
    /// Every movement of money, in order.
    pub legs: Vec<Leg>,
    /// What the issuer itself finds wrong with its books.
    pub fault: Option<String>,
}

/// A settlement as the issuer keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The channel.
    pub channel_id: ChannelId,
    /// The amount that was redeemed, cumulative.
    pub amount: Amount,
    /// Whether it ended the channel.
    pub close: bool,
    /// What was answered.
    pub receipt: Receipt,
}

/// One side of a posting: what an operation put into an account, or took out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The operation; all its legs add up to nothing.
    pub operation: i64,
    /// The account.
    pub account: Account,
    /// The asset.
    pub asset: String,
    /// What came in, or went out where negative.
    pub units: i128,
}

/// Where money can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// Where an asset comes from.
    Issuance,
    /// A party's free balance.
    Party(PublicKey),
    /// What a channel still holds.
    Escrow(ChannelId),
}

/// What is wrong, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// More was acknowledged than Redis recorded.
    AcknowledgedMissing,
    /// The latest amount went back.
    AmountFell,
    /// More was acknowledged, recorded or settled than the channel can pay.
    CapacityPassed,
    /// A payment was taken after the close had begun.
    AcceptedAfterClose,
    /// The settlement is not the latest accepted amount.
    SettledWrongAmount,
    /// A channel was closed, or paid for, more than once.
    SettledTwice,
    /// Postings do not sum to nothing, or an escrow did not pay out what the channel says.
    PostingsUnbalanced,
    /// A receipt that the issuer did not sign, that is not in its batch, that says something else, or that is missing.
    ReceiptWrong,
    /// Two answers that cannot both be true, or one that cannot be true at all.
    Contradiction,
    /// One payment stands in the stream twice.
    RecordedTwice,
    /// An amount is recorded that no payer ever sent.
    NeverSent,
    /// An amount is recorded whose payer was told that it was not.
    RefusedButRecorded,
    /// Redis holds a proof that the issuer would not honour.
    ProofInvalid,
    /// The issuer refused to settle.
    CloseFailed,
    /// The issuer does not know a channel that took payments.
    MissingAtIssuer,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// What kind of thing.
    pub kind: Kind,
    /// The channel; none where it is about all of them.
    pub channel_id: Option<ChannelId>,
    /// The numbers.
    pub detail: String,
}

/// Names everything that cannot be true at once. The histories must be whole: a payer that wrote nothing down shows as
/// [`Kind::NeverSent`].
pub fn check(histories: &[History], redis: &RedisSnapshot, issuer: &IssuerBooks) -> Vec<Violation> {
    let mut by_channel = BTreeMap::<ChannelId, Vec<Vec<&LedgerEntry>>>::new();
    for history in histories {
        let mut of_history = BTreeMap::<ChannelId, Vec<&LedgerEntry>>::new();
        for entry in history {
            of_history.entry(entry.channel_id).or_default().push(entry);
        }
        for (id, entries) in of_history {
            by_channel.entry(id).or_default().push(entries);
        }
    }
    let mut streams = BTreeMap::<ChannelId, Vec<Amount>>::new();
    for recorded in &redis.stream {
        streams.entry(recorded.channel_id).or_default().push(recorded.amount);
    }
    let mut settlements = BTreeMap::<ChannelId, Vec<&Settlement>>::new();
    for settlement in &issuer.settlements {
        settlements.entry(settlement.channel_id).or_default().push(settlement);
    }
    let ids: BTreeSet<ChannelId> = by_channel
        .keys()
        .chain(redis.channels.keys())
        .chain(issuer.channels.keys())
        .chain(streams.keys())
        .chain(settlements.keys())
        .copied()
        .collect();

    let mut violations = Vec::new();
    for id in ids {
        let side = channel::Side {
            histories: by_channel.get(&id).map_or(&[], Vec::as_slice),
            stream: streams.get(&id).map_or(&[], Vec::as_slice),
            stored: redis.channels.get(&id),
            issued: issuer.channels.get(&id),
            settlements: settlements.get(&id).map_or(&[], Vec::as_slice),
            issuer_key: &issuer.public_key,
        };
        let mut found = |kind, detail: String| {
            violations.push(Violation { kind, channel_id: Some(id), detail });
        };
        channel::check(&side, &mut found);
    }
    postings::check(issuer, &mut violations);
    violations
}

/// Where a fault is reported.
type Found<'a> = dyn FnMut(Kind, String) + 'a;
