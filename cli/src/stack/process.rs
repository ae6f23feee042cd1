//! One Millrace service as a child process.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::child::{POLL, Supervised};
use super::error::StackError;

/// How long one question whether a process is ready may take.
const QUESTION: Duration = Duration::from_secs(1);

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Keeps accounts and channels.
    Issuer,
    /// Takes payments.
    Relayer,
    /// Redeems vouchers.
    Settler,
}

impl Role {
    /// The role as a subcommand, a binary and a log file are called.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Issuer => "issuer",
            Role::Relayer => "relayer",
            Role::Settler => "settler",
        }
    }

    /// The environment variable that sets a config key: `lease.ttl_ms` of a settler is
    /// `MILLRACE_SETTLER__LEASE__TTL_MS`.
    pub fn variable(self, key: &str) -> String {
        format!("MILLRACE_{}__{}", self.as_str(), key.replace('.', "__")).to_uppercase()
    }
}

/// Where the program of a role is.
#[derive(Clone, Debug)]
pub enum Binary {
    /// The one binary `millrace`, run as `millrace relayer`.
    Millrace(PathBuf),
    /// A directory with a binary for each role.
    EachIn(PathBuf),
}

impl Binary {
    fn command(&self, role: Role) -> Command {
        match self {
            Binary::Millrace(path) => {
                let mut command = Command::new(path);
                command.arg(role.as_str());
                command
            }
            Binary::EachIn(dir) => Command::new(dir.join(role.as_str())),
        }
    }
}

/// How a process is started, and started again.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// The process as errors call it and its log file is named, such as `relayer-0`.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its program.
    pub binary: Binary,
    /// Its config, key (`lease.ttl_ms`) and value; later entries win.
    pub config: Vec<(String, String)>,
    /// Its config file, over which `config` wins; built-in defaults where there is none.
    pub file: Option<PathBuf>,
    /// Base URL of its admin listener, as `config` sets it.
    pub admin_url: String,
    /// Where it runs and writes its log.
    pub dir: PathBuf,
}

/// A service of a [`Role`] as a child process, killed when dropped.
#[derive(Debug)]
pub struct Process {
    spec: ProcessSpec,
    child: Supervised,
}

impl Process {
    /// Starts the process; its output is appended to `<dir>/<name>.log`.
    ///
    /// # Errors
    /// The program cannot be run, or its log not be written.
    pub fn spawn(spec: ProcessSpec) -> Result<Process, StackError> {
        let child = Self::run(&spec)?;
        Ok(Process { spec, child })
    }

    fn run(spec: &ProcessSpec) -> Result<Supervised, StackError> {
        let mut command = spec.binary.command(spec.role);
        command.current_dir(&spec.dir);
        if let Some(file) = &spec.file {
            command.arg("--config").arg(file);
        }
        command.envs(spec.config.iter().map(|(key, value)| (spec.role.variable(key), value)));
        Supervised::spawn(&spec.name, command, &Self::log_of(spec))
    }

    fn log_of(spec: &ProcessSpec) -> PathBuf {
        spec.dir.join(format!("{}.log", spec.name))
    }

    /// How it was started.
    pub fn spec(&self) -> &ProcessSpec {
        &self.spec
    }

    /// The process as errors call it.
    pub fn name(&self) -> &str {
        self.child.name()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Base URL of its admin listener.
    pub fn admin_url(&self) -> &str {
        &self.spec.admin_url
    }

    /// The file that holds its output.
    pub fn log(&self) -> PathBuf {
        Self::log_of(&self.spec)
    }

    /// True until it ends.
    pub fn is_alive(&mut self) -> bool {
        self.child.exited().is_none()
    }

    /// Sends a signal: SIGTERM to ask it to stop, SIGSTOP and SIGCONT to pause it.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<(), StackError> {
        self.child.signal(signal)
    }

    /// SIGKILL: it ends at once, with no chance to tidy up.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It still runs after `deadline`.
    pub async fn wait_exit(&mut self, deadline: Duration) -> Result<ExitStatus, StackError> {
        self.child.wait_exit(deadline).await
    }

    /// SIGTERM, and waits until it has ended.
    ///
    /// # Errors
    /// It still runs after `deadline`; it is left running.
    pub async fn stop(&mut self, deadline: Duration) -> Result<ExitStatus, StackError> {
        if self.is_alive() {
            // It may end by itself between the two lines, which is no fault.
            let _ = self.signal(Signal::SIGTERM);
        }
        self.wait_exit(deadline).await
    }

    /// Starts it again as it was started before, killing it first if it still runs. Does not wait until it is ready.
    ///
    /// # Errors
    /// As for [`Process::spawn`].
    pub fn restart(&mut self) -> Result<(), StackError> {
        self.child.kill();
        self.child = Self::run(&self.spec)?;
        Ok(())
    }

    /// Waits until `GET <admin_url>/readyz` answers 200.
    ///
    /// # Errors
    /// It ended, or was not ready after `deadline`; both show the end of its log.
    pub async fn wait_ready(&mut self, deadline: Duration) -> Result<(), StackError> {
        let url = format!("{}/readyz", self.spec.admin_url);
        let client = super::http();
        wait_until_ready(&mut self.child, deadline, || ready(&client, &url)).await
    }
}

/// Asks `is_ready` again and again until it says yes (`Ok`), the child ends, or the deadline passes.
///
/// # Errors
/// It ended, or was not ready after `deadline`; both show the end of its log.
pub async fn wait_until_ready<F>(
    child: &mut Supervised,
    deadline: Duration,
    mut is_ready: impl FnMut() -> F,
) -> Result<(), StackError>
where
    F: Future<Output = Result<(), String>>,
{
    let start = Instant::now();
    loop {
        // The question may hang, on a process that is stopped or on another that holds the port: it is asked again.
        let patience = deadline.saturating_sub(start.elapsed()).min(QUESTION);
        let answer =
            tokio::time::timeout(patience, is_ready()).await.unwrap_or_else(|_| Err("no answer".to_owned()));
        // Asked after the answer, which might have come from another process on the same port.
        if let Some(status) = child.exited() {
            let (name, log_tail) = (child.name().to_owned(), child.log_tail());
            return Err(StackError::Exited { name, status, log_tail });
        }
        match answer {
            Ok(()) => return Ok(()),
            Err(last) if start.elapsed() >= deadline => {
                let (name, log_tail) = (child.name().to_owned(), child.log_tail());
                return Err(StackError::NotReady { name, deadline, last, log_tail });
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

async fn ready(client: &reqwest::Client, url: &str) -> Result<(), String> {
    let response = client.get(url).send().await.map_err(|error| format!("{url}: {error}"))?;
    if response.status().as_u16() == 200 { Ok(()) } else { Err(format!("{url}: {}", response.status())) }
}

/// The file name of a role's log, or of the `n`th of several.
pub(super) fn name_of(role: Role, n: usize) -> String {
    format!("{}-{n}", role.as_str())
}

/// A directory as an absolute path, made if it does not exist.
pub(super) fn absolute_dir(dir: &Path) -> Result<PathBuf, StackError> {
    std::fs::create_dir_all(dir)
        .and_then(|()| dir.canonicalize())
        .map_err(StackError::io(format!("cannot make the directory {}", dir.display())))
}
