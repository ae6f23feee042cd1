//! What a relayer counts. Every series is there from the start, at zero: what comes from outside adds none.
//!
//! How payments are counted in and out is in [`flow`]; see also [`Ticket`].

mod flow;

use std::sync::Arc;
use std::time::Duration;

use common::ids::ChannelId;
use common::problem::Code;
use common::store::followed::Followed;
use common::store::{Store, StoreError};
use common::voucher::VerifiedVoucher;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};
use service::metrics::{Family, Kind, register_read_at_scrape};

pub(crate) use flow::Ending;
use flow::Flow;

use crate::trip::Trip;

/// Upper bounds of the latency buckets, in seconds.
const LATENCY_BUCKETS_S: [f64; 15] =
    [5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 2.0];

/// Upper bounds of the buckets of vouchers in a call.
const CALL_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

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
    const ALL: [Lookup; 6] = [
        Lookup::Open,
        Lookup::Ended,
        Lookup::Unknown,
        Lookup::Foreign,
        Lookup::Unavailable,
        Lookup::Overloaded,
    ];

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

/// Kinds of failed calls, as [`kind_of`] names them.
const STORE_ERRORS: [&str; 5] = ["unavailable", "outcome_unknown", "lost_data", "fenced", "corrupt"];

const CONNECTIONS: &[Family] = &[Family {
    name: "millrace_relayer_redis_connections_lost_total",
    help: "Connections to Redis that were lost; each is made anew.",
    kind: Kind::Counter,
    label: None,
}];

/// Every number of a relayer. Those of the hot path are resolved once.
#[derive(Debug)]
pub(crate) struct Metrics {
    flow: Arc<Flow>,
    parse: Histogram,
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
        let counters = |name: &str, help: &str, label: &str, values: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            for value in values {
                counters.with_label_values(&[value]);
            }
            Ok::<_, prometheus::Error>(counters)
        };
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
        let cache = counters(
            "millrace_relayer_channel_cache_total",
            "Looks into the cache of terms.",
            "result",
            &["hit", "miss"],
        )?;
        Ok(Arc::new(Metrics {
            flow: Flow::register(registry)?,
            memory,
            lost_data,
            parse: latency.with_label_values(&["parse"]),
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
                &Lookup::ALL.map(Lookup::label),
            )?,
            store_errors: counters(
                "millrace_relayer_store_errors_total",
                "Calls to Redis that failed, by kind.",
                "kind",
                &STORE_ERRORS,
            )?,
        }))
    }

    /// Shows under `registry` what `store` counts itself.
    pub(crate) fn watch_connections(registry: &Registry, store: &Store) -> Result<(), prometheus::Error> {
        let store = store.clone();
        register_read_at_scrape(registry, CONNECTIONS, move || vec![vec![("", store.disconnects().into())]])
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
        self.flow.begin();
        Ticket { metrics: Arc::clone(self), ending: Ending::Abandoned, trip: Trip::begin() }
    }

    /// Each payment is counted before it looks, so no more than `max` ever pass.
    fn exceeds(&self, max: usize) -> bool {
        usize::try_from(self.flow.in_flight()).unwrap_or(usize::MAX) > max
    }

    pub(crate) fn parse_took(&self, time: Duration) {
        self.parse.observe(time.as_secs_f64());
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

    /// Counts the payments of one call together, which for each costs a tenth of what it would by itself.
    pub(crate) fn store_took(&self, times: impl Iterator<Item = Duration>) {
        let together = self.store.local();
        times.for_each(|time| together.observe(time.as_secs_f64()));
        together.flush();
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
        self.store_errors.with_label_values(&[kind_of(error)]).inc();
    }
}

fn kind_of(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable { .. } => "unavailable",
        StoreError::OutcomeUnknown { .. } => "outcome_unknown",
        StoreError::LostData { .. } => "lost_data",
        StoreError::Fenced { .. } | StoreError::LeaseExpired => "fenced",
        StoreError::Corrupt { .. } => "corrupt",
    }
}

/// One payment between its coming in and its ending. Dropped, it is counted as ended: so every payment ends exactly
/// once, whatever becomes of the connection it came on.
#[derive(Debug)]
pub(crate) struct Ticket {
    metrics: Arc<Metrics>,
    ending: Ending,
    /// If anyone looks for it.
    trip: Option<Box<Trip>>,
}

impl Ticket {
    /// Notes whose payment it is, for whoever looks for it.
    pub(crate) fn is_of(&mut self, channel_id: &ChannelId) {
        if let Some(trip) = &mut self.trip {
            trip.is_of(channel_id);
        }
    }

    /// Counts the payment as ended so.
    pub(crate) fn end(mut self, ending: Ending) {
        self.ending = ending;
    }

    /// Notes that the voucher is on its way to the store: from now on nobody knows the outcome of a payment that is
    /// dropped. Gives what is to go with it, if it is followed: it is in a call of so many.
    pub(crate) fn sent(&mut self, voucher: &VerifiedVoucher, vouchers: usize) -> Option<Followed> {
        self.ending = Ending::Refused(Code::OutcomeUnknown);
        self.trip.as_mut()?.sent(voucher, vouchers)
    }

    /// Notes that the store has answered and recorded nothing.
    pub(crate) fn came_back(&mut self) {
        self.ending = Ending::Abandoned;
        if let Some(trip) = &mut self.trip {
            trip.came_back();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.metrics.flow.end(self.ending);
        if let Some(trip) = self.trip.take() {
            trip.end(self.ending);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::wire::Outcome;

    #[test]
    fn every_payment_ends_exactly_once() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).expect("new names");
        let mut tickets = metrics.receive(6, 6).expect("room").into_iter();
        let refused = metrics.receive_one(6).expect_err("no room");
        refused.end(Ending::Refused(Code::Overloaded));
        tickets.next().expect("six").end(Ending::Taken(Outcome::Accepted));
        tickets.next().expect("six").end(Ending::Taken(Outcome::Duplicate));
        let voucher = crate::testing::voucher(1, 1);
        tickets.next().expect("six").sent(&voucher, 1);
        let mut unregistered = tickets.next().expect("six");
        unregistered.sent(&voucher, 1);
        unregistered.came_back();
        drop(unregistered);
        drop(tickets);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
        for line in [
            r#"millrace_relayer_payments_total{outcome="accepted"} 1"#,
            r#"millrace_relayer_payments_total{outcome="duplicate"} 1"#,
            r#"millrace_relayer_payments_total{outcome="overloaded"} 1"#,
            r#"millrace_relayer_payments_total{outcome="outcome_unknown"} 1"#,
            r#"millrace_relayer_payments_total{outcome="abandoned"} 3"#,
            "millrace_relayer_payments_received_total 7",
            "millrace_relayer_payments_in_flight 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn every_kind_of_failure_is_there_from_the_start() {
        let detail = String::new;
        for error in [
            StoreError::Unavailable { detail: detail() },
            StoreError::OutcomeUnknown { detail: detail() },
            StoreError::LostData { detail: detail() },
            StoreError::Fenced { fence: 1 },
            StoreError::LeaseExpired,
            StoreError::Corrupt { key: detail(), detail: detail() },
        ] {
            assert!(STORE_ERRORS.contains(&kind_of(&error)), "{error}");
        }
    }
}
