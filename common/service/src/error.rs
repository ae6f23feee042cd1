//! Errors as they leave over HTTP: always `application/problem+json`, always with a stable code.

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::problem::{CONTENT_TYPE, Code, Problem};
use common::wire::InvalidJson;

/// A problem as an HTTP answer. Boxed, so that results that carry it stay small.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.code)]
pub struct ApiError(pub Box<Problem>);

impl ApiError {
    /// A problem with nothing but its code.
    pub fn new(code: Code) -> Self {
        Problem::new(code).into()
    }

    /// `malformed`, naming the field at fault and what it should hold.
    pub fn malformed(field: &str, expected: impl std::fmt::Display) -> Self {
        Problem::new(Code::Malformed).field(field).detail(expected).into()
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        ApiError(Box::new(problem))
    }
}

impl From<InvalidJson> for ApiError {
    fn from(error: InvalidJson) -> Self {
        Problem::malformed(&error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))], body).into_response();
        // For whoever counts outcomes on the way out: the status alone does not tell codes apart.
        response.extensions_mut().insert(self.0.code);
        if let Some(seconds) = self.0.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.0.code == Code::UpgradeRequired {
            // RFC 9110, 15.5.22, and RFC 6455, 4.4: which protocol is meant, and which version of it.
            let headers = response.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

/// The answer where there is no route.
pub async fn not_found() -> ApiError {
    ApiError::new(Code::NotFound)
}

/// The answer where the route does not take the method.
pub async fn method_not_allowed() -> ApiError {
    ApiError::new(Code::MethodNotAllowed)
}

/// Gives `router` both fallbacks. Call it after the last route was added: the second holds for the routes there are.
pub fn with_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.fallback(not_found).method_not_allowed_fallback(method_not_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use axum::routing::get;
    use tower::ServiceExt;

    async fn problem(response: Response) -> Problem {
        assert_eq!(response.headers()[header::CONTENT_TYPE], CONTENT_TYPE);
        let body = to_bytes(response.into_body(), 10_000).await.expect("a short body");
        serde_json::from_slice(&body).expect("a problem")
    }

    #[tokio::test]
    async fn a_problem_answers_with_its_status_and_when_to_come_again() {
        let response = ApiError::from(Problem::new(Code::Overloaded).retry_after_s(3)).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "3");
        assert_eq!(problem(response).await.code, Code::Overloaded);
        for code in Code::ALL {
            assert_eq!(ApiError::new(*code).into_response().status().as_u16(), code.status());
        }
    }

    #[tokio::test]
    async fn unknown_routes_and_methods_are_problems() {
        let router: Router = with_fallbacks(Router::new().route("/here", get(|| async {})));
        for (method, path, code) in
            [("GET", "/there", Code::NotFound), ("POST", "/here", Code::MethodNotAllowed)]
        {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
            let response = router.clone().oneshot(request).await.expect("infallible");
            assert_eq!(response.status().as_u16(), code.status());
            assert_eq!(problem(response).await.code, code);
        }
    }
}
