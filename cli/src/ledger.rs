//! What a payer side knows for certain: a line of JSON for every voucher that it sends, written before it leaves, and
//! one for what it was told, written before anything else is done with the answer.
//!
//! Lines stand in the order of what they tell of: whatever was told before something was sent stands above it. That is
//! what lets [`crate::history`] say that an amount fell.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use common::amount::Amount;
use common::clock::Clock;
use common::ids::{ChannelId, Signature};
use common::problem::Code;
use common::voucher::Proof;
use common::wire::{Latest, Outcome, PaymentAnswer, PaymentRequest};
use serde::{Deserialize, Serialize};

use crate::client::RelayerError;

/// What a line says of a voucher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerOutcome {
    /// On its way from here on. The answer, if one came, is a later line.
    Sent,
    /// Acknowledged, recorded now.
    Accepted,
    /// Acknowledged, recorded before.
    Duplicate,
    /// Refused; the line's `code` says why.
    Rejected,
    /// The relayer said that it does not know, or said nothing that can be read.
    Unknown,
    /// No answer came.
    NoAnswer,
    /// It certainly never left.
    NotSent,
    /// Not a payment: someone looked, and this was the latest voucher of the channel.
    Observed,
}

impl LedgerOutcome {
    /// True if a relayer has said that the voucher is recorded.
    pub const fn is_acknowledged(self) -> bool {
        matches!(self, LedgerOutcome::Accepted | LedgerOutcome::Duplicate)
    }

    /// True if the voucher may have been recorded, and nobody said so.
    pub const fn is_unknown(self) -> bool {
        matches!(self, LedgerOutcome::Unknown | LedgerOutcome::NoAnswer)
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The channel that paid.
    pub channel_id: ChannelId,
    /// Total owed on it.
    pub cumulative_amount: Amount,
    /// What proves it, complete; a signature of zeros where there is no voucher.
    #[serde(flatten, with = "common::wire::spread")]
    pub proof: Proof,
    /// What is known of it.
    pub outcome: LedgerOutcome,
    /// The relayer that was asked.
    pub relayer: String,
    /// When this line was written, in ms since 1970.
    pub at_ms: u64,
    /// Where the line starts in its file: rises from line to line, also when a later load appends. 0 in old ledgers.
    #[serde(default)]
    pub seq: u64,
    /// The `seq` of the `sent` line that this one answers, or that a look began after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The channel's latest amount, where a refusal told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Amount>,
}

/// A voucher on its way, or a look that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt(u64);

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be opened, read or written.
    #[error("ledger {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is none of a ledger.
    #[error("ledger {path}, line {line}: {source}")]
    Line {
        /// The file.
        path: String,
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Appends lines. Each is handed to the system whole and at once: a crash of this process loses none.
#[derive(Debug)]
pub struct LedgerWriter {
    path: PathBuf,
    file: Mutex<Tail>,
    clock: Clock,
}

/// The end of the file.
#[derive(Debug)]
struct Tail {
    file: File,
    length: u64,
}

impl LedgerWriter {
    /// Opens a ledger to append to, made if it does not exist.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub fn append_to(path: &Path) -> Result<LedgerWriter, LedgerError> {
        let io = |source| LedgerError::Io { path: path.display().to_string(), source };
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let tail = Mutex::new(Tail { file, length });
        Ok(LedgerWriter { path: path.to_owned(), file: tail, clock: Clock::system() })
    }

    /// Records that `voucher` is about to leave.
    ///
    /// # Errors
    /// [`LedgerError::Io`]; the caller must stop, or it goes on with payments that nobody could prove.
    pub fn sent(&self, voucher: &PaymentRequest, relayer: &str) -> Result<Attempt, LedgerError> {
        self.write(entry(voucher, LedgerOutcome::Sent, relayer)).map(Attempt)
    }

    /// Records what the payer was told of a voucher that it sent.
    ///
    /// # Errors
    /// As for [`LedgerWriter::sent`].
    pub fn told(
        &self,
        attempt: Attempt,
        voucher: &PaymentRequest,
        answer: &Result<PaymentAnswer, RelayerError>,
        relayer: &str,
    ) -> Result<(), LedgerError> {
        let outcome = match answer {
            Ok(PaymentAnswer { outcome: Outcome::Accepted, .. }) => LedgerOutcome::Accepted,
            Ok(PaymentAnswer { outcome: Outcome::Duplicate, .. }) => LedgerOutcome::Duplicate,
            Err(RelayerError::NoAnswer { sent: true, .. }) => LedgerOutcome::NoAnswer,
            Err(RelayerError::NoAnswer { sent: false, .. }) => LedgerOutcome::NotSent,
            Err(error) if error.outcome_is_unknown() => LedgerOutcome::Unknown,
            Err(_) => LedgerOutcome::Rejected,
        };
        let mut entry = entry(voucher, outcome, relayer);
        entry.attempt = Some(attempt.0);
        if let Err(RelayerError::Refused(problem)) = answer {
            entry.code = Some(problem.code);
            entry.latest = problem.latest.as_ref().map(|latest| latest.cumulative_amount);
        }
        self.write(entry).map(drop)
    }

    /// The moment from which on a look is taken, for [`LedgerWriter::observed`].
    pub fn look(&self) -> Attempt {
        Attempt(self.tail().length)
    }

    /// Records that `latest` was the latest voucher of a channel some time after `look`; `None` for no voucher at all.
    ///
    /// # Errors
    /// As for [`LedgerWriter::sent`].
    pub fn observed(
        &self,
        look: Attempt,
        channel_id: ChannelId,
        latest: Option<&Latest>,
        where_at: &str,
    ) -> Result<(), LedgerError> {
        let voucher = PaymentRequest {
            channel_id,
            cumulative_amount: latest.map_or(Amount::ZERO, |latest| latest.cumulative_amount),
            proof: latest.map_or(NO_PROOF, |latest| latest.proof.clone()),
        };
        let mut entry = entry(&voucher, LedgerOutcome::Observed, where_at);
        entry.attempt = Some(look.0);
        self.write(entry).map(drop)
    }

    /// Appends a line, and gives back where it starts.
    fn write(&self, mut entry: LedgerEntry) -> Result<u64, LedgerError> {
        let io = |source| LedgerError::Io { path: self.path.display().to_string(), source };
        entry.at_ms = self.clock.now_ms();
        let mut tail = self.tail();
        entry.seq = tail.length;
        let mut line = serde_json::to_vec(&entry).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        tail.file.write_all(&line).map_err(io)?;
        tail.length = tail.length.saturating_add(line.len() as u64);
        Ok(entry.seq)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        // A panic while the lock was held cannot have left half a line: the line is written by one call.
        self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Stands where a channel was never paid from.
const NO_PROOF: Proof = Proof::Ed25519 { expires_at: 0, signature: Signature([0; 64]) };

fn entry(voucher: &PaymentRequest, outcome: LedgerOutcome, relayer: &str) -> LedgerEntry {
    LedgerEntry {
        channel_id: voucher.channel_id,
        cumulative_amount: voucher.cumulative_amount,
        proof: voucher.proof.clone(),
        outcome,
        relayer: relayer.to_owned(),
        at_ms: 0,
        seq: 0,
        attempt: None,
        code: None,
        latest: None,
    }
}

/// Gives every line of a ledger to `each`.
///
/// # Errors
/// [`LedgerError`]. A last line without its end is left out: its writer died in the middle of it.
pub fn read(path: &Path, mut each: impl FnMut(LedgerEntry)) -> Result<(), LedgerError> {
    let name = || path.display().to_string();
    let io = |source| LedgerError::Io { path: name(), source };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        reader.read_until(b'\n', &mut text).map_err(io)?;
        if text.last() != Some(&b'\n') {
            break;
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        each(serde_json::from_slice(&text).map_err(|source| LedgerError::Line {
            path: name(),
            line,
            source,
        })?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payer::{new_key, voucher};

    #[test]
    fn lines_come_back_and_a_torn_last_line_is_left_out() {
        let dir = tempfile::tempdir().expect("a temp dir");
        let path = dir.path().join("ledger.ndjson");
        let ledger = LedgerWriter::append_to(&path).expect("writable");
        let request = voucher(&new_key(), ChannelId([1; 32]), Amount::new(9_007_199_254_740_993), 0);
        let attempt = ledger.sent(&request, "http://a").expect("written");
        let lost = RelayerError::NoAnswer { url: "http://a".to_owned(), detail: String::new(), sent: true };
        ledger.told(attempt, &request, &Err(lost), "http://a").expect("written");
        drop(ledger);
        let ledger = LedgerWriter::append_to(&path).expect("a later load goes on");
        let attempt = ledger.sent(&request, "http://b").expect("written");
        let (channel_id, cumulative_amount) = (request.channel_id, request.cumulative_amount);
        let answer = PaymentAnswer {
            channel_id: channel_id.into(),
            cumulative_amount,
            outcome: Outcome::Duplicate,
            receipt: None,
        };
        ledger.told(attempt, &request, &Ok(answer), "http://b").expect("written");
        let mut file = OpenOptions::new().append(true).open(&path).expect("there");
        file.write_all(b"{\"channel_id\":\"").expect("written");
        let mut entries = Vec::new();
        read(&path, |entry| entries.push(entry)).expect("readable");
        let outcomes: Vec<_> = entries.iter().map(|entry| entry.outcome).collect();
        use LedgerOutcome::{Duplicate, NoAnswer, Sent};
        assert_eq!(outcomes, [Sent, NoAnswer, Sent, Duplicate]);
        assert_eq!(entries[3].cumulative_amount, Amount::new(9_007_199_254_740_993));
        assert_eq!(entries[3].attempt, Some(entries[2].seq));
        assert!(entries.is_sorted_by(|a, b| a.seq < b.seq), "one order over both loads: {entries:?}");
    }

    #[test]
    fn lines_of_an_older_ledger_are_still_read() {
        let dir = tempfile::tempdir().expect("a temp dir");
        let path = dir.path().join("ledger.ndjson");
        let (id, signature) = (ChannelId([1; 32]), Signature([2; 64]));
        let line = format!(
            r#"{{"channel_id":"{id}","cumulative_amount":"7","expires_at":0,"signature":"{signature}","outcome":"accepted","relayer":"http://a","at_ms":5}}"#
        );
        std::fs::write(&path, format!("{line}\n")).expect("writable");
        let mut entries = Vec::new();
        read(&path, |entry| entries.push(entry)).expect("readable");
        assert_eq!((entries[0].outcome, entries[0].attempt), (LedgerOutcome::Accepted, None));
    }

    #[test]
    fn a_line_of_something_else_is_named() {
        let dir = tempfile::tempdir().expect("a temp dir");
        let path = dir.path().join("ledger.ndjson");
        std::fs::write(&path, "\n{}\n").expect("writable");
        let error = read(&path, |_| ()).expect_err("not a ledger").to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
