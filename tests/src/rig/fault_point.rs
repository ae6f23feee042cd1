//! Stops a process exactly between two effects, and takes checks out of it; see [`common::fault_point`].

use std::path::PathBuf;

use cli::stack::process::Process;

use super::{Rig, SOON};
use crate::wait::wait_until;

/// A point at which a process waits once it comes there.
#[derive(Debug)]
pub struct FaultPoint {
    name: String,
    reached: PathBuf,
}

impl FaultPoint {
    /// Has a process wait at the point of this name, the next time that it comes there. One at a time.
    ///
    /// # Panics
    /// Its directory cannot be written.
    pub fn arm(process: &Process, point: &str) -> FaultPoint {
        let armed = process.spec().dir.join(format!("fault-point.{}", process.pid()));
        // Renamed, so that nobody reads half a name.
        let written = armed.with_extension("new");
        std::fs::write(&written, point).expect("the directory of a process is writable");
        std::fs::rename(&written, &armed).expect("the directory of a process is writable");
        let mut reached = armed.into_os_string();
        reached.push(".reached");
        FaultPoint { name: point.to_owned(), reached: reached.into() }
    }

    /// Waits until the process stands at the point. Only the thread that came there waits: whoever wants all of the
    /// process to stand still sends SIGSTOP now.
    ///
    /// # Panics
    /// It does not come there in time.
    pub async fn reached(&self) {
        let what = format!(
            "the process stands at {} (if never: its program was built without fault points, \
             cargo build --workspace --bins)",
            self.name
        );
        wait_until(SOON, &what, || async { self.reached.exists() }).await;
    }

    /// Lets the process go on; a stopped one as soon as it gets SIGCONT.
    ///
    /// # Panics
    /// It does not stand there.
    pub fn let_go(&self) {
        std::fs::remove_file(&self.reached).expect("the process stands at its point");
    }
}

impl Rig {
    /// Takes a check out of every process that is started from now on: `fence`, `lease_from_sending` or
    /// `journal_before_trim`.
    ///
    /// # Panics
    /// The rig's directory cannot be written.
    pub fn break_check(&self, check: &str) {
        std::fs::write(self._dir.path().join("broken"), check).expect("the directory of a rig is writable");
    }
}
