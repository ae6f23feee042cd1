//! Real sentinels that watch a test's Redis and promote its replica.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cli::stack::free_port;
use fred::interfaces::ClientLike as _;
use fred::types::{ClusterHash, CustomCommand, Value};
use tempfile::TempDir;

use super::{Redis, connect};
use crate::wait_until;

/// How long they may take to find one another and the replica.
const DEADLINE: Duration = Duration::from_secs(30);

/// How many watch, and how many of them must agree.
const COUNT: usize = 3;
const QUORUM: usize = 2;

/// Sentinels that watch one primary under the name `millrace`.
#[derive(Debug)]
pub struct Sentinels {
    // They go before their directories do.
    watchers: Vec<Watcher>,
    _dir: TempDir,
}

#[derive(Debug)]
struct Watcher {
    port: u16,
    process: Child,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Redis {
    /// Three sentinels that watch this server and know its replicas. A primary that is silent for half a second is down
    /// to them.
    ///
    /// # Panics
    /// They do not come up, or do not find the replicas.
    pub async fn sentinels(&mut self, replicas: usize) -> Sentinels {
        let primary = self.server.process().port();
        let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
        let watchers = (0..COUNT)
            .map(|_| {
                let port = free_port().expect("loopback has a free port");
                let config = dir.path().join(format!("{port}.conf"));
                let text = format!(
                    "port {port}\nbind 127.0.0.1\ndir {}\nlogfile {port}.log\n\
                     sentinel monitor millrace 127.0.0.1 {primary} {QUORUM}\n\
                     sentinel down-after-milliseconds millrace 500\n\
                     sentinel failover-timeout millrace 3000\n",
                    dir.path().display()
                );
                std::fs::write(&config, text).expect("a new file");
                let program = std::env::var_os("REDIS_SERVER_BIN").unwrap_or_else(|| "redis-server".into());
                let mut command = Command::new(program);
                command.arg(&config).arg("--sentinel").stdout(Stdio::null()).stderr(Stdio::null());
                let process = command.spawn().expect("redis-server is installed, and can be a sentinel");
                Watcher { port, process }
            })
            .collect();
        let sentinels = Sentinels { watchers, _dir: dir };
        for watcher in &sentinels.watchers {
            let all = format!("slaves={replicas},sentinels={COUNT}");
            wait_until(DEADLINE, "a sentinel knows the replicas and the others", || async {
                knows(watcher.port).await.is_some_and(|known| known.contains(&all))
            })
            .await;
        }
        sentinels
    }
}

/// What a sentinel says about what it watches; `None` while it does not answer.
async fn knows(port: u16) -> Option<String> {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let client = connect(&format!("redis://127.0.0.1:{port}")).await;
    let info = CustomCommand::new_static("INFO", ClusterHash::FirstKey, false);
    let answer: Value = client.custom(info, vec!["sentinel"]).await.ok()?;
    let _ = client.quit().await;
    answer.into_string()
}

impl Sentinels {
    /// What a relayer or settler is configured with: every sentinel, and the name of what they watch.
    pub fn url(&self) -> String {
        let mut ports = self.watchers.iter().map(|watcher| watcher.port);
        let first = ports.next().expect("there are three");
        let nodes: String = ports.map(|port| format!("&node=127.0.0.1:{port}")).collect();
        format!("redis-sentinel://127.0.0.1:{first}?sentinelServiceName=millrace{nodes}")
    }
}
