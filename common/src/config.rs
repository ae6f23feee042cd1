//! Configuration: a typed tree read from YAML, overridden key by key from the environment, checked as a whole.
//!
//! A file need not name every key: what is absent has the default that the files at the project's root document.
//! `MILLRACE_RELAYER__LIMITS__BATCH_MAX=64` overrides `limits.batch_max` of the relayer.

mod changes;
mod otlp;
mod redis;

use std::net::SocketAddr;
use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use changes::{Change, changes, keys, needs_restart};
pub use otlp::{OtlpConfig, TelemetryConfig};
pub use redis::{Durability, RedisConfig};

/// Why a configuration was refused. Each message names the file and line, the key, or the variable at fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not the documented YAML; the message carries line and column.
    #[error("{path}: {message}")]
    Yaml {
        /// The file.
        path: String,
        /// What is wrong and where.
        message: String,
    },
    /// An environment variable names no key, or its value does not fit.
    #[error("environment variable {name}: {message}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// Values that do not fit each other or are out of range.
    #[error("{key}: expected {expected}")]
    Invalid {
        /// The key, as a dotted path.
        key: &'static str,
        /// What it should hold.
        expected: String,
    },
}

impl ConfigError {
    /// A key whose value is out of range or missing.
    pub fn invalid(key: &'static str, expected: impl Into<String>) -> Self {
        ConfigError::Invalid { key, expected: expected.into() }
    }
}

/// A configuration that can say what its values must satisfy together.
pub trait Config: DeserializeOwned + Serialize + Default + JsonSchema {
    /// What environment variables that override a key start with, such as `MILLRACE_RELAYER__`.
    const ENV_PREFIX: &'static str;

    /// Keys, as dotted paths, that a running process takes up when its configuration is read again. A change of any other
    /// key is refused until the process is started anew.
    const RELOADABLE: &'static [&'static str];

    /// Checks ranges, required keys and keys against each other.
    ///
    /// # Errors
    /// The first key that does not hold what it should.
    fn validate(&self) -> Result<(), ConfigError>;

    /// What is logged, and how.
    fn log(&self) -> &LogConfig;

    /// What is told beside that.
    fn telemetry(&self) -> &TelemetryConfig;

    /// When the configuration is read again.
    fn reload(&self) -> &ReloadConfig;
    /// Where the process' admin listener is, which knows how it is.
    fn admin_listen(&self) -> SocketAddr;
}

/// Reads a configuration: `path` (or the defaults), then the process environment, then [`Config::validate`].
///
/// # Errors
/// [`ConfigError`], naming what to change and where.
pub fn load<T: Config>(path: Option<&Path>) -> Result<T, ConfigError> {
    let config: T = match path {
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: name.clone(), source })?;
            parse(&name, &text)?
        }
        None => T::default(),
    };
    let config = override_from(config, std::env::vars())?;
    config.validate()?;
    Ok(config)
}

/// Reads the YAML text of a configuration. `name` is what errors call it.
///
/// # Errors
/// [`ConfigError::Yaml`] with the line of the fault; unknown keys are faults.
pub fn parse<T: Config>(name: &str, text: &str) -> Result<T, ConfigError> {
    let only_comments = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if only_comments {
        return Ok(T::default());
    }
    let refused = |message| ConfigError::Yaml { path: name.to_owned(), message };
    // Without the lines around the fault: they may hold a secret that was written where its place should stand.
    let config: T =
        serde_saphyr::from_str(text).map_err(|error| refused(error.without_snippet().to_string()))?;
    is_printable(&config).map_err(refused)?;
    Ok(config)
}

/// No key takes what cannot be printed: it could not be shown, copied or found again.
fn is_printable<T: Config>(config: &T) -> Result<(), String> {
    fn offending(value: &Value, path: &str) -> Option<String> {
        let below = |key: &str, value| {
            offending(value, &format!("{path}{}{key}", if path.is_empty() { "" } else { "." }))
        };
        match value {
            // What YAML does not count as printable, or takes for the end of a line.
            Value::String(text) => text
                .contains(|c: char| c.is_control() || "\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}".contains(c))
                .then(|| path.to_owned()),
            Value::Array(values) => {
                values.iter().enumerate().find_map(|(i, value)| below(&i.to_string(), value))
            }
            Value::Object(values) => values.iter().find_map(|(key, value)| below(key, value)),
            _ => None,
        }
    }
    let tree = serde_json::to_value(config).map_err(|error| error.to_string())?;
    offending(&tree, "")
        .map_or(Ok(()), |key| Err(format!("{key}: expected a text without control characters")))
}

/// Applies every variable that starts with the configuration's prefix. Variables are taken in the order of their names.
///
/// # Errors
/// [`ConfigError::Environment`]: the variable names no key, or its value does not fit the key.
pub fn override_from<T: Config>(
    config: T,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let mut overrides: Vec<_> = variables.filter(|(name, _)| name.starts_with(T::ENV_PREFIX)).collect();
    overrides.sort();
    overrides.into_iter().try_fold(config, |config, (name, text)| {
        override_one(&config, &name, &text)
            .and_then(|config: T| is_printable(&config).map(|()| config))
            .map_err(|message| ConfigError::Environment { name: name.clone(), message })
    })
}

fn override_one<T: Config>(config: &T, name: &str, text: &str) -> Result<T, String> {
    let path: Vec<String> = name
        .strip_prefix(T::ENV_PREFIX)
        .unwrap_or_default()
        .split("__")
        .map(str::to_ascii_lowercase)
        .collect();
    let set = |value: Value| -> Result<T, String> {
        let mut tree = serde_json::to_value(config).map_err(|error| error.to_string())?;
        let mut place = &mut tree;
        for key in &path {
            if place.is_null() {
                // An optional section that is off by default: naming one of its keys turns it on.
                *place = Value::Object(serde_json::Map::new());
            }
            place = place
                .as_object_mut()
                .map(|object| object.entry(key.clone()).or_insert(Value::Null))
                .ok_or_else(|| format!("there is no key {}", path.join(".")))?;
        }
        *place = value;
        serde_path_to_error::deserialize(tree).map_err(|error| error.to_string())
    };
    // `8080` may be a number or a text: the type of the key decides.
    match serde_saphyr::from_str::<Value>(text) {
        Ok(value) if !value.is_string() => {
            set(value).or_else(|error| set(Value::String(text.to_owned())).map_err(|_| error))
        }
        _ => set(Value::String(text.to_owned())),
    }
}

/// The JSON Schema of a configuration, for editors and for `millrace config schema`. Keys that take effect without a
/// restart carry `x-reloadable`.
pub fn schema<T: Config>() -> Value {
    let mut schema = schemars::schema_for!(T).to_value();
    for key in T::RELOADABLE {
        changes::mark_reloadable(&mut schema, key);
    }
    schema
}

/// When a running process reads its configuration again. SIGHUP always makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadConfig {
    /// Milliseconds between two looks at the configuration file, whose changed content is then taken up; 0 never looks.
    pub watch_ms: u64,
}

/// Refuses zero where zero would mean that nothing works.
///
/// # Errors
/// [`ConfigError::Invalid`] for `key`.
pub fn positive<N: Default + PartialEq>(key: &'static str, value: N) -> Result<(), ConfigError> {
    if value == N::default() {
        return Err(ConfigError::invalid(key, "more than 0"));
    }
    Ok(())
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Lines for people, or one JSON object a line for machines.
    pub format: LogFormat,
    /// Which lines: a level (`error`, `warn`, `info`, `debug`, `trace`) or directives such as `info,relayer=debug`.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        redis: RedisConfig,
        note: Option<String>,
        log: LogConfig,
        telemetry: TelemetryConfig,
        reload: ReloadConfig,
    }

    impl Config for Sample {
        const ENV_PREFIX: &'static str = "SAMPLE__";
        const RELOADABLE: &'static [&'static str] = &["note", "log.filter"];

        fn validate(&self) -> Result<(), ConfigError> {
            self.redis.validate()
        }

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
            SocketAddr::from(([127, 0, 0, 1], 0))
        }
    }

    fn with(name: &str, value: &str) -> Result<Sample, ConfigError> {
        override_from(Sample::default(), [(name.to_owned(), value.to_owned())].into_iter())
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = parse::<Sample>("a.yaml", "redis:\n  prefix: mr\n  partitons: 8\n").expect_err("a typo");
        let text = error.to_string();
        assert!(text.contains("a.yaml") && text.contains("partitons") && text.contains('3'), "{text}");
    }

    #[test]
    fn absent_keys_have_their_defaults() {
        let sample: Sample = parse("a.yaml", "redis:\n  partitions: 8\n").expect("partial file");
        assert_eq!(sample.redis, RedisConfig { partitions: 8, ..RedisConfig::default() });
        assert_eq!(parse::<Sample>("a.yaml", "# nothing\n").expect("empty"), Sample::default());
    }

    #[test]
    fn environment_overrides_a_key_and_names_itself_when_wrong() {
        assert_eq!(with("SAMPLE__REDIS__PARTITIONS", "8").expect("a number").redis.partitions, 8);
        assert_eq!(with("SAMPLE__REDIS__PREFIX", "123").expect("a text of digits").redis.prefix, "123");
        assert_eq!(with("SAMPLE__NOTE", "x: y").expect("a text").note.as_deref(), Some("x: y"));
        for (name, value) in
            [("SAMPLE__REDIS__PARTITONS", "8"), ("SAMPLE__REDIS__PARTITIONS", "many"), ("SAMPLE__NOPE", "1")]
        {
            let error = with(name, value).expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_printed_is_refused_wherever_it_is_written() {
        let error = with("SAMPLE__REDIS__USERNAME", "a\u{7f}").expect_err("DEL").to_string();
        assert!(error.contains("SAMPLE__REDIS__USERNAME") && error.contains("redis.username"), "{error}");
        let error = parse::<Sample>("a.yaml", "note: \"a\\e\"").expect_err("an escape").to_string();
        assert!(error.contains("a.yaml") && error.contains("note"), "{error}");
        assert!(with("SAMPLE__NOTE", "größer").is_ok());
    }

    #[test]
    fn credentials_do_not_belong_into_the_url() {
        let redis = RedisConfig { url: "redis://:hunter2@h:1".to_owned(), ..RedisConfig::default() };
        let error = redis.validate().expect_err("credentials").to_string();
        assert!(error.contains("redis.password") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn sentinels_are_asked_for_a_primary_by_name() {
        let of = |url: &str| RedisConfig { url: url.to_owned(), ..RedisConfig::default() }.validate();
        assert!(of("redis-sentinel://a:26379?sentinelServiceName=mymaster&node=b:26379").is_ok());
        let nameless = of("redis-sentinel://a:26379").expect_err("whose primary?").to_string();
        assert!(nameless.contains("sentinelServiceName"), "{nameless}");
        let secret = "redis-sentinel://a:1?sentinelServiceName=m&sentinelPassword=hunter2";
        let error = of(secret).expect_err("credentials").to_string();
        assert!(error.contains("redis.password") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn ranges_are_checked() {
        let bad = |change: fn(&mut RedisConfig)| {
            let mut redis = RedisConfig::default();
            change(&mut redis);
            redis.validate().expect_err("out of range").to_string()
        };
        assert!(bad(|r| r.partitions = 3).contains("redis.partitions"));
        assert!(bad(|r| r.partitions = 0).contains("redis.partitions"));
        assert!(bad(|r| r.connections = 0).contains("redis.connections"));
        assert!(bad(|r| r.prefix = "{x}".to_owned()).contains("redis.prefix"));
        assert!(bad(|r| r.url = "http://x".to_owned()).contains("redis.url"));
        assert!(bad(|r| r.memory_low_percent = 95).contains("redis.memory_high_percent"));
    }

    #[test]
    fn what_has_changed_is_named_key_by_key_and_sorted_by_what_it_needs() {
        let old = Sample::default();
        let mut new = old.clone();
        assert!(changes(&old, &new).is_empty());
        new.note = Some("x".to_owned());
        new.redis.partitions = 8;
        new.log.filter = "debug".to_owned();
        let found = changes(&old, &new);
        let text: Vec<String> = found.iter().map(Change::to_string).collect();
        assert_eq!(
            text,
            ["log.filter: \"info\" -> \"debug\"", "note: null -> \"x\"", "redis.partitions: 16 -> 8"]
        );
        assert_eq!(needs_restart::<Sample>(&found), ["redis.partitions"]);
    }

    #[test]
    fn the_schema_marks_what_can_be_reloaded_and_nothing_else() {
        let schema = schema::<Sample>();
        assert_eq!(schema["properties"]["note"]["x-reloadable"], true);
        assert_eq!(schema["$defs"]["LogConfig"]["properties"]["filter"]["x-reloadable"], true);
        assert_eq!(schema.to_string().matches("x-reloadable").count(), Sample::RELOADABLE.len());
        assert!(Sample::RELOADABLE.iter().all(|key| keys::<Sample>().iter().any(|(known, _)| known == key)));
    }
}
