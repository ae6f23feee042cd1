//! `millrace channel list`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use common::ids::{ChannelId, PublicKey};
use common::wire::IssuerChannelPage;
use service::issuer_client::ChannelQuery;

use crate::args::IssuerArgs;
use crate::output::{Printer, table};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only channels of this payer.
    #[arg(long, value_name = "KEY")]
    payer: Option<PublicKey>,
    /// Only channels for this payee.
    #[arg(long, value_name = "KEY")]
    payee: Option<PublicKey>,
    /// Only channels after this one: the `next` of the page before.
    #[arg(long, value_name = "CHANNEL")]
    after: Option<ChannelId>,
    /// Channels on a page.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    issuer: IssuerArgs,
}

pub(super) async fn run(args: ListArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let query =
        ChannelQuery { payer: args.payer, payee: args.payee, after: args.after, limit: Some(args.limit) };
    let page = args.issuer.client()?.channels(&query).await.context("cannot list channels")?;
    printer.data(&page, text)?;
    if let Some(next) = page.next {
        printer.note(format_args!("next page: --after {next}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(page: &IssuerChannelPage) -> String {
    table(
        ["channel", "status", "settled", "refunded", "capacity", "asset"],
        page.channels.iter().map(|channel| {
            [
                channel.channel_id.to_string(),
                format!("{:?}", channel.status).to_lowercase(),
                channel.settled_amount.to_string(),
                channel.refunded_amount.to_string(),
                channel.terms.capacity.to_string(),
                channel.terms.asset.clone(),
            ]
        }),
    )
}
