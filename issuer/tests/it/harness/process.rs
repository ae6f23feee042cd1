//! The real program, in a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::ids::ChannelId;
use common::wire::SettlementRequest;
use service::issuer_client::{IssuerClient, IssuerClientConfig};

use super::database::Database;

/// An issuer in a process of its own. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
    pub(crate) admin_url: String,
}

impl Process {
    /// Starts it on `database`, with the key in `dir`, and waits until it says that it is ready.
    pub(crate) async fn start(dir: &Path, database: &Database) -> Process {
        Self::start_with(dir, database, &[]).await
    }

    /// As [`Process::start`], with further variables.
    pub(crate) async fn start_with(dir: &Path, database: &Database, variables: &[(&str, &str)]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_issuer"));
        command
            .env("MILLRACE_ISSUER__LISTEN", "127.0.0.1:0")
            .env("MILLRACE_ISSUER__ADMIN_LISTEN", "127.0.0.1:0")
            .env("MILLRACE_ISSUER__DATABASE", database.url())
            .env("MILLRACE_ISSUER__SIGNING_KEY", format!("file:{}", dir.join("issuer.key").display()))
            .env("MILLRACE_ISSUER__DEVELOPMENT__ENABLED", "true")
            .env("MILLRACE_ISSUER__LOG__FORMAT", "json")
            .env("RUST_LOG", "info")
            .envs(variables.iter().copied())
            .stderr(Stdio::piped());
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("the program starts");
            let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
            let ready = lines
                .by_ref()
                .map(|line| line.expect("a line"))
                .find(|line| line.contains("issuer ready"))
                .expect("it gets ready");
            let ready: serde_json::Value = serde_json::from_str(&ready).expect("a JSON line");
            let url = |key: &str| format!("http://{}", ready[key].as_str().expect("an address"));
            // Someone must go on reading, or the next line logged would fail.
            std::thread::spawn(move || lines.for_each(drop));
            Process { child, url: url("listen"), admin_url: url("admin_listen") }
        })
        .await
        .expect("no panic")
    }

    pub(crate) fn client(&self) -> IssuerClient {
        let config = IssuerClientConfig { url: self.url.clone(), ..IssuerClientConfig::default() };
        IssuerClient::new(&config).expect("a valid config")
    }

    /// Status and body, or `None` where the issuer went away first.
    pub(crate) async fn settle(&self, id: &ChannelId, request: &SettlementRequest) -> Option<(u16, Vec<u8>)> {
        let url = format!("{}/v1/channels/{id}/settlements", self.url);
        let body = serde_json::to_vec(request).expect("JSON");
        let answer = reqwest::Client::new().post(url).body(body).send().await.ok()?;
        let status = answer.status().as_u16();
        answer.bytes().await.ok().map(|body| (status, body.to_vec()))
    }

    /// Ends it with SIGKILL, which it cannot catch.
    pub(crate) fn kill(&self) {
        let killed = Command::new("kill").args(["-9", &self.child.id().to_string()]).status();
        assert!(killed.expect("kill runs").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already dead is fine too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
