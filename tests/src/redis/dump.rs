//! A server's whole content as text.

use std::fmt::Write as _;

use fred::clients::Client;
use fred::interfaces::ClientLike as _;
use fred::types::{ClusterHash, CustomCommand, Value};

/// One block a key, in the order given.
pub(super) async fn dump(client: &Client, keys: Vec<String>) -> String {
    let mut out = String::new();
    for key in keys {
        let kind = text(&ask(client, &["TYPE", &key]).await);
        // That a key expires is shown, not when: two dumps are equal when nothing has changed but the time.
        let expires =
            if text(&ask(client, &["PTTL", &key]).await).starts_with('-') { "" } else { ", expires" };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "{key} ({kind}{expires})");
        for line in content(client, &kind, &key).await {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

async fn content(client: &Client, kind: &str, key: &str) -> Vec<String> {
    match kind {
        "string" => vec![text(&ask(client, &["GET", key]).await)],
        "list" => lines(ask(client, &["LRANGE", key, "0", "-1"]).await),
        "set" => sorted(lines(ask(client, &["SMEMBERS", key]).await)),
        "hash" => sorted(pairs(ask(client, &["HGETALL", key]).await, ": ")),
        "zset" => pairs(ask(client, &["ZRANGE", key, "0", "-1", "WITHSCORES"]).await, ": "),
        "stream" => stream(client, key).await,
        other => vec![format!("(a {other}, not shown)")],
    }
}

async fn stream(client: &Client, key: &str) -> Vec<String> {
    let mut out = Vec::new();
    for entry in items(ask(client, &["XRANGE", key, "-", "+"]).await) {
        let mut parts = items(entry).into_iter();
        let (Some(id), Some(fields)) = (parts.next(), parts.next()) else { continue };
        out.push(format!("{} {}", text(&id), pairs(fields, "=").join(" ")));
    }
    for group in items(ask(client, &["XINFO", "GROUPS", key]).await) {
        out.push(format!("group {}", pairs(group, "=").join(" ")));
    }
    out
}

async fn ask(client: &Client, parts: &[&str]) -> Value {
    let args: Vec<String> = parts.iter().skip(1).map(|part| (*part).to_owned()).collect();
    let name = parts.first().copied().unwrap_or_default().to_owned();
    let command = CustomCommand::new(name, ClusterHash::FirstKey, false);
    client.custom(command, args).await.unwrap_or_else(|error| panic!("{parts:?}: {error}"))
}

fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        Value::Map(map) => {
            map.inner().into_iter().flat_map(|(key, value)| [Value::from(key), value]).collect()
        }
        Value::Null => Vec::new(),
        single => vec![single],
    }
}

fn lines(value: Value) -> Vec<String> {
    items(value).iter().map(text).collect()
}

fn pairs(value: Value, between: &str) -> Vec<String> {
    items(value).chunks(2).map(|pair| pair.iter().map(text).collect::<Vec<_>>().join(between)).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// A reply as a person can read it: what is not printable ASCII is escaped.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "(nil)".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join("\n"),
        Value::Map(_) => pairs(value.clone(), ": ").join("\n"),
        other => match other.as_bytes() {
            Some(bytes) => bytes.escape_ascii().to_string(),
            None => other.as_string().unwrap_or_else(|| format!("{other:?}")),
        },
    }
}
