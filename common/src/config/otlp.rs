//! Where spans go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{ConfigError, positive};

/// What is told of the process beside its logs and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Spans, for an OpenTelemetry collector.
    pub otlp: OtlpConfig,
}

/// Spans, sent by OTLP over HTTP. Only a program built with the feature `otlp` sends any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// Base URL of the collector, such as `http://127.0.0.1:4318`; spans go to `/v1/traces` below it. None are made where
    /// null.
    pub endpoint: Option<String>,
    /// Milliseconds in which the collector must take a batch of spans, and those that are left at the end of the process.
    pub timeout_ms: u64,
    /// Traces that are recorded among a million that begin here. One that a caller began is recorded if the caller's is.
    pub sample_per_million: u32,
    /// Spans that wait for the collector; further ones are dropped.
    pub queue_max: usize,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        OtlpConfig { endpoint: None, timeout_ms: 2_000, sample_per_million: 1_000, queue_max: 2_048 }
    }
}

impl TelemetryConfig {
    /// Checks ranges and the URL. Keys are named as they stand under `telemetry.`.
    ///
    /// # Errors
    /// The first key that does not hold what it should.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let otlp = &self.otlp;
        if otlp.endpoint.is_some() && otlp.traces_url().is_none() {
            let expected = "an http or https URL without credentials, query or fragment";
            return Err(ConfigError::invalid("telemetry.otlp.endpoint", expected));
        }
        positive("telemetry.otlp.timeout_ms", otlp.timeout_ms)?;
        positive("telemetry.otlp.queue_max", otlp.queue_max)?;
        if otlp.sample_per_million > 1_000_000 {
            return Err(ConfigError::invalid("telemetry.otlp.sample_per_million", "at most 1000000"));
        }
        Ok(())
    }
}

impl OtlpConfig {
    /// Where spans are sent; `None` without an endpoint that can be used.
    pub fn traces_url(&self) -> Option<String> {
        let mut url = Url::parse(self.endpoint.as_deref()?).ok()?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_plain {
            return None;
        }
        url.path_segments_mut().ok()?.pop_if_empty().extend(["v1", "traces"]);
        Some(url.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(endpoint: &str) -> TelemetryConfig {
        TelemetryConfig { otlp: OtlpConfig { endpoint: Some(endpoint.to_owned()), ..OtlpConfig::default() } }
    }

    #[test]
    fn spans_go_below_the_endpoint() {
        for (endpoint, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://collector/otlp/", "https://collector/otlp/v1/traces"),
        ] {
            assert_eq!(at(endpoint).otlp.traces_url().as_deref(), Some(url));
        }
        assert_eq!(OtlpConfig::default().traces_url(), None);
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_its_key() {
        for endpoint in
            ["", "collector:4318", "grpc://collector", "http://user:secret@collector", "http://c/?a=b"]
        {
            let error = at(endpoint).validate().expect_err(endpoint).to_string();
            assert!(error.contains("telemetry.otlp.endpoint"), "{error}");
        }
        let with = |change: fn(&mut OtlpConfig)| {
            let mut config = TelemetryConfig::default();
            change(&mut config.otlp);
            config.validate().expect_err("out of range").to_string()
        };
        assert!(with(|otlp| otlp.timeout_ms = 0).contains("timeout_ms"));
        assert!(with(|otlp| otlp.queue_max = 0).contains("queue_max"));
        assert!(with(|otlp| otlp.sample_per_million = 1_000_001).contains("sample_per_million"));
        assert!(at("http://127.0.0.1:4318").validate().is_ok());
    }
}
