//! The console's part of the configuration.

use common::config::{ConfigError, positive};
use common::secret::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A page of more rows is not read by anyone.
const ROWS_PER_PAGE_MAX: u32 = 500;

/// Samples that are kept are read as a whole for a plot.
const SAMPLES_MAX: u32 = 20_000;

/// The console: a web page on the admin listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleConfig {
    /// Whether the admin listener serves `/console`, and the leader keeps the history that it shows.
    pub enabled: bool,
    /// What a person must give to act (close, retry, requeue), as `env:NAME` or `file:/path` of at least 16 characters.
    /// `null`: the console shows, and cannot act.
    pub actions_token: Option<SecretRef>,
    /// Attempts to act that one address has in a minute, with a right token or a wrong one.
    pub action_attempts_per_min: u32,
    /// Milliseconds between two updates of an open page; what it shows is read once in so long for all who look.
    pub refresh_ms: u64,
    /// Seconds after which a payment that waits in a stream is pointed out.
    pub lag_warning_s: u64,
    /// Rows of a list on one page.
    pub rows_per_page: u32,
    /// Channels that are read at most to find the rows of a page.
    pub channels_read_per_page: u32,
    /// Milliseconds between two walks of the leader over all channels that have not ended, which sum up what is unsettled.
    pub history_every_ms: u64,
    /// Sums that are kept in Redis; some 300 bytes each.
    pub history_samples_max: u32,
    /// Assets whose sums are kept, those with the most channels first.
    pub history_assets_max: u32,
    /// Channels that such a walk, or an audit, reads in a second.
    pub walk_channels_per_s: u32,
    /// Channels that an audit of the console looks at, at most.
    pub audit_channels_max: u32,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            actions_token: None,
            action_attempts_per_min: 10,
            refresh_ms: 5_000,
            lag_warning_s: 60,
            rows_per_page: 50,
            channels_read_per_page: 2_000,
            history_every_ms: 60_000,
            history_samples_max: 1_440,
            history_assets_max: 8,
            walk_channels_per_s: 5_000,
            audit_channels_max: 100_000,
        }
    }
}

impl ConsoleConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        positive("console.action_attempts_per_min", self.action_attempts_per_min)?;
        positive("console.refresh_ms", self.refresh_ms)?;
        positive("console.lag_warning_s", self.lag_warning_s)?;
        if !(1..=ROWS_PER_PAGE_MAX).contains(&self.rows_per_page) {
            return Err(ConfigError::invalid("console.rows_per_page", format!("1 to {ROWS_PER_PAGE_MAX}")));
        }
        if self.channels_read_per_page < self.rows_per_page {
            let expected = "no less than console.rows_per_page";
            return Err(ConfigError::invalid("console.channels_read_per_page", expected));
        }
        positive("console.history_every_ms", self.history_every_ms)?;
        if !(2..=SAMPLES_MAX).contains(&self.history_samples_max) {
            return Err(ConfigError::invalid("console.history_samples_max", format!("2 to {SAMPLES_MAX}")));
        }
        positive("console.history_assets_max", self.history_assets_max)?;
        positive("console.walk_channels_per_s", self.walk_channels_per_s)?;
        positive("console.audit_channels_max", self.audit_channels_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(spoil: fn(&mut ConsoleConfig)) -> String {
        let mut config = ConsoleConfig::default();
        spoil(&mut config);
        config.validate().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn values_out_of_range_are_refused_by_key() {
        assert_eq!(fault(|_| ()), "");
        assert!(fault(|c| c.action_attempts_per_min = 0).contains("console.action_attempts_per_min"));
        assert!(fault(|c| c.refresh_ms = 0).contains("console.refresh_ms"));
        assert!(fault(|c| c.lag_warning_s = 0).contains("console.lag_warning_s"));
        assert!(fault(|c| c.rows_per_page = 0).contains("console.rows_per_page"));
        assert!(fault(|c| c.rows_per_page = 501).contains("console.rows_per_page"));
        assert!(fault(|c| c.channels_read_per_page = 49).contains("console.channels_read_per_page"));
        assert!(fault(|c| c.history_every_ms = 0).contains("console.history_every_ms"));
        assert!(fault(|c| c.history_samples_max = 1).contains("console.history_samples_max"));
        assert!(fault(|c| c.history_assets_max = 0).contains("console.history_assets_max"));
        assert!(fault(|c| c.walk_channels_per_s = 0).contains("console.walk_channels_per_s"));
        assert!(fault(|c| c.audit_channels_max = 0).contains("console.audit_channels_max"));
    }
}
