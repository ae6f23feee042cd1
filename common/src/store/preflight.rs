//! What the server must promise before money is written to it, and the marks of a first start.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use fred::clients::Client;
use fred::interfaces::{ClientLike, ConfigInterface, HashesInterface, KeysInterface};
use fred::types::InfoKind;
use serde::Serialize;

use super::{Store, StoreError, schema};
use crate::config::Durability;

/// Oldest server that has every command the scripts use.
const VERSION_MIN: (u32, u32) = (6, 2);

/// One thing looked at, and what to do about it if it is not right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// True if it is right.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do, where it is not right.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(check: &'static str, ok: bool, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { check, ok, found: found.into(), remedy: (!ok).then(|| remedy.into()) }
    }
}

/// What `mr:meta` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meta {
    /// Nothing: no process ever started on this Redis, or Redis lost everything.
    Absent,
    /// Written by a first start with the same layout.
    Present,
}

/// Name of the finding that says whether there is room for payments. A settler does not go by it: it makes room.
pub const ROOM: &str = "room";

/// Whether memory runs short, with a memory of its own: what was short stays short until it is well below.
#[derive(Debug)]
pub(super) struct Memory {
    high_percent: u8,
    low_percent: u8,
    is_short: AtomicBool,
    /// As last looked at; 0 where there is no limit.
    percent: AtomicU64,
}

impl Memory {
    pub(super) fn new(high_percent: u8, low_percent: u8) -> Self {
        Memory { high_percent, low_percent, is_short: AtomicBool::new(false), percent: AtomicU64::new(0) }
    }

    /// `None` where the server has no limit: then only the machine has one, which nobody can be asked for.
    fn look(&self, used: u64, max: u64) -> Option<Finding> {
        let percent = used.saturating_mul(100).checked_div(max);
        self.percent.store(percent.unwrap_or(0), Ordering::Relaxed);
        let percent = percent?;
        let was_short = self.is_short.load(Ordering::Relaxed);
        let limit = if was_short { self.low_percent } else { self.high_percent };
        let is_short = percent >= u64::from(limit);
        self.is_short.store(is_short, Ordering::Relaxed);
        let remedy = format!("raise maxmemory; payments are taken again below {} %", self.low_percent);
        Some(Finding::new(ROOM, !is_short, format!("{percent} % of maxmemory {max} is used"), remedy))
    }
}

impl Store {
    /// Percent of Redis' `maxmemory` that was used at the last look; 0 where there is no limit.
    pub fn memory_percent(&self) -> u64 {
        self.inner.memory.percent.load(Ordering::Relaxed)
    }

    /// Looks at everything that the server must promise: version, role, eviction, room, persistence, data, replicas, and
    /// whether it takes writes. Findings come in that order. While all is well, work may go on after a connection was
    /// lost.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it cannot be asked at all.
    pub async fn preflight(&self) -> Result<Vec<Finding>, StoreError> {
        let disconnects = self.disconnects();
        let client = self.client(0)?;
        let info = info(client).await?;
        let field = |name: &str| info.get(name).map_or("", String::as_str);
        let mut findings = vec![
            version(field("redis_version")),
            Finding::new(
                "role",
                field("role") == "master",
                field("role"),
                "connect to the primary: replicas refuse writes",
            ),
            Finding::new(
                "maxmemory-policy",
                field("maxmemory_policy") == "noeviction",
                field("maxmemory_policy"),
                "set maxmemory-policy noeviction: any other drops channels when memory runs short",
            ),
        ];
        let number = |name: &str| field(name).parse::<u64>().unwrap_or(0);
        findings.extend(self.inner.memory.look(number("used_memory"), number("maxmemory")));
        findings.push(persistence(self.inner.durability, field("aof_enabled") == "1", client).await);
        let data = self.check_data().await?;
        let data_is_there = data.ok;
        findings.push(data);
        if data_is_there {
            self.looked(disconnects);
            findings.extend(self.check_replicas(number("connected_slaves")).await?);
        }
        findings.push(match self.probe_write().await {
            Ok(()) => Finding::new("writable", true, "yes", ""),
            Err(error) => Finding::new("writable", false, error.to_string(), "see what the server refuses"),
        });
        Ok(findings)
    }

    /// Whether a first start has left its marks.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if Redis cannot be asked.
    pub async fn meta(&self) -> Result<Meta, StoreError> {
        // The last mark of initialise: a first start that was cut short is to be done again.
        let complete: bool = self
            .client(0)?
            .hexists(self.keys().meta(), "schema")
            .await
            .map_err(|e| StoreError::of_read(&e))?;
        Ok(if complete { Meta::Present } else { Meta::Absent })
    }

    /// Leaves the marks of a first start: the layout's version and partition count in `mr:meta`, a seq in every
    /// partition, and the token counter at `token_floor`. Changes nothing that is there already.
    ///
    /// Only to be called when it is certain that this Redis never held money (or that its loss was dealt with): after
    /// a loss these marks are what is missing.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn initialise(&self, token_floor: u64) -> Result<(), StoreError> {
        let after_send = |error| StoreError::after_send(&error);
        for partition in 0..self.partitions() {
            let _: bool =
                self.client(partition)?.setnx(self.keys().seq(partition), 1).await.map_err(after_send)?;
        }
        let client = self.client(0)?;
        let _: bool = client.setnx(self.keys().token(), token_floor.to_string()).await.map_err(after_send)?;
        let meta = self.keys().meta();
        let partitions = self.partitions().to_string();
        // Whoever writes the partition count first has decided it; see check_meta.
        let _: bool = client.hsetnx(&meta, "partitions", partitions).await.map_err(after_send)?;
        let _: bool = client.hsetnx(&meta, "schema", schema::NEWEST.to_string()).await.map_err(after_send)?;
        self.look_at_schema().await?;
        Ok(())
    }

    /// Whether enough replicas are there, and have what was written. `None` where none is asked for.
    async fn check_replicas(&self, connected: u64) -> Result<Option<Finding>, StoreError> {
        const CHECK: &str = "replicas";
        let Some(replicas) = self.inner.replicas else { return Ok(None) };
        let finding = |ok, found, remedy: &str| Ok(Some(Finding::new(CHECK, ok, found, remedy)));
        if connected < u64::from(replicas.min) {
            let found = format!("{connected} connected, {} needed", replicas.min);
            return finding(false, found, "start them, or ask for less with redis.replicas_min");
        }
        match self.confirm(self.client(0)?, &self.keys().seq(0)).await {
            Ok(()) => finding(true, format!("{connected} connected, {} confirm", replicas.min), ""),
            Err(error) => finding(false, error.to_string(), "see why they lag"),
        }
    }

    /// Compares `mr:meta` and all else that shows a loss with what this process was configured with and has seen.
    async fn check_data(&self) -> Result<Finding, StoreError> {
        const CHECK: &str = "data";
        let client = self.client(0)?;
        let meta: HashMap<String, String> =
            client.hgetall(self.keys().meta()).await.map_err(|e| StoreError::of_read(&e))?;
        let Some(partitions) = meta.get("partitions") else {
            // Nothing at all, and yet something was seen before, or is halted.
            if let Some(detail) = self.lost_data() {
                return Ok(Finding::new(CHECK, false, detail, LOST_REMEDY));
            }
            return Ok(Finding::new(CHECK, false, "no mr:meta", "start a relayer or a settler once"));
        };
        if *partitions != self.partitions().to_string() {
            return Ok(Finding::new(
                CHECK,
                false,
                format!("{partitions} partitions, configured are {}", self.partitions()),
                "set redis.partitions to what this Redis was first started with",
            ));
        }
        let schema = match self.note_schema(meta.get("schema").map(String::as_str)) {
            Ok(schema) => schema,
            Err(unfit) => return Ok(Finding::new(CHECK, false, unfit.found, unfit.remedy)),
        };
        let recovery = meta.get("recovered_at_us").and_then(|text| text.parse().ok()).unwrap_or(0);
        match self.compare(recovery).await {
            Ok(()) => {}
            Err(error @ StoreError::LostData { .. }) => {
                return Ok(Finding::new(CHECK, false, error.to_string(), LOST_REMEDY));
            }
            Err(error) => return Err(error),
        }
        Ok(Finding::new(CHECK, true, format!("schema {schema}, {partitions} partitions"), ""))
    }

    /// Writes one field of `mr:meta`, as a server that refuses writes answers reads all the same.
    async fn probe_write(&self) -> Result<(), StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let client = self.client(0)?;
        let meta = self.keys().meta();
        let exists: bool = client.exists(&meta).await.map_err(|e| StoreError::of_read(&e))?;
        if exists {
            let _: i64 = client
                .hset(meta, ("probed_at_s", now.to_string()))
                .await
                .map_err(|e| StoreError::after_send(&e))?;
        }
        Ok(())
    }
}

const LOST_REMEDY: &str =
    "restore the newest data, then restart; if it is gone for good see `millrace recover`";

/// All sections of INFO that the checks need, as one map.
async fn info(client: &Client) -> Result<HashMap<String, String>, StoreError> {
    let mut fields = HashMap::new();
    for section in [InfoKind::Server, InfoKind::Memory, InfoKind::Persistence, InfoKind::Replication] {
        let text: String = client.info(Some(section)).await.map_err(|e| StoreError::of_read(&e))?;
        let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        fields.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    Ok(fields)
}

fn version(text: &str) -> Finding {
    let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let remedy = format!("run Redis {}.{} or newer, or Valkey", VERSION_MIN.0, VERSION_MIN.1);
    Finding::new("version", found >= VERSION_MIN, text, remedy)
}

async fn persistence(wanted: Durability, aof: bool, client: &Client) -> Finding {
    const CHECK: &str = "persistence";
    if !aof {
        let remedy = "set appendonly yes, or durability none if losing payments is acceptable";
        return Finding::new(CHECK, wanted == Durability::None, "appendonly no", remedy);
    }
    let config: Result<HashMap<String, String>, _> = client.config_get("appendfsync").await;
    let (has, found) = match config.as_ref().map(|c| c.get("appendfsync").map_or("", String::as_str)) {
        Ok("always") => (Durability::Always, "appendonly yes, appendfsync always".to_owned()),
        Ok("everysec") => (Durability::Everysec, "appendonly yes, appendfsync everysec".to_owned()),
        Ok(other) => (Durability::None, format!("appendonly yes, appendfsync {other}")),
        // Managed servers forbid CONFIG. Their append-only file is flushed each second unless they say otherwise.
        Err(error) => (Durability::Everysec, format!("appendonly yes, appendfsync not readable ({error})")),
    };
    let remedy = match wanted {
        Durability::Always => "set appendfsync always, or ask for less with redis.durability",
        _ => "set appendfsync everysec, or ask for less with redis.durability",
    };
    Finding::new(CHECK, has >= wanted, found, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_ran_short_is_short_until_it_is_well_below() {
        let memory = Memory::new(90, 80);
        assert_eq!(memory.look(50, 0), None, "no limit");
        for (used, ok) in
            [(50, true), (89, true), (90, false), (85, false), (80, false), (79, true), (89, true)]
        {
            assert_eq!(memory.look(used, 100).map(|finding| finding.ok), Some(ok), "{used} %");
        }
        assert_eq!(memory.percent.load(Ordering::Relaxed), 89);
    }

    #[test]
    fn servers_before_6_2_are_refused() {
        for (text, ok) in
            [("6.2.0", true), ("7.0.15", true), ("6.0.16", false), ("5.0.7", false), ("", false)]
        {
            assert_eq!(version(text).ok, ok, "{text}");
        }
        assert_eq!(version("10.0.0").remedy, None);
    }
}
