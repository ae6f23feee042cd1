//! What Redis holds and every way to change it. Nothing else in Millrace names Redis.
//!
//! # Layout
//!
//! * [`keys`]: the one place where a key name exists.
//! * [`scripts`]: the Lua files and how they are called.
//! * [`schema`]: what may be written while processes of an older version run.
//! * [`connect`]: from configuration to connections; [`preflight`]: what the server must promise before it is used.
//! * [`loss`]: how a process notices that Redis went back, and stops everyone. [`recovery`]: how they go on.
//!   `replicas`: writes that replicas have confirmed.
//! * [`accept`]: what a relayer writes. [`settle`]: what the settler writes, each call under its lease.
//!   [`journaled`]: what the journal takes over. [`books`]: what came of all that was accepted, in sums. [`operate`]: what a
//!   person may do.
//! * [`lease`]: leadership and fencing tokens. [`stream`]: entries of accepted payments, [`followed`]: whose payers called them something.
//! * [`history`]: what the leader measured over time. [`listing`]: live channels and dead letters, a page at a time.
//! * [`read`]: channels, due times, dead letters and the like, for whoever wants to look. [`census`]: all channels that have
//!   not ended. [`diagnose`]: the server itself.

pub mod accept;
pub mod books;
pub mod census;
pub mod connect;
pub mod diagnose;
pub mod followed;
pub mod history;
pub mod journaled;
pub mod keys;
pub mod lease;
pub mod listing;
pub mod loss;
pub mod operate;
pub mod preflight;
pub mod read;
pub mod recovery;
mod replicas;
pub mod schema;
pub mod scripts;
pub mod settle;
pub mod state;
pub mod stream;

use std::sync::Arc;

use fred::clients::{Client, Pool};
use fred::error::Error as RedisError;
use fred::interfaces::ClientLike;

use crate::config::Durability;
use crate::ids::ChannelId;
use keys::Keys;

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not sent, or refused as a whole: nothing was written.
    #[error("Redis is not available: {detail}")]
    Unavailable {
        /// What the server or the connection said.
        detail: String,
    },
    /// Sent, and no answer came: it may have been written.
    #[error("no answer from Redis, the outcome is unknown: {detail}")]
    OutcomeUnknown {
        /// What the connection said.
        detail: String,
    },
    /// Redis holds less than this process has seen it hold. Nothing was written, and nothing will be by this process.
    #[error("Redis lost data that it had acknowledged: {detail}")]
    LostData {
        /// What went back, and by how much.
        detail: String,
    },
    /// A newer leader wrote here: this one is deposed. Nothing was written.
    #[error("a newer leader (token {fence}) has taken over")]
    Fenced {
        /// The newer leader's token.
        fence: u64,
    },
    /// This leader's own clock says that its lease is over. Nothing was sent.
    #[error("the lease has run out")]
    LeaseExpired,
    /// A key holds what no version of Millrace writes.
    #[error("{key} holds something unexpected: {detail}")]
    Corrupt {
        /// The key.
        key: String,
        /// What was found.
        detail: String,
    },
}

impl StoreError {
    fn corrupt(key: impl Into<String>, detail: impl Into<String>) -> Self {
        StoreError::Corrupt { key: key.into(), detail: detail.into() }
    }

    /// Of an error answer or a broken connection, after the command was handed to the client.
    fn after_send(error: &RedisError) -> Self {
        let detail = error.to_string();
        if is_refusal(error.details()) {
            StoreError::Unavailable { detail }
        } else {
            StoreError::OutcomeUnknown { detail }
        }
    }

    /// Of a read: that it may have happened does not matter.
    fn of_read(error: &RedisError) -> Self {
        StoreError::Unavailable { detail: error.to_string() }
    }
}

/// True for the server's own words that it did not run a command. A script is refused as a whole: each of ours checks
/// before it writes, and Redis refuses the first write of a script when it refuses any.
fn is_refusal(details: &str) -> bool {
    const REFUSALS: [&str; 12] = [
        "OOM",
        "LOADING",
        "READONLY",
        "MISCONF",
        "NOSCRIPT",
        "BUSY",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "NOPERM",
        "NOAUTH",
        "WRONGPASS",
        "NOREPLICAS",
    ];
    REFUSALS.iter().any(|code| details.starts_with(code))
}

/// Redis, as Millrace uses it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    keys: Keys,
    durability: Durability,
    /// Where partitions live on several servers.
    is_cluster: bool,
    /// Who must have what was written before it counts; `None` where the primary's word is enough.
    replicas: Option<replicas::Replicas>,
    memory: preflight::Memory,
    seen: loss::Seen,
    turns: accept::Turns,
    schema: schema::InEffect,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("keys", &self.inner.keys).finish_non_exhaustive()
    }
}

impl Store {
    /// The names of the keys.
    pub fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// Number of partitions.
    pub fn partitions(&self) -> u16 {
        self.inner.keys.partitions()
    }

    /// The partition of a channel.
    pub fn partition_of(&self, id: &ChannelId) -> u16 {
        id.partition(self.partitions())
    }

    /// True if one call may touch both partitions: one server has them.
    fn in_one_call(&self, a: u16, b: u16) -> bool {
        a == b || !self.inner.is_cluster
    }

    /// A connection for work on `partition`: always the same one, so that calls for a partition keep their order.
    fn client(&self, partition: u16) -> Result<&Client, StoreError> {
        let clients = self.inner.pool.clients();
        let client = usize::from(partition)
            .checked_rem(clients.len())
            .and_then(|i| clients.get(i))
            .ok_or(StoreError::Unavailable { detail: "no connections".to_owned() })?;
        if client.is_connected() {
            Ok(client)
        } else {
            self.inner.seen.disconnected();
            Err(StoreError::Unavailable { detail: "not connected".to_owned() })
        }
    }

    /// Closes the connections after what is on its way was answered.
    pub async fn close(&self) {
        for client in self.inner.pool.clients() {
            // The process is going away: a connection that is broken already is closed all the same.
            let _ = client.quit().await;
        }
    }
}
