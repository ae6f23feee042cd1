//! From an HTTP request to a WebSocket connection (RFC 6455).
//!
//! tokio-tungstenite itself and not axum's wrapper of it: that one hides what was wrong with a frame, which decides the
//! code of the close, and the connection below, which must be read to its end if the client is to see that close.

use axum::Extension;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use common::problem::{Code, Problem};
use hyper::upgrade::OnUpgrade;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::error::ApiError;
use crate::http::Takeover;

/// Characters of a `Sec-WebSocket-Key`: 16 bytes in base64.
const KEY_LENGTH: usize = 24;

/// The server's end of a WebSocket connection.
pub type Socket = WebSocketStream<TcpStream>;

/// A request that asks for a WebSocket connection. Any other is refused as `upgrade_required`, saying what is missing.
#[derive(Debug)]
pub struct Upgrade {
    accept: HeaderValue,
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let accept = accept_key(&parts.method, &parts.headers).map_err(upgrade_required)?;
        // Not used, but hyper's word that a 101 will end its part in the connection: HTTP/1.0 has no upgrades.
        parts
            .extensions
            .remove::<OnUpgrade>()
            .ok_or_else(|| upgrade_required("the connection cannot be taken over"))?;
        Ok(Upgrade { accept })
    }
}

impl Upgrade {
    /// The answer that opens the connection. `converse` then has it, for as long as it lasts: the request is answered, and
    /// its timeout does not count any more. Only [`crate::http::serve`] knows what to do with this answer.
    pub fn then<F>(
        self,
        config: WebSocketConfig,
        converse: impl FnOnce(Socket) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let takeover = Takeover::by(async move |stream: TcpStream, read: Bytes| {
            let socket =
                WebSocketStream::from_partially_read(stream, read.into(), Role::Server, Some(config)).await;
            converse(socket).await;
        });
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, self.accept),
        ];
        (StatusCode::SWITCHING_PROTOCOLS, headers, Extension(takeover)).into_response()
    }
}

fn upgrade_required(missing: &str) -> ApiError {
    Problem::new(Code::UpgradeRequired).detail(missing).into()
}

/// The `Sec-WebSocket-Accept` of a request (RFC 6455, 4.2.1), or what it lacks.
fn accept_key(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, &'static str> {
    if *method != Method::GET {
        return Err("expected the method GET");
    }
    if !lists(headers, &header::CONNECTION, "upgrade") {
        return Err("expected the header Connection: Upgrade");
    }
    if !lists(headers, &header::UPGRADE, "websocket") {
        return Err("expected the header Upgrade: websocket");
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err("expected the header Sec-WebSocket-Version: 13");
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == KEY_LENGTH);
    let key = key.ok_or("expected the header Sec-WebSocket-Key: 16 bytes in base64")?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| "the key cannot be answered")
}

/// True if the header, a list separated by commas, names `token`, in whatever case.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HttpConfig, serve};
    use axum::Router;
    use axum::routing::get;
    use futures::{SinkExt as _, StreamExt as _};
    use std::time::Duration;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::client_async;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_util::sync::CancellationToken;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let named = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        list.iter().map(named).collect()
    }

    const ASKED: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_example_of_the_rfc_is_answered_as_it_says() {
        let accept = accept_key(&Method::GET, &headers(&ASKED)).expect("complete");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_request_that_lacks_something_is_told_what() {
        for (name, _) in ASKED {
            let kept: Vec<_> = ASKED.into_iter().filter(|(kept, _)| *kept != name).collect();
            let missing = accept_key(&Method::GET, &headers(&kept)).expect_err(name).to_lowercase();
            assert!(missing.contains(name), "{name}: {missing}");
        }
        assert!(accept_key(&Method::HEAD, &headers(&ASKED)).is_err());
        let mut old = headers(&ASKED);
        old.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        assert!(accept_key(&Method::GET, &old).is_err());
    }

    /// Sends back what it is sent.
    async fn echo(upgrade: Result<Upgrade, ApiError>) -> Result<Response, ApiError> {
        Ok(upgrade?.then(WebSocketConfig::default(), async |mut socket: Socket| {
            while let Some(Ok(message)) = socket.next().await {
                let _ = socket.send(message).await;
            }
        }))
    }

    async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
        tokio::time::timeout(DEADLINE, future)
            .await
            .unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
    }

    #[tokio::test]
    async fn a_connection_outlives_the_request_and_the_server_waits_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let router = Router::new().route("/", get(echo)).route("/late", get(std::future::pending::<()>));
        let config = HttpConfig { request_timeout_ms: 50, connections_max: 2, ..HttpConfig::default() };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let served = tokio::spawn(async move { serve(listener, router, &config, stop).await });

        let tcp = TcpStream::connect(address).await.expect("it listens");
        let (mut socket, _) = client_async(format!("ws://{address}/"), tcp).await.expect("taken over");
        let plain = reqwest::get(format!("http://{address}/")).await.expect("an answer");
        assert_eq!(
            (plain.status().as_u16(), &plain.headers()["upgrade"]),
            (426, &HeaderValue::from_static("websocket"))
        );
        // A request that takes longer than any may: the connection is older by then.
        let late = reqwest::get(format!("http://{address}/late")).await.expect("an answer");
        assert_eq!(late.status(), 504);
        let mut echoed = async |text: &str| {
            socket.send(Message::text(text)).await.expect("an open connection");
            within("the echo", socket.next()).await.expect("an echo").expect("a message").into_text()
        };
        assert_eq!(echoed("old").await.expect("text").as_str(), "old");
        shutdown.cancel();
        assert_eq!(echoed("older").await.expect("text").as_str(), "older");
        assert!(!served.is_finished(), "the server waits for the connection");
        socket.close(None).await.expect("an open connection");
        within("the close", async { while socket.next().await.is_some() {} }).await;
        within("the server ends", served).await.expect("no panic");
    }
}
