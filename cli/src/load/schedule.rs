//! Which payment is sent when.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After so many payments.
    Payments(u64),
    /// After so much time.
    Elapsed(Duration),
}

/// Hands out payments, each with the time at which it is to be sent. Shared by all workers: whoever is free takes the
/// next one.
#[derive(Debug)]
pub struct Schedule {
    start: Instant,
    per_second: Option<u64>,
    until: Until,
    taken: AtomicU64,
    over: AtomicBool,
}

impl Schedule {
    /// A schedule from `start` on; without a rate, each payment is to be sent when it is taken.
    pub fn new(start: Instant, per_second: Option<u64>, until: Until) -> Self {
        Schedule { start, per_second, until, taken: AtomicU64::new(0), over: AtomicBool::new(false) }
    }

    /// True once the last payment was handed out.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// When the next payment is to be sent; `None` after the last.
    pub fn take(&self) -> Option<Instant> {
        let n = self.taken.fetch_add(1, Ordering::Relaxed);
        let offset = match self.per_second {
            Some(per_second) => offset(n, per_second),
            None => self.start.elapsed(),
        };
        let goes_on = match self.until {
            Until::Payments(payments) => n < payments,
            Until::Elapsed(time) => offset < time,
        };
        if !goes_on {
            self.over.store(true, Ordering::Relaxed);
            return None;
        }
        Some(self.start + offset)
    }
}

/// When the `n`th payment is to be sent, from the start. In integers: a sum of rounded steps would drift.
fn offset(n: u64, per_second: u64) -> Duration {
    let nanos = u128::from(n) * 1_000_000_000 / u128::from(per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_rate_is_kept_whoever_takes_a_payment_and_however_late() {
        let start = Instant::now() - Duration::from_secs(60);
        let schedule = Schedule::new(start, Some(3), Until::Payments(4));
        let times: Vec<_> = std::iter::from_fn(|| schedule.take()).map(|at| at - start).collect();
        let ms = Duration::from_nanos;
        assert_eq!(times, [ms(0), ms(333_333_333), ms(666_666_666), ms(1_000_000_000)]);
    }

    #[test]
    fn time_ends_a_fixed_rate_by_the_schedule_and_not_by_the_clock() {
        let start = Instant::now() - Duration::from_secs(60);
        let schedule = Schedule::new(start, Some(10), Until::Elapsed(Duration::from_secs(1)));
        assert_eq!(std::iter::from_fn(|| schedule.take()).count(), 10, "late payments are sent all the same");
    }

    #[test]
    fn without_a_rate_the_clock_ends_it() {
        let start = Instant::now() - Duration::from_secs(2);
        assert_eq!(Schedule::new(start, None, Until::Elapsed(Duration::from_secs(1))).take(), None);
        assert!(Schedule::new(start, None, Until::Elapsed(Duration::from_secs(60))).take().is_some());
    }
}
