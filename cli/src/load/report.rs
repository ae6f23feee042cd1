//! What came of a load.

use std::collections::BTreeMap;
use std::time::Duration;

use common::amount::Amount;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart, in us: ten minutes.
const LATENCY_MAX_US: u64 = 600_000_000;

/// Counts and latencies.
#[derive(Clone, Debug)]
pub struct Report {
    /// Answers by what they said: `accepted`, `duplicate`, a problem's code, or `no_answer` and the like.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Payments acknowledged.
    pub acknowledged: u64,
    /// What they added up to.
    pub amount: u128,
    /// Vouchers whose outcome was still unknown when patience ran out.
    pub unresolved: u64,
    /// From the first payment to the last outcome.
    pub elapsed: Duration,
    latency_us: Histogram<u64>,
}

impl Default for Report {
    fn default() -> Self {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
            .expect("1 and ten minutes are bounds that three digits can have");
        Report {
            outcomes: BTreeMap::new(),
            acknowledged: 0,
            amount: 0,
            unresolved: 0,
            elapsed: Duration::ZERO,
            latency_us,
        }
    }
}

/// A report as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Payments acknowledged.
    pub acknowledged: u64,
    /// What they added up to, as a decimal string.
    pub amount: String,
    /// Vouchers whose outcome is unknown.
    pub unresolved: u64,
    /// From the first payment to the last outcome, in ms.
    pub elapsed_ms: u64,
    /// Acknowledged payments a second.
    pub per_second: u64,
    /// Answers by what they said.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Latency of acknowledged payments, in us.
    pub latency_us: Latency,
}

/// Quantiles of latency, in us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half are faster.
    pub p50: u64,
    /// Nine of ten are faster.
    pub p90: u64,
    /// 99 of 100 are faster.
    pub p99: u64,
    /// 999 of 1000 are faster.
    pub p999: u64,
    /// None is slower.
    pub max: u64,
}

impl Report {
    pub(super) fn count(&mut self, outcome: &'static str) {
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    pub(super) fn acknowledge(&mut self, outcome: &'static str, step: Amount, latency: Duration) {
        self.count(outcome);
        self.acknowledged += 1;
        self.amount += u128::from(step.units());
        self.latency_us.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn add(&mut self, part: &Report) {
        for (outcome, count) in &part.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.acknowledged += part.acknowledged;
        self.amount += part.amount;
        self.unresolved += part.unresolved;
        self.latency_us
            .add(&part.latency_us)
            .expect("all reports have the same bounds, so that one holds what the other does");
    }

    /// The numbers worth showing.
    pub fn summary(&self) -> Summary {
        let elapsed_ms = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX);
        let at = |quantile| self.latency_us.value_at_quantile(quantile);
        Summary {
            acknowledged: self.acknowledged,
            amount: self.amount.to_string(),
            unresolved: self.unresolved,
            elapsed_ms,
            per_second: self.acknowledged.saturating_mul(1_000).checked_div(elapsed_ms).unwrap_or(0),
            outcomes: self.outcomes.clone(),
            latency_us: Latency {
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: self.latency_us.max(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        let mut whole = Report { elapsed: Duration::from_millis(500), ..Report::default() };
        for ms in [1, 3] {
            let mut part = Report::default();
            part.acknowledge("accepted", Amount::MAX, Duration::from_millis(ms));
            part.count("overloaded");
            whole.add(&part);
        }
        let summary = whole.summary();
        assert_eq!((summary.acknowledged, summary.per_second), (2, 4));
        assert_eq!(summary.amount, (u128::from(u64::MAX) * 2).to_string());
        assert_eq!(summary.outcomes, BTreeMap::from([("accepted", 2), ("overloaded", 2)]));
        assert!((1_000..1_002).contains(&summary.latency_us.p50), "{:?}", summary.latency_us);
        assert!((2_990..3_010).contains(&summary.latency_us.max), "{:?}", summary.latency_us);
    }
}
