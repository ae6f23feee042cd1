//! What a process is doing right now: where its CPU time goes, and what its memory holds. On the admin listener, and
//! only where `profiling.enabled` is set: a profile costs memory, and says more of a process than its metrics do.
//!
//! # Layout
//!
//! * [`Profiling`]: the routes under `/debug`, and whether they answer.
//! * `cpu`: samples of the stacks that use the CPU. `flamegraph`: such samples as a picture.
//! * `heap`: what jemalloc says of its memory, and who holds it.

mod cpu;
mod flamegraph;
mod heap;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use common::config::ConfigError;
use common::problem::{Code, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::body::{Json, Query};
use crate::error::{ApiError, method_not_allowed};
use crate::http::{Front, Incoming};

/// The route of CPU profiles, which alone may take longer than `http.request_timeout_ms`.
const CPU_ROUTE: &str = "/debug/profile";
/// How long a profile is that does not say.
const SECONDS_DEFAULT: u64 = 10;
/// A profile that is longer says no more, and its client waits for all of it.
const SECONDS_LIMIT: u64 = 300;
/// Above this the samples themselves are what is measured.
const FREQUENCY_LIMIT_HZ: u32 = 1_000;

/// What may be asked of a running process about its CPU time and its memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfilingConfig {
    /// True: the admin listener answers under `/debug`.
    pub enabled: bool,
    /// Longest CPU profile, in seconds, at most 300.
    pub seconds_max: u64,
    /// Samples of a CPU profile for each second of CPU time, at most 1000.
    pub frequency_hz: u32,
}

impl Default for ProfilingConfig {
    fn default() -> Self {
        Self { enabled: false, seconds_max: 60, frequency_hz: 99 }
    }
}

impl ProfilingConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// The first key that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=SECONDS_LIMIT).contains(&self.seconds_max) {
            let expected = format!("1 to {SECONDS_LIMIT}");
            return Err(ConfigError::invalid("profiling.seconds_max", expected));
        }
        if !(1..=FREQUENCY_LIMIT_HZ).contains(&self.frequency_hz) {
            let expected = format!("1 to {FREQUENCY_LIMIT_HZ}: above, the samples are what is measured");
            return Err(ConfigError::invalid("profiling.frequency_hz", expected));
        }
        Ok(())
    }
}

/// The routes under `/debug`. Clones share one state.
#[derive(Clone, Debug)]
pub struct Profiling(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: ProfilingConfig,
    /// `config.enabled` to begin with, and what a reload has made of it.
    enabled: AtomicBool,
    shutdown: CancellationToken,
}

impl Profiling {
    /// As `config` says. A profile that is being taken at `shutdown` ends there and then.
    pub fn new(config: &ProfilingConfig, shutdown: CancellationToken) -> Self {
        let (config, enabled) = (config.clone(), AtomicBool::new(config.enabled));
        Profiling(Arc::new(Inner { config, enabled, shutdown }))
    }

    /// Takes up what can change while the process runs: whether it answers.
    pub fn take_up(&self, config: &ProfilingConfig) {
        self.0.enabled.store(config.enabled, Ordering::Relaxed);
    }

    /// Puts these routes before those of `admin`, and gives a CPU profile the time that it takes.
    pub fn before(&self, admin: Router) -> impl Front {
        AdminFront { profiling: self.clone(), router: admin.merge(self.router()) }
    }

    fn router(&self) -> Router {
        Router::new()
            .route(CPU_ROUTE, get(cpu_profile))
            .route("/debug/heap", get(heap_statistics))
            .route("/debug/heap/profile", get(heap_profile))
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(self.clone())
    }
}

/// The admin listener's routes, of which one takes its time.
#[derive(Clone)]
struct AdminFront {
    profiling: Profiling,
    router: Router,
}

impl Front for AdminFront {
    async fn answer(&self, incoming: Incoming) -> Response {
        self.router.answer(incoming).await
    }

    fn within(&self, incoming: &Incoming, usual: Duration) -> Duration {
        if incoming.is_for(&Method::GET, CPU_ROUTE) {
            usual.saturating_add(Duration::from_secs(self.profiling.0.config.seconds_max))
        } else {
            usual
        }
    }
}

/// Leave to answer: given before anything else of a request is looked at.
struct Enabled;

impl FromRequestParts<Profiling> for Enabled {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, profiling: &Profiling) -> Result<Self, ApiError> {
        if profiling.0.enabled.load(Ordering::Relaxed) {
            return Ok(Enabled);
        }
        let why = "profiles are turned off; the configuration's profiling.enabled turns them on, and takes no restart";
        Err(Problem::new(Code::NotFound).detail(why).into())
    }
}

/// A form that a CPU profile can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// A picture, for a browser.
    Flamegraph,
    /// Protocol buffers, for `go tool pprof` and its like.
    Pprof,
}

/// The query of a CPU profile, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    seconds: u64,
    format: Format,
}

impl Asked {
    fn of(pairs: &[(String, String)], seconds_max: u64) -> Result<Asked, ApiError> {
        let mut asked = Asked { seconds: SECONDS_DEFAULT.min(seconds_max), format: Format::Flamegraph };
        for (name, value) in pairs {
            match (name.as_str(), value.as_str()) {
                ("seconds", text) => {
                    let seconds = text.parse().ok().filter(|seconds| (1..=seconds_max).contains(seconds));
                    asked.seconds = seconds.ok_or_else(|| {
                        let expected =
                            format_args!("whole seconds, 1 to {seconds_max} (profiling.seconds_max)");
                        ApiError::malformed("seconds", expected)
                    })?;
                }
                ("format", "flamegraph") => asked.format = Format::Flamegraph,
                ("format", "pprof") => asked.format = Format::Pprof,
                ("format", _) => return Err(ApiError::malformed("format", "flamegraph or pprof")),
                (other, _) => return Err(ApiError::malformed(other, "no such parameter: seconds or format")),
            }
        }
        Ok(asked)
    }
}

async fn cpu_profile(
    _: Enabled,
    State(Profiling(inner)): State<Profiling>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let asked = Asked::of(&pairs, inner.config.seconds_max)?;
    let frequency_hz = inner.config.frequency_hz;
    tracing::info!(seconds = asked.seconds, frequency_hz, "a CPU profile is asked for");
    // Dropped with this future if the client leaves, and it ends with that.
    let sampling = cpu::Sampling::start(frequency_hz, inner.config.seconds_max).await?;
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(asked.seconds)) => {}
        // What there is by now is better than a connection that is cut off.
        () = inner.shutdown.cancelled() => {}
    }
    let (media_type, body) = sampling.finish(asked.format).await?;
    Ok(([(header::CONTENT_TYPE, media_type)], body).into_response())
}

async fn heap_statistics(_: Enabled) -> Result<Response, ApiError> {
    Ok(Json(heap::Statistics::now()?).into_response())
}

async fn heap_profile(_: Enabled) -> Result<Response, ApiError> {
    let profile = heap::profile().await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], profile).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &[(&str, &str)]) -> Result<(u64, Format), Option<String>> {
        let pairs: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Asked::of(&pairs, 60).map(|asked| (asked.seconds, asked.format)).map_err(|error| error.0.field)
    }

    #[test]
    fn a_query_is_taken_within_its_bounds_and_else_its_field_is_named() {
        assert_eq!(asked(&[]), Ok((10, Format::Flamegraph)));
        assert_eq!(asked(&[("seconds", "60"), ("format", "pprof")]), Ok((60, Format::Pprof)));
        for seconds in ["0", "61", "-1", "1.5", "ten", ""] {
            assert_eq!(asked(&[("seconds", seconds)]), Err(Some("seconds".to_owned())), "{seconds}");
        }
        assert_eq!(asked(&[("format", "png")]), Err(Some("format".to_owned())));
        assert_eq!(asked(&[("second", "1")]), Err(Some("second".to_owned())));
        assert_eq!(Asked::of(&[], 3).map(|asked| asked.seconds), Ok(3), "no longer than is allowed");
    }

    #[test]
    fn bounds_are_checked_by_key() {
        let refused = |config: ProfilingConfig| config.validate().err().map(|error| error.to_string());
        let of = |seconds_max, frequency_hz| ProfilingConfig { enabled: true, seconds_max, frequency_hz };
        assert_eq!(refused(ProfilingConfig::default()), None);
        assert_eq!(refused(of(300, 1_000)), None);
        for (config, key) in [
            (of(0, 99), "profiling.seconds_max"),
            (of(301, 99), "profiling.seconds_max"),
            (of(60, 0), "profiling.frequency_hz"),
            (of(60, 1_001), "profiling.frequency_hz"),
        ] {
            assert!(refused(config.clone()).is_some_and(|error| error.contains(key)), "{config:?}");
        }
    }
}
