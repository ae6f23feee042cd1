//! Spans of one payment, from its payer's trace through relayer, issuer, stream and settler, as a collector receives them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use cli::stack::free_port;
use cli::stack::process::{Process, ProcessSpec, Role};
use common::ids::PublicKey;
use common::secret::write_signing_key;
use ed25519_dalek::SigningKey;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use tests::binaries;
use tests::payer::Payer;
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::scene::{PARENT, TRACE, pay};

/// One span, as it was received.
#[derive(Clone, Debug)]
struct Received {
    service: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    notes: BTreeMap<String, String>,
}

type Spans = Arc<Mutex<Vec<Received>>>;

/// A collector that takes spans by OTLP over HTTP.
struct Collector {
    url: String,
    spans: Spans,
    _shutdown: DropGuard,
}

impl Collector {
    async fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let spans = Spans::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
        let shutdown = CancellationToken::new();
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(async move {
            axum::serve(listener, router).await.expect("axum::serve never gives up");
        }));
        Collector { url, spans, _shutdown: shutdown.drop_guard() }
    }

    /// The spans of the payer's trace.
    fn of_trace(&self) -> Vec<Received> {
        self.all().into_iter().filter(|span| span.trace == TRACE).collect()
    }

    fn all(&self) -> Vec<Received> {
        self.spans.lock().expect("no panic").clone()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn take(State(spans): State<Spans>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).expect("what the specification says");
    let text = |value: Option<Value>| match value {
        Some(Value::StringValue(text)) => text,
        other => panic!("a text: {other:?}"),
    };
    for resource in request.resource_spans {
        let attributes = resource.resource.expect("whose they are").attributes;
        let name = attributes.into_iter().find(|attribute| attribute.key == "service.name");
        let service = text(name.and_then(|name| name.value?.value));
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let note = |note: opentelemetry_proto::tonic::common::v1::KeyValue| {
                (note.key, text(note.value.and_then(|value| value.value)))
            };
            assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano);
            spans.lock().expect("no panic").push(Received {
                service: service.clone(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                notes: span.attributes.into_iter().map(note).collect(),
            });
        }
    }
    StatusCode::OK
}

/// Every service as a process, each sending what it records to one collector.
struct Stage {
    rig: Rig,
    issuer: Process,
    issuer_url: String,
}

fn otlp(collector: &str, sample_per_million: u32) -> Vec<(&'static str, String)> {
    vec![
        ("telemetry.otlp.endpoint", collector.to_owned()),
        ("telemetry.otlp.sample_per_million", sample_per_million.to_string()),
        ("telemetry.otlp.timeout_ms", "1000".to_owned()),
    ]
}

impl Stage {
    async fn start(collector: &str, sample_per_million: u32) -> Stage {
        let mut rig = Rig::start(RigOptions { relayers: 0, ..RigOptions::default() }).await;
        let [port, admin] = [(); 2].map(|()| free_port().expect("a free port"));
        let issuer_url = format!("http://127.0.0.1:{port}");
        let key = SigningKey::from_bytes(&rand::random());
        let (file, database) = (rig.dir().join("issuer.key"), rig.dir().join("issuer.db"));
        write_signing_key(&file, &key).expect("a new file");
        let mut config = vec![
            ("listen", format!("127.0.0.1:{port}")),
            ("admin_listen", format!("127.0.0.1:{admin}")),
            ("database", database.display().to_string()),
            ("signing_key", format!("file:{}", file.display())),
            ("development.enabled", "true".to_owned()),
        ];
        config.extend(otlp(collector, sample_per_million));
        let spec = ProcessSpec {
            name: "issuer".to_owned(),
            role: Role::Issuer,
            binary: binaries::each(),
            config: config.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            file: None,
            admin_url: format!("http://127.0.0.1:{admin}"),
            dir: rig.dir().to_owned(),
        };
        let mut issuer = Process::spawn(spec).unwrap_or_else(|error| panic!("{error}"));
        issuer.wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
        let mut config = otlp(collector, sample_per_million);
        config.push(("issuer.url", issuer_url.clone()));
        config.push(("issuer.public_key", PublicKey::of(&key).to_string()));
        // The payee must have an account there.
        tests::payer::issuer_client(&issuer_url).register(&rig.payee()).await.expect("registered");
        rig.spawn_relayer(&config).wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
        rig.spawn_settler(&config).wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
        Stage { rig, issuer, issuer_url }
    }

    /// Ends every process, in order: each sends what it has left.
    async fn end(&mut self) {
        for process in self.rig.relayers.iter_mut().chain(&mut self.rig.settlers).chain([&mut self.issuer]) {
            process.stop(SOON).await.unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

fn named<'a>(spans: &'a [Received], service: &str, name: &str) -> &'a Received {
    let found = spans.iter().find(|span| (span.service.as_str(), span.name.as_str()) == (service, name));
    found.unwrap_or_else(|| panic!("no {name} of {service} in {spans:#?}"))
}

#[tokio::test]
async fn a_payers_trace_goes_through_relayer_and_issuer_and_the_stream_to_the_settler() {
    let collector = Collector::start().await;
    let mut stage = Stage::start(&collector.url, 1_000_000).await;
    let payer = Payer::register(&stage.issuer_url).await;
    let channel = payer.channel(stage.rig.payee()).capacity(100).open().await;
    let relayer = stage.rig.relayer(0).to_owned();
    let brought = [("traceparent", PARENT), ("x-request-id", "mine")];
    assert_eq!(pay(&relayer, &channel, 5, &brought).await.status(), 200);
    // A trace that its caller does not record is not recorded here.
    let unrecorded = PARENT.replace("-01", "-00").replace(TRACE, "5".repeat(32).as_str());
    assert_eq!(pay(&relayer, &channel, 6, &[("traceparent", &unrecorded)]).await.status(), 200);
    channel.close(&relayer).await.expect("an answer").body.expect("noted");
    let issuer = tests::payer::issuer_client(&stage.issuer_url);
    wait_until(SOON, "the issuer has closed the channel", || async {
        let found = issuer.channel(&channel.id()).await.expect("an answer").expect("a channel");
        found.status == common::wire::IssuerStatus::Closed
    })
    .await;
    stage.end().await;

    let spans = collector.of_trace();
    let request = named(&spans, "millrace-relayer", "POST");
    assert_eq!(request.parent, "00f067aa0ba902b7", "the payer's span");
    assert_eq!(
        (request.notes["request_id"].as_str(), request.notes["url.path"].as_str()),
        ("mine", "/v1/payments")
    );
    let payment = named(&spans, "millrace-relayer", "payment");
    assert_eq!((&payment.parent, payment.notes["outcome"].as_str()), (&request.id, "accepted"));
    assert_eq!(named(&spans, "millrace-relayer", "accept.lua").parent, payment.id);
    let asking = named(&spans, "millrace-relayer", "GET");
    assert_eq!(asking.parent, request.id, "the look-up");
    assert_eq!(named(&spans, "millrace-issuer", "GET").parent, asking.id);
    let books = named(&spans, "millrace-settler", "books");
    assert_eq!((&books.parent, &books.notes["channel_id"]), (&payment.id, &channel.id().to_string()));

    let all = collector.all();
    assert!(all.iter().all(|span| span.trace != "5".repeat(32)), "its caller records nothing");
    named(&all, "millrace-settler", "page");
    assert_eq!(named(&all, "millrace-settler", "close").notes["outcome"], "closed");
    let settlements = named(&all, "millrace-settler", "settlements");
    let request = all.iter().find(|span| span.parent == settlements.id).expect("the request");
    let answer = all.iter().find(|span| span.parent == request.id).expect("the issuer's part in it");
    assert_eq!((answer.service.as_str(), &answer.trace), ("millrace-issuer", &settlements.trace));
}

#[tokio::test]
async fn payments_go_on_without_a_collector_and_the_end_does_not_wait_for_one() {
    // Nobody listens there.
    let nowhere = format!("http://127.0.0.1:{}", free_port().expect("a free port"));
    let mut stage = Stage::start(&nowhere, 1_000_000).await;
    let payer = Payer::register(&stage.issuer_url).await;
    let channel = payer.channel(stage.rig.payee()).capacity(10_000).open().await;
    let relayer = stage.rig.relayer(0).to_owned();
    for amount in 1..=200 {
        assert_eq!(pay(&relayer, &channel, amount, &[("traceparent", PARENT)]).await.status(), 200);
    }
    let ending = Instant::now();
    stage.end().await;
    // Three processes, each with a second for what is left and one for the exporter to give up.
    assert!(ending.elapsed() < Duration::from_secs(15), "{:?}", ending.elapsed());
    let log = std::fs::read_to_string(stage.rig.relayers[0].log()).expect("a log");
    let told = log.matches("the collector takes no spans: they are dropped until it does").count();
    assert_eq!(told, 1, "once, and not for every span: {log}");
}

#[tokio::test]
async fn nothing_is_recorded_where_nothing_is_sampled() {
    let collector = Collector::start().await;
    let mut stage = Stage::start(&collector.url, 0).await;
    let payer = Payer::register(&stage.issuer_url).await;
    let channel = payer.channel(stage.rig.payee()).capacity(100).open().await;
    assert_eq!(pay(stage.rig.relayer(0), &channel, 5, &[("x-request-id", "mine")]).await.status(), 200);
    stage.end().await;
    assert!(collector.all().is_empty(), "{:?}", collector.all());
}
