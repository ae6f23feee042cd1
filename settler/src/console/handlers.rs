//! From requests to pages, and from posts to actions. An action's post carries its own token: there is no session, and
//! so nothing that another site could use.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use common::ids::ChannelId;
use common::problem::{Code, Problem};
use common::store::StoreError;
use common::store::stream::EntryId;
use maud::Markup;
use serde::Deserialize;
use service::body::{Json, Query, Raw};
use service::error::ApiError;

use super::Console;
use super::actions::{Action, Operator, of_store};
use super::channels::{self, Filter, ListError, Listed, LiveCursor};
use super::error::{refusal, status, wants_page};
use super::pages::act::back;
use super::pages::channel::Known;
use super::pages::channels::Heading;
use super::search::{self, Wanted};

type Shared = State<Arc<Console>>;

/// Longest name of a person that goes into the log, in characters.
const NAME_MAX: usize = 64;

fn page(markup: Markup) -> Response {
    Html(markup.into_string()).into_response()
}

pub(super) async fn root() -> Redirect {
    Redirect::to("/console")
}

pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("style.css")).into_response()
}

pub(super) async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("script.js")).into_response()
}

#[derive(Debug, Deserialize)]
pub(super) struct OverviewQuery {
    asset: Option<String>,
}

pub(super) async fn overview(
    State(console): Shared,
    headers: HeaderMap,
    Query(query): Query<OverviewQuery>,
) -> Response {
    match console.snapshot().await {
        Ok(snapshot) => page(console.overview(&snapshot, query.asset.as_deref())),
        Err(error) => refusal(&console, &headers, of_store(&error)),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ChannelsQuery {
    status: Option<String>,
    q: Option<String>,
    at: Option<String>,
}

pub(super) async fn channels(State(console): Shared, Query(query): Query<ChannelsQuery>) -> Response {
    if let Some(typed) = query.q.filter(|typed| !typed.trim().is_empty()) {
        return find(&console, &typed).await;
    }
    let filter = query.status.as_deref().and_then(Filter::parse).unwrap_or_default();
    let at = query.at.as_deref();
    let app = &console.app;
    // A link that was cut short begins at the beginning.
    let live = at.and_then(|at| at.parse::<LiveCursor>().ok()).unwrap_or_default();
    let issued = at.and_then(|at| at.parse::<ChannelId>().ok());
    let listed = match filter {
        Filter::Open => channels::live(app, common::channel::Status::Open, live).await,
        Filter::Closing => channels::live(app, common::channel::Status::Closing, live).await,
        Filter::Closed => channels::issued(app, true, issued).await,
        Filter::All => channels::issued(app, false, issued).await,
    };
    list(&console, &Heading::Status(filter), &listed)
}

/// A list, or why there is none: that is not to be taken for an empty one, by a program either.
fn list(console: &Console, heading: &Heading, listed: &Result<Listed, ListError>) -> Response {
    let status = if listed.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, page(console.channels(heading, listed))).into_response()
}

async fn find(console: &Console, typed: &str) -> Response {
    match search::parse(typed) {
        Wanted::Id(id) => Redirect::to(&format!("/console/channels/{id}")).into_response(),
        Wanted::Prefix(prefix) => {
            let listed = channels::with_prefix(&console.app, &prefix).await;
            list(console, &Heading::Prefix(prefix), &listed)
        }
        Wanted::Nonsense => {
            page(console.channels(&Heading::Nonsense(typed.to_owned()), &Ok(Listed::default())))
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ChannelQuery {
    audit: Option<String>,
    done: Option<String>,
}

pub(super) async fn channel(
    State(console): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<ChannelQuery>,
) -> Response {
    let Ok(id) = id.parse::<ChannelId>() else {
        return refusal(&console, &headers, ApiError::malformed("id", "a channel's id"));
    };
    let known = match known(&console, &id).await {
        Ok(known) => known,
        Err(error) => return refusal(&console, &headers, of_store(&error)),
    };
    let checked = match query.audit {
        Some(_) => Some(super::audit::one(&console.app, &id).await),
        None => None,
    };
    let nowhere = known.is_none() && !matches!(&checked, Some(Ok((facts, _))) if facts.issued.is_some());
    let status = if nowhere { StatusCode::NOT_FOUND } else { StatusCode::OK };
    (status, page(console.channel(&id, known.as_ref(), &checked, query.done.as_deref()))).into_response()
}

async fn known(console: &Console, id: &ChannelId) -> Result<Option<Known>, StoreError> {
    let store = &console.app.store;
    let (stored, marks, due_at_ms) =
        futures::try_join!(store.channel(id), store.marks(id), store.due_at(id))?;
    Ok(stored.map(|stored| Known { stored, marks, due_at_ms }))
}

#[derive(Debug, Deserialize)]
pub(super) struct DeadQuery {
    at: Option<String>,
}

pub(super) async fn dead(
    State(console): Shared,
    headers: HeaderMap,
    Query(query): Query<DeadQuery>,
) -> Response {
    let app = &console.app;
    let from = query.at.and_then(|at| at.parse().ok());
    match channels::newest_dead(&app.store, from, app.config.console.rows_per_page).await {
        Ok((letters, next)) => page(console.dead(&letters, next, app.clock.now_ms())),
        Err(error) => refusal(&console, &headers, of_store(&error)),
    }
}

pub(super) async fn audit(State(console): Shared) -> Response {
    page(console.audit())
}

/// Needs no token: it changes nothing, and one runs at a time.
pub(super) async fn begin_audit(State(console): Shared, headers: HeaderMap) -> Response {
    if let Err(problem) = same_site(&headers) {
        return refusal(&console, &headers, problem);
    }
    console.audits.begin(&console.app);
    Redirect::to("/console/audit").into_response()
}

fn of_channel(id: &str, action: &str) -> Result<Action, ApiError> {
    let channel_id = id.parse().map_err(|error| ApiError::malformed("id", error))?;
    match action {
        "close" => Ok(Action::Close { channel_id }),
        "retry" => Ok(Action::Retry { channel_id }),
        _ => Err(ApiError::new(Code::NotFound)),
    }
}

fn of_letter(partition: &str, entry: &str) -> Result<Action, ApiError> {
    let partition = partition.parse().map_err(|error| ApiError::malformed("partition", error))?;
    let entry: EntryId = entry.parse().map_err(|_| ApiError::malformed("entry", "an entry's id"))?;
    Ok(Action::Requeue { partition, entry })
}

pub(super) async fn confirm(
    State(console): Shared,
    headers: HeaderMap,
    Path((id, action)): Path<(String, String)>,
) -> Response {
    asked(&console, &headers, of_channel(&id, &action))
}

pub(super) async fn confirm_requeue(
    State(console): Shared,
    headers: HeaderMap,
    Path((partition, entry)): Path<(String, String)>,
) -> Response {
    asked(&console, &headers, of_letter(&partition, &entry))
}

fn asked(console: &Console, headers: &HeaderMap, action: Result<Action, ApiError>) -> Response {
    match action {
        Ok(action) => page(console.confirm(action, None)),
        Err(problem) => refusal(console, headers, problem),
    }
}

pub(super) async fn act(
    State(console): Shared,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path((id, action)): Path<(String, String)>,
    body: Raw,
) -> Response {
    done(&console, peer, &headers, of_channel(&id, &action), &body).await
}

pub(super) async fn requeue(
    State(console): Shared,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path((partition, entry)): Path<(String, String)>,
    body: Raw,
) -> Response {
    done(&console, peer, &headers, of_letter(&partition, &entry), &body).await
}

async fn done(
    console: &Console,
    peer: SocketAddr,
    headers: &HeaderMap,
    action: Result<Action, ApiError>,
    body: &Raw,
) -> Response {
    let action = match same_site(headers).and(action) {
        Ok(action) => action,
        Err(problem) => return refusal(console, headers, problem),
    };
    let operator = operator(headers, body);
    let outcome = console.guard.act(&console.app, peer.ip(), &operator, action).await;
    match (outcome, wants_page(headers)) {
        (Ok(()), true) => Redirect::to(&format!("{}?done={}", back(action), action.as_str())).into_response(),
        (Ok(()), false) => Json(action).into_response(),
        (Err(problem), true) => {
            (status(&problem.0), page(console.confirm(action, Some(&problem.0)))).into_response()
        }
        (Err(problem), false) => problem.into_response(),
    }
}

/// The token and a name, from the form, or the token from the header `Authorization: Bearer`.
fn operator(headers: &HeaderMap, Raw(body): &Raw) -> Operator {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let mut operator = Operator { token: bearer, name: None };
    for (field, value) in url::form_urlencoded::parse(body) {
        match &*field {
            "token" => operator.token = Some(value.trim().to_owned()),
            "name" => {
                operator.name = Some(value.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect())
            }
            _ => {}
        }
    }
    operator
}

/// A browser says where a post comes from: another site's is refused before anything is looked at.
fn same_site(headers: &HeaderMap) -> Result<(), ApiError> {
    let from = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    match from {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(Problem::new(Code::WrongToken).detail("the request comes from another site").into()),
    }
}
