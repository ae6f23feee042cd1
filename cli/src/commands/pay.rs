//! `millrace pay`: make payments and present them, in whichever scheme the channel has.

mod till;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use common::amount::Amount;
use common::channel::SchemeKind;
use common::client::state::StateFile;
use common::ids::ChannelId;

use crate::args::RelayerArgs;
use crate::client::Transport;
use crate::output::Printer;
use crate::payer::{self, Means};
use till::{Goal, Pays, Till};

const EXAMPLES: &str = "\
Examples:
  millrace pay CHANNEL --key payer.key --add 5               5 more than so far
  millrace pay CHANNEL --key payer.key --add 5 --count 100   a hundred of these
  millrace pay CHANNEL --key payer.key --add 5 --count 100 --transport stream   over one connection
  millrace pay CHANNEL --key payer.key --amount 500          500 in total
  millrace pay CHANNEL --state channel.state --add 5         from a payword or paytree channel
  millrace pay CHANNEL --key payer.key --amount 500 --print  send nothing, for curl:
      … --print | curl --json @- http://127.0.0.1:7710/v1/payments

Paying an --amount is safe to repeat: the same payment is charged once. A chain is paid along in steps that relayers \
take, each a payment of its own and answered as one; what was answered is paid, whatever comes of the rest.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PayArgs {
    /// The channel to pay from.
    #[arg(value_name = "CHANNEL")]
    id: ChannelId,
    #[command(flatten)]
    means: MeansArgs,
    #[command(flatten)]
    how_much: HowMuch,
    /// How many payments of --add.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "add", value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// A request for each payment, or one WebSocket connection for all.
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    transport: Transport,
    /// Print the payment as JSON, as it would be sent, and send nothing; several are a line each.
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    relayer: RelayerArgs,
}

/// What pays.
#[derive(Debug, Args)]
struct MeansArgs {
    /// Of ed25519: file of the key that signs vouchers, as `millrace keys new` makes it.
    #[arg(long, value_name = "FILE", env = "MILLRACE_KEY", required_unless_present = "state")]
    key: Option<PathBuf>,
    /// Of payword and paytree: the state file that the channel was opened with.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Of ed25519: when the vouchers end, as Unix time in seconds; 0 for never.
    #[arg(long, value_name = "TIME", default_value_t = 0, conflicts_with = "state", value_parser = clap::value_parser!(i64).range(0..))]
    expires_at: i64,
    /// Of paytree: show all siblings, also those that the relayer could work out.
    #[arg(long, requires = "state")]
    complete: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct HowMuch {
    /// Atomic units owed in total, this payment included.
    #[arg(long, value_name = "UNITS")]
    amount: Option<Amount>,
    /// Atomic units on top of the latest amount, which the relayer is asked for.
    #[arg(long, value_name = "UNITS")]
    add: Option<Amount>,
}

impl MeansArgs {
    fn read(&self, id: &ChannelId) -> anyhow::Result<Pays> {
        if let Some(path) = &self.state {
            let (file, purse) = StateFile::open(path)?;
            let kept = file.state().channel_id;
            ensure!(kept == *id, "{} is of another channel: {kept}", path.display());
            let is_tree = matches!(purse.scheme(), SchemeKind::Paytree(_));
            ensure!(is_tree || !self.complete, "--complete is of paytree: a payword payment has one form");
            return Ok(Pays::committed(Arc::new(purse), file, self.complete));
        }
        let path = self.key.as_ref().context("give --key or --state")?;
        let key = payer::read_key(path)
            .context("--key: give the file of a signing key (`millrace keys new FILE` makes one)")?;
        Ok(Pays::signed(Means::Key(Box::new(key)), self.expires_at))
    }
}

pub(crate) async fn run(args: PayArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let pays = args.means.read(&args.id)?;
    let relayer = args.relayer.client()?.over(args.transport, 1);
    let mut till = Till::new(args.id, pays, relayer, printer);
    match (args.how_much.amount, args.how_much.add) {
        (Some(amount), _) => {
            ensure!(!amount.is_zero(), "--amount must be more than 0");
            if till.needs_latest() {
                till.resync().await?;
            }
            if args.print {
                till.print(amount)?;
            } else {
                till.pay(Goal::Total(amount)).await.context("not paid")?;
            }
        }
        (None, Some(step)) => {
            ensure!(!step.is_zero(), "--add must be more than 0");
            till.resync().await?;
            for n in 0..args.count {
                if args.print {
                    till.print(till.after(step)?)?;
                    continue;
                }
                till.pay(Goal::Add(step)).await.with_context(|| match n {
                    0 => "not paid".to_owned(),
                    _ => format!("only {n} of {} paid", args.count),
                })?;
            }
        }
        (None, None) => bail!("give --amount or --add"),
    }
    Ok(ExitCode::SUCCESS)
}
