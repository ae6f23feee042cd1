//! What a person may do to what was given up on. Each is one step in Redis, from whichever process: it carries no token,
//! as it takes nothing from the leader, and changes neither an amount nor a proof.

use fred::types::Value;

use super::scripts::{REQUEUE_DEAD, RETRY_FAILED};
use super::stream::EntryId;
use super::{Store, StoreError};
use crate::channel::Status;
use crate::ids::ChannelId;

/// What became of the wish to have a failed channel tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It is closing again, and due.
    Closing,
    /// It has not failed.
    NotFailed(Status),
    /// Redis does not know it.
    Unknown,
}

/// What became of the wish to have an entry read once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeued {
    /// It is in the stream of accepted payments, under this id.
    As(EntryId),
    /// There is no such dead letter.
    Unknown,
    /// The dead letter is no entry of accepted payments, or holds nothing of one.
    NotAnEntry,
}

impl Store {
    /// Has a channel that was given up on closed again, for the voucher that is pinned.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn retry_failed(&self, id: &ChannelId, now_ms: u64) -> Result<Retried, StoreError> {
        self.refuse_after_loss()?;
        let (keys, partition) = (self.keys(), self.partition_of(id));
        let names = vec![
            keys.state(id),
            keys.channel(id),
            keys.due(partition),
            keys.dead(partition),
            keys.seq(partition),
            keys.books(partition),
        ];
        let args: Vec<Value> = vec![id.to_string().into(), now_ms.to_string().into()];
        let answer = RETRY_FAILED
            .run(self.client(partition)?, names, args)
            .await
            .map_err(|error| StoreError::after_send(&error))?;
        match answer.as_bytes() {
            Some(b"closing") => Ok(Retried::Closing),
            Some(b"halted") => Err(halted(partition)),
            Some([]) => Ok(Retried::Unknown),
            Some([letter]) => Status::from_letter(*letter)
                .map(Retried::NotFailed)
                .ok_or_else(|| StoreError::corrupt(keys.state(id), "an unknown status")),
            _ => Err(StoreError::corrupt("retry_failed.lua", "an answer of unknown form")),
        }
    }

    /// Puts an entry that was given up on back into its stream.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again finds nothing to put back.
    pub async fn requeue_dead(&self, partition: u16, letter: EntryId) -> Result<Requeued, StoreError> {
        self.refuse_after_loss()?;
        let keys = self.keys();
        let names = vec![keys.dead(partition), keys.accepted(partition), keys.seq(partition)];
        let answer = REQUEUE_DEAD
            .run(self.client(partition)?, names, vec![letter.to_string().into()])
            .await
            .map_err(|error| StoreError::after_send(&error))?
            .into_array();
        let word = |i: usize| answer.get(i).and_then(Value::as_str);
        let odd = || StoreError::corrupt("requeue_dead.lua", "an answer of unknown form");
        match word(0).as_deref() {
            Some("requeued") => word(1).and_then(|id| id.parse().ok()).map(Requeued::As).ok_or_else(odd),
            Some("unknown") => Ok(Requeued::Unknown),
            Some("not_entry") => Ok(Requeued::NotAnEntry),
            Some("halted") => Err(halted(partition)),
            _ => Err(odd()),
        }
    }
}

/// Nothing is done on a partition that lost data before a person has opened it again.
fn halted(partition: u16) -> StoreError {
    StoreError::LostData { detail: format!("partition {partition} is halted") }
}
