//! The client of a relayer, and what its answers mean to a payer: taken, refused, or *not known yet*.

mod stream;

use std::sync::Arc;
use std::time::Duration;

use common::ids::ChannelId;
use common::problem::{Code, Problem};
use common::wire::{CloseAnswer, CloseRequest, PaymentAnswer, PaymentRequest, RelayerChannel};
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;

use stream::Streams;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest wait for an answer: longer than a relayer's own deadline, so that its word comes first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a relayer did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RelayerError {
    /// It said no.
    #[error("the relayer refused: {}", explain(.0))]
    Refused(Box<Problem>),
    /// It did not answer.
    #[error("no answer from {url}: {detail}")]
    NoAnswer {
        /// What was asked.
        url: String,
        /// What went wrong.
        detail: String,
        /// False if the request certainly never left.
        sent: bool,
    },
    /// Something answered that is no relayer, or a broken one.
    #[error("{url} answered {status} with something that is no relayer's answer")]
    Unreadable {
        /// What was asked.
        url: String,
        /// Its HTTP status.
        status: u16,
    },
}

impl RelayerError {
    /// The problem's code, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            RelayerError::Refused(problem) => Some(problem.code),
            RelayerError::NoAnswer { .. } | RelayerError::Unreadable { .. } => None,
        }
    }

    /// What to count it under.
    pub fn label(&self) -> &'static str {
        match self {
            RelayerError::Refused(problem) => problem.code.as_str(),
            RelayerError::NoAnswer { sent: false, .. } => "not_connected",
            RelayerError::NoAnswer { sent: true, .. } => "no_answer",
            RelayerError::Unreadable { .. } => "unreadable",
        }
    }

    /// True if the request certainly never left.
    pub fn was_not_sent(&self) -> bool {
        matches!(self, RelayerError::NoAnswer { sent: false, .. })
    }

    /// True if what was asked may have been done all the same.
    pub fn outcome_is_unknown(&self) -> bool {
        match self {
            RelayerError::Refused(problem) => matches!(problem.code, Code::OutcomeUnknown | Code::Internal),
            RelayerError::NoAnswer { sent, .. } => *sent,
            RelayerError::Unreadable { .. } => true,
        }
    }
}

/// How payments get to a relayer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// A request each.
    #[default]
    Http,
    /// A message each, many on their way at once, over WebSocket connections that stay open.
    Stream,
}

/// A client of one relayer. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct RelayerClient {
    http: reqwest::Client,
    base: String,
    patience: Duration,
    streams: Option<Arc<Streams>>,
}

impl RelayerClient {
    /// A client of the relayer at `url`. Connects to nothing yet.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(url: &str) -> Result<Self, reqwest::Error> {
        Self::with_timeout(url, ANSWER_TIMEOUT)
    }

    /// As [`RelayerClient::new`], with its own patience: past it, an outcome is unknown.
    ///
    /// # Errors
    /// As for [`RelayerClient::new`].
    pub fn with_timeout(url: &str, answer_timeout: Duration) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(answer_timeout)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let base = url.trim_end_matches('/').to_owned();
        Ok(RelayerClient { http, base, patience: answer_timeout, streams: None })
    }

    /// The same client, with its payments going this way. A stream is `connections` connections, taken in turn, made when
    /// first needed, and made anew after they broke: what had no answer then has an unknown outcome.
    pub fn over(mut self, transport: Transport, connections: usize) -> Self {
        self.streams = match transport {
            Transport::Http => None,
            Transport::Stream => {
                let streams = Streams::new(&self.base, self.http.clone(), self.patience, connections);
                Some(Arc::new(streams))
            }
        };
        self
    }

    /// Base URL of the relayer.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Presents a voucher. Presenting it again is safe: it is a duplicate then.
    ///
    /// # Errors
    /// [`RelayerError`].
    pub async fn pay(&self, voucher: &PaymentRequest) -> Result<PaymentAnswer, RelayerError> {
        if let Some(streams) = &self.streams {
            return streams.pay(voucher).await;
        }
        let url = format!("{}/v1/payments", self.base);
        call(self.http.post(&url).json(voucher), url).await
    }

    /// A channel as the relayer sees it.
    ///
    /// # Errors
    /// [`RelayerError`].
    pub async fn channel(&self, id: &ChannelId) -> Result<RelayerChannel, RelayerError> {
        let url = format!("{}/v1/channels/{id}", self.base);
        call(self.http.get(&url), url).await
    }

    /// Asks for a close. Asking again changes nothing.
    ///
    /// # Errors
    /// [`RelayerError`].
    pub async fn close(&self, id: &ChannelId, request: &CloseRequest) -> Result<CloseAnswer, RelayerError> {
        let url = format!("{}/v1/channels/{id}/close", self.base);
        call(self.http.post(&url).json(request), url).await
    }
}

async fn call<T: DeserializeOwned>(request: RequestBuilder, url: String) -> Result<T, RelayerError> {
    let no_answer = |error: &reqwest::Error| RelayerError::NoAnswer {
        url: url.clone(),
        detail: root_cause(error),
        sent: !error.is_connect() && !error.is_builder(),
    };
    let response = request.send().await.map_err(|error| no_answer(&error))?;
    let status = response.status();
    let body = response.bytes().await.map_err(|error| no_answer(&error))?;
    let unreadable = || RelayerError::Unreadable { url: url.clone(), status: status.as_u16() };
    if status.is_success() {
        serde_json::from_slice(&body).map_err(|_| unreadable())
    } else {
        let problem = serde_json::from_slice::<Problem>(&body).map_err(|_| unreadable())?;
        Err(RelayerError::Refused(Box::new(problem)))
    }
}

/// A problem in a line: its code, what happened, and the latest amount where that is what stands in the way.
fn explain(problem: &Problem) -> String {
    let what = problem.detail.as_deref().unwrap_or(&problem.title);
    match &problem.latest {
        Some(latest) => format!("{}: {what} (latest {})", problem.code, latest.cumulative_amount),
        None => format!("{}: {what}", problem.code),
    }
}

/// The innermost reason: what reqwest itself says is no more than "error sending request".
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
