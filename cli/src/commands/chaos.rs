//! `millrace chaos`: a stack under a load and seeded faults, and whether everything that payers were told is true.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::chaos::fault::FaultKind;
use crate::chaos::report::Report;
use crate::chaos::{Campaign, ChaosOptions};
use crate::commands::dev;
use crate::output::{Printer, figures, grouped, or_dash, table};

const EXAMPLES: &str = "\
Examples:
  millrace chaos --seed 7 --minutes 2
  millrace chaos --seed 7 --minutes 0.5 --faults redis,settler:pause
  millrace chaos --seed 7 --minutes 10 --json

--faults takes whole names (settler-issuer:swallow-replies), places (settler, settler-issuer) and deeds (kill, cut). \
What is done when follows from the seed and these flags alone; how the machine's own timing falls does not. \
Exit code 1 if anything that a payer was told cannot be true, if a unit is missing or paid twice, or if something does \
not heal; then --dir is kept, and one command that repeats the campaign is printed.";

/// Violations shown in a table: one fault of Millrace can spoil every channel.
const SHOWN: usize = 30;

/// Settings of a campaign.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ChaosArgs {
    /// What the schedule of faults and the payers' choices follow from.
    #[arg(long, value_name = "S")]
    seed: u64,
    /// How long faults are injected, such as 2 or 0.5.
    #[arg(long, value_name = "M", default_value = "1", value_parser = minutes)]
    minutes: Duration,
    /// Only these faults, separated by commas.
    #[arg(long, value_name = "LIST")]
    faults: Option<String>,
    /// How many relayers.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=16))]
    relayers: u64,
    /// How many settlers.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=16))]
    settlers: u64,
    /// How many payers, each paying from one channel after another.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    payers: u64,
    /// Keep keys, data, histories and logs in this new directory, whatever comes of it.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Minutes as whole milliseconds: `2`, `0.5`, `1.25`.
fn minutes(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected minutes such as 2 or 0.5, at most 1440";
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || text.ends_with('.') {
        return Err(EXPECTED.to_owned());
    }
    let tenthousandths: u64 = format!("{whole}{part:0<4}").parse().map_err(|_| EXPECTED)?;
    match tenthousandths * 6 {
        ms @ 1..=86_400_000 => Ok(Duration::from_millis(ms)),
        _ => Err(EXPECTED.to_owned()),
    }
}

/// What [`minutes`] reads.
fn as_minutes(duration: Duration) -> String {
    let tenthousandths = duration.as_millis() / 6;
    let text = format!("{}.{:04}", tenthousandths / 10_000, tenthousandths % 10_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl ChaosArgs {
    /// The one command that does the same again.
    fn repeat_command(&self) -> String {
        let ChaosArgs { seed, relayers, settlers, payers, .. } = self;
        let mut command = format!("millrace chaos --seed {seed} --minutes {}", as_minutes(self.minutes));
        if let Some(faults) = &self.faults {
            command.push_str(&format!(" --faults {}", faults.replace(' ', "")));
        }
        command.push_str(&format!(" --relayers {relayers} --settlers {settlers} --payers {payers}"));
        command
    }
}

pub(crate) async fn run(args: ChaosArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let shutdown = service::signals::try_shutdown().context("cannot listen for Ctrl-C")?;
    let temporary =
        tempfile::Builder::new().prefix("millrace-chaos-").tempdir().context("no temporary directory")?;
    let dir = match &args.dir {
        Some(dir) => new_dir(dir)?,
        None => temporary.path().to_owned(),
    };
    let mut options = ChaosOptions::new(args.seed, args.minutes, &dir, dev::this_binary()?);
    if let Some(list) = &args.faults {
        options.kinds = FaultKind::parse_list(list).map_err(|error| anyhow::anyhow!("--faults: {error}"))?;
    }
    options.relayers = usize::try_from(args.relayers)?;
    options.settlers = usize::try_from(args.settlers)?;
    options.payers = usize::try_from(args.payers)?;

    printer.note(format_args!(
        "seed {}, {} min; all of it is in {}",
        args.seed,
        as_minutes(args.minutes),
        dir.display()
    ));
    let campaign = async { Campaign::start(options).await?.run(&|line| printer.note(line)).await };
    let result = tokio::select! {
        result = campaign => result,
        () = shutdown.cancelled() => {
            printer.note("called off");
            return Ok(ExitCode::FAILURE);
        }
    };
    let clean = result.as_ref().is_ok_and(Report::is_clean);
    if !clean {
        let kept = if args.dir.is_some() { dir } else { temporary.keep() };
        printer.note(format_args!("kept: {}", kept.display()));
        printer.note(format_args!("repeat: {}", args.repeat_command()));
    }
    printer.data(&result?, text)?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A directory that did not hold anything before.
fn new_dir(dir: &std::path::Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    anyhow::ensure!(entries.next().is_none(), "--dir {} is not empty: give a new one", dir.display());
    Ok(dir.to_owned())
}

fn text(report: &Report) -> String {
    let faults = table(
        ["fault", "times", "acknowledged meanwhile"],
        report.faults.iter().map(|(name, injected)| {
            [name.clone(), grouped(injected.times.into()), grouped(injected.acknowledged_meanwhile.into())]
        }),
    );
    let sums = figures([
        ("seed", report.seed.to_string()),
        ("seconds under faults", grouped(u128::from(report.duration_ms / 1_000))),
        ("faults injected", grouped(report.faults_injected().into())),
        ("payments acknowledged", grouped(report.acknowledged.into())),
        ("outcomes unknown, sent again", grouped(report.unknown.into())),
        ("outcomes unknown to the end", grouped(report.unresolved.into())),
        ("payments refused", grouped(report.refused.into())),
        ("channels opened", grouped(report.channels.into())),
        ("channels closed", grouped(report.closed.into())),
        ("  asked for under faults", grouped(report.closes_requested.into())),
        ("lines of history checked", grouped(report.lines.into())),
        ("stream records checked", grouped(report.stream_records.into())),
        ("settled, units", report.settled.clone()),
        ("drift, units", report.drift.clone()),
        ("violations", (report.violations.len() + report.audit_violations.len()).to_string()),
        ("not healed", report.failures.len().to_string()),
    ]);
    let mut text = format!("{faults}\n{sums}");
    let mut wrong: Vec<[String; 3]> = Vec::new();
    for violation in &report.violations {
        wrong.push([name(&violation.kind), or_dash(violation.channel_id), violation.detail.clone()]);
    }
    for violation in &report.audit_violations {
        let kind = format!("audit: {}", name(&violation.kind));
        wrong.push([kind, or_dash(violation.channel_id), violation.detail.clone()]);
    }
    let more = wrong.len().saturating_sub(SHOWN);
    wrong.truncate(SHOWN);
    if !wrong.is_empty() {
        text.push_str(&format!("\n{}", table(["violation", "channel", "detail"], wrong)));
    }
    if more > 0 {
        text.push_str(&format!("\nand {more} more, all of them with --json"));
    }
    for failure in &report.failures {
        text.push_str(&format!("\nnot healed: {failure}"));
    }
    if report.is_clean() {
        text.push_str("\nclean: everything that payers were told is true, and everything was settled once");
    }
    text
}

/// A kind as it stands in JSON.
fn name<K: serde::Serialize>(kind: &K) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_read_without_a_float_and_come_back() {
        for (text, ms) in [("2", 120_000), ("0.5", 30_000), ("1.25", 75_000), ("0.001", 60)] {
            let duration = minutes(text).expect(text);
            assert_eq!(duration.as_millis(), ms);
            assert_eq!(as_minutes(duration), text);
        }
        for wrong in ["", "0", ".5", "1.", "-1", "1e3", "1.23456", "99999"] {
            assert!(minutes(wrong).is_err(), "{wrong}");
        }
    }
}
