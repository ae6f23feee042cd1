mod leaving;
mod pieces;
mod raw;

use super::*;
use crate::http::serve_parting;
use crate::websocket::{Socket, Upgrade};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request};
use axum::response::Response;
use axum::routing::{get, post};
use futures::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use raw::{Client, get_of, post_of};
use std::sync::atomic::AtomicUsize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);

/// How often a connection was looked at that had been quiet, and how often it was taken from hyper.
#[derive(Default)]
struct Looks {
    at: AtomicUsize,
    /// Those with nothing owed to the client.
    at_answered: AtomicUsize,
    parted: AtomicUsize,
}

impl Looks {
    fn counting(self: &Arc<Self>, may_part: impl Fn(&Progress) -> bool + Send + Sync + 'static) -> MayPart {
        let looks = Arc::clone(self);
        Arc::new(move |progress| {
            let may = may_part(progress);
            looks.parted.fetch_add(usize::from(may), Ordering::SeqCst);
            looks.at_answered.fetch_add(usize::from(progress.is_answered()), Ordering::SeqCst);
            looks.at.fetch_add(1, Ordering::SeqCst);
            may
        })
    }

    /// Until `count` is `least`.
    async fn reach(count: &AtomicUsize, least: usize) {
        within("a quiet connection is looked at", async {
            while count.load(Ordering::SeqCst) < least {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    looks: Arc<Looks>,
}

impl Served {
    async fn with(
        front: impl Front,
        config: HttpConfig,
        may_part: impl Fn(&Progress) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (shutdown, looks) = (CancellationToken::new(), Arc::new(Looks::default()));
        let (stop, may_part) = (shutdown.clone(), looks.counting(may_part));
        let task = tokio::spawn(async move { serve_parting(listener, front, &config, stop, may_part).await });
        Self { address, shutdown, task, looks }
    }

    async fn new(router: Router) -> Self {
        Self::with(router, hasty(), Progress::is_idle).await
    }

    async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).await.expect("it listens"))
    }

    fn parted(&self) -> usize {
        self.looks.parted.load(Ordering::SeqCst)
    }

    /// Until connections were taken from hyper as often, in all.
    async fn has_parted(&self, times: usize) {
        Looks::reach(&self.looks.parted, times).await;
    }

    /// For several times as long as it takes a quiet connection to be parked, while something is under way.
    async fn looks(&self) {
        Looks::reach(&self.looks.at, self.looks.at.load(Ordering::SeqCst) + 3).await;
    }
}

/// Connections are parked as soon as timers allow.
fn hasty() -> HttpConfig {
    HttpConfig { park_after_ms: 1, ..HttpConfig::default() }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// A router whose requests are worked on to their ends.
#[derive(Clone)]
struct Lasting(Router);

impl Front for Lasting {
    const OUTLASTS_CLIENTS: bool = true;

    async fn answer(&self, incoming: Incoming) -> Response {
        self.0.answer(incoming).await
    }
}

/// Answers what it is sent.
fn echo() -> Router {
    Router::new()
        .route("/", post(async |body: Bytes| body))
        .route("/{text}", get(async |Path(text): Path<String>| text))
}

#[tokio::test]
async fn a_connection_is_parked_again_and_again() {
    let served = Served::new(echo()).await;
    let mut client = served.connect().await;
    for n in 1..=20 {
        client.write(&get_of(&format!("/{n}"))).await;
        assert_eq!(client.body().await, n.to_string().into_bytes());
        served.has_parted(n).await;
    }
}

#[tokio::test]
async fn requests_that_come_together_are_answered_in_order() {
    let served = Served::new(echo()).await;
    let mut client = served.connect().await;
    for _ in 0..3 {
        let parted = served.parted();
        // More than hyper takes at once before it lets others run.
        let together: Vec<u8> = (0..40).flat_map(|n| post_of("/", format!("body {n}").as_bytes())).collect();
        client.write(&together).await;
        for n in 0..40 {
            assert_eq!(client.body().await, format!("body {n}").into_bytes());
        }
        served.has_parted(parted + 1).await;
    }
}

#[tokio::test]
async fn a_request_may_pause_anywhere() {
    let served = Served::new(echo()).await;
    let mut client = served.connect().await;
    let request = post_of("/", b"in pieces");
    let in_the_body = request.len() - 3;
    client.write(&request[..20]).await;
    // Begun heads are taken from hyper and given back to it.
    served.has_parted(1).await;
    client.write(&request[20..]).await;
    assert_eq!(client.body().await, b"in pieces");
    served.has_parted(2).await;
    client.write(&request[..in_the_body]).await;
    // Begun bodies are not.
    served.looks().await;
    assert_eq!(served.parted(), 2);
    client.write(&request[in_the_body..]).await;
    assert_eq!(client.body().await, b"in pieces");
}

#[tokio::test]
async fn an_answer_may_take_its_time() {
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let router = Router::new().route(
        "/",
        get(async move || {
            released.notified().await;
            "at last"
        }),
    );
    let served = Served::new(router).await;
    let mut client = served.connect().await;
    client.write(&get_of("/")).await;
    served.looks().await;
    release.notify_one();
    assert_eq!(client.body().await, b"at last");
}

#[tokio::test]
async fn a_client_may_read_slowly() {
    // More than the system's buffers hold.
    const LARGE: usize = 16 * 1024 * 1024;
    let router = Router::new().route("/", get(async || vec![b'x'; LARGE]));
    let served = Served::new(router).await;
    let mut client = served.connect().await;
    for parted in 0..2 {
        client.write(&get_of("/")).await;
        served.looks().await;
        assert_eq!(served.parted(), parted, "an answer is under way");
        let body = client.body().await;
        assert!(body.len() == LARGE && body.iter().all(|byte| *byte == b'x'));
        served.has_parted(parted + 1).await;
    }
}

/// Serves a handler that answers at once and leaves the body to another task, which reads it once released. Sends it a
/// body whose second half, if it were taken for a request, would be one; gives what is answered to the request after it.
async fn answer_after_a_body_that_is_read_late(
    may_part: impl Fn(&Progress) -> bool + Send + Sync + 'static,
) -> Vec<u8> {
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let late = async move |request: Request| {
        tokio::spawn(async move {
            released.notified().await;
            request.into_body().collect().await.expect("a whole body")
        });
        "first"
    };
    let served = Served::with(echo().route("/late", post(late)), hasty(), may_part).await;
    let mut client = served.connect().await;
    let hidden = get_of("/hidden");
    let body = [vec![b'x'; 100], hidden.clone()].concat();
    let request = post_of("/late", &body);
    client.write(&request[..request.len() - hidden.len()]).await;
    assert_eq!(client.body().await, b"first");
    Looks::reach(&served.looks.at_answered, 1).await;
    client.write(&hidden).await;
    release.notify_one();
    client.write(&get_of("/shown")).await;
    client.body().await
}

#[tokio::test]
async fn a_body_is_never_taken_for_a_request() {
    assert_eq!(answer_after_a_body_that_is_read_late(Progress::is_idle).await, b"shown");
    // Broken on purpose: one that does not mind bodies.
    assert_eq!(answer_after_a_body_that_is_read_late(Progress::is_answered).await, b"hidden");
}

#[tokio::test]
async fn shutdown_ends_parked_connections_at_once() {
    let served =
        Served::with(echo(), HttpConfig { drain_timeout_ms: 600_000, ..hasty() }, Progress::is_idle).await;
    let mut clients = Vec::new();
    for n in 1..=20 {
        let mut client = served.connect().await;
        client.write(&get_of("/x")).await;
        assert_eq!(client.body().await, b"x");
        clients.push(client);
        served.has_parted(n).await;
    }
    served.shutdown.cancel();
    for mut client in clients {
        assert_eq!(client.rest().await, b"");
    }
    within("the server ends", served.task).await.expect("no panic");
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time_parked_or_not() {
    for park_after_ms in [1, 50, 200, 1_000] {
        let config = HttpConfig { park_after_ms, header_timeout_ms: 200, ..HttpConfig::default() };
        let served = Served::with(echo(), config, Progress::is_idle).await;
        // Silent; with half a head; after an answer; with half a head after that.
        for (whole, begun) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut client = served.connect().await;
            let from = Instant::now();
            if whole {
                client.write(&get_of("/x")).await;
                assert_eq!(client.body().await, b"x");
            }
            if begun {
                client.write(b"GET / HTT").await;
            }
            assert_eq!(client.rest().await, b"");
            let kept = from.elapsed();
            assert!(kept >= Duration::from_millis(190), "{park_after_ms}, {whole}, {begun}: {kept:?}");
            assert!(kept < DEADLINE / 2, "{park_after_ms}, {whole}, {begun}: {kept:?}");
        }
    }
}

#[tokio::test]
async fn bytes_that_trickle_do_not_prolong_the_time_for_a_head() {
    let config = HttpConfig { header_timeout_ms: 200, ..hasty() };
    let served = Served::with(echo(), config, Progress::is_idle).await;
    let mut client = served.connect().await;
    let trickle = async {
        while client.try_write(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the connection is closed", trickle).await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_keep_a_connection_for_ever() {
    let router = Router::new().route("/", post(async || "unread"));
    let served =
        Served::with(router, HttpConfig { header_timeout_ms: 100, ..hasty() }, Progress::is_idle).await;
    let mut client = served.connect().await;
    client.write(&post_of("/", b"small enough for hyper to read it")).await;
    assert_eq!(client.body().await, b"unread");
    assert_eq!(client.rest().await, b"");
    assert_eq!(served.parted(), 0, "when in doubt a connection is not parked");
}

#[tokio::test]
async fn a_parked_connection_can_become_a_websocket_whose_first_frame_came_along() {
    async fn echo_messages(upgrade: Upgrade) -> Response {
        upgrade.then(WebSocketConfig::default(), async |mut socket: Socket| {
            while let Some(Ok(message)) = socket.next().await {
                let _ = socket.send(message).await;
            }
        })
    }
    let served = Served::new(echo().route("/socket", get(echo_messages))).await;
    for parked in [false, true] {
        let mut client = served.connect().await;
        if parked {
            client.write(&get_of("/x")).await;
            assert_eq!(client.body().await, b"x");
            served.has_parted(1).await;
        }
        let asked = "GET /socket HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        // A text, masked with zeros.
        let frame = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
        client.write(&[asked.as_bytes(), &frame].concat()).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert_eq!(client.exactly(4).await, [0x81, 2, b'h', b'i']);
        client.write(&frame).await;
        assert_eq!(client.exactly(4).await, [0x81, 2, b'h', b'i']);
        assert!(!served.task.is_finished());
    }
}

#[tokio::test]
async fn the_task_of_a_parked_connection_is_small() {
    let near = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let stream = TcpStream::connect(near.local_addr().expect("bound")).await.expect("it listens");
    let peer = stream.peer_addr().expect("connected");
    let rules = Arc::new(Rules::new(echo(), &hasty(), Arc::new(Progress::is_idle)));
    let slots = Arc::new(tokio::sync::Semaphore::new(1));
    let permit = slots.acquire_owned().await.expect("never closed");
    let size = std::mem::size_of_val(&converse(stream, peer, rules, permit));
    assert!(size <= 768, "{size} bytes");
}
