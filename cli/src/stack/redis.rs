//! A private Redis (or Valkey) server as a child process.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::child::Supervised;
use super::error::StackError;
use super::port::free_port;
use super::process::{absolute_dir, wait_until_ready};

/// How long a server may take until it answers; loading a long append-only file is part of it.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How long a server may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// How many free ports are tried.
const PORT_TRIES: usize = 5;

/// When Redis brings its append-only file to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AppendFsync {
    /// Once a second.
    #[default]
    EverySec,
    /// Before each reply.
    Always,
    /// When the system pleases.
    No,
}

impl AppendFsync {
    const fn as_str(self) -> &'static str {
        match self {
            AppendFsync::EverySec => "everysec",
            AppendFsync::Always => "always",
            AppendFsync::No => "no",
        }
    }
}

/// How a server keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisOptions {
    /// Whether it writes an append-only file; without one a restart loses everything.
    pub appendonly: bool,
    /// When that file is brought to disk.
    pub appendfsync: AppendFsync,
    /// What it does when memory is full.
    pub maxmemory_policy: String,
    /// Further options, name and value as in redis.conf; they win.
    pub extra: Vec<(String, String)>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        RedisOptions {
            appendonly: true,
            appendfsync: AppendFsync::default(),
            maxmemory_policy: "noeviction".to_owned(),
            extra: Vec::new(),
        }
    }
}

impl RedisOptions {
    /// The options as arguments of redis-server. Snapshots are off: what survives is what the append-only file has.
    pub fn args(&self) -> Vec<String> {
        let fixed = [
            ("save", ""),
            ("appendonly", if self.appendonly { "yes" } else { "no" }),
            ("appendfsync", self.appendfsync.as_str()),
            ("maxmemory-policy", &self.maxmemory_policy),
        ];
        let extra = self.extra.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        fixed
            .into_iter()
            .chain(extra)
            .flat_map(|(name, value)| [format!("--{name}"), value.to_owned()])
            .collect()
    }
}

/// A server on 127.0.0.1, killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    options: RedisOptions,
    child: Supervised,
}

impl RedisServer {
    /// Starts a server with its data and `redis.log` in `dir`, and waits until it answers. Without a `port`, on a free
    /// one.
    ///
    /// # Errors
    /// There is no server to be found, or it does not come up; the error shows the end of its log.
    pub async fn start(
        dir: &Path,
        port: Option<u16>,
        options: RedisOptions,
    ) -> Result<RedisServer, StackError> {
        let program = locate()?;
        let dir = absolute_dir(dir)?;
        let mut tries = if port.is_some() { 1 } else { PORT_TRIES };
        loop {
            let port = match port {
                Some(port) => port,
                None => free_port().map_err(StackError::io("no free port"))?,
            };
            tries -= 1;
            match run(&program, &dir, port, &options).await {
                Ok(child) => return Ok(RedisServer { program, dir, port, options, child }),
                Err(StackError::Exited { log_tail, .. })
                    if tries > 0 && log_tail.contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Its address, as Millrace and fred take it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// True until it ends.
    pub fn is_alive(&mut self) -> bool {
        self.child.exited().is_none()
    }

    /// Sends a signal, such as SIGSTOP and SIGCONT to pause it.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<(), StackError> {
        self.child.signal(signal)
    }

    /// SIGTERM: it brings its append-only file to disk and ends.
    ///
    /// # Errors
    /// It still runs after ten seconds; it is left running.
    pub async fn stop(&mut self) -> Result<ExitStatus, StackError> {
        if self.is_alive() {
            // It may end by itself between the two lines, which is no fault.
            let _ = self.signal(Signal::SIGTERM);
        }
        self.child.wait_exit(STOP_DEADLINE).await
    }

    /// SIGKILL: what the system has not been given yet is lost.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Stops the server if it runs, starts it on the same port and directory, and waits until it answers.
    ///
    /// # Errors
    /// It does not stop, or does not come up.
    pub async fn restart(&mut self) -> Result<(), StackError> {
        self.stop().await?;
        self.child = run(&self.program, &self.dir, self.port, &self.options).await?;
        Ok(())
    }
}

/// The server's program: `$REDIS_SERVER_BIN`, else redis-server or valkey-server in PATH.
fn locate() -> Result<PathBuf, StackError> {
    if let Some(named) = std::env::var_os("REDIS_SERVER_BIN") {
        return Ok(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["redis-server", "valkey-server"]
        .into_iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)))
        .find(|program| program.is_file())
        .ok_or(StackError::RedisMissing)
}

async fn run(
    program: &Path,
    dir: &Path,
    port: u16,
    options: &RedisOptions,
) -> Result<Supervised, StackError> {
    let mut command = Command::new(program);
    command.current_dir(dir);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
    command.arg("--dir").arg(dir).args(["--daemonize", "no"]).args(options.args());
    let mut child = Supervised::spawn("redis", command, &dir.join("redis.log"))?;
    let pid = child.pid();
    wait_until_ready(&mut child, START_DEADLINE, || answers(port, pid)).await?;
    Ok(child)
}

/// `Ok` once the server of process `pid`, and no other on the same port, has loaded its data and takes commands.
async fn answers(port: u16, pid: u32) -> Result<(), String> {
    let ask = async {
        let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
        server.write_all(b"PING\r\nINFO server\r\nQUIT\r\n").await?;
        let mut answer = String::new();
        server.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = ask.await.map_err(|error| format!("PING: {error}"))?;
    if !answer.starts_with("+PONG") {
        return Err(format!("PING: {}", answer.lines().next().unwrap_or("no answer")));
    }
    let ours = format!("process_id:{pid}");
    if answer.lines().any(|line| line == ours) {
        Ok(())
    } else {
        Err(format!("port {port} is taken by another server"))
    }
}
