//! What the allocator says of the process' memory.

use std::fmt::Display;
use std::sync::Arc;

use common::problem::{Code, Problem};
use serde::Serialize;
use tikv_jemalloc_ctl::{epoch, stats};

use crate::error::ApiError;

/// What starts a process with jemalloc's own profiler on. It cannot be turned on later: what was allocated before would
/// be missing.
const STARTED_WITH: &str = "_RJEM_MALLOC_CONF=prof:true";

/// Body of `/debug/heap`: the first is what the program asked for, and each next one contains it and what is lost
/// around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Statistics {
    /// What the program has asked for and not given back.
    pub(super) allocated_bytes: usize,
    /// Pages in which that lies.
    pub(super) active_bytes: usize,
    /// What the allocator needs to know all this.
    pub(super) metadata_bytes: usize,
    /// Pages that are in memory, or may be: those above, and those that are not given back yet.
    pub(super) resident_bytes: usize,
    /// Addresses that are in use by the allocator.
    pub(super) mapped_bytes: usize,
    /// Addresses that are kept for later; no memory stands behind them.
    pub(super) retained_bytes: usize,
}

impl Statistics {
    /// As it is at this moment.
    pub(super) fn now() -> Result<Self, ApiError> {
        let read = || -> Result<Self, tikv_jemalloc_ctl::Error> {
            // Until this is told to go on, all figures are those of the last time.
            epoch::advance()?;
            Ok(Statistics {
                allocated_bytes: stats::allocated::read()?,
                active_bytes: stats::active::read()?,
                metadata_bytes: stats::metadata::read()?,
                resident_bytes: stats::resident::read()?,
                mapped_bytes: stats::mapped::read()?,
                retained_bytes: stats::retained::read()?,
            })
        };
        read().map_err(failed)
    }
}

/// Who holds what is allocated now, by the stack that asked for it: pprof's protocol buffers, compressed with gzip.
pub(super) async fn profile() -> Result<Vec<u8>, ApiError> {
    let off = || {
        let why =
            format!("the process was not started with {STARTED_WITH} in its environment: nobody has counted");
        ApiError::from(Problem::new(Code::NotFound).detail(why))
    };
    let profiler = Arc::clone(jemalloc_pprof::PROF_CTL.as_ref().ok_or_else(off)?);
    let Ok(mut profiler) = profiler.try_lock_owned() else {
        let busy = Problem::new(Code::RateLimited).detail("another heap profile is being written");
        return Err(busy.retry_after_s(1).into());
    };
    if !profiler.activated() {
        return Err(off());
    }
    let written = tokio::task::spawn_blocking(move || profiler.dump_pprof());
    written.await.map_err(failed)?.map_err(|error| failed(format_args!("{error:#}")))
}

fn failed(error: impl Display) -> ApiError {
    tracing::error!(%error, "the heap cannot be looked at");
    Problem::new(Code::Internal).detail(format_args!("the heap cannot be looked at: {error}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: crate::Allocator = crate::Allocator;

    #[test]
    fn statistics_follow_what_is_allocated() {
        const HELD: usize = 64 * 1024 * 1024;
        let now = || Statistics::now().expect("jemalloc counts");
        let before = now();
        let held = std::hint::black_box(vec![1_u8; HELD]);
        let during = now();
        drop(held);
        let after = now();
        // Half of it, as other tests of the same process come and go.
        assert!(during.allocated_bytes >= before.allocated_bytes + HELD / 2, "{before:?}, {during:?}");
        assert!(after.allocated_bytes < before.allocated_bytes + HELD / 2, "{before:?}, {after:?}");
        for it in [before, during, after] {
            assert!(it.allocated_bytes <= it.active_bytes && it.active_bytes <= it.resident_bytes, "{it:?}");
            assert!(
                it.resident_bytes <= it.mapped_bytes + it.metadata_bytes && it.metadata_bytes > 0,
                "{it:?}"
            );
        }
    }
}
