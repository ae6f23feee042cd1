//! What `/metrics` counts. Labels come from fixed sets, and every series is there from the start, at zero. What only a
//! leader knows is zero on a standby.

mod money;

use std::time::Duration;

use common::clock::Clock;
use common::store::Store;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};
use service::metrics::{Family, Kind, register_read_at_scrape};

use crate::closer::Outcome;
use crate::leadership::StepDown;
use crate::policy::Reason;
use money::Money;

/// From an answer out of memory to a timeout, in seconds.
const BUCKETS_S: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// From one settlement alone to the most that a request may hold.
const BUCKETS_SETTLEMENTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Why a close began where nobody wrote it down.
pub(crate) const UNKNOWN_REASON: &str = "unknown";

/// What became of an attempt to close, beside [`Outcome`]: Redis failed, or the channel cannot be read.
const NO_OUTCOME: [&str; 2] = ["store_error", "unreadable"];

const CONNECTIONS: &[Family] = &[Family {
    name: "millrace_settler_redis_connections_lost_total",
    help: "Connections to Redis that were lost; each is made anew.",
    kind: Kind::Counter,
    label: None,
}];

/// The settler's metrics. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) leader: IntGauge,
    pub(crate) token: IntGauge,
    pub(crate) lease_margin_ms: IntGauge,
    pub(crate) terms: IntCounter,
    pub(crate) entries: IntCounter,
    pub(crate) payments: IntCounter,
    pub(crate) dead_letters: IntCounter,
    pub(crate) stream_entries: IntGauge,
    pub(crate) unacknowledged: IntGauge,
    pub(crate) due_channels: IntGauge,
    pub(crate) dead_kept: IntGauge,
    pub(crate) keyless: IntGauge,
    pub(crate) closes_in_flight: IntGauge,
    pub(crate) settled_units: IntCounter,
    pub(crate) refunded_units: IntCounter,
    pub(crate) store_errors: IntCounter,
    pub(crate) lost_data: IntGauge,
    pub(crate) page_seconds: Histogram,
    pub(crate) journal_segments: IntCounter,
    pub(crate) journal_records: IntCounter,
    pub(crate) journal_bytes: IntCounter,
    pub(crate) journal_put_seconds: Histogram,
    pub(crate) journal_failures: IntCounter,
    pub(crate) journal_waiting_bytes: IntGauge,
    pub(crate) journal_lag_ms: IntGauge,
    pub(crate) journal_removed: IntCounter,
    pub(crate) stream_oldest_ms: IntGauge,
    pub(crate) money: Money,
    renewals: IntCounterVec,
    step_downs: IntCounterVec,
    closes: IntCounterVec,
    issuer_seconds: HistogramVec,
    issuer_requests: IntCounterVec,
    settlements_per_request: Histogram,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn new(registry: &Registry, clock: Clock) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(full(name), help)?);
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(full(name), help)?);
        let counters = |name: &str, help: &str, label: &str, values: &[&str]| {
            let counters = register(registry, IntCounterVec::new(Opts::new(full(name), help), &[label])?)?;
            for value in values {
                counters.with_label_values(&[value]);
            }
            prometheus::Result::Ok(counters)
        };
        let seconds =
            |name: &str, help: &str| HistogramOpts::new(full(name), help).buckets(BUCKETS_S.to_vec());
        Ok(Self {
            leader: gauge("leader", "1 while this process leads.")?,
            token: gauge("fencing_token", "The token that this process leads under; 0 while it does not.")?,
            lease_margin_ms: gauge(
                "lease_margin_ms",
                "Milliseconds that were left of the lease when it was last renewed.",
            )?,
            terms: counter("terms_total", "Times that this process began to lead.")?,
            entries: counter("entries_total", "Stream entries read and put into the books.")?,
            payments: counter("payments_total", "Payments in these entries.")?,
            dead_letters: counter("dead_letters_total", "Entries and closes given up on.")?,
            stream_entries: gauge("stream_entries", "Entries in all streams: unread or unacknowledged.")?,
            unacknowledged: gauge("unacknowledged_entries", "Entries read and not yet acknowledged.")?,
            due_channels: gauge("due_channels", "Channels that wait for their time, come or not.")?,
            dead_kept: gauge("dead_letters", "Dead letters that wait for a person.")?,
            keyless: gauge(
                "keyless_channels",
                "Channels that have not ended and pay a key that is not configured.",
            )?,
            closes_in_flight: gauge("closes_in_flight", "Closes under way.")?,
            settled_units: counter("settled_units_total", "Atomic units paid out on closed channels.")?,
            refunded_units: counter("refunded_units_total", "Atomic units given back on closed channels.")?,
            store_errors: counter(
                "store_errors_total",
                "Calls of the leader that Redis did not answer well.",
            )?,
            lost_data: gauge(
                "redis_lost_data",
                "1 while Redis is known to have lost what it had acknowledged.",
            )?,
            page_seconds: register(
                registry,
                Histogram::with_opts(seconds(
                    "page_seconds",
                    "Seconds to put one page of entries into the books.",
                ))?,
            )?,
            journal_segments: counter("journal_segments_total", "Segments of the journal that were stored.")?,
            journal_records: counter("journal_records_total", "Records in these segments.")?,
            journal_bytes: counter("journal_bytes_total", "Bytes of these segments, compressed.")?,
            journal_put_seconds: register(
                registry,
                Histogram::with_opts(seconds("journal_put_seconds", "Seconds to store a segment."))?,
            )?,
            journal_failures: counter("journal_failures_total", "Calls that the journal's store failed.")?,
            journal_waiting_bytes: gauge(
                "journal_waiting_bytes",
                "Bytes of records that wait in memory for their segment, before compression.",
            )?,
            journal_lag_ms: gauge(
                "journal_lag_ms",
                "Milliseconds since the oldest payment that is in Redis and not yet in the journal; 0 without one.",
            )?,
            journal_removed: counter("journal_removed_total", "Segments removed after their retention.")?,
            stream_oldest_ms: gauge(
                "stream_oldest_ms",
                "Milliseconds since the oldest entry in any stream: unread, or not acknowledged; 0 without one.",
            )?,
            money: Money::register(registry, clock)?,
            renewals: counters(
                "lease_renewals_total",
                "Renewals of the lease by outcome.",
                "outcome",
                &["renewed", "lost", "error"],
            )?,
            step_downs: counters(
                "step_downs_total",
                "Ends of leadership by reason.",
                "reason",
                &StepDown::LABELS,
            )?,
            closes: closes(registry)?,
            issuer_seconds: issuer_seconds(
                registry,
                seconds(
                    "issuer_seconds",
                    "Seconds until the issuer answered a settlement, by outcome, with its wait for a request.",
                ),
            )?,
            issuer_requests: counters(
                "issuer_requests_total",
                "Requests to settle, by what became of the request as a whole.",
                "outcome",
                &["answered", "unavailable", "not_taken"],
            )?,
            settlements_per_request: register(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        full("settlements_per_request"),
                        "Settlements that went to the issuer in one request.",
                    )
                    .buckets(BUCKETS_SETTLEMENTS.to_vec()),
                )?,
            )?,
        })
    }

    /// Shows under `registry` what `store` counts itself.
    pub(crate) fn watch_connections(registry: &Registry, store: &Store) -> prometheus::Result<()> {
        let store = store.clone();
        register_read_at_scrape(registry, CONNECTIONS, move || vec![vec![("", store.disconnects().into())]])
    }

    /// Leaves to the next leader what only a leader knows: two that show the same would count it twice.
    pub(crate) fn hand_over(&self) {
        self.money.hand_over();
        for gauge in [
            &self.leader,
            &self.token,
            &self.lease_margin_ms,
            &self.stream_entries,
            &self.stream_oldest_ms,
            &self.unacknowledged,
            &self.due_channels,
            &self.dead_kept,
            &self.journal_waiting_bytes,
            &self.journal_lag_ms,
        ] {
            gauge.set(0);
        }
    }

    /// Counts a renewal: `renewed`, `lost` or `error`.
    pub(crate) fn renewal(&self, outcome: &str) {
        self.renewals.with_label_values(&[outcome]).inc();
    }

    /// Counts the end of a leadership.
    pub(crate) fn step_down(&self, reason: &str) {
        self.step_downs.with_label_values(&[reason]).inc();
    }

    /// Counts an attempt to close.
    pub(crate) fn close(&self, outcome: &str, reason: &str) {
        self.closes.with_label_values(&[outcome, reason]).inc();
    }

    /// Notes an answer of the issuer: `receipt`, `refused` or `unavailable`.
    pub(crate) fn issuer(&self, outcome: &str, took: Duration) {
        self.issuer_seconds.with_label_values(&[outcome]).observe(took.as_secs_f64());
    }

    /// Counts a request with so many settlements: `answered`, `unavailable`, or `not_taken` as a whole.
    pub(crate) fn request(&self, outcome: &str, settlements: usize) {
        self.issuer_requests.with_label_values(&[outcome]).inc();
        // Whole numbers up to 2^53 are exact.
        self.settlements_per_request.observe(f64::from(u32::try_from(settlements).unwrap_or(u32::MAX)));
    }
}

fn closes(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let opts = Opts::new(full("closes_total"), "Attempts to close by outcome and reason.");
    let closes = register(registry, IntCounterVec::new(opts, &["outcome", "reason"])?)?;
    for outcome in Outcome::ALL.map(Outcome::as_str).into_iter().chain(NO_OUTCOME) {
        for reason in Reason::ALL.map(Reason::as_str).into_iter().chain([UNKNOWN_REASON]) {
            closes.with_label_values(&[outcome, reason]);
        }
    }
    Ok(closes)
}

fn issuer_seconds(registry: &Registry, opts: HistogramOpts) -> prometheus::Result<HistogramVec> {
    let seconds = register(registry, HistogramVec::new(opts, &["outcome"])?)?;
    for outcome in ["receipt", "refused", "unavailable"] {
        seconds.with_label_values(&[outcome]);
    }
    Ok(seconds)
}

fn full(name: &str) -> String {
    format!("millrace_settler_{name}")
}

fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// A gauge's value, which is signed; nothing that is counted here gets near its end.
pub(crate) fn gauge_value(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
