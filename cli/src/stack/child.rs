//! A child process that cannot be forgotten: its output goes to a log file, and it ends with its owner.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::error::{StackError, log_tail};

/// How often a condition on a process is looked at.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// A running or ended child, killed when dropped.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    log: PathBuf,
    child: Child,
    guard: Option<Child>,
    ended: Option<ExitStatus>,
}

impl Supervised {
    /// Runs `command` with its output appended to `log`. Errors call it `name`.
    ///
    /// # Errors
    /// The program cannot be run, or its log not be written.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self, StackError> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let (stdout, stderr) = open()
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(StackError::io(format!("cannot open {}", log.display())))?;
        // A group of its own: Ctrl-C at a terminal reaches the owner alone, which then stops the parts in order.
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0);
        let child = command.spawn().map_err(|source| StackError::Spawn {
            name: name.to_owned(),
            program: PathBuf::from(command.get_program()),
            source,
        })?;
        let guard = guard(child.id());
        Ok(Supervised { name: name.to_owned(), log: log.to_owned(), child, guard, ended: None })
    }

    /// The child as errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    /// How the child ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
            if self.ended.is_some() {
                self.dismiss_guard();
            }
        }
        self.ended
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The child has ended: its id may be another's by now.
    pub fn signal(&mut self, signal: Signal) -> Result<(), StackError> {
        let failed = |name: &str, source| StackError::Signal { name: name.to_owned(), source };
        if self.exited().is_some() {
            return Err(failed(&self.name, nix::errno::Errno::ESRCH));
        }
        let pid =
            i32::try_from(self.child.id()).map_err(|_| failed(&self.name, nix::errno::Errno::EINVAL))?;
        signal::kill(Pid::from_raw(pid), signal).map_err(|source| failed(&self.name, source))
    }

    /// SIGKILL, and waits until the system has let go of the child.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            // It fails only for a child that has just ended by itself, which is what was asked for.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
            self.dismiss_guard();
        }
    }

    /// Waits until the child has ended.
    ///
    /// # Errors
    /// It still runs after `deadline`.
    pub async fn wait_exit(&mut self, deadline: Duration) -> Result<ExitStatus, StackError> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                return Ok(status);
            }
            if start.elapsed() >= deadline {
                return Err(StackError::StillRunning { name: self.name.clone(), pid: self.pid(), deadline });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn dismiss_guard(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            // Killed before its input closes, so that it does not fire.
            let _ = guard.kill();
            let _ = guard.wait();
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A shell that kills `pid` when its own standard input closes, which the system sees to when this process ends in any
/// way, SIGKILL included. (Linux' parent-death signal would need unsafe code, and dies with a thread.) Where no shell
/// can be run there is no guard, and an owner that is killed leaves its children behind.
fn guard(pid: u32) -> Option<Child> {
    Command::new("sh")
        .args(["-c", "read -r _; kill -9 \"$1\"", "sh", &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .ok()
}
