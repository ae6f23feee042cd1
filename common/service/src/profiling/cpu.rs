//! Where CPU time goes: the kernel interrupts the process after each bit of CPU time that it has used, whichever thread
//! used it, and the stack of that moment is a sample. A process that does nothing has no samples.

use common::problem::{Code, Problem};
use pprof::protos::Message as _;
use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};

use super::{Format, flamegraph};
use crate::error::ApiError;

/// Where no sample is taken, for the sampler must never stop the process: the unwinder may be at work there itself, or
/// hold what it needs, or find wrong tables. System calls begin there too, so the kernel's time is in no profile.
const NOT_SAMPLED: &[&str] = &["/libc.so", "/libc-", "/libgcc_s", "/libpthread", "linux-vdso"];

/// A process that is being sampled, until this is dropped. There is one at most: the timer is the process' own.
pub(super) struct Sampling(ProfilerGuard<'static>);

impl Sampling {
    /// Begins, with `frequency_hz` samples for each second of CPU time. Whoever comes second hears that the first takes
    /// at most `seconds_max`.
    pub(super) async fn start(frequency_hz: u32, seconds_max: u64) -> Result<Self, ApiError> {
        // In a thread of its own: the first time, the unwinder reads the program's own tables.
        let started = tokio::task::spawn_blocking(move || {
            // The sampler keeps what does not fit its table in a file, and never tries again once it had none.
            tempfile::tempfile().map_err(|error| {
                failed(format_args!("no file can be made where temporary files go (TMPDIR): {error}"))
            })?;
            // The bound of `profiling.frequency_hz` is far below.
            let frequency = i32::try_from(frequency_hz).unwrap_or(i32::MAX);
            let builder = ProfilerGuardBuilder::default().frequency(frequency).blocklist(NOT_SAMPLED);
            builder.build().map(Sampling).map_err(|error| match error {
                pprof::Error::Running => Problem::new(Code::RateLimited)
                    .detail("another CPU profile is being taken, and a process has one timer for it")
                    .retry_after_s(seconds_max)
                    .into(),
                error => failed(error),
            })
        });
        started.await.map_err(failed)?
    }

    /// Ends, and writes down what was seen: its media type, and the profile.
    pub(super) async fn finish(self, format: Format) -> Result<(&'static str, Vec<u8>), ApiError> {
        // Names are looked up in the program's own tables: a second or so of reading, for no task to wait behind.
        let written = tokio::task::spawn_blocking(move || {
            let report = self.0.report().build()?;
            match format {
                Format::Pprof => Ok(("application/octet-stream", report.pprof()?.encode_to_vec())),
                Format::Flamegraph => Ok(("image/svg+xml", draw(&report).into_bytes())),
            }
        });
        written.await.map_err(failed)?.map_err(|error: pprof::Error| failed(error))
    }
}

fn draw(report: &Report) -> String {
    let timing = &report.timing;
    let title =
        format!("CPU over {} ms, {} samples a CPU second", timing.duration.as_millis(), timing.frequency);
    let mut graph = flamegraph::Graph::default();
    for (stack, samples) in &report.data {
        let frames = stack.frames.iter().rev().flat_map(|inlined| inlined.iter().rev());
        let names = std::iter::once(stack.thread_name_or_id()).chain(frames.map(|frame| frame.name()));
        graph.add(names, u64::try_from(*samples).unwrap_or(0));
    }
    graph.svg(&title)
}

fn failed(error: impl std::fmt::Display) -> ApiError {
    tracing::error!(%error, "a CPU profile cannot be taken");
    Problem::new(Code::Internal).detail(format_args!("a CPU profile cannot be taken: {error}")).into()
}
