//! `millrace dead`: what a person does about what was given up on.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use common::channel::Status;
use common::clock::Clock;
use common::ids::ChannelId;
use common::store::operate::{Requeued, Retried};
use common::store::stream::EntryId;
use serde::Serialize;

use crate::args::RedisArgs;
use crate::commands::inspect::entry_id;
use crate::output::Printer;

const EXAMPLES: &str = "\
Examples:
  millrace inspect dead                          what there is, and why
  millrace dead retry CHANNEL                    the issuer will settle it now
  millrace dead requeue --partition 7 1700000000000-0

Neither moves money: a close that is tried again is for the amount that was pinned when it began, and the payments of an \
entry are in the channels' states already. What fails again comes back to the list.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DeadArgs {
    #[command(subcommand)]
    command: DeadCommand,
    #[command(flatten)]
    redis: RedisArgs,
}

#[derive(Debug, Subcommand)]
enum DeadCommand {
    /// Have a failed channel closed again, for the voucher that is pinned.
    Retry {
        /// The channel.
        #[arg(value_name = "CHANNEL")]
        id: ChannelId,
    },
    /// Put an entry of payments back into its stream, to be read once more.
    Requeue {
        /// The partition in whose list it stands.
        #[arg(long, value_name = "P")]
        partition: u16,
        /// The dead letter, as `millrace inspect dead` shows it.
        #[arg(value_name = "ENTRY", value_parser = entry_id)]
        entry: EntryId,
    },
}

/// What was done.
#[derive(Debug, Serialize)]
#[serde(tag = "done", rename_all = "snake_case")]
enum Done {
    Retry { channel_id: ChannelId, status: Status },
    Requeue { partition: u16, entry: String },
}

pub(crate) async fn run(args: DeadArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let (_, store) = args.redis.connect_to_look().await?;
    let done = match args.command {
        DeadCommand::Retry { id } => match store.retry_failed(&id, Clock::system().now_ms()).await? {
            Retried::Closing => Done::Retry { channel_id: id, status: Status::Closing },
            Retried::NotFailed(status) => {
                bail!("channel_not_failed: it is {}; see `millrace inspect channel {id}`", status.as_str())
            }
            Retried::Unknown => {
                bail!("unknown_channel: Redis does not know {id}; see `millrace inspect channels`")
            }
        },
        DeadCommand::Requeue { partition, entry } => {
            if partition >= store.partitions() {
                bail!("there are {} partitions, counted from 0", store.partitions());
            }
            match store.requeue_dead(partition, entry).await? {
                Requeued::As(entry) => Done::Requeue { partition, entry: entry.to_string() },
                Requeued::Unknown => {
                    bail!("unknown_entry: there is no such dead letter; see `millrace inspect dead`")
                }
                Requeued::NotAnEntry => bail!(
                    "unknown_entry: this dead letter is no entry of payments; a close is tried again with `millrace dead retry`"
                ),
            }
        }
    };
    printer.data(&done, |done: &Done| match done {
        Done::Retry { channel_id, .. } => {
            format!("{channel_id} is closing again; see `millrace inspect channel {channel_id}`")
        }
        Done::Requeue { partition, entry } => {
            format!(
                "back in the stream of partition {partition:02} as {entry}; see `millrace inspect partitions`"
            )
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
