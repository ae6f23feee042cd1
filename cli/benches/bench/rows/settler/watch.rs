//! A counter of the settler's, watched from when it begins to move until it is where it should be, and what that took.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::ground::Ground;

/// Entries put into the books.
pub(super) const ENTRIES: &str = "millrace_settler_entries_total";

/// Channels closed.
pub(super) const CLOSED: &str = "millrace_settler_closes_total{outcome=\"closed\"";

/// Between two looks: each is a request that the settler answers.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Longer than anything here may take on any machine.
const DEADLINE: Duration = Duration::from_secs(600);

/// What happened between two looks.
pub(super) struct Span {
    pub(super) count: u64,
    pub(super) elapsed: Duration,
    pub(super) settler_cpu: Duration,
    pub(super) redis_cpu: Duration,
    /// The settler's, in bytes.
    pub(super) memory_at_first: u64,
}

struct Look {
    at: Instant,
    count: u64,
    settler_cpu: Duration,
    redis_cpu: Duration,
    memory: u64,
}

impl Look {
    async fn take(ground: &Ground, counter: &str) -> anyhow::Result<Look> {
        let count = ground.metric(counter).await;
        Ok(Look {
            at: Instant::now(),
            count,
            settler_cpu: ground.settler_cpu()?,
            redis_cpu: ground.redis_cpu()?,
            memory: ground.settler_memory()?.bytes,
        })
    }
}

/// Waits until the counter is where `goal` says, and gives back what passed since it stood still at the beginning.
pub(super) async fn until(ground: &Ground, counter: &str, goal: impl Fn() -> u64) -> anyhow::Result<Span> {
    let began = Instant::now();
    let mut first = Look::take(ground, counter).await?;
    loop {
        let look = Look::take(ground, counter).await?;
        if look.count >= goal() {
            return Ok(Span {
                count: look.count.saturating_sub(first.count),
                elapsed: look.at.saturating_duration_since(first.at),
                settler_cpu: look.settler_cpu.saturating_sub(first.settler_cpu),
                redis_cpu: look.redis_cpu.saturating_sub(first.redis_cpu),
                memory_at_first: first.memory,
            });
        }
        ensure!(began.elapsed() < DEADLINE, "{counter} stands at {} and should be {}", look.count, goal());
        if look.count == first.count {
            first = look;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
