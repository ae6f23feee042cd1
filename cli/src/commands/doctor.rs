//! `millrace doctor`: is this a place where money can be kept?

mod verdict;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use common::clock::Clock;
use common::config::Durability;
use common::store::Store;
use common::store::preflight::Finding;

use crate::args::{IssuerArgs, RedisArgs};
use crate::output::{Printer, table};
use common::store::diagnose::Probe;
use verdict::{Check, Verdict};

const EXAMPLES: &str = "\
Examples:
  millrace doctor
  millrace doctor --redis-url redis://10.0.0.5:6379 --durability always
  millrace doctor --json | jq '.[] | select(.verdict != \"ok\")'

Looks at: Redis' version, role, eviction, persistence, data, whether it takes writes, commands, memory, clock, \
the lag of the settler, the lease; the issuer and its clock. Exit code 1 if anything fails; warnings alone are 0.";

/// The best of so many round trips counts: the rest is what else the machine is doing.
const ROUND_TRIPS: usize = 10;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    redis: RedisArgs,
    #[command(flatten)]
    issuer: IssuerArgs,
    /// Leave the issuer out.
    #[arg(long)]
    no_issuer: bool,
    /// What persistence is wanted at least, as in `redis.durability` of the services.
    #[arg(long, value_enum, default_value_t = Wanted::Everysec)]
    durability: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    None,
    Everysec,
    Always,
}

pub(crate) async fn run(args: DoctorArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let durability = match args.durability {
        Wanted::None => Durability::None,
        Wanted::Everysec => Durability::Everysec,
        Wanted::Always => Durability::Always,
    };
    let mut checks = match args.redis.connect(durability).await {
        Ok((probe, store)) => of_redis(&probe, &store).await?,
        Err(error) => {
            vec![Check::fail("redis", format!("{error:#}"), "nothing else about Redis can be said")]
        }
    };
    if !args.no_issuer {
        checks.extend(of_issuer(&args.issuer).await);
    }
    printer.data(&checks, |checks| text(checks))?;
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(checks: &[Check]) -> String {
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let rows = checks.iter().map(|check| {
        let todo = check.todo.as_ref().map(|todo| format!("\n-> {todo}")).unwrap_or_default();
        [check.check.clone(), check.verdict.to_string(), format!("{}{todo}", check.found)]
    });
    let sum =
        [Verdict::Ok, Verdict::Warn, Verdict::Fail].map(|verdict| format!("{} {verdict}", count(verdict)));
    format!("{}\n{}", table(["check", "verdict", "found -> what to do"], rows), sum.join(", "))
}

async fn of_redis(probe: &Probe, store: &Store) -> anyhow::Result<Vec<Check>> {
    let findings = store.preflight().await.context("Redis does not answer")?;
    let mut checks: Vec<Check> = findings.into_iter().map(of_finding).collect();
    checks.extend(of_server(probe).await?);
    let mut round_trip = store.ping().await?;
    for _ in 1..ROUND_TRIPS {
        round_trip = round_trip.min(store.ping().await?);
    }
    checks.push(verdict::round_trip(round_trip));
    let mut partitions = Vec::new();
    for partition in 0..store.partitions() {
        partitions.push(store.partition_info(partition).await?);
    }
    let lag = verdict::Lag::of(&partitions, Clock::system().now_ms());
    checks.push(lag.check());
    checks.push(verdict::dead_letters(&partitions));
    checks.push(verdict::lease(&store.lease_info().await?, &lag));
    Ok(checks)
}

/// A Redis that never saw Millrace is no fault: its first relayer or settler makes it ready.
fn of_finding(finding: Finding) -> Check {
    let Finding { check, ok, found, remedy } = finding;
    match remedy {
        None => Check::ok(check, found),
        Some(remedy) if check == "data" && found == "no mr:meta" => {
            Check::warn(check, found, format!("{remedy}; if it held payments before, see `millrace recover`"))
        }
        Some(remedy) if !ok => Check::fail(check, found, remedy),
        Some(remedy) => Check::warn(check, found, remedy),
    }
}

async fn of_server(probe: &Probe) -> anyhow::Result<Vec<Check>> {
    let memory = probe.info("memory").await?;
    let persistence = probe.info("persistence").await?;
    let number = |name: &str| memory.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let mut checks = vec![
        verdict::memory(number("used_memory"), number("maxmemory"), number("total_system_memory")),
        verdict::append_only_file(&persistence),
    ];
    for (command, since, without) in [
        ("WAITAOF", "7.2", "durability always relies on appendfsync always alone"),
        ("XACKDEL", "8.2", "acknowledged entries are trimmed in a second step"),
    ] {
        checks.push(match probe.has_command(command).await {
            Ok(true) => Check::ok(command, "available"),
            Ok(false) => Check::ok(command, format!("not there (Redis {since} has it): {without}")),
            Err(error) => Check::warn(command, format!("{error:#}"), "let this user run COMMAND"),
        });
    }
    checks.push(verdict::clock("redis clock", probe.clock().await?));
    Ok(checks)
}

async fn of_issuer(issuer: &IssuerArgs) -> Vec<Check> {
    let mut checks = Vec::new();
    let info = match issuer.client() {
        Ok(client) => client.info().await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    checks.push(match info {
        Ok(info) if info.development => Check::warn(
            "issuer",
            format!("answers, key {}; gives play money", info.public_key),
            "fine for trying things out; use a real issuer for real money",
        ),
        Ok(info) => Check::ok("issuer", format!("answers, key {}", info.public_key)),
        Err(error) => Check::fail("issuer", format!("{error:#}"), "start it, or give its --issuer-url"),
    });
    if let Some(their_s) = date_of(&issuer.issuer_url).await {
        checks.push(verdict::coarse_clock("issuer clock", their_s, Clock::system().now_s()));
    }
    checks
}

/// The issuer's time by the Date header of any of its answers, in whole seconds since 1970.
async fn date_of(url: &str) -> Option<i64> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().ok()?;
    let url = format!("{}/v1/issuer", url.trim_end_matches('/'));
    let response = client.get(url).send().await.ok()?;
    verdict::http_date(response.headers().get("date")?.to_str().ok()?)
}
