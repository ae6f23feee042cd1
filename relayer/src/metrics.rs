//! What a relayer counts. At rest, `received = accepted + duplicate + refused + abandoned`: see [`Ticket`].

use std::sync::Arc;
use std::time::Duration;

use common::problem::Code;
use common::store::StoreError;
use common::wire::Outcome;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

/// Upper bounds of the latency buckets, in seconds.
const LATENCY_BUCKETS_S: [f64; 15] =
    [5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 2.0];

/// Upper bounds of the buckets of vouchers in a call.
const CALL_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// How a payment ended, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Recorded, now or before.
    Taken(Outcome),
    /// Answered with this code.
    Refused(Code),
    /// The client left, or the request took too long, before the voucher was handed to the store: nothing recorded.
    /// (Or the task that had it failed.)
    Abandoned,
}

impl Ending {
    fn label(self) -> &'static str {
        match self {
            Ending::Taken(Outcome::Accepted) => "accepted",
            Ending::Taken(Outcome::Duplicate) => "duplicate",
            Ending::Refused(code) => code.as_str(),
            Ending::Abandoned => "abandoned",
        }
    }
}

/// What came of asking the issuer for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// It is open.
    Open,
    /// It has ended.
    Ended,
    /// The issuer does not know it.
    Unknown,
    /// It cannot be paid to this relayer.
    Foreign,
    /// No answer to go by.
    Unavailable,
    /// Not asked: too many requests already.
    Overloaded,
}

impl Lookup {
    fn label(self) -> &'static str {
        match self {
            Lookup::Open => "open",
            Lookup::Ended => "ended",
            Lookup::Unknown => "unknown",
            Lookup::Foreign => "foreign",
            Lookup::Unavailable => "unavailable",
            Lookup::Overloaded => "overloaded",
        }
    }
}

/// Every number of a relayer. Those of the hot path are resolved once.
#[derive(Debug)]
pub(crate) struct Metrics {
    received: IntCounter,
    payments: IntCounterVec,
    accepted: IntCounter,
    duplicate: IntCounter,
    in_flight: IntGauge,
    terms: Histogram,
    verify: Histogram,
    store: Histogram,
    receipt: Histogram,
    call_vouchers: Histogram,
    cache_hits: IntCounter,
    cache_misses: IntCounter,
    issuer_lookups: IntCounterVec,
    store_errors: IntCounterVec,
    memory: IntGauge,
    /// 1 while Redis is known to have lost data.
    pub(crate) lost_data: IntGauge,
}

impl Metrics {
    /// Creates every metric under `registry`.
    pub(crate) fn register(registry: &Registry) -> Result<Arc<Metrics>, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone())).map(|()| counters)
        };
        let payments = counters(
            "millrace_relayer_payments_total",
            "Payments by how they ended: accepted, duplicate, abandoned, or the code of the refusal.",
            "outcome",
        )?;
        let latency = HistogramVec::new(
            HistogramOpts::new("millrace_relayer_payment_seconds", "Time a payment spends in each stage.")
                .buckets(LATENCY_BUCKETS_S.to_vec()),
            &["stage"],
        )?;
        registry.register(Box::new(latency.clone()))?;
        let call_vouchers = Histogram::with_opts(
            HistogramOpts::new("millrace_relayer_call_vouchers", "Vouchers in one accept call.")
                .buckets(CALL_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(call_vouchers.clone()))?;
        let in_flight = IntGauge::new("millrace_relayer_payments_in_flight", "Payments being handled.")?;
        registry.register(Box::new(in_flight.clone()))?;
        let memory = IntGauge::new(
            "millrace_relayer_redis_memory_percent",
            "Percent of Redis' maxmemory that is used; 0 without one.",
        )?;
        registry.register(Box::new(memory.clone()))?;
        let lost_data = IntGauge::new(
            "millrace_relayer_redis_lost_data",
            "1 while Redis is known to have lost what it had acknowledged.",
        )?;
        registry.register(Box::new(lost_data.clone()))?;
        let cache =
            counters("millrace_relayer_channel_cache_total", "Looks into the cache of terms.", "result")?;
        Ok(Arc::new(Metrics {
            received: counter("millrace_relayer_payments_received_total", "Payments that came in.")?,
            accepted: payments.with_label_values(&["accepted"]),
            duplicate: payments.with_label_values(&["duplicate"]),
            payments,
            in_flight,
            memory,
            lost_data,
            terms: latency.with_label_values(&["terms"]),
            verify: latency.with_label_values(&["verify"]),
            store: latency.with_label_values(&["store"]),
            receipt: latency.with_label_values(&["receipt"]),
            call_vouchers,
            cache_hits: cache.with_label_values(&["hit"]),
            cache_misses: cache.with_label_values(&["miss"]),
            issuer_lookups: counters(
                "millrace_relayer_issuer_lookups_total",
                "Channels asked of the issuer, by what came of it.",
                "outcome",
            )?,
            store_errors: counters(
                "millrace_relayer_store_errors_total",
                "Calls to Redis that failed, by kind.",
                "kind",
            )?,
        }))
    }

    /// Counts `count` payments in. `Err` with what it counted if more than `max` are in flight then.
    pub(crate) fn receive(self: &Arc<Self>, count: usize, max: usize) -> Result<Vec<Ticket>, Vec<Ticket>> {
        let tickets: Vec<Ticket> = (0..count).map(|_| self.ticket()).collect();
        if self.exceeds(max) { Err(tickets) } else { Ok(tickets) }
    }

    /// Counts one payment in. `Err` with what it counted if more than `max` are in flight then.
    pub(crate) fn receive_one(self: &Arc<Self>, max: usize) -> Result<Ticket, Ticket> {
        let ticket = self.ticket();
        if self.exceeds(max) { Err(ticket) } else { Ok(ticket) }
    }

    fn ticket(self: &Arc<Self>) -> Ticket {
        self.received.inc();
        self.in_flight.inc();
        Ticket { metrics: Arc::clone(self), ending: Ending::Abandoned }
    }

    /// Each payment is counted before it looks, so no more than `max` ever pass.
    fn exceeds(&self, max: usize) -> bool {
        usize::try_from(self.in_flight.get()).unwrap_or(0) > max
    }

    fn end(&self, ending: Ending) {
        match ending {
            Ending::Taken(Outcome::Accepted) => self.accepted.inc(),
            Ending::Taken(Outcome::Duplicate) => self.duplicate.inc(),
            other => self.payments.with_label_values(&[other.label()]).inc(),
        }
        self.in_flight.dec();
    }

    pub(crate) fn terms_took(&self, time: Duration) {
        self.terms.observe(time.as_secs_f64());
    }

    pub(crate) fn verify_took(&self, time: Duration) {
        self.verify.observe(time.as_secs_f64());
    }

    pub(crate) fn receipt_took(&self, time: Duration) {
        self.receipt.observe(time.as_secs_f64());
    }

    pub(crate) fn store_took(&self, time: Duration) {
        self.store.observe(time.as_secs_f64());
    }

    pub(crate) fn called(&self, vouchers: usize) {
        self.call_vouchers.observe(f64::from(u32::try_from(vouchers).unwrap_or(u32::MAX)));
    }

    pub(crate) fn memory(&self, percent: u64) {
        self.memory.set(i64::try_from(percent).unwrap_or(i64::MAX));
    }

    pub(crate) fn cache_hit(&self) {
        self.cache_hits.inc();
    }

    pub(crate) fn cache_missed(&self) {
        self.cache_misses.inc();
    }

    pub(crate) fn looked_up(&self, lookup: Lookup) {
        self.issuer_lookups.with_label_values(&[lookup.label()]).inc();
    }

    pub(crate) fn store_failed(&self, error: &StoreError) {
        let kind = match error {
            StoreError::Unavailable { .. } => "unavailable",
            StoreError::OutcomeUnknown { .. } => "outcome_unknown",
            StoreError::LostData { .. } => "lost_data",
            StoreError::Fenced { .. } | StoreError::LeaseExpired => "fenced",
            StoreError::Corrupt { .. } => "corrupt",
        };
        self.store_errors.with_label_values(&[kind]).inc();
    }
}

/// One payment between its coming in and its ending. Dropped, it is counted as ended: so every payment ends exactly
/// once, whatever becomes of the connection it came on.
#[derive(Debug)]
pub(crate) struct Ticket {
    metrics: Arc<Metrics>,
    ending: Ending,
}

impl Ticket {
    /// Counts the payment as ended so.
    pub(crate) fn end(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.metrics.end(self.ending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payment_ends_exactly_once() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).expect("new names");
        let mut tickets = metrics.receive(4, 4).expect("room").into_iter();
        let refused = metrics.receive_one(4).expect_err("no room");
        refused.end(Ending::Refused(Code::Overloaded));
        tickets.next().expect("four").end(Ending::Taken(Outcome::Accepted));
        tickets.next().expect("four").end(Ending::Taken(Outcome::Duplicate));
        drop(tickets);
        let of = |label: &str| metrics.payments.with_label_values(&[label]).get();
        assert_eq!((of("accepted"), of("duplicate"), of("overloaded"), of("abandoned")), (1, 1, 1, 2));
        assert_eq!((metrics.received.get(), metrics.in_flight.get()), (5, 0));
    }
}
