//! Pinning and clocks of CPU time, as Linux has them.

use std::time::Duration;

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl::set_timerslack;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// The calling thread, where the system wants to know whom.
const THIS_THREAD: Pid = Pid::from_raw(0);

/// How late the system may wake a thread that sleeps, in ns; by default it is 50 us.
const TIMER_SLACK_NS: u64 = 1;

/// The cores that this thread may use.
pub(crate) fn cores() -> anyhow::Result<Vec<usize>> {
    let set = sched_getaffinity(THIS_THREAD)?;
    Ok((0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect())
}

/// Keeps this thread, and whatever it starts from here on, to some cores.
pub(crate) fn keep_to(cores: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    sched_setaffinity(THIS_THREAD, &set).with_context(|| format!("cannot keep to the cores {cores:?}"))
}

/// CPU time, user and system, that a process has used, its ended threads included.
pub(crate) fn cpu_of(pid: u32) -> anyhow::Result<Duration> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(pid)?))
        .with_context(|| format!("no process {pid}"))?;
    Ok(clock_gettime(clock)?.into())
}

/// CPU time that the calling thread has used.
pub(crate) fn cpu_of_this_thread() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Has the system wake the calling thread hardly later than it asks for when it sleeps.
pub(crate) fn wake_on_time() {
    // Refused nowhere that is known; without it a sleep is up to 50 us too long.
    let _ = set_timerslack(TIMER_SLACK_NS);
}
