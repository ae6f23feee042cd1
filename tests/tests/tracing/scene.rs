//! Requests that bring headers, and what processes log.

use std::path::Path;

use reqwest::Response;
use serde_json::Value;
use tests::payer::Channel;

/// The header of a trace, as the specification's own example has it.
pub(super) const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Its trace.
pub(super) const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Pays on a relayer, with these headers.
pub(super) async fn pay(relayer: &str, channel: &Channel, amount: u64, headers: &[(&str, &str)]) -> Response {
    let body = serde_json::to_vec(&channel.voucher(amount)).expect("a voucher is JSON");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut request = client.post(format!("{relayer}/v1/payments")).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an answer")
}

/// A header of an answer, or of a request, as text.
pub(super) fn text(headers: &reqwest::header::HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.to_str().expect("ASCII").to_owned())
}

/// The lines of a log in JSON that say this.
pub(super) fn said(log: &Path, message: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

/// What makes a process say everything, for machines.
pub(super) fn talkative(filter: &str) -> Vec<(&'static str, String)> {
    vec![("log.format", "json".to_owned()), ("log.filter", filter.to_owned())]
}
