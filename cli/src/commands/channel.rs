//! `millrace channel`: open, show, close, list.

mod close;
mod list;
mod open;
mod show;

use std::process::ExitCode;

use clap::Subcommand;

use crate::output::Printer;

const EXAMPLES: &str = "\
Examples:
  millrace channel open --key payer.key --payee PAYEE --capacity 1000 --expires-in 30d
  millrace channel open --key payer.key --payee PAYEE --capacity 1000 --scheme paytree --state channel.state
  millrace channel show CHANNEL
  millrace channel show CHANNEL --from issuer
  millrace channel list --payee PAYEE --limit 50
  millrace channel close CHANNEL --key payer.key --wait";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum ChannelCommand {
    /// Lock a deposit with the issuer. Prints the channel's id.
    Open(open::OpenArgs),
    /// Show a channel as a relayer or the issuer sees it.
    Show(show::ShowArgs),
    /// Ask for a close, as payer or payee; the settler then redeems the latest voucher.
    Close(close::CloseArgs),
    /// List channels that the issuer knows, a page at a time.
    List(list::ListArgs),
}

pub(crate) async fn run(command: ChannelCommand, printer: &Printer) -> anyhow::Result<ExitCode> {
    match command {
        ChannelCommand::Open(args) => open::run(args, printer).await,
        ChannelCommand::Show(args) => show::run(args, printer).await,
        ChannelCommand::Close(args) => close::run(args, printer).await,
        ChannelCommand::List(args) => list::run(args, printer).await,
    }
}
