//! What went wrong, as a page for a browser and as a problem for a program.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use common::problem::Problem;
use maud::html;
use service::error::ApiError;

use super::Console;
use super::pages::Tab;

/// True of a browser: a program that asks for nothing special gets problems and JSON.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// The status that goes with a problem.
pub(super) fn status(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A page, or a problem, where there is nothing else to show.
pub(super) fn refusal(console: &Console, headers: &HeaderMap, error: ApiError) -> Response {
    if !wants_page(headers) {
        return error.into_response();
    }
    let problem = &error.0;
    let content = html! {
        h1 { (problem.title) }
        p.banner.bad role="alert" { b { code { (problem.code) } " " } @if let Some(detail) = &problem.detail { (detail) } }
        p { a href="/console" { "To the overview" } }
    };
    let page = console.page(Tab::Overview, &problem.title, &content);
    (status(problem), Html(page.into_string())).into_response()
}
