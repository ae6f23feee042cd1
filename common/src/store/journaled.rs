//! What the keeper of the journal reads besides accepted payments, and what it removes because the journal has it.

use fred::types::Value;

use super::lease::Lease;
use super::scripts::{PASS_IDS, READ_ENDED};
use super::stream::{EndedEntry, EntryId, parse_ended};
use super::{Store, StoreError};

impl Store {
    /// Reads up to `count` closes that ended after `after`, and removes those up to `stored`, which a segment holds.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn read_ended(
        &self,
        lease: &Lease,
        partition: u16,
        stored: EntryId,
        after: EntryId,
        count: usize,
    ) -> Result<Vec<EndedEntry>, StoreError> {
        let key = self.keys().settled(partition);
        let keep_from = EntryId { ms: stored.ms, n: stored.n.saturating_add(1) };
        let args = vec![keep_from.to_string().into(), after.to_string().into(), count.to_string().into()];
        let mut answer = self.fenced(&READ_ENDED, lease, partition, vec![key.clone()], args).await?;
        answer
            .pop()
            .and_then(|entries| {
                parse_ended(if entries.is_null() { Value::Array(Vec::new()) } else { entries })
            })
            .ok_or_else(|| StoreError::corrupt(key, "entries of unknown form"))
    }

    /// Sees to it that new entries of a partition come after those that the journal holds.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn pass_ids(
        &self,
        lease: &Lease,
        partition: u16,
        accepted: EntryId,
        settled: EntryId,
    ) -> Result<(), StoreError> {
        let keys = vec![self.keys().accepted(partition), self.keys().settled(partition)];
        let args = vec![accepted.to_string().into(), settled.to_string().into()];
        self.fenced(&PASS_IDS, lease, partition, keys, args).await?;
        Ok(())
    }
}
