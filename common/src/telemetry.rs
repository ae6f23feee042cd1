//! Logs. One call at the start of a process; after that everything goes through `tracing`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{LogConfig, LogFormat};

/// Sends logs to standard error as `config` says. `RUST_LOG`, where set, replaces the filter.
///
/// # Errors
/// The filter does not parse.
pub fn init(config: &LogConfig) -> Result<(), ParseError> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(directives)?,
        _ => EnvFilter::try_new(&config.filter)?,
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call (several services in one process) keeps the first one's choice.
    let _ = match config.format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    Ok(())
}
