//! A client of `GET /v1/payments/stream` that a test has in its hands: message by message, or byte by byte.

use std::time::Duration;

use common::problem::Problem;
use common::wire::{PaymentAnswer, PaymentRequest};
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// How long anything may take that the relayer is to say.
const DEADLINE: Duration = Duration::from_secs(20);

/// What comes from the relayer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The answer to a payment, as it came.
    Answer(String),
    /// A ping; it is answered by whatever is done next.
    Ping,
    /// A close frame, with its code.
    Close(Option<u16>),
    /// The end, without a close.
    Gone,
}

/// A WebSocket connection to a relayer.
#[derive(Debug)]
pub struct Stream {
    socket: WebSocketStream<TcpStream>,
}

impl Stream {
    /// Connects.
    ///
    /// # Panics
    /// The relayer does not take the connection over in time.
    pub async fn open(relayer_url: &str) -> Stream {
        let tcp = TcpStream::connect(relayer_url.trim_start_matches("http://")).await;
        Self::over(relayer_url, tcp.expect("the relayer listens")).await
    }

    /// Connects, with room for few bytes that were not read yet.
    ///
    /// # Panics
    /// As [`Stream::open`].
    pub async fn open_narrow(relayer_url: &str) -> Stream {
        let tcp = TcpSocket::new_v4().expect("the system has sockets");
        tcp.set_recv_buffer_size(4_096).expect("any size is taken");
        let address = relayer_url.trim_start_matches("http://").parse().expect("an address");
        Self::over(relayer_url, tcp.connect(address).await.expect("the relayer listens")).await
    }

    /// Connects by a request that is called so.
    ///
    /// # Panics
    /// As [`Stream::open`].
    pub async fn open_called(relayer_url: &str, request_id: &'static str) -> Stream {
        let tcp = TcpStream::connect(relayer_url.trim_start_matches("http://")).await;
        Self::ask(relayer_url, tcp.expect("the relayer listens"), Some(request_id)).await
    }

    async fn over(relayer_url: &str, tcp: TcpStream) -> Stream {
        Self::ask(relayer_url, tcp, None).await
    }

    async fn ask(relayer_url: &str, tcp: TcpStream, request_id: Option<&'static str>) -> Stream {
        let url = format!("{}/v1/payments/stream", relayer_url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().expect("a URL");
        if let Some(id) = request_id {
            request.headers_mut().insert("x-request-id", id.parse().expect("an id"));
        }
        let opening = tokio::time::timeout(DEADLINE, client_async(request, tcp)).await;
        let (socket, _) = opening.expect("an answer in time").expect("a WebSocket connection");
        Stream { socket }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        self.socket.send(message.into()).await
    }

    /// Sends payments, all at once.
    ///
    /// # Panics
    /// The connection is broken.
    pub async fn pay_all(&mut self, vouchers: impl IntoIterator<Item = PaymentRequest>) {
        for voucher in vouchers {
            let text = serde_json::to_string(&voucher).expect("a voucher is JSON");
            self.socket.feed(Message::text(text)).await.expect("an open connection");
        }
        self.socket.flush().await.expect("an open connection");
    }

    /// Sends a payment and waits for its answer.
    ///
    /// # Panics
    /// None comes.
    pub async fn pay(&mut self, voucher: &PaymentRequest) -> String {
        self.pay_all([voucher.clone()]).await;
        self.answer().await
    }

    /// What comes next.
    ///
    /// # Panics
    /// Nothing does, in time.
    pub async fn heard(&mut self) -> Heard {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.socket.next()).await;
            return match next.expect("the relayer says something") {
                Some(Ok(Message::Text(text))) => Heard::Answer(text.as_str().to_owned()),
                Some(Ok(Message::Ping(_))) => Heard::Ping,
                Some(Ok(Message::Close(frame))) => Heard::Close(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Heard::Gone,
            };
        }
    }

    /// The next answer.
    ///
    /// # Panics
    /// Something else comes.
    pub async fn answer(&mut self) -> String {
        loop {
            match self.heard().await {
                Heard::Answer(text) => return text,
                Heard::Ping => {}
                other => panic!("{other:?} instead of an answer"),
            }
        }
    }

    /// The next answer, which is that a payment was taken.
    ///
    /// # Panics
    /// It is none.
    pub async fn taken(&mut self) -> PaymentAnswer {
        let text = self.answer().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The next answer, which is that a payment was not taken.
    ///
    /// # Panics
    /// It is none.
    pub async fn refused(&mut self) -> Problem {
        let text = self.answer().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The connection below, for what no client says.
    pub fn connection(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }
}
