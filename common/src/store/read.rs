//! Looking without touching: channels, due times, the lease, dead letters. Paged; never a command that walks all keys
//! at once.

use std::borrow::Cow;
use std::time::Duration;

use fred::interfaces::{KeysInterface, SortedSetsInterface, StreamsInterface};
use fred::prelude::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};

use super::scripts::READ_CHANNELS;
use super::settle::GROUP;
use super::state::HotState;
use super::stream::{Entry, EntryId, parse_entries};
use super::{Store, StoreError};
use crate::channel::Terms;
use crate::ids::ChannelId;
use crate::wire::Receipt;

/// Everything that Redis holds of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChannel {
    /// What was agreed at opening.
    pub terms: Terms,
    /// Status, latest amount, capacity and proof, of one moment.
    pub state: HotState,
    /// What the issuer had paid before Redis knew the channel.
    pub settled_before: crate::amount::Amount,
    /// Time of the first payment that is not settled, in ms since 1970.
    pub first_at_ms: Option<u64>,
    /// Time of the last payment that the settler read, in ms since 1970.
    pub last_at_ms: Option<u64>,
    /// When a close was asked for, in ms since 1970.
    pub close_requested_at_ms: Option<u64>,
    /// When the close began, in ms since 1970.
    pub closing_at_ms: Option<u64>,
    /// Why it began.
    pub closing_reason: Option<String>,
    /// Attempts to settle without a final answer.
    pub attempts: u64,
    /// What the last one ended in.
    pub last_error: Option<String>,
    /// The issuer's receipt, once closed.
    pub receipt: Option<Receipt>,
}

/// Channels in one call of the script: bounds how long it keeps Redis from everything else.
const CHANNELS_PER_CALL: usize = 256;

const CHANNEL_FIELDS: [&str; 10] = [
    "terms",
    "settled_before",
    "first_at",
    "last_at",
    "close_requested_at",
    "closing_at",
    "closing_reason",
    "attempts",
    "last_error",
    "receipt",
];

/// A partition at a glance.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PartitionInfo {
    /// Its number.
    pub partition: u16,
    /// Accept calls so far that recorded something; goes on from a higher number after a recovery.
    pub seq: u64,
    /// Entries in the stream, acknowledged ones trimmed.
    pub entries: u64,
    /// Entries read and not yet acknowledged.
    pub unacknowledged: u64,
    /// Time of the oldest entry in the stream, in ms since 1970.
    pub oldest_at_ms: Option<u64>,
    /// Channels that wait for their due time.
    pub due: u64,
    /// Highest fencing token that wrote here.
    pub fence: u64,
    /// Dead letters.
    pub dead: u64,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeaseInfo {
    /// The holder, if there is one: the id of a process start and the number of its term, `<process>:<term>`.
    pub holder: Option<String>,
    /// Until the lease runs out, in ms.
    pub expires_in_ms: Option<u64>,
    /// The counter behind fencing tokens.
    pub token: u64,
}

/// A dead letter: its id in the stream of the dead, and its fields.
pub type DeadLetter = (EntryId, Vec<(String, String)>);

impl Store {
    /// Reads a channel. `None` if Redis does not know it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or [`StoreError::Corrupt`].
    pub async fn channel(&self, id: &ChannelId) -> Result<Option<StoredChannel>, StoreError> {
        let found = self.channels(self.partition_of(id), std::slice::from_ref(id)).await?;
        found.into_iter().next().unwrap_or(Ok(None))
    }

    /// Reads channels of one partition: an answer for each, in their order. `Ok(None)` if Redis does not know it,
    /// [`StoreError::Corrupt`] if it cannot be read or is of another partition, which says nothing of the others.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] if the whole answer cannot be read.
    pub async fn channels(
        &self,
        partition: u16,
        ids: &[ChannelId],
    ) -> Result<Vec<Result<Option<StoredChannel>, StoreError>>, StoreError> {
        let is_here = |id: &ChannelId| self.partition_of(id) == partition;
        let here: Vec<ChannelId> = ids.iter().copied().filter(is_here).collect();
        let mut found = self.channels_anywhere(&here).await?.into_iter();
        let answer = |id| match is_here(id) {
            true => found.next().unwrap_or(Ok(None)),
            false => Err(StoreError::corrupt(self.keys().channel(id), "a channel of another partition")),
        };
        Ok(ids.iter().map(answer).collect())
    }

    /// Reads channels of any partitions, in as few calls as can be: an answer for each, in their order, as
    /// [`Store::channels`] gives it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] if a whole answer cannot be read.
    pub async fn channels_anywhere(
        &self,
        ids: &[ChannelId],
    ) -> Result<Vec<Result<Option<StoredChannel>, StoreError>>, StoreError> {
        // What goes in one call, by a partition that is in it.
        let mut together: Vec<(u16, Vec<(usize, &ChannelId)>)> = Vec::new();
        for (place, id) in ids.iter().enumerate() {
            let partition = self.partition_of(id);
            match together.iter_mut().find(|(with, _)| self.in_one_call(*with, partition)) {
                Some((_, places)) => places.push((place, id)),
                None => together.push((partition, vec![(place, id)])),
            }
        }
        let mut answers = vec![Ok(None); ids.len()];
        for (partition, places) in together {
            for places in places.chunks(CHANNELS_PER_CALL) {
                let keys = |(_, id): &(usize, &ChannelId)| [self.keys().state(id), self.keys().channel(id)];
                let keys: Vec<String> = places.iter().flat_map(keys).collect();
                let fields = CHANNEL_FIELDS.iter().map(|field| Value::from(*field)).collect();
                let client = self.client(partition)?;
                let found =
                    READ_CHANNELS.run(client, keys, fields).await.map_err(|e| StoreError::of_read(&e))?;
                let found = found.into_array();
                if found.len() != places.len() {
                    return Err(StoreError::corrupt("read_channels.lua", "an answer of unknown form"));
                }
                for ((place, id), found) in places.iter().zip(found) {
                    if let Some(answer) = answers.get_mut(*place) {
                        *answer = self.stored_channel(id, found);
                    }
                }
            }
        }
        Ok(answers)
    }

    /// Makes sense of what the script found of one channel.
    fn stored_channel(&self, id: &ChannelId, found: Value) -> Result<Option<StoredChannel>, StoreError> {
        let mut parts = found.into_array().into_iter();
        let Some(state) = parts.next() else {
            return Ok(None);
        };
        let fields = parts.next().map(Value::into_array).unwrap_or_default();
        let corrupt = |detail: &str| StoreError::corrupt(self.keys().channel(id), detail);
        let state = state.as_bytes().and_then(HotState::parse).ok_or_else(|| corrupt("not a hot state"))?;
        let text = |name: &str| {
            let position = CHANNEL_FIELDS.iter().position(|field| *field == name)?;
            fields.get(position).and_then(Value::as_str)
        };
        let number = |name: &str| text(name).and_then(|number| number.parse().ok());
        let terms = text("terms").ok_or_else(|| corrupt("no terms"))?;
        let terms = serde_json::from_str(&terms).map_err(|error| corrupt(&format!("terms: {error}")))?;
        let receipt = text("receipt").map(|json| serde_json::from_str(&json)).transpose();
        let settled_before = text("settled_before").map(|t| crate::amount::Amount::from_lua(t.as_bytes()));
        Ok(Some(StoredChannel {
            terms,
            state,
            settled_before: settled_before
                .transpose()
                .map_err(|e| corrupt(&e.to_string()))?
                .unwrap_or_default(),
            first_at_ms: number("first_at"),
            last_at_ms: number("last_at"),
            close_requested_at_ms: number("close_requested_at"),
            closing_at_ms: number("closing_at"),
            closing_reason: text("closing_reason").map(Cow::into_owned),
            attempts: number("attempts").unwrap_or(0),
            last_error: text("last_error").map(Cow::into_owned),
            receipt: receipt.map_err(|error| corrupt(&format!("receipt: {error}")))?,
        }))
    }

    /// Up to `count` channels of a partition that are due at `now_ms`, the earliest first, with their due times.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn due(&self, partition: u16, now_ms: u64, count: u32) -> Result<Vec<ChannelId>, StoreError> {
        let until = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let ids: Vec<String> = self
            .client(partition)?
            .zrangebyscore(self.keys().due(partition), 0, until, false, Some((0, i64::from(count))))
            .await
            .map_err(|e| StoreError::of_read(&e))?;
        let corrupt = |id: &String| StoreError::corrupt(self.keys().due(partition), format!("member {id}"));
        ids.iter().map(|id| id.parse().map_err(|_| corrupt(id))).collect()
    }

    /// When a channel is due, in ms since 1970.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn due_at(&self, id: &ChannelId) -> Result<Option<u64>, StoreError> {
        let partition = self.partition_of(id);
        let score: Option<String> = self
            .client(partition)?
            .zscore(self.keys().due(partition), id.to_string())
            .await
            .map_err(|e| StoreError::of_read(&e))?;
        Ok(score.and_then(|score| score.parse().ok()))
    }

    /// One page of the ids of a partition's channels, in no order, and the cursor of the next page (`None` after the
    /// last). A channel may come twice; none that exists throughout is missed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn channel_page(
        &self,
        partition: u16,
        cursor: Option<&str>,
        count: u32,
    ) -> Result<(Vec<ChannelId>, Option<String>), StoreError> {
        let pattern = self.keys().channel_pattern(partition);
        let start = pattern.trim_end_matches('*').to_owned();
        // In a cluster, the node that holds the partition's slot is asked.
        let scan = CustomCommand::new("SCAN", ClusterHash::from(self.keys().seq(partition).as_str()), false);
        let args: Vec<Value> = vec![
            cursor.unwrap_or("0").into(),
            "MATCH".into(),
            pattern.into(),
            "COUNT".into(),
            count.to_string().into(),
        ];
        let page: (String, Vec<String>) =
            self.client(partition)?.custom(scan, args).await.map_err(|e| StoreError::of_read(&e))?;
        let ids = page.1.iter().filter_map(|key| key.strip_prefix(&start)?.parse().ok()).collect();
        Ok((ids, (page.0 != "0").then_some(page.0)))
    }

    /// A partition at a glance.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn partition_info(&self, partition: u16) -> Result<PartitionInfo, StoreError> {
        let client = self.client(partition)?;
        let keys = self.keys();
        let of_read = |error| StoreError::of_read(&error);
        let seq: Option<String> = client.get(keys.seq(partition)).await.map_err(of_read)?;
        let fence: Option<String> = client.get(keys.fence(partition)).await.map_err(of_read)?;
        let oldest = self.entries(partition, EntryId::ZERO, 1).await?;
        // Before its first leader a partition has no group to ask about.
        let pending: Value =
            client.xpending(keys.accepted(partition), GROUP, ()).await.unwrap_or(Value::Null);
        Ok(PartitionInfo {
            partition,
            seq: seq.and_then(|seq| seq.parse().ok()).unwrap_or(0),
            entries: client.xlen(keys.accepted(partition)).await.map_err(of_read)?,
            unacknowledged: pending.into_array().first().and_then(Value::as_u64).unwrap_or(0),
            oldest_at_ms: oldest.first().map(|entry| entry.id.ms),
            due: client.zcard(keys.due(partition)).await.map_err(of_read)?,
            fence: fence.and_then(|fence| fence.parse().ok()).unwrap_or(0),
            dead: client.xlen(keys.dead(partition)).await.map_err(of_read)?,
        })
    }

    /// Up to `count` entries of accepted payments from `from` on, whoever has read them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn entries(&self, partition: u16, from: EntryId, count: u64) -> Result<Vec<Entry>, StoreError> {
        let key = self.keys().accepted(partition);
        let reply: Value = self
            .client(partition)?
            .xrange(&key, from.to_string(), "+", Some(count))
            .await
            .map_err(|e| StoreError::of_read(&e))?;
        parse_entries(reply).ok_or_else(|| StoreError::corrupt(key, "entries of unknown form"))
    }

    /// Up to `count` dead letters of a partition after `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn dead(
        &self,
        partition: u16,
        after: EntryId,
        count: u64,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let key = self.keys().dead(partition);
        let reply: Vec<(String, Vec<Value>)> = self
            .client(partition)?
            .xrange(&key, format!("({after}"), "+", Some(count))
            .await
            .map_err(|e| StoreError::of_read(&e))?;
        let text = |value: &Value| match value.as_bytes() {
            // Proofs are raw bytes: what is not text is shown escaped, not replaced.
            Some(bytes) => bytes.escape_ascii().to_string(),
            None => value.as_string().unwrap_or_default(),
        };
        let corrupt = |id: &str| StoreError::corrupt(key.clone(), format!("entry {id}"));
        reply
            .iter()
            .map(|(id, fields)| {
                let pairs = fields.chunks(2).filter_map(|pair| match pair {
                    [name, value] => Some((text(name), text(value))),
                    _ => None,
                });
                Ok((id.parse().map_err(|_| corrupt(id))?, pairs.collect()))
            })
            .collect()
    }

    /// Who leads.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn lease_info(&self) -> Result<LeaseInfo, StoreError> {
        let client = self.client(0)?;
        let of_read = |error| StoreError::of_read(&error);
        let holder: Option<String> = client.get(self.keys().lease()).await.map_err(of_read)?;
        let left_ms: i64 = client.pttl(self.keys().lease()).await.map_err(of_read)?;
        let token: Option<u64> = client.get(self.keys().token()).await.map_err(of_read)?;
        Ok(LeaseInfo { holder, expires_in_ms: u64::try_from(left_ms).ok(), token: token.unwrap_or(0) })
    }

    /// Round trip to Redis.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn ping(&self) -> Result<Duration, StoreError> {
        let sent = std::time::Instant::now();
        let _: Value = self.client(0)?.ping(None).await.map_err(|e| StoreError::of_read(&e))?;
        Ok(sent.elapsed())
    }
}
