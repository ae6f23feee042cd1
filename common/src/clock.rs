//! Wall-clock time as a value that is passed in, so that tests can choose it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where a process gets the time of day from. Leases do not use it: they go by the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// `None` for the system's clock; a fixed time in ms since 1970 that tests move by hand otherwise.
    manual_ms: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `now_ms` until [`Clock::advance`] moves it.
    pub fn manual(now_ms: u64) -> Self {
        Self { manual_ms: Some(Arc::new(AtomicU64::new(now_ms))) }
    }

    /// Moves a manual clock forward; the system's clock cannot be moved.
    pub fn advance(&self, by: Duration) {
        if let Some(ms) = &self.manual_ms {
            ms.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> u64 {
        match &self.manual_ms {
            Some(ms) => ms.load(Ordering::SeqCst),
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Whole seconds since 1970-01-01 UTC, the unit of every `expires_at`.
    pub fn now_s(&self) -> i64 {
        i64::try_from(self.now_ms() / 1_000).unwrap_or(i64::MAX)
    }
}
