//! Spans that go to a collector by OTLP over HTTP, in protobuf.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use common::config::OtlpConfig;
use common::trail::TraceParent;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use tokio::runtime::Handle;

use super::{Kind, Name, SpansError};

/// Millionths are what `sample_per_million` counts.
const MILLION: u32 = 1_000_000;

/// Most spans in one request to the collector.
const BATCH_MAX: usize = 512;

struct Tracing {
    tracer: SdkTracer,
    sample_per_million: u32,
}

/// Set once spans are recorded in this process.
static TRACING: OnceLock<Tracing> = OnceLock::new();

/// A span that is recorded. Dropped, it has ended.
pub(super) struct Recorded(opentelemetry_sdk::trace::Span);

impl Recorded {
    pub(super) fn context(&self) -> TraceParent {
        let context = self.0.span_context();
        TraceParent {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
            flags: context.trace_flags().to_u8(),
        }
    }

    pub(super) fn note(&mut self, key: &'static str, value: String) {
        self.0.set_attribute(KeyValue::new(key, value));
    }

    pub(super) fn fail(&mut self, why: String) {
        self.0.set_status(Status::error(why));
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recorded").field(&self.context()).finish()
    }
}

/// A span, if its trace is recorded: where there is a parent, as that says, else for as many as are configured.
pub(super) fn begin(
    name: Name,
    kind: Kind,
    parent: Option<&TraceParent>,
    since: Option<SystemTime>,
) -> Option<Box<Recorded>> {
    let Tracing { tracer, sample_per_million } = TRACING.get()?;
    let is_recorded = match parent {
        Some(parent) => parent.is_sampled(),
        None => rand::random_range(0..MILLION) < *sample_per_million,
    };
    if !is_recorded {
        return None;
    }
    let kind = match kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Consumer => SpanKind::Consumer,
        Kind::Internal => SpanKind::Internal,
    };
    let builder = tracer.span_builder(name).with_kind(kind);
    let builder = match since {
        Some(since) => builder.with_start_time(since),
        None => builder,
    };
    let above = parent
        .map_or_else(Context::new, |parent| Context::new().with_remote_span_context(context_of(parent)));
    Some(Box::new(Recorded(builder.start_with_context(tracer, &above))))
}

fn context_of(parent: &TraceParent) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(parent.trace_id.to_be_bytes()),
        SpanId::from_bytes(parent.span_id.to_be_bytes()),
        TraceFlags::new(parent.flags),
        true,
        TraceState::NONE,
    )
}

/// Where spans go.
#[derive(Debug)]
pub(super) struct Recorder {
    provider: SdkTracerProvider,
    timeout: Duration,
}

impl Recorder {
    pub(super) fn start(config: &OtlpConfig, service: &str) -> Result<Recorder, SpansError> {
        let failed = |error: &dyn fmt::Display| SpansError::Exporter(error.to_string());
        let timeout = Duration::from_millis(config.timeout_ms);
        let endpoint = config.traces_url().ok_or_else(|| failed(&"endpoint: not a URL"))?;
        let client = Collector::new(timeout).map_err(|error| failed(&error))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(endpoint)
            .with_timeout(timeout)
            .build()
            .map_err(|error| failed(&error))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(config.queue_max)
            .with_max_export_batch_size(config.queue_max.min(BATCH_MAX))
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder()
            .with_service_name(service.to_owned())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            // Decided in `begin`, before anything is made.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .build();
        let tracing =
            Tracing { tracer: provider.tracer("millrace"), sample_per_million: config.sample_per_million };
        TRACING.set(tracing).map_err(|_| failed(&"spans of this process are recorded already"))?;
        Ok(Recorder { provider, timeout })
    }

    pub(super) async fn finish(self) {
        let Recorder { provider, timeout } = self;
        // It blocks, while what it waits for is sent by this runtime.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(timeout));
        let ended = tokio::time::timeout(timeout.saturating_mul(2), ended).await;
        if !matches!(ended, Ok(Ok(Ok(())))) {
            tracing::warn!("spans that the collector did not take in time are lost");
        }
    }
}

/// The way to the collector. The exporter has a thread of its own, which has no runtime: its requests are sent by the
/// process', and their number is one at a time.
struct Collector {
    http: reqwest::Client,
    runtime: Handle,
    is_away: AtomicBool,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl Collector {
    fn new(timeout: Duration) -> Result<Collector, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Collector { http, runtime: Handle::current(), is_away: AtomicBool::new(false) })
    }

    /// Logged when it goes and when it is back, not for every request in between.
    fn note(&self, error: Option<String>) {
        if self.is_away.swap(error.is_some(), Ordering::Relaxed) != error.is_some() {
            match error {
                Some(error) => {
                    tracing::warn!(error, "the collector takes no spans: they are dropped until it does")
                }
                None => tracing::info!("the collector takes spans again"),
            }
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = async {
            let (parts, body) = request.into_parts();
            let http = self.http.clone();
            // Made there as well: its timer is the runtime's.
            let sending = async move {
                let request = http.request(parts.method, parts.uri.to_string());
                request.headers(parts.headers).body(body).send().await
            };
            let answer = self.runtime.spawn(sending).await??;
            let status = answer.status();
            // What it says of spans that it refused is not read: nobody could send others.
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = status;
            Ok::<_, HttpError>(response)
        };
        let sent = sent.await;
        self.note(match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("status {}", response.status())),
            Err(error) => Some(error.to_string()),
        });
        sent
    }
}
