//! Spans for an OpenTelemetry collector: how long the parts of a request, of a payment or of a settler's work took, over
//! all processes. Made where they are begun and ended, and not from what is logged: what is not recorded costs a look at
//! a pointer.
//!
//! They are built in with the feature `otlp`, and made where `telemetry.otlp.endpoint` is set. Whether a trace is recorded
//! is decided where it begins, by whoever calls or by `telemetry.otlp.sample_per_million`. Nothing waits for a collector:
//! spans that it does not take in time are dropped.

#[cfg(feature = "otlp")]
mod otlp;

use std::time::SystemTime;

use axum::http::Method;
use common::config::OtlpConfig;
use common::trail::TraceParent;

/// What a span stands for, towards other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that was asked for by another.
    Server,
    /// A request to another.
    Client,
    /// What came through Redis.
    Consumer,
    /// Nothing that leaves the process.
    Internal,
}

/// A span, if it is recorded. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span {
    #[cfg(feature = "otlp")]
    recorded: Option<Box<otlp::Recorded>>,
}

impl Span {
    /// A span of nothing.
    pub const fn none() -> Span {
        Span {
            #[cfg(feature = "otlp")]
            recorded: None,
        }
    }

    /// Begins a span now, below `parent`; without one it is the beginning of a trace.
    #[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "nothing records it"))]
    pub fn begin(name: impl Into<Name>, kind: Kind, parent: Option<&TraceParent>) -> Span {
        Span {
            #[cfg(feature = "otlp")]
            recorded: otlp::begin(name.into(), kind, parent, None),
        }
    }

    /// As [`Span::begin`], of what began at `since`.
    #[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "nothing records it"))]
    pub fn since(since: SystemTime, name: impl Into<Name>, kind: Kind, parent: Option<&TraceParent>) -> Span {
        Span {
            #[cfg(feature = "otlp")]
            recorded: otlp::begin(name.into(), kind, parent, Some(since)),
        }
    }

    /// A span below this one; of nothing if this one is not recorded.
    #[must_use]
    pub fn child(&self, name: impl Into<Name>, kind: Kind) -> Span {
        self.context().map_or(Span::none(), |context| Span::begin(name, kind, Some(&context)))
    }

    /// Where in its trace it stands, for what is to be below it; `None` if it is not recorded.
    pub fn context(&self) -> Option<TraceParent> {
        #[cfg(feature = "otlp")]
        return self.recorded.as_ref().map(|recorded| recorded.context());
        #[cfg(not(feature = "otlp"))]
        None
    }

    /// Notes something of it. `value` is only made where it is recorded.
    #[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "nothing records it"))]
    pub fn note<V: ToString>(&mut self, key: &'static str, value: impl FnOnce() -> V) {
        #[cfg(feature = "otlp")]
        if let Some(recorded) = &mut self.recorded {
            recorded.note(key, value().to_string());
        }
    }

    /// Notes that it failed.
    #[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "nothing records it"))]
    pub fn fail(&mut self, why: impl ToString) {
        #[cfg(feature = "otlp")]
        if let Some(recorded) = &mut self.recorded {
            recorded.fail(why.to_string());
        }
    }
}

/// What a span is called: part of the program, but for the method of a request.
pub type Name = std::borrow::Cow<'static, str>;

/// What the span of a request is called: one of few names, whatever a caller makes up.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        _ => "HTTP",
    }
}

/// A configuration that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum SpansError {
    /// It asks for what is not built in.
    #[error("telemetry.otlp.endpoint is set, but this program was built without the feature `otlp`")]
    NotBuiltIn,
    /// The exporter cannot be set up.
    #[error("telemetry.otlp: {0}")]
    Exporter(String),
}

/// Whether `config` can be followed by a program that has spans built in or not.
fn permits(config: &OtlpConfig, is_built_in: bool) -> Result<(), SpansError> {
    if config.endpoint.is_some() && !is_built_in { Err(SpansError::NotBuiltIn) } else { Ok(()) }
}

/// Has spans of `service` recorded as `config` says, for as long as what this returns is there. Within a runtime.
///
/// # Errors
/// [`SpansError`].
pub fn record(config: &OtlpConfig, service: &str) -> Result<Recording, SpansError> {
    permits(config, cfg!(feature = "otlp"))?;
    #[cfg(feature = "otlp")]
    if config.endpoint.is_some() {
        return Ok(Recording(Some(otlp::Recorder::start(config, service)?)));
    }
    #[cfg(not(feature = "otlp"))]
    let _ = service;
    Ok(Recording::default())
}

/// Spans are recorded while this is there.
#[derive(Debug, Default)]
#[must_use]
pub struct Recording(#[cfg(feature = "otlp")] Option<otlp::Recorder>);

impl Recording {
    /// Sends what is left to the collector, in `telemetry.otlp.timeout_ms` at most.
    pub async fn finish(self) {
        #[cfg(feature = "otlp")]
        if let Some(recorder) = self.0 {
            recorder.finish().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_refused_by_a_program_that_sends_nothing() {
        let set = OtlpConfig { endpoint: Some("http://127.0.0.1:4318".to_owned()), ..OtlpConfig::default() };
        let error = permits(&set, false).expect_err("it would do nothing").to_string();
        assert!(error.contains("telemetry.otlp.endpoint") && error.contains("feature `otlp`"), "{error}");
        assert!(permits(&set, true).is_ok());
        assert!(permits(&OtlpConfig::default(), false).is_ok());
    }

    #[test]
    fn without_a_collector_nothing_is_recorded() {
        let parent = TraceParent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let mut span = Span::begin("payment", Kind::Internal, parent.as_ref());
        span.note("never", || -> String { unreachable!("nobody would see it") });
        assert_eq!((span.context(), span.child("redis", Kind::Client).context()), (None, None));
    }
}
