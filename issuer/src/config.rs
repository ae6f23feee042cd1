//! The issuer's configuration. `config.issuer.yaml` names every key with its unit, its default and why.

mod database;

use std::net::SocketAddr;

use common::amount::Amount;
use common::channel::ASSET_MAX_BYTES;
use common::config::{ConfigError, LogConfig, ReloadConfig, TelemetryConfig, positive};
use common::secret::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service::http::HttpConfig;
use service::profiling::ProfilingConfig;

pub use database::{DatabaseConfig, Place};

/// Ten years of 365 days.
const TEN_YEARS_S: u64 = 315_360_000;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the public listener.
    pub listen: SocketAddr,
    /// Address of the admin listener: `/livez`, `/readyz`, `/metrics`.
    pub admin_listen: SocketAddr,
    /// The database. Written as one text, it is `database.url`.
    #[serde(deserialize_with = "database::text_or_table")]
    #[schemars(schema_with = "database::text_or_table_schema")]
    pub database: DatabaseConfig,
    /// The key that signs receipts, as `env:NAME` or `file:/path`. Required.
    pub signing_key: Option<SecretRef>,
    /// Play money.
    pub development: Development,
    /// Bounds on what is taken.
    pub limits: Limits,
    /// Bounds of the public listener.
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
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 7071)),
            database: DatabaseConfig::default(),
            signing_key: None,
            development: Development::default(),
            limits: Limits::default(),
            http: HttpConfig::default(),
            profiling: ProfilingConfig::default(),
            log: LogConfig::default(),
            telemetry: TelemetryConfig::default(),
            reload: ReloadConfig::default(),
        }
    }
}

/// Play money for trying things out. Off unless asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Development {
    /// True: each newly registered account starts with `starting_balance`.
    pub enabled: bool,
    /// What a new account starts with, in atomic units.
    pub starting_balance: Amount,
    /// The asset that it starts with.
    pub asset: String,
    /// For the test that shows what then goes wrong; in no release build.
    #[cfg(feature = "fault-points")]
    #[serde(skip)]
    pub takes_stale_tokens: bool,
}

impl Default for Development {
    fn default() -> Self {
        Self {
            enabled: false,
            starting_balance: Amount::new(1_000_000_000),
            asset: "usd".to_owned(),
            #[cfg(feature = "fault-points")]
            takes_stale_tokens: false,
        }
    }
}

/// Bounds on what is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Seconds from now that a new channel must last at least.
    pub channel_lifetime_min_s: u64,
    /// Seconds from now that a new channel may last at most.
    pub channel_lifetime_max_s: u64,
    /// Operations that move money and wait for their turn; more are refused as `overloaded`.
    pub write_queue_max: usize,
    /// Reads that wait for their turn; more are refused as `overloaded`.
    pub read_queue_max: usize,
    /// Settlements in one request to `POST /v1/settlements`; more are refused as `payload_too_large`.
    pub settlements_batch_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            channel_lifetime_min_s: 60,
            channel_lifetime_max_s: TEN_YEARS_S,
            write_queue_max: 1_024,
            read_queue_max: 4_096,
            settlements_batch_max: 256,
        }
    }
}

impl common::config::Config for Config {
    const ENV_PREFIX: &'static str = "MILLRACE_ISSUER__";
    const RELOADABLE: &'static [&'static str] = &[
        "limits.channel_lifetime_max_s",
        "limits.channel_lifetime_min_s",
        "limits.settlements_batch_max",
        "log.filter",
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
        if self.signing_key.is_none() {
            return Err(ConfigError::invalid(
                "signing_key",
                "env:NAME or file:/path (or set MILLRACE_ISSUER__SIGNING_KEY): the issuer signs every receipt",
            ));
        }
        self.database.validate()?;
        self.telemetry.validate()?;
        let asset = &self.development.asset;
        if asset.is_empty() || asset.len() > ASSET_MAX_BYTES || !asset.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ConfigError::invalid("development.asset", "1 to 64 bytes of visible ASCII"));
        }
        if self.limits.channel_lifetime_max_s < self.limits.channel_lifetime_min_s {
            return Err(ConfigError::invalid(
                "limits.channel_lifetime_max_s",
                "no less than limits.channel_lifetime_min_s",
            ));
        }
        positive("limits.write_queue_max", self.limits.write_queue_max)?;
        positive("limits.read_queue_max", self.limits.read_queue_max)?;
        positive("limits.settlements_batch_max", self.limits.settlements_batch_max)?;
        self.profiling.validate()?;
        self.http.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::Config as _;

    #[test]
    fn the_shipped_file_names_every_key_with_its_default() {
        let text = include_str!("../config.issuer.yaml");
        assert_eq!(
            common::config::parse::<Config>("config.issuer.yaml", text).expect("it parses"),
            Config::default()
        );
        let tree = serde_json::to_value(Config::default()).expect("JSON");
        let mut keys = Vec::new();
        collect_keys(&tree, &mut keys);
        for key in keys {
            assert!(text.contains(&format!("{key}:")), "{key} is not documented");
        }
    }

    fn collect_keys(tree: &serde_json::Value, keys: &mut Vec<String>) {
        for (key, value) in tree.as_object().into_iter().flatten() {
            keys.push(key.clone());
            collect_keys(value, keys);
        }
    }

    #[test]
    fn a_missing_signing_key_is_named_with_its_variable() {
        let error = Config::default().validate().expect_err("required").to_string();
        assert!(error.contains("signing_key") && error.contains("MILLRACE_ISSUER__SIGNING_KEY"), "{error}");
    }

    #[test]
    fn values_that_do_not_fit_each_other_are_refused_by_key() {
        let spoiled = |spoil: fn(&mut Config)| {
            let mut config =
                Config { signing_key: Some(SecretRef::Env("KEY".to_owned())), ..Config::default() };
            spoil(&mut config);
            config.validate().err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(spoiled(|_| ()), "");
        assert!(spoiled(|c| c.limits.channel_lifetime_max_s = 1).contains("limits.channel_lifetime_max_s"));
        assert!(spoiled(|c| c.limits.write_queue_max = 0).contains("limits.write_queue_max"));
        assert!(spoiled(|c| c.limits.settlements_batch_max = 0).contains("limits.settlements_batch_max"));
        assert!(spoiled(|c| c.development.asset = "a b".to_owned()).contains("development.asset"));
        assert!(spoiled(|c| c.http.request_timeout_ms = 0).contains("http.request_timeout_ms"));
    }
}
