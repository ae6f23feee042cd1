//! Whether money went astray: what relayers acknowledged, what Redis recorded and what the issuer paid, against each
//! other, channel by channel and in whole.
//!
//! [`audit`] is pure; [`facts`] makes what it looks at of what Redis and issuer answer. Who walks all channels does so on
//! its own terms: `millrace audit` as fast as it can, a settler's console slowly.

mod channel;
pub mod facts;

use common::amount::Amount;
use common::batch::Flaw;
use common::channel::{Status, Terms};
use common::ids::ChannelId;
use common::wire::{IssuerStatus, Receipt};
use serde::Serialize;

use crate::issuer_client::{AssetBooks, Books};

/// What each of the three knows of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelFacts {
    /// The channel.
    pub channel_id: ChannelId,
    /// Highest amount that a relayer acknowledged, by the ledgers.
    pub acknowledged: Option<Amount>,
    /// Highest amount that was sent and never answered, by the ledgers.
    pub unknown: Option<Amount>,
    /// What Redis holds.
    pub stored: Option<StoredFacts>,
    /// What the issuer holds.
    pub issued: Option<IssuedFacts>,
}

impl ChannelFacts {
    /// True if nothing is wrong with this channel, open or closed.
    pub fn fit_together(&self) -> bool {
        let mut report = Report::default();
        channel::check(self, false, &mut report);
        report.is_clean()
    }
}

/// What Redis holds of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFacts {
    /// What was agreed at opening.
    pub terms: Terms,
    /// Where it stands.
    pub status: Status,
    /// Latest accepted amount.
    pub accepted: Amount,
    /// What the issuer had paid before Redis knew the channel.
    pub settled_before: Amount,
    /// Whether the stored proof checks for that amount.
    pub proof_holds: bool,
    /// The receipt, once closed.
    pub receipt: Option<Receipt>,
}

/// What the issuer holds of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedFacts {
    /// What was agreed at opening.
    pub terms: Terms,
    /// Where it stands.
    pub status: IssuerStatus,
    /// Paid to the payee.
    pub settled: Amount,
    /// Given back to the payer.
    pub refunded: Amount,
    /// The receipt of the latest settlement.
    pub receipt: Option<Receipt>,
    /// Whether the issuer's key signed that receipt.
    pub receipt_signed: bool,
    /// What is wrong with the batch that it names, if anything.
    pub receipt_flaw: Option<Flaw>,
}

/// What is wrong, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A relayer acknowledged a channel's payment, and Redis does not know the channel.
    MissingInRedis,
    /// Redis holds a channel, or a ledger names one, that the issuer does not know.
    MissingAtIssuer,
    /// Redis and issuer hold different terms under one id.
    TermsDiffer,
    /// Redis recorded less than a relayer acknowledged.
    AcknowledgedNotRecorded,
    /// The proof in Redis does not check: the issuer would not honour it.
    ProofInvalid,
    /// More was accepted than the channel can pay.
    OverCapacity,
    /// Closed, and the issuer paid less than was accepted.
    SettledTooLittle,
    /// The issuer paid more than was accepted.
    SettledTooMuch,
    /// Closed in Redis, and open or refunded at the issuer.
    ClosedInRedisOnly,
    /// Ended at the issuer, and taking payments in Redis.
    EndedAtIssuerOnly,
    /// The issuer refused to settle.
    CloseFailed,
    /// The deposit did not go to payee and payer in whole.
    DepositAstray,
    /// No receipt where there should be one, or one that says something else.
    ReceiptWrong,
    /// The receipt is not signed by the issuer's key.
    ReceiptForged,
    /// The receipt is not in the batch that it names, or the issuer's key did not sign that one.
    ReceiptNotInBatch,
    /// Not closed, though it was to be.
    NotClosed,
    /// The issuer's postings do not sum to nothing.
    BooksUnbalanced,
    /// The journal is damaged, or its last payment of a channel is not the one that Redis holds.
    JournalDiffers,
    /// What must be equal to the sum of its parts, in a scrape or in the books in Redis, is not.
    IdentityBroken,
    /// What a leader shows is not what Redis holds, or its books are not what the channels come to.
    MetricsDiffer,
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

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Channels looked at.
    pub channels: u64,
    /// Of these, closed everywhere.
    pub closed: u64,
    /// Of these, still to be settled.
    pub pending: u64,
    /// Sum of what ledgers say was acknowledged.
    #[serde(serialize_with = "decimal")]
    pub acknowledged: u128,
    /// Sum of what Redis recorded.
    #[serde(serialize_with = "decimal")]
    pub accepted: u128,
    /// Sum of what the issuer paid.
    #[serde(serialize_with = "decimal")]
    pub settled: u128,
    /// Recorded and not yet paid, on channels that are still to be settled.
    #[serde(serialize_with = "decimal")]
    pub pending_amount: u128,
    /// Atomic units that are not where they belong, over all channels, each counted in full: differences of different
    /// channels do not cancel out.
    #[serde(serialize_with = "decimal")]
    pub drift: u128,
    /// Channels with a voucher that was sent and never answered, above all that was acknowledged.
    pub unresolved: u64,
    /// Everything that is wrong.
    pub violations: Vec<Violation>,
}

impl Report {
    /// True if nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.drift == 0
    }

    /// Adds one channel. With `expect_closed`, one that is still open is a violation.
    pub fn add(&mut self, facts: &ChannelFacts, expect_closed: bool) {
        channel::check(facts, expect_closed, self);
    }

    /// Adds what is wrong with the issuer's books as a whole.
    pub fn add_books(&mut self, books: &Books) {
        check_books(books, &mut self.violations);
    }
}

/// Compares what ledgers, Redis and issuer know. With `expect_closed`, a channel that is still open is a violation.
pub fn audit<'a>(
    channels: impl IntoIterator<Item = &'a ChannelFacts>,
    books: &Books,
    expect_closed: bool,
) -> Report {
    let mut report = Report::default();
    for facts in channels {
        report.add(facts, expect_closed);
    }
    report.add_books(books);
    report
}

fn check_books(books: &Books, violations: &mut Vec<Violation>) {
    let mut unbalanced = |detail: String| {
        violations.push(Violation { kind: Kind::BooksUnbalanced, channel_id: None, detail });
    };
    if !books.balanced {
        unbalanced(books.fault.clone().unwrap_or_else(|| "the issuer's postings do not add up".to_owned()));
    }
    for AssetBooks { asset, issued, held, locked } in &books.assets {
        let sum = u128::from(held.units()) + u128::from(locked.units());
        // The issuer reports sums past the range as the most that can be expressed: then its own word must do.
        if sum != u128::from(issued.units()) && *issued != Amount::MAX {
            unbalanced(format!("{asset}: issued {issued}, but held {held} + locked {locked}"));
        }
    }
}

/// A sum as a decimal string: it may be past what a JSON number keeps.
///
/// # Errors
/// Those of `serializer`.
pub fn decimal<S: serde::Serializer>(sum: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(issued: u64, held: u64, locked: u64) -> Books {
        let assets = vec![AssetBooks {
            asset: "usd".to_owned(),
            issued: Amount::new(issued),
            held: Amount::new(held),
            locked: Amount::new(locked),
        }];
        Books { balanced: true, fault: None, accounts: 1, postings: 2, assets }
    }

    fn kinds(books: &Books) -> Vec<Kind> {
        audit(&[], books, true).violations.into_iter().map(|violation| violation.kind).collect()
    }

    #[test]
    fn books_must_balance_by_their_word_and_by_their_sums() {
        assert!(kinds(&books(10, 7, 3)).is_empty());
        assert_eq!(kinds(&books(10, 7, 2)), [Kind::BooksUnbalanced]);
        assert_eq!(kinds(&books(2, u64::MAX, 3)), [Kind::BooksUnbalanced], "no wrapping around");
        assert_eq!(kinds(&Books { balanced: false, ..books(10, 7, 3) }), [Kind::BooksUnbalanced]);
    }

    #[test]
    fn sums_keep_every_digit_in_json() {
        let mut report = audit(&[], &books(0, 0, 0), true);
        report.accepted = u128::from(u64::MAX) + 2;
        let json = serde_json::to_string(&report).expect("JSON");
        assert!(json.contains("\"18446744073709551617\""), "{json}");
    }
}
