//! `millrace channel show`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use common::channel::Terms;
use common::ids::ChannelId;
use common::wire::{IssuerChannel, Receipt, RelayerChannel};

use crate::args::{IssuerArgs, RelayerArgs};
use crate::commands::verify::place;
use crate::output::{self, Printer, fields, or_dash, yes_no};

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The channel.
    #[arg(value_name = "CHANNEL")]
    id: ChannelId,
    /// Who is asked: the relayer knows the latest payment, the issuer what was settled.
    #[arg(long, value_enum, default_value_t = Side::Relayer)]
    from: Side,
    #[command(flatten)]
    relayer: RelayerArgs,
    #[command(flatten)]
    issuer: IssuerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    Relayer,
    Issuer,
}

pub(super) async fn run(args: ShowArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    match args.from {
        Side::Relayer => {
            let channel =
                args.relayer.client()?.channel(&args.id).await.context("cannot read the channel")?;
            printer.data(&channel, of_relayer)?;
        }
        Side::Issuer => {
            let channel = args.issuer.client()?.channel(&args.id).await.context("cannot read the channel")?;
            let channel = channel.with_context(|| {
                format!("unknown_channel: the issuer does not know {}; see `millrace channel list`", args.id)
            })?;
            printer.data(&channel, of_issuer)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn of_relayer(channel: &RelayerChannel) -> String {
    let latest = channel.latest.as_ref().map(|latest| latest.cumulative_amount);
    let mut rows = vec![
        ("channel", channel.channel_id.to_string()),
        ("status", format!("{:?}", channel.status).to_lowercase()),
        ("latest amount", or_dash(latest)),
        ("proof", or_dash(channel.latest.as_ref().map(|latest| output::proof(&latest.proof)))),
        ("capacity", channel.capacity.to_string()),
        ("close requested", yes_no(channel.close_requested)),
    ];
    rows.extend(of_terms(&channel.terms));
    rows.extend(of_receipt(channel.receipt.as_ref()));
    fields(rows)
}

fn of_issuer(channel: &IssuerChannel) -> String {
    let mut rows = vec![
        ("channel", channel.channel_id.to_string()),
        ("status", format!("{:?}", channel.status).to_lowercase()),
        ("settled", channel.settled_amount.to_string()),
        ("refunded", channel.refunded_amount.to_string()),
        ("capacity", channel.terms.capacity.to_string()),
    ];
    rows.extend(of_terms(&channel.terms));
    rows.extend(of_receipt(channel.receipt.as_ref()));
    fields(rows)
}

fn of_terms(terms: &Terms) -> Vec<(&'static str, String)> {
    let mut rows = vec![("scheme", output::scheme(&terms.scheme)), ("payer", terms.payer.to_string())];
    if terms.payer_authorizer != terms.payer {
        rows.push(("payer authorizer", terms.payer_authorizer.to_string()));
    }
    rows.extend([
        ("payee", terms.payee.to_string()),
        ("asset", terms.asset.clone()),
        ("expires at", format!("{} (Unix time)", terms.expires_at)),
        ("issuer", terms.issuer.to_string()),
    ]);
    rows
}

fn of_receipt(receipt: Option<&Receipt>) -> Vec<(&'static str, String)> {
    receipt.map_or_else(Vec::new, |receipt| {
        vec![
            ("receipt", format!("settled {}, refunded {}", receipt.settled_amount, receipt.refunded_amount)),
            ("receipt signature", receipt.signature.to_string()),
            ("place in its batch", or_dash(receipt.inclusion.as_ref().map(place))),
        ]
    })
}
