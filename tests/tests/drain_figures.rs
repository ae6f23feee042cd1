//! That whoever stops a service leaves it the time to drain: the figures of `k8s/`, of the systemd units and of the load
//! balancers, against those of the configuration files that are shipped with them.

use std::path::Path;

use common::config::{Config, parse};
use serde_json::Value;

/// Room for what is in no figure: starting threads, closing files, a machine that is busy.
const SLACK_MS: u64 = 2_000;

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn config<T: Config>(path: &str) -> T {
    parse(path, &text(path)).unwrap_or_else(|error| panic!("{error}"))
}

/// How long a relayer may take from SIGTERM to its end, in ms: grace, drain, and two calls to Redis.
fn relayer_ends_within(config: &relayer::Config) -> u64 {
    config.drain_grace_ms + config.http.drain_timeout_ms + 2 * config.redis.command_timeout_ms
}

/// How long a settler may take: closes under way, a call to Redis to give the lease back and one to part, the listener.
fn settler_ends_within(config: &settler::Config) -> u64 {
    config.drain_timeout_ms + 2 * config.redis.command_timeout_ms + config.http.drain_timeout_ms
}

fn issuer_ends_within(config: &issuer::Config) -> u64 {
    config.http.drain_timeout_ms
}

struct Services {
    relayer: relayer::Config,
    settler: settler::Config,
    issuer: issuer::Config,
}

fn shipped() -> Services {
    Services {
        relayer: config("config.relayer.yaml"),
        settler: config("config.settler.yaml"),
        issuer: config("issuer/config.issuer.yaml"),
    }
}

/// The pod that a manifest describes, of the file's last object.
fn pod(path: &str) -> Value {
    let text = text(path);
    let last = text.rsplit("\n---\n").next().expect("a file has a last part");
    let object: Value = serde_saphyr::from_str(last).unwrap_or_else(|error| panic!("{path}: {error}"));
    object["spec"]["template"]["spec"].clone()
}

/// Seconds after which the cluster kills a pod, less those that it sleeps before SIGTERM, in ms.
fn pod_leaves_ms(pod: &Value) -> u64 {
    let s = |value: &Value| value.as_u64().expect("whole seconds");
    let pre_stop = &pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"];
    let slept = if pre_stop.is_null() { 0 } else { s(pre_stop) };
    (s(&pod["terminationGracePeriodSeconds"]) - slept) * 1_000
}

/// Time that a unit leaves between SIGTERM and SIGKILL, in ms.
fn unit_leaves_ms(service: &str) -> u64 {
    let text = text(&format!("docs/deploy/systemd/millrace-{service}.service"));
    let line = text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).expect("a TimeoutStopSec");
    line.parse::<u64>().expect("whole seconds") * 1_000
}

/// The number that stands right after `words` in a configuration of a balancer.
fn number_after(text: &str, words: &str) -> u64 {
    assert_eq!(text.matches(words).count(), 1, "{words:?} stands there once");
    let rest = text.split_once(words).expect("it was just counted").1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// Enough, and not so much more that a service which hangs holds up everything else.
fn assert_enough(who: &str, leaves_ms: u64, needs_ms: u64) {
    assert!(leaves_ms >= needs_ms + SLACK_MS, "{who}: {leaves_ms} ms for what may take {needs_ms}");
    assert!(leaves_ms <= needs_ms * 3, "{who}: {leaves_ms} ms for what takes {needs_ms} at most");
}

#[test]
fn clusters_leave_services_the_time_to_drain() {
    let shipped = shipped();
    let relayer = pod("k8s/base/relayer/deployment.yaml");
    assert_enough("relayer", pod_leaves_ms(&relayer), relayer_ends_within(&shipped.relayer));
    let slept = relayer["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
    assert!(slept.is_some_and(|s| s >= 3), "balancers need a while to hear that a pod is leaving: {slept:?}");
    let settler = pod("k8s/base/settler/deployment.yaml");
    assert_enough("settler", pod_leaves_ms(&settler), settler_ends_within(&shipped.settler));
    let issuer = pod("k8s/overlays/dev/issuer.yaml");
    assert_enough("issuer", pod_leaves_ms(&issuer), issuer_ends_within(&shipped.issuer));
}

#[test]
fn systemd_leaves_services_the_time_to_drain() {
    let shipped = shipped();
    assert_enough("relayer", unit_leaves_ms("relayer"), relayer_ends_within(&shipped.relayer));
    assert_enough("settler", unit_leaves_ms("settler"), settler_ends_within(&shipped.settler));
    assert_enough("issuer", unit_leaves_ms("issuer"), issuer_ends_within(&shipped.issuer));
}

#[test]
fn too_little_time_to_drain_is_noticed() {
    let mut relayer = shipped().relayer;
    relayer.http.drain_timeout_ms += 60_000;
    let leaves = unit_leaves_ms("relayer");
    assert!(leaves < relayer_ends_within(&relayer) + SLACK_MS, "the check would not see it");
}

#[test]
fn balancers_are_more_patient_than_relayers_and_give_connections_up_first() {
    let Services { relayer, .. } = shipped();
    let nginx = text("docs/deploy/nginx.conf");
    let idle_s = number_after(&nginx, "keepalive 256;\n        keepalive_timeout ");
    assert!(idle_s * 1_000 < relayer.http.header_timeout_ms, "nginx keeps a connection for {idle_s} s");
    let body_bytes = number_after(&nginx, "client_body_buffer_size ") * 1_024;
    assert!(body_bytes > relayer.http.body_max_bytes as u64, "{body_bytes} bytes of a body in memory");

    let haproxy = text("docs/deploy/haproxy.cfg");
    let stream_idle_ms = relayer.stream.idle_timeout_ms;
    for (who, answer_s, tunnel_s) in [
        (
            "nginx",
            number_after(&nginx, "heard.\n        proxy_read_timeout "),
            number_after(&nginx, "(stream.*).\n            proxy_read_timeout "),
        ),
        ("HAProxy", number_after(&haproxy, "timeout server "), number_after(&haproxy, "timeout tunnel ")),
    ] {
        assert!(answer_s * 1_000 > relayer.http.request_timeout_ms, "{who} waits {answer_s} s for an answer");
        assert!(tunnel_s * 1_000 > stream_idle_ms, "{who} keeps a silent stream for {tunnel_s} s");
    }

    let (every_ms, fall) = (number_after(&haproxy, " inter "), number_after(&haproxy, " fall "));
    assert!(
        every_ms * (fall + 1) < relayer.drain_grace_ms,
        "HAProxy sees a drain after {every_ms} ms x {fall}"
    );
    assert_eq!(number_after(&haproxy, "default-server check port "), u64::from(relayer.admin_listen.port()));
}
