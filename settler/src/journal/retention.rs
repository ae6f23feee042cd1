//! Segments that are past their time are removed, the oldest first.

use std::sync::Arc;
use std::time::Duration;

use service::journal::JournalError;

use super::Journal;
use crate::leadership::Leadership;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

const DAY_MS: u64 = 86_400_000;

/// Removes what is older than so many days, now and then.
pub(crate) async fn run(leadership: Arc<Leadership>, journal: Arc<Journal>, days: u32) {
    while !leadership.is_draining() {
        if let Err(error) = remove(&journal, days).await {
            tracing::warn!(%error, "old segments of the journal cannot be removed, trying again in an hour");
        }
        leadership.pause(LOOK_EVERY).await;
    }
}

/// By the time in their headers: a copy of a journal has other times on its files. The last segment stays, whatever its
/// age: it says how far the journal reaches.
async fn remove(journal: &Journal, days: u32) -> Result<(), JournalError> {
    let now_ms = journal.app.clock.now_ms();
    let oldest_ms = now_ms.saturating_sub(u64::from(days).saturating_mul(DAY_MS));
    let mut oldest = None;
    for folder in journal.store.folders().await? {
        for segment in journal.store.list_folder(&folder).await? {
            // Each goes once there is one after it.
            if let Some(number) = oldest.replace(segment.number) {
                if journal.store.header(number).await?.created_at_ms >= oldest_ms {
                    return Ok(());
                }
                journal.store.delete(number).await?;
                journal.app.metrics.journal_removed.inc();
                tracing::info!(
                    segment = number,
                    days,
                    "a segment of the journal was removed: past its retention"
                );
            }
        }
    }
    Ok(())
}
