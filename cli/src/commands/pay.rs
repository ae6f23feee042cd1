//! `millrace pay`: sign vouchers and present them.

use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use common::amount::Amount;
use common::ids::{ChannelId, PublicKey};
use common::problem::Code;
use common::wire::{Latest, PaymentAnswer, PaymentRequest};
use ed25519_dalek::SigningKey;

use crate::args::{KeyArgs, RelayerArgs};
use crate::client::{RelayerClient, RelayerError, Transport};
use crate::output::Printer;
use crate::payer;

const EXAMPLES: &str = "\
Examples:
  millrace pay CHANNEL --key payer.key --add 5               5 more than so far
  millrace pay CHANNEL --key payer.key --add 5 --count 100   a hundred of these
  millrace pay CHANNEL --key payer.key --add 5 --count 100 --transport stream   over one connection
  millrace pay CHANNEL --key payer.key --amount 500          500 in total
  millrace pay CHANNEL --key payer.key --amount 500 --print  only sign, for curl:
      … --print | curl --json @- http://127.0.0.1:7710/v1/payments

Paying an --amount is safe to repeat: the same voucher is charged once.";

/// How often a payer that fell behind takes up the relayer's latest amount, for one payment.
const RESYNCS_MAX: u32 = 5;

/// How often the same voucher is sent while its outcome is unknown.
const ATTEMPTS_MAX: u32 = 5;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PayArgs {
    /// The channel to pay from.
    #[arg(value_name = "CHANNEL")]
    id: ChannelId,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    how_much: HowMuch,
    /// How many payments of --add.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "add", value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// When the vouchers end, as Unix time in seconds; 0 for never.
    #[arg(long, value_name = "TIME", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    expires_at: i64,
    /// A request for each payment, or one WebSocket connection for all.
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    transport: Transport,
    /// Print the signed voucher as JSON and send nothing.
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    relayer: RelayerArgs,
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

pub(crate) async fn run(args: PayArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let mut till = Till {
        id: args.id,
        key: args.key.read()?,
        relayer: args.relayer.client()?.over(args.transport, 1),
        expires_at: args.expires_at,
        latest: Amount::ZERO,
    };
    match (args.how_much.amount, args.how_much.add) {
        (Some(amount), _) => {
            ensure!(!amount.is_zero(), "--amount must be more than 0");
            let voucher = till.voucher(amount);
            if args.print {
                return print(printer, &voucher);
            }
            let answer = till.present(&voucher).await.context("not paid")?;
            report(printer, &answer)?;
        }
        (None, Some(step)) => {
            ensure!(!step.is_zero(), "--add must be more than 0");
            till.resync().await?;
            if args.print {
                return print(printer, &till.voucher(till.after(step)?));
            }
            for n in 0..args.count {
                let answer = till.add(step).await.with_context(|| match n {
                    0 => "not paid".to_owned(),
                    _ => format!("only {n} of {} paid", args.count),
                })?;
                report(printer, &answer)?;
            }
        }
        (None, None) => bail!("give --amount or --add"),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(printer: &Printer, voucher: &PaymentRequest) -> anyhow::Result<ExitCode> {
    let json = serde_json::to_string(voucher)?;
    printer.data(voucher, |_| json)?;
    Ok(ExitCode::SUCCESS)
}

fn report(printer: &Printer, answer: &PaymentAnswer) -> anyhow::Result<()> {
    printer.data(answer, |answer| {
        format!("{:?}: {} in total", answer.outcome, answer.cumulative_amount).to_lowercase()
    })
}

/// One payer's side of one channel.
struct Till {
    id: ChannelId,
    key: SigningKey,
    relayer: RelayerClient,
    expires_at: i64,
    latest: Amount,
}

impl Till {
    fn voucher(&self, amount: Amount) -> PaymentRequest {
        payer::voucher(&self.key, self.id, amount, self.expires_at)
    }

    fn after(&self, step: Amount) -> anyhow::Result<Amount> {
        self.latest.checked_add(step).context("the sum is past what an amount can be")
    }

    /// Goes on from what the relayer has of this payer.
    async fn resync(&mut self) -> anyhow::Result<()> {
        let channel = self.relayer.channel(&self.id).await.context("cannot read the channel")?;
        ensure!(
            channel.terms.payer_authorizer == PublicKey::of(&self.key),
            "--key is not the key that signs for this channel: its payer authorizer is {}",
            channel.terms.payer_authorizer
        );
        self.latest = channel.latest.map_or(Ok(Amount::ZERO), |latest| self.trusted(&latest))?;
        Ok(())
    }

    /// The amount of a voucher that this payer has signed itself.
    fn trusted(&self, latest: &Latest) -> anyhow::Result<Amount> {
        ensure!(
            payer::is_signed_by(latest, &PublicKey::of(&self.key), &self.id),
            "the relayer names {} as the latest amount, with a signature that is not of this key: do not pay there",
            latest.cumulative_amount
        );
        Ok(latest.cumulative_amount)
    }

    /// Pays `step` on top of the latest amount, wherever that stands by now.
    async fn add(&mut self, step: Amount) -> anyhow::Result<PaymentAnswer> {
        let mut resyncs = 0;
        loop {
            let voucher = self.voucher(self.after(step)?);
            match self.present(&voucher).await {
                Ok(answer) => {
                    self.latest = answer.cumulative_amount;
                    return Ok(answer);
                }
                Err(RelayerError::Refused(problem))
                    if problem.code == Code::StaleAmount && resyncs < RESYNCS_MAX =>
                {
                    resyncs += 1;
                    let latest =
                        problem.latest.as_ref().context("stale_amount without the latest voucher")?;
                    self.latest = self.trusted(latest)?;
                }
                Err(error) => {
                    let amount = voucher.cumulative_amount;
                    return Err(error).with_context(|| format!("voucher for {amount} in total"));
                }
            }
        }
    }

    /// Presents a voucher, again as long as its outcome is unknown: it cannot be charged twice.
    async fn present(&self, voucher: &PaymentRequest) -> Result<PaymentAnswer, RelayerError> {
        let mut attempt = 1;
        loop {
            match self.relayer.pay(voucher).await {
                Err(error) if error.outcome_is_unknown() && attempt < ATTEMPTS_MAX => {
                    tokio::time::sleep(std::time::Duration::from_millis(100 * u64::from(attempt))).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }
}
