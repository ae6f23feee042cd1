//! A journal in a bucket: a server that speaks as much of S3 as the journal needs, with conditional writes, that fails
//! and forgets to answer when told to.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use cli::stack::process::{Binary, Process};
use tests::binaries;
use tests::rig::SOON;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::kept::Kept;

#[derive(Debug, Default)]
struct Objects {
    held: BTreeMap<String, Bytes>,
    /// Requests to be refused with 503.
    refusals: u32,
    /// Writes to be done and answered with 500.
    silences: u32,
    /// Writes that found their name taken.
    conflicts: u32,
}

type Shared = Arc<Mutex<Objects>>;

/// The server, with one bucket.
struct Bucket {
    objects: Shared,
    url: String,
    _shutdown: DropGuard,
}

impl Bucket {
    async fn start() -> Bucket {
        let objects = Shared::default();
        let router = Router::new()
            .route("/bucket", get(list))
            .route("/bucket/{*name}", get(read).put(write))
            .with_state(objects.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let shutdown = CancellationToken::new();
        let over = shutdown.clone();
        tokio::spawn(async move {
            let serving = axum::serve(listener, router).with_graceful_shutdown(over.cancelled_owned());
            serving.await.expect("loopback takes connections");
        });
        Bucket { objects, url, _shutdown: shutdown.drop_guard() }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Objects) -> T) -> T {
        change(&mut self.objects.lock().expect("no one panics with it"))
    }

    fn variables(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT", &self.url),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "nowhere"),
            ("AWS_ACCESS_KEY_ID", "a-name"),
            ("AWS_SECRET_ACCESS_KEY", "a-secret"),
        ]
    }
}

async fn write(
    State(objects): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut objects = objects.lock().expect("no one panics with it");
    assert_eq!(headers.get("if-none-match").map(|value| value.as_bytes()), Some(b"*".as_slice()));
    assert!(headers.contains_key("authorization"), "credentials come from the environment");
    if objects.refusals > 0 {
        objects.refusals -= 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if objects.held.contains_key(&name) {
        objects.conflicts += 1;
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    objects.held.insert(name, body);
    if objects.silences > 0 {
        objects.silences -= 1;
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    ([("etag", "\"1\"")], "").into_response()
}

async fn read(State(objects): State<Shared>, Path(name): Path<String>) -> Response {
    match objects.lock().expect("no one panics with it").held.get(&name) {
        Some(bytes) => {
            let headers = [("etag", "\"1\""), ("last-modified", "Wed, 21 Oct 2015 07:28:00 GMT")];
            (headers, bytes.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn list(State(objects): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let mut objects = objects.lock().expect("no one panics with it");
    if objects.refusals > 0 {
        objects.refusals -= 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let mut folders = BTreeSet::new();
    let contents: String = objects
        .held
        .iter()
        .filter(|(name, _)| name.starts_with(&prefix))
        // With a delimiter, what lies deeper is told by its folder.
        .filter(|(name, _)| {
            let (rest, is_flat) = (&name[prefix.len()..], !query.contains_key("delimiter"));
            match rest.find('/') {
                Some(end) if !is_flat => {
                    folders.insert(format!("{prefix}{}/", &rest[..end]));
                    false
                }
                _ => true,
            }
        })
        .map(|(name, bytes)| {
            format!(
                "<Contents><Key>{name}</Key><LastModified>2015-10-21T07:28:00.000Z</LastModified>\
                 <ETag>\"1\"</ETag><Size>{}</Size></Contents>",
                bytes.len()
            )
        })
        .collect();
    let folders: String = folders
        .iter()
        .map(|name| format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"))
        .collect();
    let answer =
        format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}{folders}</ListBucketResult>");
    ([("content-type", "application/xml")], answer).into_response()
}

/// A settler that keeps its journal in the bucket: a script that gives it its credentials runs it.
fn spawn_settler<'a>(kept: &'a mut Kept, bucket: &Bucket) -> &'a mut Process {
    let dir = kept.rig.dir().join("bin");
    std::fs::create_dir_all(&dir).expect("writable");
    let exports: String =
        bucket.variables().iter().map(|(name, value)| format!("export {name}={value}\n")).collect();
    let script = format!("#!/bin/sh\n{exports}exec {} \"$@\"\n", binaries::path("settler").display());
    let path = dir.join("settler");
    std::fs::write(&path, script).expect("writable");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("writable");
    let config = kept.config.clone();
    let spec = kept.rig.spawn_settler(&config).spec().clone();
    let mut spec = cli::stack::process::ProcessSpec { binary: Binary::EachIn(dir), ..spec };
    spec.config.push(("journal.url".to_owned(), "s3://bucket/of/ours".to_owned()));
    // In place of the one that was only started for its configuration.
    kept.rig.settlers.pop();
    kept.rig.settlers.push(Process::spawn(spec).unwrap_or_else(|error| panic!("{error}")));
    kept.rig.settlers.last_mut().expect("just pushed")
}

async fn settler(kept: &mut Kept, bucket: &Bucket) {
    spawn_settler(kept, bucket).wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
}

/// What is in the bucket, where a directory would have it.
fn download(kept: &Kept, bucket: &Bucket) {
    bucket.change(|objects| {
        for (name, bytes) in &objects.held {
            let path = kept.dir().join(name.strip_prefix("of/ours/").expect("below the prefix"));
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            std::fs::write(path, bytes).expect("writable");
        }
    });
}

#[tokio::test]
async fn journal_in_a_bucket_holds_every_payment_once_whatever_the_bucket_answers() {
    let bucket = Bucket::start().await;
    let mut kept = Kept::start().await;
    settler(&mut kept, &bucket).await;
    let channel = kept.rig.channel(1_000).await;
    kept.pay(&channel, 1..=20).await;
    kept.nothing_waits().await;
    bucket.change(|objects| objects.refusals = 3);
    kept.pay(&channel, 21..=30).await;
    kept.nothing_waits().await;
    // Written, and answered as if not: the next attempt finds it there.
    bucket.change(|objects| objects.silences = 1);
    kept.pay(&channel, 31..=40).await;
    kept.nothing_waits().await;
    assert!(bucket.change(|objects| objects.conflicts) >= 1, "the same segment was sent again");
    kept.pay(&channel, 41..=50).await;
    kept.rig.settlers[0].kill();
    settler(&mut kept, &bucket).await;
    kept.pay(&channel, [60]).await;
    kept.nothing_waits().await;
    download(&kept, &bucket);
    kept.all_is_kept_once().await;

    let mut command = Command::new(binaries::path("millrace"));
    command.args(["journal", "verify", "--json", "--url", "s3://bucket/of/ours"]).envs(bucket.variables());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.expect("millrace runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["payments"], 51);
}

#[tokio::test]
async fn bucket_that_takes_nothing_keeps_payments_in_redis() {
    let bucket = Bucket::start().await;
    let mut kept = Kept::start().await;
    bucket.change(|objects| objects.refusals = u32::MAX);
    spawn_settler(&mut kept, &bucket);
    kept.rig.not_ready(&kept.rig.settlers[0], "the journal cannot be kept").await;
    let channel = kept.rig.channel(1_000).await;
    kept.pay(&channel, [5]).await;
    channel.close(kept.rig.relayer(0)).await.expect("an answer").body.expect("noted");
    kept.rig.closed(&channel, 5).await;
    let info =
        kept.store.partition_info(kept.store.partition_of(&channel.id())).await.expect("Redis answers");
    assert_eq!(info.entries, 1, "the payment waits in Redis");
    bucket.change(|objects| objects.refusals = 0);
    kept.rig.settlers[0].wait_ready(SOON).await.expect("it is well again");
    kept.nothing_waits().await;
    download(&kept, &bucket);
    assert_eq!(kept.all_is_kept_once().await.receipts, 1);
}
