//! The real program, in a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::ids::ChannelId;
use common::wire::SettlementRequest;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use service::issuer_client::{IssuerClient, IssuerClientConfig};

use super::database::Database;

/// An issuer in a process of its own. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
}

impl Process {
    /// Starts it on `database`, with the key in `dir`, and waits until it says that it is ready.
    pub(crate) async fn start(dir: &Path, database: &Database) -> Process {
        Self::start_with(dir, database, &[]).await
    }

    /// As [`Process::start`], with further variables.
    pub(crate) async fn start_with(dir: &Path, database: &Database, variables: &[(&str, &str)]) -> Process {
        let mut command = Self::command(dir, database);
        command.envs(variables.iter().copied());
        tokio::task::spawn_blocking(move || Self::run(command)).await.expect("no panic")
    }

    /// What one says that does not start.
    pub(crate) async fn refusal(dir: &Path, database: &Database) -> String {
        let mut command = Self::command(dir, database);
        let said = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
        let said = said.expect("the program starts");
        assert!(!said.status.success(), "it should have failed");
        String::from_utf8_lossy(&said.stderr).into_owned()
    }

    fn command(dir: &Path, database: &Database) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_issuer"));
        command
            .env("MILLRACE_ISSUER__LISTEN", "127.0.0.1:0")
            .env("MILLRACE_ISSUER__ADMIN_LISTEN", "127.0.0.1:0")
            .env("MILLRACE_ISSUER__DATABASE", database.url())
            .env("MILLRACE_ISSUER__SIGNING_KEY", format!("file:{}", dir.join("issuer.key").display()))
            .env("MILLRACE_ISSUER__DEVELOPMENT__ENABLED", "true")
            .env("MILLRACE_ISSUER__LOG__FORMAT", "json")
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped());
        command
    }

    fn run(mut command: Command) -> Process {
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
        Process { child, url: url("listen") }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
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
        kill(self.pid(), Signal::SIGKILL).expect("it is there");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already dead is fine too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
