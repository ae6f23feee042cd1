//! `millrace dev`: a whole stack on this machine.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::output::{Printer, table};
use crate::stack::process::{Binary, Process};
use crate::stack::{Stack, StackOptions, StackSummary, StopReport};

const EXAMPLES: &str = "\
Examples:
  millrace dev                                 two relayers, two settlers
  millrace dev --settlers 3 --port-base 9000   more standbys, other ports
  millrace dev --json                          where everything is, for scripts

Ports from N = --port-base: issuer N (admin N+1), relayers N+10, N+12, … (admin one above), settlers' admin N+100, \
N+101, …, Redis N+200. Logs and keys are in --dir; a stack started again on it goes on where it stopped.";

/// How often the parts are looked after.
const WATCH: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DevArgs {
    /// How many relayers.
    #[arg(long, value_name = "N", default_value_t = 2)]
    relayers: usize,
    /// How many settlers: one leads, the others stand by.
    #[arg(long, value_name = "N", default_value_t = 2)]
    settlers: usize,
    /// A Redis that runs already; without it a private redis-server is started.
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// What every key in Redis starts with.
    #[arg(long, value_name = "PREFIX", default_value = "mr")]
    redis_prefix: String,
    /// Keys, data and logs.
    #[arg(long, value_name = "DIR", default_value = ".millrace/dev")]
    dir: PathBuf,
    /// First of the ports.
    #[arg(long, value_name = "N", default_value_t = 7700)]
    port_base: u16,
}

pub(crate) async fn run(args: DevArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    // Before anything starts: Ctrl-C must find someone who stops the parts.
    let shutdown = service::signals::try_shutdown().context("cannot listen for Ctrl-C")?;
    let _lock = lock(&args.dir)?;
    let mut options = StackOptions::new(&args.dir, this_binary()?);
    options.relayers = args.relayers;
    options.settlers = args.settlers;
    options.redis_url = args.redis_url;
    options.prefix = args.redis_prefix;
    options.port_base = Some(args.port_base);
    printer.note("starting Redis, issuer, settlers and relayers …");
    let Some(mut stack) = start(options, &shutdown).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    for (name, key) in [("payee.pub", stack.payee()), ("issuer.pub", stack.issuer_key())] {
        let file = stack.dir().join(name);
        std::fs::write(&file, format!("{key}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    printer.data(&stack.summary(), text)?;
    if !printer.is_json() {
        printer.note(first_steps(&stack, args.port_base));
    }
    let all_lived = watch(&mut stack, &shutdown, printer).await;
    printer.note("stopping …");
    let clean = report_stop(&stack.stop().await, printer);
    Ok(if all_lived && clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Keeps a second stack away from the directory: two servers on one append-only file would spoil it. Held for as long as
/// the file is open.
fn lock(dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another `millrace dev` runs on {}: stop it, or choose another --dir and --port-base",
                dir.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// This program, which runs every part of a stack.
pub(super) fn this_binary() -> anyhow::Result<Binary> {
    Ok(Binary::Millrace(std::env::current_exe().context("cannot find this program's own file")?))
}

/// Starts a stack; `None` if it was called off, and then nothing of it is left.
pub(super) async fn start(
    options: StackOptions,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Stack>> {
    tokio::select! {
        started = Stack::start(options) => started.map(Some).context("the stack did not start"),
        () = shutdown.cancelled() => Ok(None),
    }
}

/// Looks after the parts until shutdown. Says once of each when it has died. True if none did.
async fn watch(stack: &mut Stack, shutdown: &CancellationToken, printer: &Printer) -> bool {
    let mut dead = Vec::<String>::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return dead.is_empty(),
            () = tokio::time::sleep(WATCH) => {}
        }
        let mut died = |name: &str, pid: u32, log: PathBuf| {
            if !dead.iter().any(|seen| seen == name) {
                printer.note(format_args!("{name} (pid {pid}) has died; its log: {}", log.display()));
                dead.push(name.to_owned());
            }
        };
        for process in services(stack) {
            if !process.is_alive() {
                died(process.name(), process.pid(), process.log());
            }
        }
        if let Some(redis) = &mut stack.redis
            && !redis.is_alive()
        {
            died("redis", redis.pid(), redis.dir().join("redis.log"));
        }
    }
}

fn services(stack: &mut Stack) -> impl Iterator<Item = &mut Process> {
    stack.relayers.iter_mut().chain(&mut stack.settlers).chain([&mut stack.issuer])
}

/// Says how the parts ended. True if all stopped when asked.
pub(super) fn report_stop(report: &StopReport, printer: &Printer) -> bool {
    for exit in &report.exits {
        match exit.status {
            Some(status) if status.success() => {}
            Some(status) => printer.note(format_args!("{} ended with {status}", exit.name)),
            None => printer.note(format_args!("{} did not stop when asked and was killed", exit.name)),
        }
    }
    report.is_clean()
}

pub(super) fn text(summary: &StackSummary) -> String {
    let mut rows = vec![
        ["redis".to_owned(), summary.redis_url.clone(), "-".to_owned(), pid(summary.redis.pid)],
        ["issuer".to_owned(), summary.issuer_url.clone(), "-".to_owned(), pid(summary.issuer.pid)],
    ];
    for (i, relayer) in summary.relayers.iter().enumerate() {
        let name = format!("relayer {i}");
        rows.push([name, relayer.url.clone(), relayer.admin_url.clone(), relayer.pid.to_string()]);
    }
    for (i, settler) in summary.settlers.iter().enumerate() {
        let name = format!("settler {i}");
        rows.push([name, "-".to_owned(), settler.admin_url.clone(), settler.pid.to_string()]);
    }
    let console = summary.settlers.first().map(|settler| format!("\nconsole {}/console", settler.admin_url));
    let parts = table(["part", "url", "admin", "pid"], rows);
    format!("{parts}\npayee {}{}", summary.payee, console.unwrap_or_default())
}

fn pid(pid: Option<u32>) -> String {
    pid.map_or_else(|| "not ours".to_owned(), |pid| pid.to_string())
}

fn first_steps(stack: &Stack, port_base: u16) -> String {
    let mut elsewhere = String::new();
    if port_base != 7700 {
        // The commands find the stack by default only where it is by default.
        let relayer = stack.relayer_urls().into_iter().next().unwrap_or_default();
        elsewhere = format!(
            "\n  export MILLRACE_ISSUER_URL={} MILLRACE_RELAYER_URL={relayer} MILLRACE_REDIS_URL={}",
            stack.issuer_url(),
            stack.redis_url()
        );
    }
    format!(
        "\nTry, in another terminal:{elsewhere}\n  \
         millrace keys new payer.key && millrace account register --key payer.key\n  \
         CHANNEL=$(millrace channel open --key payer.key --capacity 1000 --payee {})\n  \
         millrace pay $CHANNEL --key payer.key --add 5\n\nLogs are in {}. Ctrl-C stops everything.",
        stack.payee(),
        stack.dir().display()
    )
}
