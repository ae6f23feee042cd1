//! What is kept of payments and settlements once they are done with.

use common::config::{ConfigError, positive};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service::journal::JournalStore;

/// A segment of less is mostly header.
const SEGMENT_BYTES_MIN: usize = 1 << 10;

/// A segment is put together in memory.
const SEGMENT_BYTES_MAX: usize = 256 << 20;

/// The journal: every accepted payment and every close that ended, in segments that are written once. Payments are
/// removed from Redis only after their segment is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// Where: a directory (from the working directory), `file:///…`, `s3://bucket/…`, `gs://bucket/…` or
    /// `az://container/…`, with credentials from the environment. `null` for no journal: accepted payments are removed
    /// once they are in the books, and can be listed no more.
    pub url: Option<String>,
    /// Bytes of a segment, before compression, at which it is closed. Up to twice as much is held in memory.
    pub segment_max_bytes: usize,
    /// Milliseconds after its first record at which a segment is closed.
    pub segment_max_age_ms: u64,
    /// Days after which segments are removed; `null` to keep all.
    pub retention_days: Option<u32>,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { url: None, segment_max_bytes: 8 << 20, segment_max_age_ms: 5_000, retention_days: Some(400) }
    }
}

impl JournalConfig {
    /// The store that `url` names.
    ///
    /// # Errors
    /// It names none.
    pub fn store(&self) -> Result<Option<JournalStore>, ConfigError> {
        let store = self.url.as_deref().map(JournalStore::at).transpose();
        store.map_err(|error| ConfigError::invalid("journal.url", error.to_string()))
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.store()?;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_max_bytes) {
            let expected = format!("{SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}");
            return Err(ConfigError::invalid("journal.segment_max_bytes", expected));
        }
        positive("journal.segment_max_age_ms", self.segment_max_age_ms)?;
        positive("journal.retention_days", self.retention_days.unwrap_or(1))
    }
}
