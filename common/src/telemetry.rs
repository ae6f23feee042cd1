//! Logs. One call at the start of a process; after that everything goes through `tracing`.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{LogConfig, LogFormat};

/// Puts another filter in the place of the first one.
type Replace = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Set once logs go where [`init`] sends them.
static REPLACE: OnceLock<Replace> = OnceLock::new();

/// Why what is logged cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The filter does not parse.
    #[error("log.filter: {0}")]
    Parse(#[from] ParseError),
    /// The environment has the last word.
    #[error("log.filter: RUST_LOG is set and replaces it")]
    Environment,
    /// Whoever set up logging in this process did so without Millrace, or it is gone.
    #[error("log.filter: logs of this process are not Millrace's to change")]
    NotOurs,
}

fn from_environment() -> Option<String> {
    std::env::var("RUST_LOG").ok().filter(|directives| !directives.is_empty())
}

/// Colours are for whoever watches: in a file they would stand between a reader and what it looks for. `NO_COLOR` turns
/// them off altogether.
fn is_coloured() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !unwanted
}

/// Sends logs to standard error as `config` says. `RUST_LOG`, where set, replaces the filter.
///
/// # Errors
/// The filter does not parse.
pub fn init(config: &LogConfig) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(from_environment().as_ref().unwrap_or(&config.filter))?;
    let logs = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(is_coloured());
    // A second call (several services in one process) keeps the first one's choice.
    let replace: Option<Replace> = match config.format {
        LogFormat::Text => {
            let logs = logs.with_env_filter(filter).with_filter_reloading();
            let handle = logs.reload_handle();
            let begun = logs.finish().try_init();
            begun.is_ok().then(|| Box::new(move |filter| handle.reload(filter)) as Replace)
        }
        LogFormat::Json => {
            let logs = logs.json().flatten_event(true).with_env_filter(filter).with_filter_reloading();
            let handle = logs.reload_handle();
            let begun = logs.finish().try_init();
            begun.is_ok().then(|| Box::new(move |filter| handle.reload(filter)) as Replace)
        }
    };
    if let Some(replace) = replace {
        let _ = REPLACE.set(replace);
    }
    Ok(())
}

/// A filter that was found to be one, and can be put in place.
#[derive(Debug)]
pub struct NextFilter(EnvFilter);

impl NextFilter {
    /// Logs go by it from now on.
    ///
    /// # Errors
    /// [`FilterError::NotOurs`].
    pub fn put_in_place(self) -> Result<(), FilterError> {
        let replace = REPLACE.get().ok_or(FilterError::NotOurs)?;
        replace(self.0).map_err(|_| FilterError::NotOurs)
    }
}

/// Whether logs could go by this filter from now on.
///
/// # Errors
/// Why not.
pub fn next_filter(directives: &str) -> Result<NextFilter, FilterError> {
    if from_environment().is_some() {
        return Err(FilterError::Environment);
    }
    if REPLACE.get().is_none() {
        return Err(FilterError::NotOurs);
    }
    Ok(NextFilter(EnvFilter::try_new(directives)?))
}
