//! What `/metrics` counts: operations by outcome, and how long they took. Labels come from fixed sets; what went well is
//! there from the start, at zero, and each error's code from its first time on.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// From a read out of memory to a write behind a full queue, in seconds.
const BUCKETS_S: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Every operation, as [`crate::handlers`] names them.
pub(crate) const OPERATIONS: [&str; 11] = [
    "info",
    "register",
    "account",
    "open",
    "channels",
    "channel",
    "refund",
    "settle",
    "settle_all",
    "books",
    "other",
];

/// The issuer's metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    operations: IntCounterVec,
    seconds: HistogramVec,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let operations = IntCounterVec::new(
            Opts::new(
                "millrace_issuer_operations_total",
                "Operations by outcome (ok or the error's code); each settlement of a batch is one.",
            ),
            &["operation", "outcome"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "millrace_issuer_operation_seconds",
                "Seconds from request to answer, by operation.",
            )
            .buckets(BUCKETS_S.to_vec()),
            &["operation"],
        )?;
        registry.register(Box::new(operations.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        for operation in OPERATIONS {
            operations.with_label_values(&[operation, "ok"]);
            seconds.with_label_values(&[operation]);
        }
        Ok(Self { operations, seconds })
    }

    /// Counts an operation that was one of several in a request.
    pub(crate) fn count(&self, operation: &str, outcome: &str) {
        self.operations.with_label_values(&[operation, outcome]).inc();
    }

    /// Counts one request.
    pub(crate) fn observe(&self, operation: &str, outcome: &str, took: Duration) {
        self.count(operation, outcome);
        self.seconds.with_label_values(&[operation]).observe(took.as_secs_f64());
    }
}
