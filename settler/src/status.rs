//! The admin listener's routes: the common ones, `GET /status` with who leads, and the console.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use prometheus::Registry;
use serde::Serialize;
use service::admin::Readiness;
use service::body::Json;
use service::profiling::Profiling;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::console::{self, Console};

/// Body of `/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct StatusAnswer {
    leader: bool,
    /// `<process>:<term>` as it stands in the lease, or this process alone while it does not lead.
    holder: String,
    token: Option<u64>,
    lease_remaining_ms: Option<u64>,
}

/// The admin listener, bound and not yet served.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) listener: TcpListener,
    pub(crate) registry: Registry,
    pub(crate) readiness: Readiness,
    /// The console, where it is turned on.
    pub(crate) console: Option<Arc<Console>>,
    /// What it answers under `/debug`, where that is turned on.
    pub(crate) profiling: Profiling,
}

impl Admin {
    /// Serves `/livez`, `/readyz`, `/metrics`, `/status`, `/console` and `/debug` until `shutdown`.
    pub(crate) async fn serve(self, app: Arc<App>, shutdown: CancellationToken) {
        let http = app.config.http.clone();
        let mut router = service::admin::router(self.readiness, self.registry)
            .merge(Router::new().route("/status", get(async move || Json(status(&app)))));
        if let Some(console) = self.console {
            router = router.merge(console::router::router(console));
        }
        service::http::serve(self.listener, self.profiling.before(router), &http, shutdown).await;
    }
}

fn status(app: &App) -> StatusAnswer {
    let Some((lease, token)) = app.post.lease() else {
        let holder = app.process.clone();
        return StatusAnswer { leader: false, holder, token: None, lease_remaining_ms: None };
    };
    StatusAnswer {
        leader: true,
        holder: lease.holder().to_owned(),
        token: Some(token),
        lease_remaining_ms: Some(lease.remaining().as_millis().try_into().unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_says_so() {
        let answer =
            StatusAnswer { leader: false, holder: "ab".to_owned(), token: None, lease_remaining_ms: None };
        assert_eq!(
            serde_json::to_string(&answer).expect("JSON"),
            r#"{"leader":false,"holder":"ab","token":null,"lease_remaining_ms":null}"#
        );
    }
}
