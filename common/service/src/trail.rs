//! What the request at hand is called, for whoever works on it: log lines, requests to the issuer, payments on their way.
//!
//! A request brings its id as `x-request-id`, or gets one, and finds it in its answer. `traceparent` and `tracestate` are
//! passed on to the issuer. What a request is called goes with the task that answers it, as it would otherwise have to be
//! handed through every function in between.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use common::trail::{RequestId, TraceId, TraceParent, Trail};
use tokio::task::futures::TaskLocalFuture;

use crate::spans::Span;

/// The header of a request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The header of a place in a trace.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header of what tracing systems have to say of a trace to one another.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longest `tracestate` that is passed on, in bytes: what the specification asks for at least.
const STATE_MAX: usize = 512;

tokio::task_local! {
    static CURRENT: Arc<RequestTrail>;
}

/// What a request is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTrail {
    id: RequestId,
    /// True if the caller called it so.
    is_given: bool,
    trace: Option<TraceParent>,
    state: Option<String>,
}

impl RequestTrail {
    /// What the request with these headers is called.
    pub fn of(headers: &HeaderMap) -> RequestTrail {
        let given = headers.get(REQUEST_ID).and_then(|id| RequestId::given(id.as_bytes()));
        let trace = headers.get(TRACEPARENT).and_then(|parent| TraceParent::parse(parent.as_bytes()));
        RequestTrail {
            id: given.unwrap_or_else(RequestId::made),
            is_given: given.is_some(),
            trace,
            // Without the other it means nothing.
            state: trace.and_then(|_| state_of(headers)),
        }
    }

    /// What a request of this process' own is called, and where it stands in a trace: in one that is recorded, if `span`
    /// is, else in one that nobody records.
    pub fn own(span: &Span) -> RequestTrail {
        let trace = span.context().unwrap_or_else(TraceParent::unrecorded);
        RequestTrail { id: RequestId::made(), is_given: false, trace: Some(trace), state: None }
    }

    /// As it goes on within `span`, if that is recorded.
    #[must_use]
    pub fn within(mut self, span: &Span) -> RequestTrail {
        self.trace = span.context().or(self.trace);
        self
    }

    /// What a message of the connection is called that this request asked for.
    #[must_use]
    pub fn of_message(&self, number: u64) -> RequestTrail {
        RequestTrail { id: self.id.of_message(number), ..self.clone() }
    }

    /// The request's id.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// Where in a trace the request is.
    pub fn trace(&self) -> Option<&TraceParent> {
        self.trace.as_ref()
    }

    /// What goes with a payment of this request through Redis: what its payer brought, or is recorded. `None` if nobody
    /// would look for it.
    pub fn to_follow(&self) -> Option<Trail> {
        let request_id = self.is_given.then_some(self.id);
        (self.is_given || self.trace.is_some()).then_some(Trail { request_id, trace: self.trace })
    }

    /// The span that log lines of the request stand in: they name its id, and its trace if there is one. Not a span that
    /// goes to a collector: see [`crate::spans`].
    pub fn log_span(&self) -> tracing::Span {
        let trace_id = self.trace.map(|trace| TraceId(trace.trace_id));
        match trace_id {
            Some(trace_id) => tracing::error_span!("request", request_id = %self.id, %trace_id),
            None => tracing::error_span!("request", request_id = %self.id),
        }
    }

    /// The header that answers a request, or goes with one to the issuer.
    pub(crate) fn id_header(&self) -> HeaderValue {
        header(self.id.as_bytes())
    }

    /// Puts into the headers of a request what it is called.
    pub(crate) fn write_to(&self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.id_header());
        if let Some(trace) = self.trace {
            headers.insert(TRACEPARENT, header(trace.to_string().as_bytes()));
        }
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, header(state.as_bytes()));
        }
    }
}

/// All of it was read from a header, or is letters, digits and dashes.
fn header(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Several headers are one list.
fn state_of(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(TRACESTATE).iter().map(|value| value.to_str().ok());
    let state = values.collect::<Option<Vec<&str>>>()?.join(",");
    (!state.is_empty() && state.len() <= STATE_MAX).then_some(state)
}

/// What the request is called that this task works on; `None` if it works on none.
pub fn current() -> Option<Arc<RequestTrail>> {
    current_if(|_| true)
}

/// [`current`], if it is such a one.
pub fn current_if(is_such: impl FnOnce(&RequestTrail) -> bool) -> Option<Arc<RequestTrail>> {
    CURRENT.try_with(|trail| is_such(trail).then(|| Arc::clone(trail))).ok().flatten()
}

/// Has `work`, in whichever task, know of the request that this task works on.
pub fn follow_on<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let trail = current();
    async move {
        match trail {
            Some(trail) => follow(trail, work).await,
            None => work.await,
        }
    }
}

/// Has `work` know what the request is called that it is for.
pub fn follow<F: Future>(trail: Arc<RequestTrail>, work: F) -> TaskLocalFuture<Arc<RequestTrail>, F> {
    CURRENT.scope(trail, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn written(trail: &RequestTrail) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        trail.write_to(&mut headers);
        let text = |value: &HeaderValue| value.to_str().expect("a text").to_owned();
        headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    #[test]
    fn what_a_caller_brings_is_passed_on() {
        let list =
            [("x-request-id", "mine"), ("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")];
        let trail = RequestTrail::of(&headers(&list));
        let passed = [("x-request-id", "mine"), ("traceparent", PARENT), ("tracestate", "a=1,b=2")];
        assert_eq!(written(&trail), passed.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let follow = trail.to_follow().expect("the caller looks for it");
        assert_eq!(follow.request_id.map(|id| id.to_string()).as_deref(), Some("mine"));
        assert_eq!(follow.trace.map(|trace| trace.to_string()).as_deref(), Some(PARENT));
    }

    #[test]
    fn what_is_malformed_is_replaced_or_left_out_and_nobody_is_refused() {
        let long = "x".repeat(STATE_MAX + 1);
        let trail = RequestTrail::of(&headers(&[("x-request-id", "a b"), ("traceparent", "00-1-2-3")]));
        assert_eq!(trail.to_follow(), None, "an id that was made goes nowhere");
        assert_eq!(written(&trail), [("x-request-id".to_owned(), trail.id().to_string())]);
        let without_parent = RequestTrail::of(&headers(&[("tracestate", "a=1")]));
        assert_eq!(written(&without_parent).len(), 1);
        let too_long = RequestTrail::of(&headers(&[("traceparent", PARENT), ("tracestate", &long)]));
        assert_eq!(written(&too_long).len(), 2);
    }

    #[tokio::test]
    async fn work_knows_what_its_request_is_called() {
        let trail = Arc::new(RequestTrail::of(&headers(&[("x-request-id", "mine")])));
        let inside = follow(Arc::clone(&trail), async { current() }).await;
        assert_eq!(inside, Some(trail));
        assert_eq!(current(), None);
    }
}
