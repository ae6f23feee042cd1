//! Where the system is not Linux: the benchmarks compile, and say that they cannot run.

use std::time::Duration;

use anyhow::bail;

const WHY_NOT: &str = "the benchmarks pin processes and count their CPU as Linux lets them: run them there";

pub(crate) fn cores() -> anyhow::Result<Vec<usize>> {
    bail!(WHY_NOT)
}

pub(crate) fn keep_to(_: &[usize]) -> anyhow::Result<()> {
    bail!(WHY_NOT)
}

pub(crate) fn cpu_of(_: u32) -> anyhow::Result<Duration> {
    bail!(WHY_NOT)
}

pub(crate) fn cpu_of_this_thread() -> anyhow::Result<Duration> {
    bail!(WHY_NOT)
}

pub(crate) fn wake_on_time() {}
