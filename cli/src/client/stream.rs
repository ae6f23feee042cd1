//! Payments over WebSocket connections to one relayer. Everyone who pays shares them: payments go out as they come, and
//! the relayer's answers come in the same order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use common::amount::Amount;
use common::ids::ChannelId;
use common::problem::Problem;
use common::wire::{BatchResult, PaymentAnswer, PaymentRequest};
use futures::{SinkExt as _, StreamExt as _};
use reqwest::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use super::{RelayerError, root_cause};

/// Payments of one connection without an answer. As many bytes as they are fit into what the connection buffers, so
/// that sending them never has to wait for answers to be read.
const IN_FLIGHT_MAX: usize = 256;

/// The status of a response that opens a connection.
const SWITCHING_PROTOCOLS: u16 = 101;

type Answered = Result<PaymentAnswer, RelayerError>;
type Socket = WebSocketStream<reqwest::Upgraded>;

/// A payment that someone waits for.
#[derive(Debug)]
struct Waiting {
    channel_id: ChannelId,
    cumulative_amount: Amount,
    text: String,
    reply: oneshot::Sender<Answered>,
}

/// Connections to one relayer, made when they are first needed, and anew once they have broken.
#[derive(Debug)]
pub(super) struct Streams {
    url: String,
    http: reqwest::Client,
    patience: Duration,
    links: Vec<Link>,
    turn: AtomicUsize,
}

#[derive(Debug, Default)]
struct Link {
    /// Attempts to connect, so that whoever waited for one that failed does not make the next at once.
    attempts: AtomicU64,
    state: Mutex<LinkState>,
}

#[derive(Debug, Default)]
struct LinkState {
    queue: Option<mpsc::Sender<Waiting>>,
    failure: String,
}

impl Streams {
    /// `count` connections to the relayer at `base`. An outcome is unknown after `patience`.
    pub(super) fn new(base: &str, http: reqwest::Client, patience: Duration, count: usize) -> Self {
        let links = (0..count.max(1)).map(|_| Link::default()).collect();
        let url = format!("{base}/v1/payments/stream");
        Streams { url, http, patience, links, turn: AtomicUsize::new(0) }
    }

    /// Presents a voucher on one of the connections.
    pub(super) async fn pay(&self, voucher: &PaymentRequest) -> Answered {
        let link = &self.links[self.turn.fetch_add(1, Ordering::Relaxed) % self.links.len()];
        let queue = self.queue(link).await?;
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting {
            channel_id: voucher.channel_id,
            cumulative_amount: voucher.cumulative_amount,
            text: serde_json::to_string(voucher).map_err(|error| self.no_answer(error, false))?,
            reply,
        };
        let waited = tokio::time::timeout(self.patience, async {
            queue.send(waiting).await.map_err(|_| self.no_answer("the connection was closed", false))?;
            answer.await.unwrap_or_else(|_| Err(self.no_answer("the connection failed", true)))
        });
        waited.await.unwrap_or_else(|_| Err(self.no_answer("it took too long", true)))
    }

    /// Where payments of a connection that is up are put.
    async fn queue(&self, link: &Link) -> Result<mpsc::Sender<Waiting>, RelayerError> {
        let seen = link.attempts.load(Ordering::SeqCst);
        let mut state = link.state.lock().await;
        if let Some(queue) = state.queue.as_ref().filter(|queue| !queue.is_closed()) {
            return Ok(queue.clone());
        }
        if link.attempts.load(Ordering::SeqCst) != seen {
            return Err(self.no_answer(&state.failure, false));
        }
        link.attempts.fetch_add(1, Ordering::SeqCst);
        match self.connect().await {
            Ok(socket) => {
                let (queue, payments) = mpsc::channel(IN_FLIGHT_MAX);
                tokio::spawn(exchange(self.url.clone(), socket, payments));
                state.failure = "the connection broke".to_owned();
                state.queue = Some(queue.clone());
                Ok(queue)
            }
            Err(error) => {
                state.failure = error.to_string();
                Err(error)
            }
        }
    }

    /// Opens a connection (RFC 6455, 4.1), over the same client as every other request: the same TLS and timeouts.
    async fn connect(&self) -> Result<Socket, RelayerError> {
        let not_connected = |error: &reqwest::Error| self.no_answer(root_cause(error), false);
        let key = generate_key();
        let request = self.http.get(&self.url).header(CONNECTION, "Upgrade").header(UPGRADE, "websocket");
        let request = request.header(SEC_WEBSOCKET_VERSION, "13").header(SEC_WEBSOCKET_KEY, &key);
        let response = request.send().await.map_err(|error| not_connected(&error))?;
        let status = response.status().as_u16();
        let unreadable = || RelayerError::Unreadable { url: self.url.clone(), status };
        if status != SWITCHING_PROTOCOLS {
            let body = response.bytes().await.map_err(|error| not_connected(&error))?;
            let problem = serde_json::from_slice::<Problem>(&body).map_err(|_| unreadable())?;
            return Err(RelayerError::Refused(Box::new(problem)));
        }
        let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if accept != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(unreadable());
        }
        let upgraded = response.upgrade().await.map_err(|error| not_connected(&error))?;
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await)
    }

    fn no_answer(&self, detail: impl std::fmt::Display, sent: bool) -> RelayerError {
        RelayerError::NoAnswer { url: self.url.clone(), detail: detail.to_string(), sent }
    }
}

/// Sends payments and hands out answers until the connection ends, or nobody pays over it any more. Whoever was not
/// answered then does not know the outcome; what had not been sent was certainly not taken.
async fn exchange(url: String, socket: Socket, mut payments: mpsc::Receiver<Waiting>) {
    let (mut sink, mut stream) = socket.split();
    let mut unanswered: VecDeque<Waiting> = VecDeque::new();
    let mut flushed = true;
    let why = loop {
        tokio::select! {
            payment = payments.recv(), if unanswered.len() < IN_FLIGHT_MAX => {
                let Some(mut waiting) = payment else {
                    let _ = sink.send(Message::Close(None)).await;
                    break "nobody pays any more".to_owned();
                };
                let text = std::mem::take(&mut waiting.text);
                unanswered.push_back(waiting);
                if let Err(error) = sink.feed(Message::text(text)).await {
                    break error.to_string();
                }
                flushed = false;
            }
            result = sink.flush(), if !flushed => match result {
                Ok(()) => flushed = true,
                Err(error) => break error.to_string(),
            },
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => match unanswered.pop_front() {
                    Some(waiting) => {
                        let answered = read_answer(&url, &waiting, &text);
                        let is_ours = !matches!(answered, Err(RelayerError::Unreadable { .. }));
                        let _ = waiting.reply.send(answered);
                        if !is_ours {
                            break "an answer to something else".to_owned();
                        }
                    }
                    None => break "an answer to nothing".to_owned(),
                },
                Some(Ok(Message::Close(Some(frame)))) => break format!("closed: {frame}"),
                Some(Ok(Message::Close(None))) | None => break "closed".to_owned(),
                // tungstenite answers a ping itself, with the next read or write.
                Some(Ok(_)) => {}
                Some(Err(error)) => break error.to_string(),
            },
        }
    };
    let ended = |sent| RelayerError::NoAnswer { url: url.clone(), detail: why.clone(), sent };
    for waiting in unanswered {
        let _ = waiting.reply.send(Err(ended(true)));
    }
    payments.close();
    while let Some(waiting) = payments.recv().await {
        let _ = waiting.reply.send(Err(ended(false)));
    }
}

/// What an answer says, if it is one to this payment.
fn read_answer(url: &str, asked: &Waiting, text: &str) -> Answered {
    match serde_json::from_str(text) {
        Ok(BatchResult::Refused(problem)) => Err(RelayerError::Refused(Box::new(problem))),
        Ok(BatchResult::Taken(answer))
            if (*answer.channel_id, answer.cumulative_amount)
                == (asked.channel_id, asked.cumulative_amount) =>
        {
            Ok(answer)
        }
        _ => Err(RelayerError::Unreadable { url: url.to_owned(), status: SWITCHING_PROTOCOLS }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::problem::Code;
    use common::wire::Outcome;

    fn asked(amount: u64) -> Waiting {
        let (reply, _) = oneshot::channel();
        let (channel_id, cumulative_amount) = (ChannelId([1; 32]), Amount::new(amount));
        Waiting { channel_id, cumulative_amount, text: String::new(), reply }
    }

    #[test]
    fn an_answer_is_only_believed_where_it_is_one_to_what_was_asked() {
        let answer = PaymentAnswer {
            channel_id: ChannelId([1; 32]).into(),
            cumulative_amount: Amount::new(5),
            outcome: Outcome::Accepted,
            receipt: None,
        };
        let text = serde_json::to_string(&answer).expect("JSON");
        assert_eq!(read_answer("ws", &asked(5), &text).expect("taken"), answer);
        for wrong in [read_answer("ws", &asked(6), &text), read_answer("ws", &asked(5), "{}")] {
            assert!(wrong.expect_err("not ours").outcome_is_unknown());
        }
        let problem = serde_json::to_string(&Problem::new(Code::Overloaded)).expect("JSON");
        let refused = read_answer("ws", &asked(5), &problem).expect_err("refused");
        assert_eq!(refused.code(), Some(Code::Overloaded));
    }

    #[tokio::test]
    async fn where_nobody_listens_nothing_was_sent() {
        let port = crate::stack::free_port().expect("a free port");
        let base = format!("http://127.0.0.1:{port}");
        let streams = Streams::new(&base, reqwest::Client::new(), Duration::from_secs(5), 2);
        let voucher = crate::payer::voucher(&crate::payer::new_key(), ChannelId([1; 32]), Amount::new(1), 0);
        for _ in 0..3 {
            assert!(streams.pay(&voucher).await.expect_err("nobody is there").was_not_sent());
        }
    }
}
