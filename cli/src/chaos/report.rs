//! What came of a campaign.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ChaosOptions;
use super::fault::FaultKind;
use crate::audit;
use crate::history::Violation;

/// What came of a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What everything followed from.
    pub seed: u64,
    /// How long faults were injected, in ms.
    pub duration_ms: u64,
    /// From the first payment to the verdict, in ms.
    pub elapsed_ms: u64,
    /// Each kind of fault, by name.
    pub faults: BTreeMap<String, Injected>,
    /// Payments acknowledged.
    pub acknowledged: u64,
    /// Answers that left an outcome unknown; each of these vouchers was sent again.
    pub unknown: u64,
    /// Payments refused.
    pub refused: u64,
    /// Vouchers whose outcome nobody could say to the end.
    pub unresolved: u64,
    /// Channels opened.
    pub channels: u64,
    /// Of these, closed at both Redis and issuer.
    pub closed: u64,
    /// Closes that payers asked for while faults went on. The others were idle, full, or closed at the end.
    pub closes_requested: u64,
    /// Processes that had not ended by themselves when the time after their SIGTERM was over.
    pub slow_stops: u64,
    /// Lines of history that were checked.
    pub lines: u64,
    /// Records that were seen in streams and checked.
    pub stream_records: u64,
    /// Paid by the issuer.
    pub settled: String,
    /// Units that are not where they belong.
    pub drift: String,
    /// What cannot be true.
    pub violations: Vec<Violation>,
    /// What the audit of the last state finds wrong.
    pub audit_violations: Vec<audit::Violation>,
    /// What did not heal.
    pub failures: Vec<String>,
}

/// How often a fault was injected, and what was paid meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Injected {
    /// Times.
    pub times: u64,
    /// Payments acknowledged while it lasted.
    pub acknowledged_meanwhile: u64,
}

impl Report {
    /// An empty one, with a line for each fault that may come.
    pub(super) fn new(options: &ChaosOptions) -> Self {
        Report {
            seed: options.seed,
            duration_ms: u64::try_from(options.duration.as_millis()).unwrap_or(u64::MAX),
            faults: options.kinds.iter().map(|kind| (kind.to_string(), Injected::default())).collect(),
            ..Report::default()
        }
    }

    /// True if nothing is wrong and everything healed.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
            && self.audit_violations.is_empty()
            && self.failures.is_empty()
            && self.drift == "0"
            && self.unresolved == 0
    }

    /// Faults injected, of all kinds.
    pub fn faults_injected(&self) -> u64 {
        self.faults.values().map(|injected| injected.times).sum()
    }

    pub(super) fn injected(&mut self, kind: FaultKind, acknowledged_meanwhile: u64) {
        let injected = self.faults.entry(kind.to_string()).or_default();
        injected.times += 1;
        injected.acknowledged_meanwhile += acknowledged_meanwhile;
    }

    pub(super) fn audited(&mut self, audit: &audit::Report) {
        self.closed = audit.closed;
        self.settled = audit.settled.to_string();
        self.drift = audit.drift.to_string();
        self.audit_violations = audit.violations.clone();
    }
}
