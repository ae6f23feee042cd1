//! `millrace account`: accounts with the issuer.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use common::ids::PublicKey;
use common::wire::Account;

use crate::args::IssuerArgs;
use crate::output::{Printer, fields};
use crate::payer;

const EXAMPLES: &str = "\
Examples:
  millrace account register --key payer.key
  millrace account show --public-key 5Hqv…";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum AccountCommand {
    /// Register an account. Registering it again changes nothing. A development issuer gives it play money.
    Register(AccountArgs),
    /// Show an account's balances.
    Show(AccountArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AccountArgs {
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    issuer: IssuerArgs,
}

/// Whose account.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Who {
    /// The account's key file; only its public half leaves this machine.
    #[arg(long, value_name = "FILE", env = "MILLRACE_KEY")]
    key: Option<std::path::PathBuf>,
    /// The account's public key, base58; it wins over a key file.
    #[arg(long, value_name = "KEY")]
    public_key: Option<PublicKey>,
}

impl Who {
    fn public_key(&self) -> anyhow::Result<PublicKey> {
        match (&self.public_key, &self.key) {
            (Some(public_key), _) => Ok(*public_key),
            (None, Some(file)) => Ok(PublicKey::of(&payer::read_key(file)?)),
            (None, None) => anyhow::bail!("give --key or --public-key"),
        }
    }
}

pub(crate) async fn run(command: AccountCommand, printer: &Printer) -> anyhow::Result<ExitCode> {
    let account = match &command {
        AccountCommand::Register(args) => {
            let client = args.issuer.client()?;
            client.register(&args.who.public_key()?).await.context("cannot register the account")?
        }
        AccountCommand::Show(args) => {
            args.issuer.client()?.account(&args.who.public_key()?).await.context("cannot read the account")?
        }
    };
    printer.data(&account, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(account: &Account) -> String {
    let mut rows = vec![("account".to_owned(), account.public_key.to_string())];
    for balance in &account.balances {
        rows.push((format!("{} available", balance.asset), balance.available.to_string()));
        rows.push((format!("{} locked", balance.asset), balance.locked.to_string()));
    }
    if account.highest_fencing_token > 0 {
        rows.push(("highest fencing token".to_owned(), account.highest_fencing_token.to_string()));
    }
    fields(rows)
}
