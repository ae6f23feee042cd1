//! HTTP as it comes over the wire: status, headers and bytes, for tests of what clients are promised. What a service
//! describes in its OpenAPI description is checked on the way, in every test.

use common::problem::{CONTENT_TYPE, Problem};
use reqwest::header::{CONTENT_TYPE as CONTENT_TYPE_HEADER, RETRY_AFTER};
use reqwest::{Client, Method};
use serde::de::DeserializeOwned;
use std::time::Duration;

use crate::described::faults;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A client that takes whatever comes. One a test: its connections live in the test's runtime.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    /// Whether answers must be described by a service.
    checks: bool,
}

impl Default for Http {
    fn default() -> Self {
        let client = Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build();
        Http { client: client.expect("a client without options that could be wrong"), checks: true }
    }
}

impl Http {
    /// A client that asks whoever stands before a service, and has answers of its own: these are not checked.
    pub fn of_another() -> Http {
        Http { checks: false, ..Http::default() }
    }

    /// Sends a request without a body.
    ///
    /// # Panics
    /// No answer comes.
    pub async fn send(&self, method: Method, url: &str) -> Reply {
        self.ask(self.client.request(method, url)).await
    }

    /// `GET`.
    ///
    /// # Panics
    /// No answer comes.
    pub async fn get(&self, url: &str) -> Reply {
        self.send(Method::GET, url).await
    }

    /// `POST` of bytes that call themselves JSON.
    ///
    /// # Panics
    /// No answer comes.
    pub async fn post(&self, url: &str, body: impl Into<Vec<u8>>) -> Reply {
        self.post_as(url, "application/json", body).await
    }

    /// `POST` of bytes of this media type.
    ///
    /// # Panics
    /// No answer comes.
    pub async fn post_as(&self, url: &str, media_type: &str, body: impl Into<Vec<u8>>) -> Reply {
        let request = self.client.post(url).header(CONTENT_TYPE_HEADER, media_type);
        self.ask(request.body(body.into())).await
    }

    /// Sends a request, and checks the answer against what services say of it.
    async fn ask(&self, request: reqwest::RequestBuilder) -> Reply {
        let (client, request) = request.build_split();
        let request = request.unwrap_or_else(|error| panic!("no request: {error}"));
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = client.execute(request).await.unwrap_or_else(|error| panic!("no answer: {error:?}"));
        let header = |name| {
            let value = response.headers().get(name)?;
            Some(value.to_str().expect("headers of ours are ASCII").to_owned())
        };
        let (content_type, retry_after) = (header(CONTENT_TYPE_HEADER), header(RETRY_AFTER));
        let status = response.status().as_u16();
        let body = response.text().await.unwrap_or_else(|error| panic!("the answer breaks off: {error:?}"));
        let reply = Reply { status, content_type, retry_after, body };
        let faults = if self.checks { faults(&method, &path, &reply) } else { Vec::new() };
        assert!(faults.is_empty(), "{method} {path}: {faults:?}, {reply:?}");
        reply
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its media type.
    pub content_type: Option<String>,
    /// Its `Retry-After`.
    pub retry_after: Option<String>,
    /// Its body, which is always text here.
    pub body: String,
}

impl Reply {
    /// The body of a success.
    ///
    /// # Panics
    /// It is none, or not of this form.
    pub fn success<T: DeserializeOwned>(&self) -> T {
        assert!((200..300).contains(&self.status), "no success: {self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The problem that an error carries.
    ///
    /// # Panics
    /// It is no `application/problem+json` with this status, or the `Retry-After` in head and body differ.
    pub fn problem(&self) -> Problem {
        assert_eq!(self.content_type.as_deref(), Some(CONTENT_TYPE), "{self:?}");
        let problem: Problem =
            serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"));
        assert_eq!(problem.status, self.status, "{self:?}");
        assert_eq!(problem.type_uri, format!("urn:millrace:problem:{}", problem.code), "{self:?}");
        assert_eq!(problem.title, problem.code.title(), "{self:?}");
        assert_eq!(problem.retry_after_s.map(|s| s.to_string()), self.retry_after, "{self:?}");
        problem
    }
}
