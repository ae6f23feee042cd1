//! Whatever a client sends, in whatever pieces and with whatever pauses between them, it gets its answers, all of them
//! and in order, however often its connection was taken from hyper in between.

use std::convert::Infallible;

use futures::future::join;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::AsyncWriteExt as _;

use super::*;

/// What decides whether a connection may be parked.
type Judge = fn(&Progress) -> bool;

/// Bytes in an answer that no system's buffers hold.
const LARGE: usize = 12 * 1024 * 1024;

/// A request, and by that its answer.
#[derive(Clone, Debug)]
enum Asked {
    Get {
        number: u16,
    },
    /// Sent back when all of it was read.
    Post {
        body: Vec<u8>,
        chunked: bool,
    },
    /// Answered some milliseconds later.
    Slow {
        ms: u8,
    },
    /// Answered at once, and read by another task.
    Late {
        body: Vec<u8>,
    },
    /// Answered in as many chunks, each some milliseconds after the other.
    Chunks {
        count: u8,
        ms: u8,
    },
    Large,
}

impl Asked {
    fn any() -> impl Strategy<Value = Self> {
        let body = || proptest::collection::vec(b'a'..=b'z', 0..3_000);
        prop_oneof![
            8 => any::<u16>().prop_map(|number| Asked::Get { number }),
            8 => (body(), any::<bool>()).prop_map(|(body, chunked)| Asked::Post { body, chunked }),
            3 => (0..8u8).prop_map(|ms| Asked::Slow { ms }),
            4 => body().prop_map(|body| Asked::Late { body }),
            2 => (0..4u8, 0..4u8).prop_map(|(count, ms)| Asked::Chunks { count, ms }),
            1 => Just(Asked::Large),
        ]
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Asked::Get { number } => get_of(&format!("/get/{number}")),
            Asked::Post { body, chunked: false } => post_of("/post", body),
            Asked::Post { body, chunked: true } => {
                let mut bytes =
                    b"POST /post HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
                for chunk in body.chunks(700) {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n\r\n");
                bytes
            }
            Asked::Slow { ms } => get_of(&format!("/slow/{ms}")),
            Asked::Late { body } => post_of("/late", body),
            Asked::Chunks { count, ms } => get_of(&format!("/chunks/{count}/{ms}")),
            Asked::Large => get_of("/large"),
        }
    }

    fn answer(&self) -> Vec<u8> {
        match self {
            Asked::Get { number } => number.to_string().into_bytes(),
            Asked::Post { body, .. } => body.clone(),
            Asked::Slow { ms } => ms.to_string().into_bytes(),
            Asked::Late { .. } => b"late".to_vec(),
            Asked::Chunks { count, .. } => (0..*count).flat_map(|n| [n; 10]).collect(),
            Asked::Large => vec![b'x'; LARGE],
        }
    }
}

fn router() -> Router {
    let late = async |request: Request| {
        tokio::spawn(request.into_body().collect());
        "late"
    };
    let slow = async |Path(ms): Path<u8>| {
        tokio::time::sleep(Duration::from_millis(ms.into())).await;
        ms.to_string()
    };
    let chunks = async |Path((count, ms)): Path<(u8, u8)>| {
        Body::from_stream(futures::stream::iter(0..count).then(move |n| async move {
            tokio::time::sleep(Duration::from_millis(ms.into())).await;
            Ok::<_, Infallible>(vec![n; 10])
        }))
    };
    Router::new()
        .route("/get/{number}", get(async |Path(number): Path<String>| number))
        .route("/post", post(async |body: Bytes| body))
        .route("/late", post(late))
        .route("/slow/{ms}", get(slow))
        .route("/chunks/{count}/{ms}", get(chunks))
        .route("/large", get(async || vec![b'x'; LARGE]))
}

/// One connection: its requests, the pieces in which they are sent as bytes and milliseconds of silence after each, taken
/// in turns, and milliseconds of a pause before each read.
#[derive(Clone, Debug)]
struct Script {
    requests: Vec<Asked>,
    pieces: Vec<(usize, u8)>,
    read_pause_ms: u8,
    /// Whether the requests are worked on to their ends though the client may have left.
    lasting: bool,
}

impl Script {
    fn any() -> impl Strategy<Value = Self> {
        // Most pieces end within a head or a small body, some hold several requests.
        let piece =
            (prop_oneof![4 => 1..80usize, 1 => 1..4_000usize], prop_oneof![2 => Just(0u8), 1 => 0..7u8]);
        let pieces = proptest::collection::vec(piece, 1..12);
        let requests = proptest::collection::vec(Asked::any(), 1..10);
        let read_pause_ms = prop_oneof![3 => Just(0u8), 1 => 1..3u8];
        (requests, pieces, read_pause_ms, any::<bool>()).prop_map(
            |(requests, pieces, read_pause_ms, lasting)| Script { requests, pieces, read_pause_ms, lasting },
        )
    }

    /// What went wrong, if something did.
    async fn play(&self, may_part: Judge, deadline: Duration) -> Result<(), TestCaseError> {
        let served = match self.lasting {
            true => Served::with(Lasting(router()), hasty(), may_part).await,
            false => Served::with(router(), hasty(), may_part).await,
        };
        let (mut writes, mut reads) =
            served.connect().await.split(Duration::from_millis(self.read_pause_ms.into()));
        let sent: Vec<u8> = self.requests.iter().flat_map(Asked::bytes).collect();
        let writing = async {
            let mut left = sent.as_slice();
            for (length, pause_ms) in self.pieces.iter().cycle() {
                let (piece, rest) = left.split_at(left.len().min(*length));
                if writes.write_all(piece).await.is_err() || rest.is_empty() {
                    break;
                }
                left = rest;
                if *pause_ms > 0 {
                    tokio::time::sleep(Duration::from_millis((*pause_ms).into())).await;
                }
            }
        };
        let reading = async {
            for (n, asked) in self.requests.iter().enumerate() {
                let body = tokio::time::timeout(deadline, reads.body())
                    .await
                    .map_err(|_| TestCaseError::fail(format!("request {n} was not answered")))?
                    .map_err(|error| TestCaseError::fail(format!("request {n}: {error}")))?;
                prop_assert!(body == asked.answer(), "request {}: a wrong answer", n);
            }
            Ok(())
        };
        let (_, answered) = join(writing, async {
            let answered = reading.await;
            // Then nothing more can be written either, and the writing ends.
            served.shutdown.cancel();
            served.task.abort();
            answered
        })
        .await;
        answered
    }
}

fn run(mut runner: TestRunner, may_part: Judge, deadline: Duration) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runner
        .run(&Script::any(), |script| runtime.block_on(script.play(may_part, deadline)))
        .map_err(|error| error.to_string())
}

fn config() -> Config {
    // As many as PROPTEST_CASES says, a quarter of them: each takes a while.
    let cases = Config::default().cases.div_ceil(4);
    Config { cases, failure_persistence: None, ..Config::default() }
}

#[test]
fn whatever_comes_in_pieces_is_answered() {
    run(TestRunner::new(config()), Progress::is_idle, DEADLINE).expect("every request is answered");
}

#[test]
fn it_would_show_if_a_connection_were_parked_too_early() {
    let broken: [(&str, Judge); 4] = [
        ("at any time", |_| true),
        ("with a body not read", |progress| progress.has_answered() && progress.is_flushed()),
        ("with a request not answered", |progress| progress.is_read() && progress.is_flushed()),
        ("with an answer not flushed", |progress| progress.is_read() && progress.has_answered()),
    ];
    for (when, may_part) in broken {
        let config = Config { cases: 1_000, max_shrink_iters: 0, ..config() };
        assert!(run(TestRunner::new(config), may_part, Duration::from_secs(5)).is_err(), "parked {when}");
    }
}
