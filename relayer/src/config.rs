//! What a relayer can be told. The file `config.relayer.yaml` at the project's root documents every key.

use std::net::SocketAddr;
use std::path::PathBuf;

use common::config::{
    Config as _, ConfigError, LogConfig, RedisConfig, ReloadConfig, TelemetryConfig, positive,
};
use common::ids::PublicKey;
use common::secret::SecretRef;
use common::verify::usable_key;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service::http::HttpConfig;
use service::issuer_client::IssuerClientConfig;
use service::profiling::ProfilingConfig;

/// Most vouchers that one call of the accept script can take: Lua can unpack some thousand values, and a call holds
/// Redis for as long as it runs.
const VOUCHERS_PER_CALL_LIMIT: usize = 1_024;

/// Configuration of a relayer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where payers connect. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where `/livez`, `/readyz` and `/metrics` are served; not for payers.
    pub admin_listen: SocketAddr,
    /// The public key, base58, of the payee whose channels are taken. Required.
    pub payee: Option<PublicKey>,
    /// Further payees, base58, whose channels are taken as well: keys that the payee had before, or is about to have.
    pub further_payees: Vec<PublicKey>,
    /// Where payments are recorded.
    pub redis: RedisConfig,
    /// Who knows the channels. `public_key` is required.
    pub issuer: IssuerClientConfig,
    /// Seconds before a channel's `expires_at` from which on its payments are refused: what was accepted must still be
    /// settled.
    pub settle_margin_s: u32,
    /// Bounds of the listeners.
    pub http: HttpConfig,
    /// Most vouchers in one request to `/v1/payments/batch`.
    pub batch_max: usize,
    /// Bounds of a WebSocket connection to `/v1/payments/stream`.
    pub stream: StreamConfig,
    /// How vouchers are gathered into calls to Redis.
    pub batcher: BatcherConfig,
    /// How much may come in.
    pub limits: LimitsConfig,
    /// The payee's signed word for each payment that was taken.
    pub receipts: ReceiptsConfig,
    /// How channel terms are looked up and kept.
    pub channels: ChannelsConfig,
    /// Milliseconds between two looks at what Redis promises.
    pub readiness_interval_ms: u64,
    /// Milliseconds for which `/readyz` says no before the listener closes, so that load balancers see it first.
    pub drain_grace_ms: u64,
    /// What may be asked of the running process about its CPU time and memory.
    pub profiling: ProfilingConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// What is told beside that.
    pub telemetry: TelemetryConfig,
    /// When this configuration is read again.
    pub reload: ReloadConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            payee: None,
            further_payees: Vec::new(),
            redis: RedisConfig::default(),
            issuer: IssuerClientConfig::default(),
            settle_margin_s: 300,
            http: HttpConfig::default(),
            batch_max: 256,
            stream: StreamConfig::default(),
            batcher: BatcherConfig::default(),
            limits: LimitsConfig::default(),
            receipts: ReceiptsConfig::default(),
            channels: ChannelsConfig::default(),
            readiness_interval_ms: 500,
            drain_grace_ms: 1_000,
            profiling: ProfilingConfig::default(),
            log: LogConfig::default(),
            telemetry: TelemetryConfig::default(),
            reload: ReloadConfig::default(),
        }
    }
}

/// Bounds of one WebSocket connection. Its payments count toward [`LimitsConfig`] like all others, the connection toward
/// `http.connections_max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamConfig {
    /// Payments of one connection that are not answered yet; with so many, nothing more is read from it.
    pub in_flight_max: usize,
    /// Largest message, in bytes. One message is one payment, and a connection may keep an unfinished one.
    pub message_max_bytes: usize,
    /// Milliseconds of silence after which the client is pinged.
    pub ping_interval_ms: u64,
    /// Milliseconds without a message, ping or pong after which the connection is closed.
    pub idle_timeout_ms: u64,
    /// Milliseconds in which the client must take the answers that are written to it, or it is cut off.
    pub write_timeout_ms: u64,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            message_max_bytes: 16_384,
            ping_interval_ms: 20_000,
            idle_timeout_ms: 65_000,
            write_timeout_ms: 10_000,
        }
    }
}

/// How vouchers are gathered into calls to Redis: one waits while a call of its lane (a connection; in a cluster, a
/// partition) is on its way, and while the relayer is busy with others that can go along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatcherConfig {
    /// Calls that a lane may have on their way at once.
    pub calls_in_flight_per_lane: usize,
    /// Most vouchers in one call.
    pub vouchers_per_call_max: usize,
    /// Microseconds that a call waits at most for vouchers that are being checked; none where none are. 0 for no wait.
    pub gather_max_us: u64,
    /// Most vouchers that wait for their call, by lane; more are refused as `overloaded`.
    pub queue_max: usize,
}

impl Default for BatcherConfig {
    fn default() -> Self {
        Self {
            calls_in_flight_per_lane: 1,
            vouchers_per_call_max: 128,
            gather_max_us: 2_000,
            queue_max: 8_192,
        }
    }
}

/// How much may come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Payments handled at once; more are refused as `overloaded`.
    pub payments_in_flight_max: usize,
    /// Steps of a hash chain from the nearest known payment that are hashed to check one payment, about 0.1 us each; more
    /// are refused as `step_too_large`.
    pub hash_steps_max: u32,
    /// Payments a second of one channel, counted once their proof held; no limit where null.
    pub per_channel_per_s: Option<u32>,
    /// Payments and requests a second from one address (IPv6: one /64); no limit where null.
    pub per_address_per_s: Option<u32>,
    /// Most channels, and most addresses, that are counted at once; the longest unseen are forgotten first.
    pub keys_max: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            payments_in_flight_max: 4_096,
            hash_steps_max: 1_024,
            per_channel_per_s: None,
            per_address_per_s: None,
            keys_max: 100_000,
        }
    }
}

/// The payee's signed word for each payment that was taken, in its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiptsConfig {
    /// True: every answer to a payment that was taken carries one.
    pub enabled: bool,
    /// The key that signs them, as `env:NAME` or `file:/path` of a base58 seed. Required where enabled. Not the payee's
    /// own key, which could settle, but one that the payee has certified.
    pub signing_key: Option<SecretRef>,
    /// The payee's certificate for that key, a file made by `millrace keys certify`. Not needed for the payee's own key.
    pub certificate: Option<PathBuf>,
    /// The certificates of further payees for the same key, one of each.
    pub further_certificates: Vec<PathBuf>,
}

/// How channel terms are looked up and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelsConfig {
    /// Most channels whose terms are kept in memory, about 1 KiB each.
    pub cache_max: u64,
    /// Most ids remembered as not payable here.
    pub unknown_cache_max: u64,
    /// Milliseconds for which such an id is not asked for again.
    pub unknown_ttl_ms: u64,
    /// Requests to the issuer at once; a payment that needs one more is refused as `overloaded`.
    pub issuer_lookups_in_flight_max: usize,
    /// Requests to the issuer a second; a payment that needs one more is refused as `overloaded`.
    pub issuer_lookups_per_s: u32,
}

impl Default for ChannelsConfig {
    fn default() -> Self {
        Self {
            cache_max: 100_000,
            unknown_cache_max: 100_000,
            unknown_ttl_ms: 5_000,
            issuer_lookups_in_flight_max: 32,
            issuer_lookups_per_s: 200,
        }
    }
}

impl Config {
    /// Every payee whose channels are taken, once; the first is the one that new channels are opened to.
    pub fn payees(&self) -> Vec<PublicKey> {
        let mut payees = Vec::new();
        for payee in self.payee.iter().chain(&self.further_payees) {
            if !payees.contains(payee) {
                payees.push(*payee);
            }
        }
        payees
    }
}

impl common::config::Config for Config {
    const ENV_PREFIX: &'static str = "MILLRACE_RELAYER__";
    const RELOADABLE: &'static [&'static str] = &[
        "batch_max",
        "limits.hash_steps_max",
        "limits.keys_max",
        "limits.payments_in_flight_max",
        "limits.per_address_per_s",
        "limits.per_channel_per_s",
        "log.filter",
        "profiling.enabled",
        "reload.watch_ms",
        "settle_margin_s",
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
        required("payee", "PAYEE", self.payee.as_ref())?;
        if self.further_payees.iter().any(|payee| usable_key(payee).is_none()) {
            return Err(ConfigError::invalid("further_payees", "Ed25519 public keys in base58"));
        }
        required("issuer.public_key", "ISSUER__PUBLIC_KEY", self.issuer.public_key.as_ref())?;
        self.redis.validate()?;
        self.telemetry.validate()?;
        self.issuer.validate()?;
        self.stream.validate()?;
        self.batcher.validate()?;
        self.limits.validate()?;
        self.channels.validate()?;
        if self.receipts.enabled && self.receipts.signing_key.is_none() {
            let expected =
                "env:NAME or file:/path of the key that signs receipts, where receipts.enabled is true";
            return Err(ConfigError::invalid("receipts.signing_key", expected));
        }
        positive("batch_max", self.batch_max)?;
        positive("readiness_interval_ms", self.readiness_interval_ms)?;
        self.profiling.validate()?;
        self.http.validate()?;
        if self.batch_max > self.limits.payments_in_flight_max {
            return Err(ConfigError::invalid(
                "batch_max",
                "at most limits.payments_in_flight_max: a full batch could never be taken",
            ));
        }
        Ok(())
    }
}

impl StreamConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        positive("stream.in_flight_max", self.in_flight_max)?;
        positive("stream.message_max_bytes", self.message_max_bytes)?;
        positive("stream.ping_interval_ms", self.ping_interval_ms)?;
        positive("stream.write_timeout_ms", self.write_timeout_ms)?;
        if self.idle_timeout_ms <= self.ping_interval_ms {
            return Err(ConfigError::invalid(
                "stream.idle_timeout_ms",
                "more than stream.ping_interval_ms: a client must have time to answer a ping",
            ));
        }
        Ok(())
    }
}

impl BatcherConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        positive("batcher.calls_in_flight_per_lane", self.calls_in_flight_per_lane)?;
        positive("batcher.queue_max", self.queue_max)?;
        if !(1..=VOUCHERS_PER_CALL_LIMIT).contains(&self.vouchers_per_call_max) {
            let expected = format!("1 to {VOUCHERS_PER_CALL_LIMIT}");
            return Err(ConfigError::invalid("batcher.vouchers_per_call_max", expected));
        }
        Ok(())
    }
}

impl LimitsConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        positive("limits.payments_in_flight_max", self.payments_in_flight_max)?;
        positive("limits.hash_steps_max", self.hash_steps_max)?;
        positive("limits.keys_max", self.keys_max)?;
        for (key, limit) in [
            ("limits.per_channel_per_s", self.per_channel_per_s),
            ("limits.per_address_per_s", self.per_address_per_s),
        ] {
            if limit == Some(0) {
                return Err(ConfigError::invalid(key, "more than 0, or null for no limit"));
            }
        }
        Ok(())
    }
}

impl ChannelsConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        positive("channels.cache_max", self.cache_max)?;
        positive("channels.unknown_cache_max", self.unknown_cache_max)?;
        positive("channels.issuer_lookups_in_flight_max", self.issuer_lookups_in_flight_max)?;
        positive("channels.issuer_lookups_per_s", self.issuer_lookups_per_s)
    }
}

fn required(key: &'static str, variable: &str, value: Option<&PublicKey>) -> Result<(), ConfigError> {
    let expected = format!(
        "an Ed25519 public key in base58; set it in the file, or {}{variable} in the environment",
        Config::ENV_PREFIX
    );
    match value.and_then(usable_key) {
        Some(_) => Ok(()),
        None => Err(ConfigError::invalid(key, expected)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn valid() -> Config {
        let key = PublicKey::of(&ed25519_dalek::SigningKey::from_bytes(&[1; 32]));
        let issuer = IssuerClientConfig { public_key: Some(key), ..IssuerClientConfig::default() };
        Config { payee: Some(key), issuer, ..Config::default() }
    }

    fn shipped() -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config.relayer.yaml");
        std::fs::read_to_string(path).expect("the file is shipped")
    }

    #[test]
    fn the_shipped_file_says_what_the_defaults_are() {
        let config: Config = common::config::parse("config.relayer.yaml", &shipped()).expect("valid");
        assert_eq!(config, Config::default());
    }

    #[test]
    fn the_shipped_file_names_every_key() {
        let schema = common::config::schema::<Config>();
        let file: Value = serde_saphyr::from_str(&shipped()).expect("YAML");
        names_every_key(&schema, &schema, &file, "");
    }

    fn names_every_key(root: &Value, schema: &Value, file: &Value, path: &str) {
        let schema = match schema["$ref"].as_str() {
            Some(place) => root.pointer(place.trim_start_matches('#')).expect("a definition"),
            None => schema,
        };
        let Some(keys) = schema["properties"].as_object() else { return };
        for (key, inner) in keys {
            let value = file.get(key).unwrap_or_else(|| panic!("the file does not name {path}{key}"));
            assert!(
                inner.get("description").is_some() || inner.get("$ref").is_some(),
                "{path}{key} has no doc"
            );
            names_every_key(root, inner, value, &format!("{path}{key}."));
        }
    }

    #[test]
    fn what_is_required_is_named_with_its_variable() {
        let no_payee = Config { payee: None, ..valid() }.validate().expect_err("no payee").to_string();
        assert!(no_payee.contains("payee") && no_payee.contains("MILLRACE_RELAYER__PAYEE"), "{no_payee}");
        let mut config = valid();
        config.issuer.public_key = None;
        let no_key = config.validate().expect_err("no issuer key").to_string();
        assert!(no_key.contains("MILLRACE_RELAYER__ISSUER__PUBLIC_KEY"), "{no_key}");
        assert!(valid().validate().is_ok());
    }

    #[test]
    fn values_that_cannot_work_are_refused_by_key() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 8] = [
            ("batch_max", |c| c.batch_max = 5_000),
            ("stream.in_flight_max", |c| c.stream.in_flight_max = 0),
            ("stream.idle_timeout_ms", |c| c.stream.idle_timeout_ms = c.stream.ping_interval_ms),
            ("batcher.vouchers_per_call_max", |c| c.batcher.vouchers_per_call_max = 5_000),
            ("batcher.queue_max", |c| c.batcher.queue_max = 0),
            ("limits.per_channel_per_s", |c| c.limits.per_channel_per_s = Some(0)),
            ("channels.issuer_lookups_per_s", |c| c.channels.issuer_lookups_per_s = 0),
            ("redis.partitions", |c| c.redis.partitions = 3),
        ];
        for (key, spoil) in cases {
            let mut config = valid();
            spoil(&mut config);
            let error = config.validate().expect_err(key).to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }
}
