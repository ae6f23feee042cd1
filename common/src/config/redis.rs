//! How to reach Redis, and what it must promise.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, positive};
use crate::secret::SecretRef;

/// How strongly Redis must keep what a relayer acknowledges. A process refuses to run on a weaker server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Memory only: a crash of Redis loses everything.
    None,
    /// Append-only file, flushed each second: a crash of Redis' machine loses up to two seconds; a crash of the Redis
    /// process alone loses nothing that the kernel has.
    Everysec,
    /// Append-only file, flushed before each reply: a crash loses nothing that was acknowledged.
    Always,
}

/// How to reach Redis, and what it must promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// `redis://host:port[/db]`, `rediss://…` for TLS, `redis-cluster://…` for a cluster,
    /// `redis-sentinel://host:port[/db]?sentinelServiceName=NAME[&node=host:port…]` for whichever primary the sentinels
    /// name. Without credentials.
    pub url: String,
    /// ACL user, if Redis asks for one.
    pub username: Option<String>,
    /// Password as `env:NAME` or `file:/path`, if Redis asks for one.
    pub password: Option<SecretRef>,
    /// PEM file with the authorities whose certificate a `rediss://` server may show; the system's own where null.
    pub tls_ca_file: Option<PathBuf>,
    /// What every key starts with.
    pub prefix: String,
    /// Slices of the channel space: a power of two, at most 1024. Fixed at first start.
    pub partitions: u16,
    /// Connections that share the load.
    pub connections: u16,
    /// Longest wait for a connection, in ms.
    pub connect_timeout_ms: u64,
    /// Longest wait for an answer, in ms. Past it the outcome is unknown.
    pub command_timeout_ms: u64,
    /// Longest pause between two attempts to reconnect, in ms.
    pub reconnect_delay_max_ms: u32,
    /// What persistence the server must have at least.
    pub durability: Durability,
    /// Replicas that must have confirmed a payment before it is acknowledged; 0 for none. Redis is asked with WAIT, for
    /// half of `command_timeout_ms` at most.
    pub replicas_min: u16,
    /// Percent of Redis' `maxmemory` from which on no payments are taken, so that Redis itself need not refuse.
    pub memory_high_percent: u8,
    /// Percent of Redis' `maxmemory` below which they are taken again.
    pub memory_low_percent: u8,
}

impl Default for RedisConfig {
    fn default() -> Self {
        RedisConfig {
            url: "redis://127.0.0.1:6379".to_owned(),
            username: None,
            password: None,
            tls_ca_file: None,
            prefix: "mr".to_owned(),
            partitions: 16,
            connections: 1,
            connect_timeout_ms: 1_000,
            command_timeout_ms: 1_000,
            reconnect_delay_max_ms: 1_000,
            durability: Durability::Everysec,
            replicas_min: 0,
            memory_high_percent: 90,
            memory_low_percent: 80,
        }
    }
}

impl RedisConfig {
    /// Checks ranges. Keys are named as they stand under `redis.`.
    ///
    /// # Errors
    /// The first key that does not hold what it should.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let url = url::Url::parse(&self.url).map_err(|error| {
            ConfigError::invalid("redis.url", format!("a URL such as redis://127.0.0.1:6379 ({error})"))
        })?;
        const SCHEMES: [&str; 6] =
            ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel"];
        if !SCHEMES.contains(&url.scheme()) {
            let expected = format!("one of the schemes {}", SCHEMES.join(", "));
            return Err(ConfigError::invalid("redis.url", expected));
        }
        let names = |wanted: &str| url.query_pairs().any(|(name, value)| name == wanted && !value.is_empty());
        if url.scheme().ends_with("-sentinel") && !names("sentinelServiceName") {
            return Err(ConfigError::invalid(
                "redis.url",
                "?sentinelServiceName=NAME, the primary's name as the sentinels know it",
            ));
        }
        let in_query = names("sentinelUsername") || names("sentinelPassword");
        if url.password().is_some() || !url.username().is_empty() || in_query {
            return Err(ConfigError::invalid(
                "redis.url",
                "no credentials in the URL: put them under redis.username and redis.password (env: or file:)",
            ));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.prefix.is_empty() || !self.prefix.chars().all(plain) {
            return Err(ConfigError::invalid("redis.prefix", "letters, digits, '-', '_' and '.'"));
        }
        if !self.partitions.is_power_of_two() || self.partitions > 1024 {
            return Err(ConfigError::invalid("redis.partitions", "a power of two from 1 to 1024"));
        }
        positive("redis.connections", self.connections)?;
        positive("redis.connect_timeout_ms", self.connect_timeout_ms)?;
        positive("redis.command_timeout_ms", self.command_timeout_ms)?;
        positive("redis.reconnect_delay_max_ms", self.reconnect_delay_max_ms)?;
        if self.memory_high_percent > 100 || self.memory_low_percent > self.memory_high_percent {
            return Err(ConfigError::invalid(
                "redis.memory_high_percent",
                "at most 100, and at least redis.memory_low_percent",
            ));
        }
        Ok(())
    }
}
