//! `millrace channel open`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use common::amount::Amount;
use common::channel::{SchemeKind, Terms};
use common::clock::Clock;
use common::ids::PublicKey;

use crate::args::{IssuerArgs, KeyArgs, duration};
use crate::output::Printer;
use crate::payer;

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Who is to be paid: the payee's public key, base58 (`millrace dev` prints its own).
    #[arg(long, value_name = "KEY", env = "MILLRACE_PAYEE")]
    payee: PublicKey,
    /// The deposit, in atomic units: the most that the channel can pay.
    #[arg(long, value_name = "UNITS")]
    capacity: Amount,
    /// How long the channel lasts. What is not settled by then goes back to the payer.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration)]
    expires_in: Duration,
    /// What is paid in.
    #[arg(long, value_name = "NAME", default_value = "usd")]
    asset: String,
    /// The public key that signs vouchers, if it is not the payer's own.
    #[arg(long, value_name = "KEY")]
    authorizer: Option<PublicKey>,
    /// Tells channels of equal terms apart; random where absent. The same salt and terms give the same channel.
    #[arg(long, value_name = "N")]
    salt: Option<u64>,
    #[command(flatten)]
    issuer: IssuerArgs,
}

pub(super) async fn run(args: OpenArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let key = args.key.read()?;
    let issuer = args.issuer.client()?;
    let issuer_key = issuer.info().await?.public_key;
    let lifetime_s = i64::try_from(args.expires_in.as_secs()).context("--expires-in is too long")?;
    ensure!(lifetime_s > 0, "--expires-in must be a second or more");
    let payer = PublicKey::of(&key);
    let terms = Terms {
        issuer: issuer_key,
        payer,
        payer_authorizer: args.authorizer.unwrap_or(payer),
        payee: args.payee,
        asset: args.asset,
        capacity: args.capacity,
        expires_at: Clock::system().now_s().saturating_add(lifetime_s),
        salt: args.salt.unwrap_or_else(rand::random),
        scheme: SchemeKind::Ed25519,
    };
    terms.clone().check()?;
    let channel = issuer.open(&payer::opening(&key, terms)).await.context("cannot open the channel")?;
    printer.data(&channel, |channel| channel.channel_id.to_string())?;
    Ok(ExitCode::SUCCESS)
}
