//! From counts and times to figures. The one place of the benchmarks that divides: money never comes here.
#![expect(
    clippy::float_arithmetic,
    reason = "figures of a benchmark are measurements, and no money is among them"
)]

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that is told apart, in ns: a minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Digits to which latencies are told apart.
const LATENCY_DIGITS: u8 = 3;

const BYTES_PER_MIB: f64 = 1_048_576.0;

/// The middle and both ends of what several rounds gave. One round makes all three the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// Half of the rounds gave less.
    pub(crate) median: f64,
    /// Least of all rounds.
    pub(crate) min: f64,
    /// Most of all rounds.
    pub(crate) max: f64,
}

impl Spread {
    /// Of the values of each round. Not a number if there was none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        Spread { median: (at(last / 2) + at(last.div_ceil(2))) / 2.0, min: at(0), max: at(last) }
    }
}

impl From<f64> for Spread {
    fn from(value: f64) -> Self {
        Spread { median: value, min: value, max: value }
    }
}

/// Microseconds of each of `count`, where all together took `total`.
pub(crate) fn micros_each(total: Duration, count: u64) -> f64 {
    total.as_secs_f64() * 1e6 / as_f64(count)
}

/// How many a second, where `count` took `elapsed`.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> f64 {
    as_f64(count) / elapsed.as_secs_f64()
}

/// `part` of `whole`, in percent.
pub(crate) fn percent(part: Duration, whole: Duration) -> f64 {
    part.as_secs_f64() / whole.as_secs_f64() * 100.0
}

/// `a / b`
pub(crate) fn ratio(a: f64, b: f64) -> f64 {
    a / b
}

/// By how many percent `now` is above `before`.
pub(crate) fn change_percent(before: f64, now: f64) -> f64 {
    (now / before - 1.0) * 100.0
}

/// The sum of figures in one unit.
pub(crate) fn sum(parts: &[f64]) -> f64 {
    parts.iter().sum()
}

/// `count / of` of two counts.
pub(crate) fn each(count: u64, of: u64) -> f64 {
    as_f64(count) / as_f64(of)
}

/// A number of bytes in MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    as_f64(bytes) / BYTES_PER_MIB
}

/// A figure of so many nanoseconds, in microseconds.
pub(crate) fn micros(ns: u64) -> f64 {
    as_f64(ns) / 1e3
}

/// A figure of so many nanoseconds, in milliseconds.
pub(crate) fn millis(ns: u64) -> f64 {
    as_f64(ns) / 1e6
}

/// `percent` of a rate, as a whole number of 1 or more.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate that was measured is positive and far below 2^53, and the cast saturates"
)]
pub(crate) fn share_of_rate(rate: f64, percent: u32) -> u64 {
    ((rate * f64::from(percent) / 100.0) as u64).max(1)
}

/// As a figure: counts of a benchmark are far below 2^53.
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

/// An empty histogram of latencies in ns.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, LATENCY_DIGITS)
        .expect("1 and a minute are bounds that three digits can have")
}

/// A time as latencies are recorded.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
