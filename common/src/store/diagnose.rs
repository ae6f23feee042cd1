//! Questions about a Redis server itself: its figures, its clock, its commands, which kinds of keys it holds. Never about
//! money, and never a write: those go through [`Store`](super::Store).

use std::collections::HashMap;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, HashesInterface};
use fred::types::{ClusterHash, CustomCommand, Value};

use super::StoreError;
use super::connect::builder;
use super::keys::Keys;
use crate::clock::Clock;
use crate::config::{ConfigError, RedisConfig};

/// A connection of its own for questions, so that a look at a busy server takes nothing from the pool.
#[derive(Debug)]
pub struct Probe {
    client: Client,
    keys: Keys,
    is_cluster: bool,
}

/// Redis' clock against this machine's.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    /// Redis' time minus this machine's, in ms.
    pub skew_ms: i64,
    /// The reading is no better than this, in ms.
    pub uncertainty_ms: u64,
}

/// Why there is no probe.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The configuration does not make sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Probe {
    /// Connects, within `within`.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub async fn connect(config: &RedisConfig, within: Duration) -> Result<Probe, ProbeError> {
        let client =
            builder(config)?.build().map_err(|error| ConfigError::invalid("redis.url", error.to_string()))?;
        let mut errors = client.error_rx();
        client.connect();
        let unavailable = |detail: String| StoreError::Unavailable { detail };
        tokio::select! {
            connected = client.wait_for_connect() => connected.map_err(|e| StoreError::of_read(&e))?,
            // The first failure is told at once: a person waits for it.
            Ok((error, _)) = errors.recv() => return Err(unavailable(error.to_string()).into()),
            () = tokio::time::sleep(within) => {
                return Err(unavailable(format!("not connected within {} ms", within.as_millis())).into());
            }
        }
        let is_cluster = config.url.contains("-cluster:");
        Ok(Probe { client, keys: Keys::new(&config.prefix, 1), is_cluster })
    }

    /// How many partitions this Redis was first started with; `None` if it never was.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn partitions(&self) -> Result<Option<u16>, StoreError> {
        self.client.hget(self.keys.meta(), "partitions").await.map_err(|e| StoreError::of_read(&e))
    }

    /// One section of INFO, by name.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn info(&self, section: &str) -> Result<HashMap<String, String>, StoreError> {
        let text = self.ask("INFO", vec![section.into()]).await?.into_string().unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Whether the server has a command.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn has_command(&self, name: &str) -> Result<bool, StoreError> {
        let answer = self.ask("COMMAND", vec!["INFO".into(), name.into()]).await?.into_array();
        Ok(answer.first().is_some_and(|entry| !entry.is_null()))
    }

    /// Redis' clock against this machine's, from the middle of a round trip.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn clock(&self) -> Result<ClockReading, StoreError> {
        let clock = Clock::system();
        let before = clock.now_ms();
        let answer = self.ask("TIME", Vec::new()).await?.into_array();
        let after = clock.now_ms();
        let number = |i: usize| answer.get(i).and_then(Value::as_u64);
        let (seconds, micros) =
            number(0).zip(number(1)).ok_or_else(|| StoreError::corrupt("TIME", "no time"))?;
        let theirs = seconds.saturating_mul(1_000).saturating_add(micros / 1_000);
        let apart = |a: u64, b: u64| i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX);
        let ours = before.midpoint(after);
        let distance = apart(theirs, ours);
        Ok(ClockReading {
            skew_ms: if theirs < ours { distance.saturating_neg() } else { distance },
            uncertainty_ms: (after.saturating_sub(before) / 2).saturating_add(1),
        })
    }

    /// One page of the names of all keys of this prefix, and the cursor of the next page (`None` after the last).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; also of a cluster, where no one node knows all keys.
    pub async fn scan(&self, cursor: &str, count: u32) -> Result<(Vec<String>, Option<String>), StoreError> {
        if self.is_cluster {
            let detail =
                "a cluster has no single list of keys: ask one of its nodes, by a redis:// URL".to_owned();
            return Err(StoreError::Unavailable { detail });
        }
        // Partition keys start with `{mr:`, the rest with `mr:`.
        let pattern = format!("*{}:*", self.keys.prefix());
        let args =
            vec![cursor.into(), "MATCH".into(), pattern.into(), "COUNT".into(), count.to_string().into()];
        let mut parts = self.ask("SCAN", args).await?.into_array().into_iter();
        let odd = || StoreError::corrupt("SCAN", "an answer of unknown form");
        let next = parts.next().and_then(|cursor| cursor.into_string()).ok_or_else(odd)?;
        let keys = parts.next().map(Value::into_array).unwrap_or_default();
        Ok((keys.into_iter().filter_map(Value::into_string).collect(), (next != "0").then_some(next)))
    }

    async fn ask(&self, command: &'static str, args: Vec<Value>) -> Result<Value, StoreError> {
        let command = CustomCommand::new_static(command, ClusterHash::Random, false);
        self.client.custom(command, args).await.map_err(|e| StoreError::of_read(&e))
    }
}
