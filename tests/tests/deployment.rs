//! What the files that start Millrace elsewhere say, against what the configuration says: grace periods against drains,
//! the load balancer's patience against the relayers', probes and ports against the images.

use std::path::Path;
use std::time::Duration;

use common::config::{Config, parse};
use serde_json::Value;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn config<T: Config>(name: &str) -> T {
    parse(name, &read(name)).expect("a shipped file is valid")
}

/// A duration as Compose and nginx write it: `30s`, `1m`.
fn duration(text: &str) -> Duration {
    let (number, unit_s) = match text.strip_suffix('s') {
        Some(number) => (number, 1),
        None => (text.strip_suffix('m').expect("seconds or minutes"), 60),
    };
    Duration::from_secs(number.parse::<u64>().expect("a whole number") * unit_s)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The services of Compose, with what they share merged in.
fn compose_services() -> serde_json::Map<String, Value> {
    let compose: Value = serde_saphyr::from_str(&read("tilt/compose.yaml")).expect("YAML");
    compose["services"].as_object().expect("services").clone()
}

/// The value of a directive of nginx, where it stands first after `from`.
fn directive(text: &str, from: &str, name: &str) -> String {
    let section = &text[text.find(from).unwrap_or_else(|| panic!("nginx.conf has no {from}"))..];
    section
        .lines()
        .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(' ')?.strip_suffix(';'))
        .unwrap_or_else(|| panic!("nginx.conf has no {name} after {from}"))
        .to_owned()
}

/// The stage of the Dockerfile that makes a service's image.
fn stage(name: &str) -> String {
    let dockerfile = read("Dockerfile");
    let stage = dockerfile.split("\nFROM ").find(|stage| stage.starts_with(&format!("runtime AS {name}\n")));
    stage.unwrap_or_else(|| panic!("the Dockerfile has no stage {name}")).to_owned()
}

/// The public listener drains, then the admin listener; before that, a relayer stays open while balancers notice.
fn longest_drains() -> [(&'static str, Duration); 3] {
    let relayer: relayer::Config = config("config.relayer.yaml");
    let settler: settler::Config = config("config.settler.yaml");
    let issuer: issuer::Config = config("issuer/config.issuer.yaml");
    let closing = settler.drain_timeout_ms + settler.redis.command_timeout_ms;
    [
        ("relayer", ms(relayer.drain_grace_ms + 2 * relayer.http.drain_timeout_ms)),
        ("settler", ms(closing + settler.http.drain_timeout_ms)),
        ("issuer", ms(2 * issuer.http.drain_timeout_ms)),
    ]
}

#[test]
fn compose_gives_every_service_longer_to_stop_than_it_takes_to_drain() {
    let services = compose_services();
    let mut seen = 0;
    for (role, drain) in longest_drains() {
        for (name, service) in services.iter().filter(|(name, _)| name.starts_with(role)) {
            let grace = duration(service["stop_grace_period"].as_str().expect("a grace period"));
            assert!(grace > drain, "{name} is killed after {grace:?} and may drain for {drain:?}");
            assert_eq!(service["stop_signal"], "SIGTERM", "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, 5, "two relayers, two settlers, an issuer");
}

#[test]
fn images_stop_on_the_signal_that_drains_and_ask_the_service_itself() {
    let dockerfile = read("Dockerfile");
    let runtime = dockerfile.split("\nFROM ").find(|stage| stage.starts_with("${RUNTIME_IMAGE} AS runtime"));
    let runtime = runtime.expect("the stage that all services stand on");
    assert!(runtime.contains("\nSTOPSIGNAL SIGTERM\n") && runtime.contains("\nUSER 65532:65532\n"));
    for role in ["relayer", "settler", "issuer"] {
        let stage = stage(role);
        let probe =
            format!(r#"CMD ["{role}", "--config", "/etc/millrace/config.{role}.yaml", "--probe", "live"]"#);
        assert!(stage.contains("HEALTHCHECK") && stage.contains(&probe), "{role}: {stage}");
    }
}

#[test]
fn images_listen_where_they_say() {
    let relayer: relayer::Config = config("config.relayer.yaml");
    let settler: settler::Config = config("config.settler.yaml");
    let issuer: issuer::Config = config("issuer/config.issuer.yaml");
    for (role, variable, port) in [
        ("relayer", "MILLRACE_RELAYER__LISTEN", relayer.listen.port()),
        ("relayer", "MILLRACE_RELAYER__ADMIN_LISTEN", relayer.admin_listen.port()),
        ("settler", "MILLRACE_SETTLER__ADMIN_LISTEN", settler.admin_listen.port()),
        ("issuer", "MILLRACE_ISSUER__LISTEN", issuer.listen.port()),
        ("issuer", "MILLRACE_ISSUER__ADMIN_LISTEN", issuer.admin_listen.port()),
    ] {
        let stage = stage(role);
        assert!(stage.contains(&format!("{variable}=0.0.0.0:{port}")), "{role}: {variable} keeps its port");
        let exposed = stage.lines().find_map(|line| line.strip_prefix("EXPOSE ")).expect("ports");
        assert!(exposed.split(' ').any(|exposed| exposed == port.to_string()), "{role}: {port} is exposed");
    }
}

#[test]
fn the_load_balancer_waits_longer_than_a_relayer_takes_and_keeps_connections_for_less() {
    let relayer: relayer::Config = config("config.relayer.yaml");
    let nginx = read("tilt/lb/nginx.conf");
    let kept = duration(&directive(&nginx, "upstream relayers", "keepalive_timeout"));
    assert!(kept < ms(relayer.http.header_timeout_ms), "a kept connection is closed by nginx first");
    let patience = duration(&directive(&nginx, "server {\n        listen", "proxy_read_timeout"));
    assert!(patience > ms(relayer.http.request_timeout_ms), "the relayer's own deadline is heard");
    let silence = duration(&directive(&nginx, "location = /v1/payments/stream", "proxy_read_timeout"));
    assert!(silence > ms(relayer.stream.idle_timeout_ms), "a silent stream is ended by the relayer");
    let body = directive(&nginx, "server {\n        listen", "client_max_body_size");
    let body: usize = body.strip_suffix('m').expect("megabytes").parse().expect("a number");
    assert!(body << 20 > relayer.http.body_max_bytes, "the relayer says itself what is too large");
}

#[test]
fn the_load_balancer_answers_in_the_documented_form() {
    let nginx = read("tilt/lb/nginx.conf");
    let body =
        nginx.split("return 504 '").nth(1).and_then(|rest| rest.split("';").next()).expect("an answer");
    let problem: common::problem::Problem = serde_json::from_str(body).expect("a problem");
    assert_eq!(problem.code, common::problem::Code::OutcomeUnknown, "the payment may have been recorded");
    let ours = common::problem::Problem::new(problem.code);
    assert_eq!((problem.type_uri, problem.title, problem.status), (ours.type_uri, ours.title, ours.status));
}
