//! `make bench`: what a payment costs and how fast it goes, each figure beside a baseline of the same run.
//! docs/BENCHMARKS.md says how to read it.
//!
//! # Layout
//!
//! * `rows`: one file a row of the report. `figure`: what they find. `report`, `plot`: how it is shown and kept.
//! * `stage`: Redis, issuer, relayers, and channels to pay from. `payers`: requests, written before the clock runs.
//! * `client`: the load generator. `baseline`: what cannot be done for less.
//! * `machine`: cores, pinning, CPU time. `stats`: from counts and times to figures.

mod baseline;
mod client;
mod figure;
mod machine;
mod payers;
mod plot;
mod report;
mod rows;
mod stage;
mod stats;
mod stream;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};

use machine::Machine;
use report::Report;
use rows::{Bench, Row};

const EXAMPLES: &str = "\
Examples:
  make bench                                   everything, and docs/benchmarks written anew
  make bench ARGS='--rows single,batch'        these rows; the others stay as they were
  make bench ARGS=--brief                      each row once, in seconds: shows that it runs, and no figure";

/// Measures what payments cost, beside what cannot be done for less.
#[derive(Debug, Parser)]
#[command(name = "make bench", after_help = EXAMPLES)]
struct Args {
    /// Run every row once and with little: a check that it runs. Writes nothing.
    #[arg(long)]
    brief: bool,
    /// Only these rows.
    #[arg(long, value_name = "ROW", value_delimiter = ',', value_enum)]
    rows: Vec<Row>,
    /// Leave docs/benchmarks as it is.
    #[arg(long)]
    no_write: bool,
    /// What `cargo bench` says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the echo server, on this port.
    #[arg(long, hide = true, value_name = "PORT")]
    echo_server: Option<u16>,
    /// Be the issuer that the settler's row settles with, at this address and with the key in this file.
    #[arg(long, hide = true, num_args = 2, value_names = ["ADDRESS", "KEY"])]
    settling_issuer: Option<Vec<String>>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match (args.echo_server, args.settling_issuer.as_deref()) {
        (Some(port), _) => baseline::serve_echo(port),
        (None, Some([address, key])) => rows::serve_settling_issuer(address, key.as_ref()),
        (None, _) => measure(&args),
    };
    service::process::exit("bench", result)
}

fn measure(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::take()?;
    let description = machine::describe(&machine);
    say(&format!("{}, {} cores, load {}\n", description.cpu, description.cores, description.load_before))?;
    let bench = Bench { machine, brief: args.brief };
    let mut rows = if args.rows.is_empty() { Row::value_variants().to_vec() } else { args.rows.clone() };
    rows.sort_unstable();
    rows.dedup();
    let (before, mut report) = (Report::committed(), Report::kept());
    // One thread, as pinned as the machine allows; what is signed ahead has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    for row in rows {
        let findings =
            runtime.block_on(row.run(&bench)).with_context(|| format!("the row {} failed", row.name()))?;
        report.take(row, &description, findings);
        say(&report.text(row, &before))?;
        if !args.brief && !args.no_write {
            report.write(&before)?;
        }
    }
    Ok(())
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write to stdout")
}
