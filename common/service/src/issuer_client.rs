//! The client of an issuer, and what its answers mean: an account or channel, a final no, or *not known yet*.

mod asking;
mod settlements;

use std::time::Duration;

use common::amount::Amount;
use common::channel::Terms;
use common::config::ConfigError;
use common::ids::{ChannelId, PublicKey};
use common::problem::{Code, Problem};
use common::wire::{
    Account, AccountRequest, IssuerChannel, IssuerChannelPage, IssuerInfo, OpenRequest, Receipt,
    RefundRequest, SettlementRequest,
};
use reqwest::{Method, Response, StatusCode};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use asking::Asking;

pub use settlements::BatchError;

/// Largest answer that is read, in bytes. A full page of channels stays below it.
const ANSWER_MAX_BYTES: usize = 4 * 1_048_576;

/// How long an unused connection is kept: shorter than servers keep theirs (`header_timeout_ms`), so that no request
/// is sent into a connection that is just being closed.
const POOL_IDLE: Duration = Duration::from_secs(3);

/// Where the issuer is and how long to wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IssuerClientConfig {
    /// Base URL of the issuer. Without credentials.
    pub url: String,
    /// The issuer's public key, base58: what receipts are checked with.
    pub public_key: Option<PublicKey>,
    /// Milliseconds to connect in.
    pub connect_timeout_ms: u64,
    /// Milliseconds in which the whole answer must be here.
    pub request_timeout_ms: u64,
}

impl Default for IssuerClientConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:7070".to_owned(),
            public_key: None,
            connect_timeout_ms: 1_000,
            request_timeout_ms: 5_000,
        }
    }
}

impl IssuerClientConfig {
    /// Checks the URL. Keys are named as they stand under `issuer.`.
    ///
    /// # Errors
    /// The first key that does not hold what it should.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.base() {
            Some(_) => Ok(()),
            None => Err(ConfigError::invalid("issuer.url", "an http or https URL without credentials")),
        }
    }

    fn base(&self) -> Option<Url> {
        let url = Url::parse(&self.url).ok()?;
        let no_credentials = url.username().is_empty() && url.password().is_none();
        (matches!(url.scheme(), "http" | "https") && url.has_host() && no_credentials).then_some(url)
    }
}

/// Which channels to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelQuery {
    /// Only those of this payer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PublicKey")]
    pub payer: Option<PublicKey>,
    /// Only those for this payee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PublicKey")]
    pub payee: Option<PublicKey>,
    /// Only those after this id: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ChannelId")]
    pub after: Option<ChannelId>,
    /// At most this many, 1 to 1000; 100 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1000))]
    pub limit: Option<u32>,
}

/// `GET /v1/books`: what the issuer finds when it adds its books up anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Books {
    /// True if every balance follows from the postings and every asset adds up.
    pub balanced: bool,
    /// The first fault found, where not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Accounts, escrows and issuances included.
    pub accounts: u64,
    /// Postings ever made.
    pub postings: u64,
    /// One entry an asset, in the order of their names.
    pub assets: Vec<AssetBooks>,
}

/// The sums of one asset. Balanced books have issued = held + locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssetBooks {
    /// The asset.
    pub asset: String,
    /// Ever put into circulation.
    pub issued: Amount,
    /// Free in accounts.
    pub held: Amount,
    /// In the escrows of open channels.
    pub locked: Amount,
}

/// Why there is no answer to go by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// A final no: the same request will never be taken.
    #[error("the issuer refused: {}{}", .0.code, .0.detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default())]
    Refused(Box<Problem>),
    /// No answer that can be believed. The outcome is unknown: repeat the same request.
    #[error("the issuer is not available: {detail}")]
    Unavailable {
        /// What went wrong, for a person.
        detail: String,
    },
}

impl IssuerError {
    fn unavailable(detail: impl std::fmt::Display) -> Self {
        IssuerError::Unavailable { detail: detail.to_string() }
    }

    /// The problem's code, where the issuer refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            IssuerError::Refused(problem) => Some(problem.code),
            IssuerError::Unavailable { .. } => None,
        }
    }
}

/// A configuration that no client can be built from.
#[derive(Debug, thiserror::Error)]
pub enum InvalidIssuerClient {
    /// The URL cannot be used.
    #[error("issuer.url: expected an http or https URL without credentials")]
    Url,
    /// The HTTP client cannot be set up.
    #[error("cannot set up the issuer's client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A client of one issuer. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct IssuerClient {
    http: reqwest::Client,
    base: Url,
    public_key: Option<PublicKey>,
}

impl IssuerClient {
    /// A client after `config`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`InvalidIssuerClient`], where the URL is none or TLS cannot be set up.
    pub fn new(config: &IssuerClientConfig) -> Result<Self, InvalidIssuerClient> {
        let base = config.base().ok_or(InvalidIssuerClient::Url)?;
        // Neither redirects nor proxies from the environment: requests about money go where the config says.
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(config.connect_timeout_ms))
            .timeout(Duration::from_millis(config.request_timeout_ms))
            .pool_idle_timeout(POOL_IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { http, base, public_key: config.public_key })
    }

    /// Who the issuer is.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub async fn info(&self) -> Result<IssuerInfo, IssuerError> {
        call(self.request(Method::GET, &["issuer"])).await
    }

    /// Registers an account. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub async fn register(&self, public_key: &PublicKey) -> Result<Account, IssuerError> {
        let body = AccountRequest { public_key: *public_key };
        call(self.request(Method::POST, &["accounts"]).json(&body)).await
    }

    /// An account's balances.
    ///
    /// # Errors
    /// [`IssuerError`]; `unknown_account` where it was never registered.
    pub async fn account(&self, public_key: &PublicKey) -> Result<Account, IssuerError> {
        call(self.request(Method::GET, &["accounts", &public_key.to_string()])).await
    }

    /// Opens a channel. Repeating it gives the same channel.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub async fn open(&self, request: &OpenRequest) -> Result<IssuerChannel, IssuerError> {
        let channel = call(self.request(Method::POST, &["channels"]).json(request)).await?;
        believable(channel, &request.terms.id())
    }

    /// A channel, or `None` where the issuer does not know it.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub async fn channel(&self, id: &ChannelId) -> Result<Option<IssuerChannel>, IssuerError> {
        match call(self.request(Method::GET, &["channels", &id.to_string()])).await {
            Ok(channel) => believable(channel, id).map(Some),
            Err(IssuerError::Refused(problem)) if problem.code == Code::UnknownChannel => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One page of channels, in the order of their ids.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub async fn channels(&self, query: &ChannelQuery) -> Result<IssuerChannelPage, IssuerError> {
        let page: IssuerChannelPage = call(self.request(Method::GET, &["channels"]).query(query)).await?;
        match page.channels.iter().find(|channel| channel.terms.id() != channel.channel_id) {
            Some(liar) => Err(not_its_terms(&liar.channel_id, &liar.terms)),
            None => Ok(page),
        }
    }

    /// Takes back what was never settled of an expired channel. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub async fn refund(
        &self,
        id: &ChannelId,
        request: &RefundRequest,
    ) -> Result<IssuerChannel, IssuerError> {
        let path = ["channels", &id.to_string(), "refund"];
        let channel = call(self.request(Method::POST, &path).json(request)).await?;
        believable(channel, id)
    }

    /// Redeems a voucher. Repeating it gives the first receipt. A receipt for anything else than what was asked, or
    /// not signed by the configured issuer, is not believed.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub async fn settle(&self, id: &ChannelId, request: &SettlementRequest) -> Result<Receipt, IssuerError> {
        let path = ["channels", &id.to_string(), "settlements"];
        let receipt: Receipt = call(self.request(Method::POST, &path).json(request)).await?;
        self.believable_receipt(receipt, id, request)
    }

    fn believable_receipt(
        &self,
        receipt: Receipt,
        id: &ChannelId,
        request: &SettlementRequest,
    ) -> Result<Receipt, IssuerError> {
        let asked = (*id, request.cumulative_amount, request.close);
        if (receipt.channel_id, receipt.settled_amount, receipt.closed) != asked {
            return Err(IssuerError::unavailable("the receipt is for another settlement"));
        }
        if self.public_key.is_some_and(|key| !receipt.is_signed_by(&key)) {
            return Err(IssuerError::unavailable("the receipt is not signed by the configured issuer"));
        }
        Ok(receipt)
    }

    /// Has the issuer add its books up anew: slow where there is much history.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub async fn books(&self) -> Result<Books, IssuerError> {
        call(self.request(Method::GET, &["books"])).await
    }

    fn request(&self, method: Method, path: &[&str]) -> Asking {
        let mut url = self.base.clone();
        // `new` let only URLs with a host pass: those have path segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        Asking::begin(&self.http, method, url)
    }
}

/// Sends, and sorts the answer into one of three: believed, final no, unknown.
async fn call<T: DeserializeOwned>(request: Asking) -> Result<T, IssuerError> {
    let (response, _until_read) =
        request.send().await.map_err(|error| IssuerError::unavailable(chain(&error)))?;
    let status = response.status();
    let body = bounded(response).await?;
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map_err(|error| IssuerError::unavailable(format_args!("unreadable answer: {error}")));
    }
    Err(refusal(status, &body))
}

/// A final no only where the issuer itself says so: a problem with a code, about the request and not about the route.
fn refusal(status: StatusCode, body: &[u8]) -> IssuerError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => judged(status, problem),
        Err(_) => IssuerError::unavailable(format_args!("status {status} without a problem")),
    }
}

fn judged(status: StatusCode, problem: Problem) -> IssuerError {
    let come_again = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    // A wrong base URL or an issuer without the route says nothing about this account or channel.
    let wrong_door = matches!(problem.code, Code::NotFound | Code::MethodNotAllowed);
    if status.is_client_error() && !come_again && !wrong_door {
        IssuerError::Refused(Box::new(problem))
    } else {
        let detail = problem.detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
        IssuerError::unavailable(format_args!("status {status}, {}{detail}", problem.code))
    }
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, IssuerError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| IssuerError::unavailable(chain(&error)))? {
        if body.len().saturating_add(chunk.len()) > ANSWER_MAX_BYTES {
            return Err(IssuerError::unavailable(format_args!("an answer over {ANSWER_MAX_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its causes: on its own, reqwest's says little more than "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// A channel whose terms do not hash to the id that was asked for is not that channel, whatever the issuer says.
fn believable(channel: IssuerChannel, asked: &ChannelId) -> Result<IssuerChannel, IssuerError> {
    if channel.channel_id == *asked && channel.terms.id() == *asked {
        Ok(channel)
    } else {
        Err(not_its_terms(asked, &channel.terms))
    }
}

fn not_its_terms(id: &ChannelId, terms: &Terms) -> IssuerError {
    IssuerError::unavailable(format_args!("the terms given for channel {id} are those of {}", terms.id()))
}

#[cfg(test)]
mod tests;
