//! The machine that is measured on: its cores and who runs on which, what processes used of it, what it is.

#[cfg_attr(target_os = "linux", path = "machine/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "machine/elsewhere.rs")]
mod system;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

pub(crate) use system::{cpu_of, cpu_of_this_thread, wake_on_time};

/// Which core does what. With one core everything is on it, and only times of CPU mean something.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    cores: Vec<usize>,
}

impl Machine {
    /// The cores that this process may use. From here on, this thread and all that it starts keeps to
    /// [`Machine::load_cores`].
    ///
    /// # Errors
    /// The system does not say, or does not let itself be told.
    pub(crate) fn take() -> anyhow::Result<Machine> {
        let cores = system::cores().context("cannot see which cores there are")?;
        ensure!(!cores.is_empty(), "no cores");
        let machine = Machine { cores };
        system::keep_to(machine.load_cores())?;
        Ok(machine)
    }

    /// Every core.
    pub(crate) fn cores(&self) -> &[usize] {
        &self.cores
    }

    /// Where the server that is measured runs, alone: its CPU is what counts.
    pub(crate) fn server_core(&self) -> usize {
        self.cores[0]
    }

    /// Where the load generator, Redis and everything else runs.
    pub(crate) fn load_cores(&self) -> &[usize] {
        if self.cores.len() > 1 { &self.cores[1..] } else { &self.cores }
    }

    /// Runs `start` with this thread on `cores`: what it starts stays there, and sizes itself accordingly.
    ///
    /// # Errors
    /// The system does not let threads be pinned.
    pub(crate) fn on<T>(&self, cores: &[usize], start: impl FnOnce() -> T) -> anyhow::Result<T> {
        system::keep_to(cores)?;
        let started = start();
        system::keep_to(self.load_cores())?;
        Ok(started)
    }

    /// Runs `work` on a thread of its own on the server's core, and waits for it.
    ///
    /// # Errors
    /// As `work`, or that of [`Machine::on`].
    pub(crate) fn beside_server<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let core = self.server_core();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                system::keep_to(&[core])?;
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Lets the calling thread run anywhere.
    ///
    /// # Errors
    /// The system does not let threads be pinned.
    pub(crate) fn unpin_this_thread(&self) -> anyhow::Result<()> {
        system::keep_to(&self.cores)
    }
}

/// CPU time that each thread of a process has used, by the thread's name.
///
/// # Errors
/// There is no such process, or the system does not say.
pub(crate) fn cpu_by_thread(pid: u32) -> anyhow::Result<Vec<(String, Duration)>> {
    let tasks = PathBuf::from(format!("/proc/{pid}/task"));
    let threads = std::fs::read_dir(&tasks).with_context(|| format!("cannot list {}", tasks.display()))?;
    threads
        .map(|thread| {
            let dir = thread?.path();
            let name = std::fs::read_to_string(dir.join("comm"))?.trim().to_owned();
            // The first number: nanoseconds on a core.
            let schedstat = std::fs::read_to_string(dir.join("schedstat"))?;
            let ns = schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            Ok((name, Duration::from_nanos(ns)))
        })
        .collect()
}

/// Memory that a process has in RAM, in bytes.
///
/// # Errors
/// There is no such process, or the system does not say.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no VmRSS in {path}"))?.saturating_mul(1024))
}

/// Lets this process and its children open as many files as the system allows; how many that are.
///
/// # Errors
/// The system does not say.
pub(crate) fn open_files_allowed() -> anyhow::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    // Refused where the hard limit is beyond what the system itself allows: then what there is must do.
    Ok(if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft })
}

/// What a reader needs to know of a machine to make sense of its figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// Name of the processor.
    pub(crate) cpu: String,
    /// Cores that were used.
    pub(crate) cores: usize,
    /// Processes that wanted to run in the minute before: on a machine of our own, about 0.
    pub(crate) load_before: String,
}

/// Describes this machine, as far as it lets itself be described.
pub(crate) fn describe(machine: &Machine) -> Description {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned());
    let load_before = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    Description { cpu, cores: machine.cores().len(), load_before }
}
