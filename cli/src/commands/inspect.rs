//! `millrace inspect`: what Redis holds. Reads only, a page at a time, never `KEYS`.

mod channels;
mod keys;
mod leader;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use common::ids::ChannelId;

pub(super) use leader::entry_id;

use crate::args::RedisArgs;
use crate::output::Printer;

const EXAMPLES: &str = "\
Examples:
  millrace inspect leader
  millrace inspect partitions
  millrace inspect channels --limit 50 --after 3:1024
  millrace inspect channel CHANNEL
  millrace inspect dead --partition 7
  millrace inspect keys --limit 100000";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    redis: RedisArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Who leads, for how long, under which fencing token.
    Leader,
    /// Every partition: payments to be read, channels to be settled, fence, dead letters.
    Partitions,
    /// Channels, a page at a time, in no order. A channel may come twice.
    Channels {
        /// The `next` of the page before.
        #[arg(long, value_name = "CURSOR")]
        after: Option<channels::Cursor>,
        /// Channels on a page, at least as long as there are more.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Everything that Redis holds of one channel.
    Channel {
        /// The channel.
        #[arg(value_name = "CHANNEL")]
        id: ChannelId,
    },
    /// Entries and closes that were given up on, with the reason.
    Dead {
        /// Only of this partition.
        #[arg(long, value_name = "P")]
        partition: Option<u16>,
        /// Only after this entry; needs --partition.
        #[arg(long, value_name = "ENTRY", requires = "partition", default_value = "0-0", value_parser = leader::entry_id)]
        after: common::store::stream::EntryId,
        /// Entries of each partition, at most.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        limit: u64,
    },
    /// How many keys of each kind, with a sample of each; walks with SCAN.
    Keys {
        /// The `next` of the page before.
        #[arg(long, value_name = "CURSOR", default_value = "0")]
        after: String,
        /// Keys to look at.
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// A row for each partition, as --json always has it.
        #[arg(long)]
        per_partition: bool,
    },
}

pub(crate) async fn run(args: InspectArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let (probe, store) = args.redis.connect_to_look().await?;
    match args.what {
        What::Leader => leader::leader(&store, printer).await?,
        What::Partitions => leader::partitions(&store, printer).await?,
        What::Dead { partition, after, limit } => {
            leader::dead(&store, partition, after, limit, printer).await?
        }
        What::Channels { after, limit } => channels::page(&store, after, limit, printer).await?,
        What::Channel { id } => channels::one(&store, &id, printer).await?,
        What::Keys { after, limit, per_partition } => {
            keys::families(&probe, &store, &after, limit, per_partition, printer).await?
        }
    }
    Ok(ExitCode::SUCCESS)
}
