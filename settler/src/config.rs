//! The settler's configuration. `config.settler.yaml` names every key with its unit, its default and why.

mod console;
mod journal;

use std::net::SocketAddr;

use common::amount::Amount;
use common::config::{ConfigError, LogConfig, RedisConfig, ReloadConfig, TelemetryConfig, positive};
use common::secret::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service::http::HttpConfig;
use service::issuer_client::IssuerClientConfig;
use service::profiling::ProfilingConfig;

pub use console::ConsoleConfig;
pub use journal::JournalConfig;

/// Most entries in one read: a script acknowledges a page with one call, and Lua passes some thousand arguments.
const ENTRIES_PER_READ_MAX: usize = 4_096;

/// Most due channels in one read: their new times are written in one call, which keeps Redis from everything else.
const DUE_PER_READ_MAX: u32 = 4_096;

/// Most settlements in one request: its answer, a kilobyte for each, must stay within what is read of one.
const SETTLEMENTS_PER_REQUEST_MAX: usize = 1_024;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the admin listener: `/livez`, `/readyz`, `/metrics`, `/status`, `/console`.
    pub admin_listen: SocketAddr,
    /// The payee's signing key, as `env:NAME` or `file:/path` of a base58 seed. Required.
    pub payee_key: Option<SecretRef>,
    /// Further signing keys of the payee, each as `payee_key`: those that it had before, for as long as channels that pay
    /// them are open, and those that it is about to have.
    pub further_payee_keys: Vec<SecretRef>,
    /// Where accepted payments are.
    pub redis: RedisConfig,
    /// Where channels are settled.
    pub issuer: IssuerClientConfig,
    /// Leadership.
    pub lease: LeaseConfig,
    /// How the leader reads accepted payments.
    pub consumer: ConsumerConfig,
    /// When a channel is closed.
    pub policy: PolicyConfig,
    /// How channels are closed.
    pub closes: ClosesConfig,
    /// What is kept of payments and settlements once they are done with.
    pub journal: JournalConfig,
    /// The web page on the admin listener.
    pub console: ConsoleConfig,
    /// Milliseconds that closes in flight have to end once shutdown was asked.
    pub drain_timeout_ms: u64,
    /// Milliseconds between two looks at what Redis must promise.
    pub readiness_interval_ms: u64,
    /// Bounds of the admin listener.
    pub http: HttpConfig,
    /// What may be asked of the running process about its CPU time and memory.
    pub profiling: ProfilingConfig,
    /// What is logged.
    pub log: LogConfig,
    /// What is told beside that.
    pub telemetry: TelemetryConfig,
    /// When this configuration is read again.
    pub reload: ReloadConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8091)),
            payee_key: None,
            further_payee_keys: Vec::new(),
            redis: RedisConfig::default(),
            issuer: IssuerClientConfig::default(),
            lease: LeaseConfig::default(),
            consumer: ConsumerConfig::default(),
            policy: PolicyConfig::default(),
            closes: ClosesConfig::default(),
            journal: JournalConfig::default(),
            console: ConsoleConfig::default(),
            drain_timeout_ms: 100,
            readiness_interval_ms: 1_000,
            http: HttpConfig::default(),
            profiling: ProfilingConfig::default(),
            log: LogConfig::default(),
            telemetry: TelemetryConfig::default(),
            reload: ReloadConfig::default(),
        }
    }
}

/// Leadership. The lease is renewed at a third of its time to live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeaseConfig {
    /// Milliseconds after which a leader that is heard of no more is replaced.
    pub ttl_ms: u64,
    /// Milliseconds at most between two attempts of a standby to lead.
    pub standby_poll_ms: u64,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self { ttl_ms: 5_000, standby_poll_ms: 500 }
    }
}

/// How the leader reads accepted payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsumerConfig {
    /// Entries of one stream that are read, and held in memory, at a time; fewer once they hold 2048 payments.
    pub entries_per_read: usize,
    /// Milliseconds between two reads of a partition that had no full page.
    pub poll_ms: u64,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self { entries_per_read: 128, poll_ms: 50 }
    }
}

/// When a channel is closed: as soon as one of these holds. `null` turns a rule off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Atomic units owed and not settled.
    pub owed_max: Option<Amount>,
    /// Seconds since the oldest payment that is not settled.
    pub unsettled_age_max_s: Option<u64>,
    /// Seconds since the last payment.
    pub idle_max_s: Option<u64>,
    /// Percent of the capacity used up; 100 is full.
    pub capacity_used_percent: Option<u8>,
    /// Seconds before its expiry at which a channel is closed whatever else holds. Cannot be turned off: what is not
    /// settled by the expiry is lost.
    pub expiry_margin_s: u64,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            owed_max: None,
            unsettled_age_max_s: Some(86_400),
            idle_max_s: Some(3_600),
            capacity_used_percent: Some(100),
            expiry_margin_s: 300,
        }
    }
}

/// How channels are closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClosesConfig {
    /// Closes under way at once.
    pub in_flight_max: usize,
    /// Settlements that go to the issuer in one request, at most; 1 sends each alone, as soon as it comes.
    pub settlements_per_request: usize,
    /// Requests to settle that are with the issuer at once, where they hold several settlements.
    pub requests_in_flight_max: usize,
    /// Due channels of one partition that are looked at at a time.
    pub due_per_read: u32,
    /// Milliseconds before a close that got no final answer is tried again, at least.
    pub retry_delay_min_ms: u64,
    /// Milliseconds before it is tried again, at most.
    pub retry_delay_max_ms: u64,
}

impl Default for ClosesConfig {
    fn default() -> Self {
        Self {
            in_flight_max: 64,
            settlements_per_request: 64,
            requests_in_flight_max: 4,
            due_per_read: 256,
            retry_delay_min_ms: 200,
            retry_delay_max_ms: 60_000,
        }
    }
}

impl common::config::Config for Config {
    const ENV_PREFIX: &'static str = "MILLRACE_SETTLER__";
    const RELOADABLE: &'static [&'static str] = &[
        "closes.retry_delay_max_ms",
        "closes.retry_delay_min_ms",
        "log.filter",
        "policy.capacity_used_percent",
        "policy.expiry_margin_s",
        "policy.idle_max_s",
        "policy.owed_max",
        "policy.unsettled_age_max_s",
        "profiling.enabled",
        "reload.watch_ms",
    ];

    fn log(&self) -> &LogConfig {
        &self.log
    }

    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }

    fn reload(&self) -> &ReloadConfig {
        &self.reload
    }

    fn admin_listen(&self) -> SocketAddr {
        self.admin_listen
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if self.payee_key.is_none() {
            return Err(ConfigError::invalid(
                "payee_key",
                "env:NAME or file:/path (or set MILLRACE_SETTLER__PAYEE_KEY): the payee signs every settlement",
            ));
        }
        if self.issuer.public_key.is_none() {
            return Err(ConfigError::invalid(
                "issuer.public_key",
                "the issuer's key in base58 (or set MILLRACE_SETTLER__ISSUER__PUBLIC_KEY): receipts are checked with it",
            ));
        }
        self.redis.validate()?;
        self.telemetry.validate()?;
        self.issuer.validate()?;
        positive("issuer.connect_timeout_ms", self.issuer.connect_timeout_ms)?;
        positive("issuer.request_timeout_ms", self.issuer.request_timeout_ms)?;
        self.validate_lease()?;
        self.validate_policy()?;
        self.validate_work()?;
        self.journal.validate()?;
        self.console.validate()?;
        positive("readiness_interval_ms", self.readiness_interval_ms)?;
        self.profiling.validate()?;
        self.http.validate()
    }
}

impl Config {
    fn validate_lease(&self) -> Result<(), ConfigError> {
        positive("lease.standby_poll_ms", self.lease.standby_poll_ms)?;
        // A renewal is sent at a third of the TTL. One may go unanswered and the next must still be in time, before
        // nine tenths of the TTL are over, where the leader stops by its own clock: 1/3 + 2 timeouts < 9/10.
        let least = self.redis.command_timeout_ms.saturating_mul(4);
        if self.lease.ttl_ms < least {
            return Err(ConfigError::invalid(
                "lease.ttl_ms",
                format!(
                    "at least four times redis.command_timeout_ms, {least}: a lost renewal must leave time for another"
                ),
            ));
        }
        Ok(())
    }

    fn validate_policy(&self) -> Result<(), ConfigError> {
        positive("policy.owed_max", self.policy.owed_max.map_or(1, Amount::units))?;
        if self.policy.capacity_used_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
            return Err(ConfigError::invalid("policy.capacity_used_percent", "1 to 100, or null"));
        }
        positive("policy.expiry_margin_s", self.policy.expiry_margin_s)?;
        // An attempt may wait for requests that are under way, and then be in one that is not answered either: two
        // timeouts. Retries come more often as the expiry draws near (see settlement::retry_delay), so that a third
        // leaves room for another attempt.
        let least = self.issuer.request_timeout_ms.saturating_mul(3);
        if self.policy.expiry_margin_s.saturating_mul(1_000) < least {
            return Err(ConfigError::invalid(
                "policy.expiry_margin_s",
                format!(
                    "at least three times issuer.request_timeout_ms ({least} ms): an attempt that waits for another and is not answered must leave time for one more"
                ),
            ));
        }
        Ok(())
    }

    fn validate_work(&self) -> Result<(), ConfigError> {
        if !(1..=ENTRIES_PER_READ_MAX).contains(&self.consumer.entries_per_read) {
            return Err(ConfigError::invalid(
                "consumer.entries_per_read",
                format!("1 to {ENTRIES_PER_READ_MAX}"),
            ));
        }
        positive("consumer.poll_ms", self.consumer.poll_ms)?;
        positive("closes.in_flight_max", self.closes.in_flight_max)?;
        if !(1..=SETTLEMENTS_PER_REQUEST_MAX).contains(&self.closes.settlements_per_request) {
            return Err(ConfigError::invalid(
                "closes.settlements_per_request",
                format!("1 to {SETTLEMENTS_PER_REQUEST_MAX}"),
            ));
        }
        positive("closes.requests_in_flight_max", self.closes.requests_in_flight_max)?;
        if !(1..=DUE_PER_READ_MAX).contains(&self.closes.due_per_read) {
            return Err(ConfigError::invalid("closes.due_per_read", format!("1 to {DUE_PER_READ_MAX}")));
        }
        positive("closes.retry_delay_min_ms", self.closes.retry_delay_min_ms)?;
        if self.closes.retry_delay_max_ms < self.closes.retry_delay_min_ms {
            return Err(ConfigError::invalid(
                "closes.retry_delay_max_ms",
                "no less than closes.retry_delay_min_ms",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::Config as _;
    use common::ids::PublicKey;

    const SHIPPED: &str = include_str!("../../config.settler.yaml");

    #[test]
    fn the_shipped_file_is_the_defaults() {
        let shipped: Config = common::config::parse("config.settler.yaml", SHIPPED).expect("it parses");
        // Nobody is to find out by an empty journal that there is one to be had.
        let journal = JournalConfig { url: Some("journal".to_owned()), ..JournalConfig::default() };
        assert_eq!(shipped, Config { journal, ..Config::default() });
    }

    #[test]
    fn the_shipped_file_names_every_key_of_the_schema() {
        let schema = common::config::schema::<Config>();
        let mut keys = Vec::new();
        collect_keys(&schema, &mut keys);
        assert!(keys.iter().any(|key| key == "retry_delay_max_ms"), "nested keys are found: {keys:?}");
        for key in keys {
            assert!(SHIPPED.contains(&format!("{key}:")), "{key} is not documented");
        }
    }

    /// The names under every `properties` of a schema.
    fn collect_keys(schema: &serde_json::Value, keys: &mut Vec<String>) {
        match schema {
            serde_json::Value::Object(map) => {
                if let Some(serde_json::Value::Object(properties)) = map.get("properties") {
                    keys.extend(properties.keys().cloned());
                }
                map.values().for_each(|value| collect_keys(value, keys));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
            _ => {}
        }
    }

    fn fault(spoil: fn(&mut Config)) -> String {
        let mut config = Config { payee_key: Some(SecretRef::Env("KEY".to_owned())), ..Config::default() };
        config.issuer.public_key = Some(PublicKey([1; 32]));
        spoil(&mut config);
        config.validate().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn missing_keys_are_named_with_their_variable() {
        let error = fault(|c| c.payee_key = None);
        assert!(error.contains("payee_key") && error.contains("MILLRACE_SETTLER__PAYEE_KEY"), "{error}");
        let error = fault(|c| c.issuer.public_key = None);
        assert!(error.contains("MILLRACE_SETTLER__ISSUER__PUBLIC_KEY"), "{error}");
    }

    #[test]
    fn values_that_do_not_fit_each_other_are_refused_by_key() {
        assert_eq!(fault(|_| ()), "");
        assert!(fault(|c| c.lease.ttl_ms = 3_999).contains("lease.ttl_ms"));
        assert_eq!(fault(|c| c.lease.ttl_ms = 4_000), "");
        assert!(fault(|c| c.policy.expiry_margin_s = 14).contains("policy.expiry_margin_s"));
        assert_eq!(fault(|c| c.policy.expiry_margin_s = 15), "");
        assert!(fault(|c| c.closes.retry_delay_max_ms = 199).contains("closes.retry_delay_max_ms"));
        assert!(fault(|c| c.journal.url = Some("memory:///".to_owned())).contains("journal.url"));
        assert!(fault(|c| c.journal.segment_max_bytes = 1_023).contains("journal.segment_max_bytes"));
        assert!(fault(|c| c.journal.segment_max_age_ms = 0).contains("journal.segment_max_age_ms"));
        assert!(fault(|c| c.journal.retention_days = Some(0)).contains("journal.retention_days"));
        assert_eq!(fault(|c| c.journal.retention_days = None), "");
        assert!(fault(|c| c.redis.partitions = 3).contains("redis.partitions"));
    }

    #[test]
    fn values_out_of_range_are_refused_by_key() {
        assert!(fault(|c| c.policy.expiry_margin_s = 0).contains("policy.expiry_margin_s"));
        assert!(fault(|c| c.policy.owed_max = Some(Amount::ZERO)).contains("policy.owed_max"));
        for percent in [0, 101] {
            let policy = PolicyConfig { capacity_used_percent: Some(percent), ..PolicyConfig::default() };
            let config = Config { policy, ..Config::default() };
            let error = config.validate_policy().expect_err("out of range").to_string();
            assert!(error.contains("policy.capacity_used_percent"), "{error}");
        }
        assert!(fault(|c| c.consumer.entries_per_read = 0).contains("consumer.entries_per_read"));
        assert!(fault(|c| c.consumer.poll_ms = 0).contains("consumer.poll_ms"));
        assert!(fault(|c| c.closes.in_flight_max = 0).contains("closes.in_flight_max"));
        for outside in [0, 1_025] {
            let closes = ClosesConfig { settlements_per_request: outside, ..ClosesConfig::default() };
            let error = Config { closes, ..Config::default() }.validate_work().expect_err("out of range");
            assert!(error.to_string().contains("closes.settlements_per_request"), "{error}");
        }
        assert!(fault(|c| c.closes.requests_in_flight_max = 0).contains("closes.requests_in_flight_max"));
        assert!(fault(|c| c.closes.due_per_read = 0).contains("closes.due_per_read"));
        assert!(fault(|c| c.issuer.request_timeout_ms = 0).contains("issuer.request_timeout_ms"));
        assert!(fault(|c| c.readiness_interval_ms = 0).contains("readiness_interval_ms"));
    }
}
