//! Why a stack or one of its processes could not be had.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// How many of a log's last lines an error shows.
const TAIL_LINES: usize = 20;

/// Why a stack or one of its processes could not be started, watched or stopped.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// Neither `$REDIS_SERVER_BIN` nor PATH leads to a server.
    #[error(
        "no redis-server or valkey-server found in PATH: install one (Debian, Ubuntu: apt install redis-server; \
         macOS: brew install redis) or name its binary in REDIS_SERVER_BIN"
    )]
    RedisMissing,
    /// The program could not be run at all.
    #[error("cannot start {name} ({}): {source}", .program.display())]
    Spawn {
        /// The process.
        name: String,
        /// Its binary.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The process ended where it should have come up.
    #[error("{name} ended ({status}) before it was ready; the end of its log:\n{log_tail}")]
    Exited {
        /// The process.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Last lines of its log.
        log_tail: String,
    },
    /// The process runs but does not say that it is ready.
    #[error("{name} was not ready after {} ms ({last}); the end of its log:\n{log_tail}", .deadline.as_millis())]
    NotReady {
        /// The process.
        name: String,
        /// How long was waited.
        deadline: Duration,
        /// The last answer to the question.
        last: String,
        /// Last lines of its log.
        log_tail: String,
    },
    /// The process did not end in time.
    #[error("{name} (pid {pid}) still runs after {} ms", .deadline.as_millis())]
    StillRunning {
        /// The process.
        name: String,
        /// Its id.
        pid: u32,
        /// How long was waited.
        deadline: Duration,
    },
    /// A signal could not be sent.
    #[error("cannot signal {name}: {source}")]
    Signal {
        /// The process.
        name: String,
        /// What the system said.
        source: nix::errno::Errno,
    },
    /// A file, directory or port could not be had.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key file that exists cannot be used.
    #[error(transparent)]
    Key(#[from] common::secret::SecretError),
    /// The issuer did not take the payee's account.
    #[error("the issuer did not register the payee's account: {detail}")]
    Account {
        /// Its answer, or why there was none.
        detail: String,
    },
}

impl StackError {
    /// [`StackError::Io`], saying what was tried.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StackError {
        let what = what.into();
        move |source| StackError::Io { what, source }
    }
}

/// The last lines of a log file, indented; a note where there is none.
pub(super) fn log_tail(path: &Path) -> String {
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("  (cannot read {}: {error})", path.display()),
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut tail = String::new();
    for line in lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)) {
        // Writing to a String cannot fail.
        let _ = writeln!(tail, "  {line}");
    }
    if tail.is_empty() { "  (empty)".to_owned() } else { tail }
}
