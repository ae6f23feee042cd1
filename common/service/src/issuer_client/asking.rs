//! A request to the issuer, with what it is asked on behalf of: the issuer finds the id of the request that is at hand here,
//! and its place in a trace.

use reqwest::{Client, Method, RequestBuilder, Response};
use serde::Serialize;
use url::Url;

use crate::spans::{Kind, Span, method_name};
use crate::trail;

/// A request that is not sent yet. Its span has begun.
pub(super) struct Asking {
    request: RequestBuilder,
    span: Span,
}

impl Asking {
    pub(super) fn begin(http: &Client, method: Method, url: Url) -> Asking {
        let Some(trail) = trail::current() else {
            return Asking { request: http.request(method, url), span: Span::none() };
        };
        // What nobody records above is not recorded here either: it would be a trace of its own.
        let parent = trail.trace();
        let mut span = parent
            .map_or(Span::none(), |parent| Span::begin(method_name(&method), Kind::Client, Some(parent)));
        span.note("url.path", || url.path().to_owned());
        let mut headers = reqwest::header::HeaderMap::new();
        trail.as_ref().clone().within(&span).write_to(&mut headers);
        Asking { request: http.request(method, url).headers(headers), span }
    }

    pub(super) fn json(self, body: &impl Serialize) -> Asking {
        Asking { request: self.request.json(body), ..self }
    }

    pub(super) fn query(self, query: &impl Serialize) -> Asking {
        Asking { request: self.request.query(query), ..self }
    }

    /// Sends it. With the answer's head comes its span, which lasts until the rest is read.
    pub(super) async fn send(self) -> reqwest::Result<(Response, Span)> {
        let Asking { request, mut span } = self;
        match request.send().await {
            Ok(response) => {
                span.note("http.response.status_code", || response.status().as_u16());
                Ok((response, span))
            }
            Err(error) => {
                span.fail(&error);
                Err(error)
            }
        }
    }
}
