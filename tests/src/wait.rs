//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds.
///
/// # Panics
/// It does not hold within `deadline`; the message says `what` was waited for.
pub async fn wait_until<F>(deadline: Duration, what: &str, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    wait_for(deadline, what, || {
        let holds = condition();
        async { holds.await.then_some(()) }
    })
    .await;
}

/// Waits until `find` finds something, and gives it back.
///
/// # Panics
/// It finds nothing within `deadline`; the message says `what` was waited for.
pub async fn wait_for<T, F>(deadline: Duration, what: &str, mut find: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        // One look may itself hang, on a server that is paused for instance.
        let left = deadline.saturating_sub(start.elapsed());
        if let Ok(Some(found)) = tokio::time::timeout(left, find()).await {
            return found;
        }
        assert!(start.elapsed() < deadline, "waited {} ms in vain until {what}", deadline.as_millis());
        tokio::time::sleep(POLL).await;
    }
}
