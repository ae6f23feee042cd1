//! `millrace channel close`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use common::channel::Status;
use common::ids::{ChannelId, PublicKey};
use common::wire::{Party, RelayerChannel};

use crate::args::{KeyArgs, RelayerArgs, duration};
use crate::client::RelayerClient;
use crate::output::Printer;
use crate::payer;

/// How often a close is looked after.
const POLL: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct CloseArgs {
    /// The channel.
    #[arg(value_name = "CHANNEL")]
    id: ChannelId,
    #[command(flatten)]
    key: KeyArgs,
    /// Wait until the issuer has settled.
    #[arg(long)]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "wait", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    relayer: RelayerArgs,
}

pub(super) async fn run(args: CloseArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let key = args.key.read()?;
    let relayer = args.relayer.client()?;
    let channel = relayer.channel(&args.id).await.context("cannot read the channel")?;
    let public_key = PublicKey::of(&key);
    let party = if public_key == channel.terms.payer {
        Party::Payer
    } else if public_key == channel.terms.payee {
        Party::Payee
    } else {
        bail!(
            "--key is neither the payer's nor the payee's key of this channel: only they can ask for a close"
        );
    };
    if !matches!(channel.status, Status::Closed | Status::Failed) {
        let request = payer::close_request(&key, &args.id, party);
        relayer.close(&args.id, &request).await.context("cannot ask for the close")?;
    }
    let channel = if args.wait {
        wait(&relayer, &args.id, args.timeout).await?
    } else {
        relayer.channel(&args.id).await.context("the close was asked for, but the channel cannot be read")?
    };
    printer.data(&channel, text)?;
    Ok(match channel.status {
        Status::Failed => ExitCode::FAILURE,
        Status::Open | Status::Closing | Status::Closed => ExitCode::SUCCESS,
    })
}

async fn wait(relayer: &RelayerClient, id: &ChannelId, timeout: Duration) -> anyhow::Result<RelayerChannel> {
    let start = Instant::now();
    loop {
        let last = relayer.channel(id).await;
        match last {
            Ok(channel) if matches!(channel.status, Status::Closed | Status::Failed) => return Ok(channel),
            // The close was asked for: a relayer that is away for a moment does not change that.
            _ if start.elapsed() < timeout => tokio::time::sleep(POLL).await,
            Ok(channel) => bail!(
                "not settled within {} s, status {:?}; the settler goes on by itself: is one leading? \
                 (`millrace inspect leader`)",
                timeout.as_secs(),
                channel.status
            ),
            Err(error) => return Err(error).context("the close was asked for, but its end was not seen"),
        }
    }
}

fn text(channel: &RelayerChannel) -> String {
    let id = channel.channel_id;
    match (&channel.receipt, channel.status) {
        (Some(receipt), _) => format!(
            "{id} closed: {} to the payee, {} back to the payer",
            receipt.settled_amount, receipt.refunded_amount
        ),
        (None, Status::Failed) => {
            format!(
                "{id} failed: the issuer refused to settle; see `millrace inspect dead`, and `millrace dead retry`"
            )
        }
        (None, _) => format!("{id} will be closed; see `millrace channel show {id}`"),
    }
}
