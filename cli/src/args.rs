//! The command line, and what several subcommands take. Addresses default to those of `millrace dev`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use common::config::{Durability, RedisConfig};
use common::ids::PublicKey;
use common::secret::SecretRef;
use common::store::Store;
use service::issuer_client::{IssuerClient, IssuerClientConfig};

use crate::client::RelayerClient;
use crate::commands;
use common::store::diagnose::Probe;

const EXAMPLES: &str = "\
Examples:
  millrace demo             payments, a crash and an audit, in under a minute
  millrace dev              a stack to try things on, at the default addresses
  millrace keys new payer.key
  millrace account register --key payer.key
  millrace channel open --key payer.key --payee PAYEE --capacity 1000
  millrace pay CHANNEL --key payer.key --add 5
  millrace channel close CHANNEL --key payer.key --wait

Exit codes: 0 done, 1 failed or a check did not hold, 2 wrong usage. \
Data goes to stdout, everything else to stderr.";

/// Sell metered calls for sums too small to settle one by one.
///
/// A payer locks a deposit once; every call then carries a signed voucher that says how much is owed in total.
/// Relayers check vouchers and record them in Redis, one elected settler redeems them with the issuer.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    /// Print data as JSON, one document a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole stack on this machine until Ctrl-C.
    Dev(commands::dev::DevArgs),
    /// Watch payments survive the crash of the settler, down to the last unit.
    Demo(commands::demo::DemoArgs),
    /// Make a signing key, or show the public half of one.
    #[command(subcommand)]
    Keys(commands::keys::KeysCommand),
    /// Register an account with the issuer, or show its balances.
    #[command(subcommand)]
    Account(commands::account::AccountCommand),
    /// Open, show, close and list channels.
    #[command(subcommand)]
    Channel(commands::channel::ChannelCommand),
    /// Pay: sign vouchers and present them to a relayer.
    Pay(commands::pay::PayArgs),
    /// Pay with many payers at once, and measure.
    Load(commands::load::LoadArgs),
    /// Run a stack under a load and faults that follow from a seed, and check everything that payers were told.
    Chaos(commands::chaos::ChaosArgs),
    /// Check that what was acknowledged, recorded and settled is the same, channel by channel.
    Audit(commands::audit::AuditArgs),
    /// Look into Redis without changing anything.
    Inspect(commands::inspect::InspectArgs),
    /// Try again what was given up on: closes that the issuer refused, entries that could not be read.
    Dead(commands::dead::DeadArgs),
    /// List, show, export and check the journal: what the settler keeps of payments and closes.
    #[command(subcommand)]
    Journal(commands::journal::JournalCommand),
    /// Check a settlement, or the journal, against what proves it, without asking anyone.
    #[command(subcommand)]
    Verify(commands::verify::VerifyCommand),
    /// Check Redis, issuer and clocks, and say what to do about what is wrong.
    Doctor(commands::doctor::DoctorArgs),
    /// Check or show a service's configuration, or print its JSON Schema.
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
    /// Print the OpenAPI description of a service's routes.
    Openapi(commands::openapi::OpenapiArgs),
    /// Start again after Redis lost everything.
    Recover(commands::recover::RecoverArgs),
    /// Have all processes write what only this version can read, once none of an older version runs.
    Upgrade(commands::upgrade::UpgradeArgs),
    /// Print what a shell completes these command lines with.
    Completions(commands::manual::CompletionsArgs),
    /// Write the manual pages of all programs.
    Man(commands::manual::ManArgs),
    /// Run a relayer in this process.
    #[command(hide = true)]
    Relayer(service::process::Args),
    /// Run a settler in this process.
    #[command(hide = true)]
    Settler(service::process::Args),
    /// Run an issuer in this process.
    #[command(hide = true)]
    Issuer(service::process::Args),
}

/// Where the issuer is.
#[derive(Clone, Debug, Args)]
pub(crate) struct IssuerArgs {
    /// Base URL of the issuer.
    #[arg(long, value_name = "URL", env = "MILLRACE_ISSUER_URL", default_value = "http://127.0.0.1:7700")]
    pub(crate) issuer_url: String,
}

impl IssuerArgs {
    pub(crate) fn client(&self) -> anyhow::Result<IssuerClient> {
        issuer_client(&self.issuer_url, None)
    }
}

pub(crate) fn issuer_client(url: &str, public_key: Option<PublicKey>) -> anyhow::Result<IssuerClient> {
    let config = IssuerClientConfig { url: url.to_owned(), public_key, ..IssuerClientConfig::default() };
    Ok(IssuerClient::new(&config)?)
}

/// Where a relayer is.
#[derive(Clone, Debug, Args)]
pub(crate) struct RelayerArgs {
    /// Base URL of a relayer.
    #[arg(long, value_name = "URL", env = "MILLRACE_RELAYER_URL", default_value = "http://127.0.0.1:7710")]
    pub(crate) relayer_url: String,
}

impl RelayerArgs {
    pub(crate) fn client(&self) -> anyhow::Result<RelayerClient> {
        relayer_client(&self.relayer_url)
    }
}

pub(crate) fn relayer_client(url: &str) -> anyhow::Result<RelayerClient> {
    RelayerClient::new(url).context("cannot set up an HTTP client")
}

/// A client of a relayer that waits so long for an answer.
pub(crate) fn relayer_client_within(url: &str, within: Duration) -> anyhow::Result<RelayerClient> {
    RelayerClient::with_timeout(url, within).context("cannot set up an HTTP client")
}

/// Where Redis is.
#[derive(Clone, Debug, Args)]
pub(crate) struct RedisArgs {
    /// Redis, without credentials: redis://HOST:PORT, rediss:// for TLS, redis-cluster:// for a cluster.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MILLRACE_REDIS_URL",
        default_value = "redis://127.0.0.1:7900"
    )]
    pub(crate) redis_url: String,
    /// ACL user, if Redis asks for one.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) redis_username: Option<String>,
    /// Where the password is kept, if Redis asks for one: env:NAME or file:PATH.
    #[arg(long, global = true, value_name = "REF")]
    pub(crate) redis_password: Option<SecretRef>,
    /// What every key starts with.
    #[arg(long, global = true, value_name = "PREFIX", default_value = "mr")]
    pub(crate) redis_prefix: String,
    /// Number of partitions [default: what this Redis was first started with].
    #[arg(long, global = true, value_name = "P")]
    pub(crate) redis_partitions: Option<u16>,
}

/// How long a command waits for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

impl RedisArgs {
    /// The settings, before what Redis itself says about partitions.
    fn config(&self, durability: Durability) -> RedisConfig {
        let defaults = RedisConfig::default();
        RedisConfig {
            url: self.redis_url.clone(),
            username: self.redis_username.clone(),
            password: self.redis_password.clone(),
            prefix: self.redis_prefix.clone(),
            partitions: self.redis_partitions.unwrap_or(defaults.partitions),
            command_timeout_ms: 5_000,
            durability,
            ..defaults
        }
    }

    fn unreachable(&self, error: &anyhow::Error) -> anyhow::Error {
        let url = &self.redis_url;
        anyhow::anyhow!(
            "cannot reach Redis at {url} ({error:#}); is it running there? `millrace dev` starts one; else give --redis-url"
        )
    }

    /// Connects with as many partitions as this Redis was first started with.
    pub(crate) async fn connect(&self, durability: Durability) -> anyhow::Result<(Probe, Store)> {
        let mut config = self.config(durability);
        let probe =
            Probe::connect(&config, CONNECT_WITHIN).await.map_err(|error| self.unreachable(&error.into()))?;
        if let (None, Some(partitions)) = (self.redis_partitions, probe.partitions().await?) {
            config.partitions = partitions;
        }
        let store = Store::connect(&config)?;
        store.wait_connected(CONNECT_WITHIN).await.map_err(|error| self.unreachable(&error.into()))?;
        Ok((probe, store))
    }

    /// Connects to look at what is there; a Redis that never saw Millrace is refused, as nothing could be seen in it.
    pub(crate) async fn connect_to_look(&self) -> anyhow::Result<(Probe, Store)> {
        let (probe, store) = self.connect(Durability::None).await?;
        match probe.partitions().await? {
            None => anyhow::bail!(
                "this Redis holds no {}: give the right --redis-url and --redis-prefix, start a relayer or settler \
                 once, or see `millrace recover` if it lost its data",
                store.keys().meta()
            ),
            Some(found) if found != store.partitions() => anyhow::bail!(
                "this Redis was started with {found} partitions, not {}: leave --redis-partitions out",
                store.partitions()
            ),
            Some(_) => Ok((probe, store)),
        }
    }
}

/// The key that signs.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeyArgs {
    /// File of the signing key, as `millrace keys new` makes it.
    #[arg(long, value_name = "FILE", env = "MILLRACE_KEY")]
    pub(crate) key: PathBuf,
}

impl KeyArgs {
    pub(crate) fn read(&self) -> anyhow::Result<ed25519_dalek::SigningKey> {
        crate::payer::read_key(&self.key)
            .context("--key: give the file of a signing key (`millrace keys new FILE` makes one)")
    }
}

/// Reads a duration such as `250ms`, `90s`, `15m`, `12h` or `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a whole number with a unit: 250ms, 90s, 15m, 12h, 7d";
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(EXPECTED)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(EXPECTED.to_owned()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| EXPECTED.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_example_of_the_help_parses() {
        let examples = EXAMPLES.lines().filter(|line| line.starts_with("  millrace "));
        let id = PublicKey([7; 32]).to_string();
        let mut seen = 0;
        for example in examples {
            let line = example.trim().replace("CHANNEL", &id).replace("PAYEE", &id);
            let command = line.split("   ").next().unwrap_or_default();
            Cli::try_parse_from(command.split_whitespace()).unwrap_or_else(|e| panic!("{command}: {e}"));
            seen += 1;
        }
        assert!(seen >= 5, "examples were found");
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "5", "s", "-1s", "1.5h", "1y", "99999999999999999999s", "999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
