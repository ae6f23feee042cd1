//! The console: a web page on the admin listener. Every settler serves it, whether it leads or stands by: what it shows is
//! in Redis, and what a person does there is one step in Redis, whoever leads.
//!
//! # Layout
//!
//! * `router`: the table of routes. `handlers`: from requests to pages and back. `error`: what went wrong, as a page.
//! * `snapshot`: what the overview shows, read once for all who look. `channels`: lists of channels, a bounded page at a
//!   time; `search`: which ids begin with a text. `audit`: Redis against issuer, at a bounded pace.
//! * `actions`: what a person may do, and who may. `advice`: what to do about a reason.
//! * `pages`: one file a page; `plot`, `format`: parts of them. `style.css`, `script.js`: as they are served.

mod actions;
mod advice;
mod audit;
mod channels;
mod error;
mod format;
mod handlers;
mod pages;
mod plot;
pub(crate) mod router;
mod search;
mod snapshot;

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use service::admin::Readiness;

use crate::app::App;
use crate::config::ConsoleConfig;
use actions::Guard;
use audit::Audits;
use snapshot::Snapshot;

/// Shorter ones can be guessed.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// The console of one process.
#[derive(Debug)]
pub(crate) struct Console {
    app: Arc<App>,
    /// Of this process: what is wrong with it stands at the top of every page.
    readiness: Readiness,
    guard: Guard,
    audits: Audits,
    /// What was read last, and when.
    latest: tokio::sync::Mutex<Option<(Instant, Arc<Snapshot>)>>,
}

impl Console {
    /// The console, where it is turned on.
    pub(crate) fn new(app: &Arc<App>, readiness: Readiness, token: Option<String>) -> Option<Arc<Console>> {
        let config = &app.config.console;
        config.enabled.then(|| {
            Arc::new(Console {
                app: app.clone(),
                readiness,
                guard: Guard::new(token, config.action_attempts_per_min),
                audits: Audits::default(),
                latest: tokio::sync::Mutex::default(),
            })
        })
    }
}

/// Reads the token for actions, if one is configured.
///
/// # Errors
/// It cannot be read, or is too short.
pub(crate) fn actions_token(config: &ConsoleConfig) -> anyhow::Result<Option<String>> {
    let Some(secret) = &config.actions_token else { return Ok(None) };
    let token = secret.read().context("console.actions_token")?;
    anyhow::ensure!(
        token.chars().count() >= TOKEN_CHARACTERS_MIN,
        "console.actions_token: {secret} holds fewer than {TOKEN_CHARACTERS_MIN} characters"
    );
    Ok(Some(token))
}
