//! Channels to pay from.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use common::amount::Amount;
use common::channel::{SchemeKind, Status, Terms};
use common::clock::Clock;
use common::ids::{ChannelId, PublicKey};
use common::problem::Code;
use common::secret::write_signing_key;
use common::wire::Party;
use ed25519_dalek::SigningKey;
use futures::{StreamExt as _, TryStreamExt as _};
use service::issuer_client::IssuerClient;

use crate::client::{RelayerClient, RelayerError};
use crate::payer;

/// Requests to issuer and relayers that are on their way at once while channels are opened and closed.
const IN_FLIGHT: usize = 16;

/// A channel and the key that pays from it.
#[derive(Clone, Debug)]
pub struct PayingChannel {
    /// The channel.
    pub id: ChannelId,
    /// Payer and payer authorizer in one.
    pub key: SigningKey,
    /// The most that it can pay.
    pub capacity: Amount,
    /// What it owes so far.
    pub latest: Amount,
    /// True once it takes no more payments.
    pub done: bool,
}

/// What channels to have.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// How many, each of its own payer.
    pub payers: usize,
    /// Who is paid.
    pub payee: PublicKey,
    /// In what.
    pub asset: String,
    /// The deposit of each.
    pub capacity: Amount,
    /// How long each lasts, in seconds.
    pub expires_in_s: u64,
    /// Keeps keys and channel ids, so that a later load goes on with them.
    pub dir: Option<PathBuf>,
}

/// Gets the channels ready: those that `dir` knows and that still take payments, and new ones for the rest.
/// `opened` counts them.
///
/// # Errors
/// The issuer refuses or does not answer; `dir` cannot be used.
pub async fn ready(
    options: &ChannelOptions,
    issuer: &IssuerClient,
    relayer: &RelayerClient,
    opened: &AtomicU64,
) -> anyhow::Result<Vec<PayingChannel>> {
    let issuer_key = issuer.info().await?.public_key;
    if let Some(dir) = &options.dir {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    futures::stream::iter(0..options.payers)
        .map(async |n| {
            let key = payer_key(options.dir.as_deref(), n)?;
            let note = options.dir.as_ref().map(|dir| dir.join(format!("payer-{n:05}.channel")));
            let channel = match note.as_deref().and_then(noted_channel) {
                Some(id) => still_open(id, &key, options, relayer).await?,
                None => None,
            };
            let channel = match channel {
                Some(channel) => channel,
                None => {
                    let channel = open(key, options, issuer, issuer_key).await?;
                    if let Some(note) = note {
                        std::fs::write(&note, format!("{}\n", channel.id))
                            .with_context(|| format!("cannot write {}", note.display()))?;
                    }
                    channel
                }
            };
            opened.fetch_add(1, Ordering::Relaxed);
            anyhow::Ok(channel)
        })
        .buffered(IN_FLIGHT)
        .try_collect()
        .await
}

/// Asks for the close of every channel, as its payer. Those that are closing already are left alone.
///
/// # Errors
/// No relayer takes the request.
pub async fn request_close(
    channels: &[PayingChannel],
    relayers: &[RelayerClient],
    asked: &AtomicU64,
) -> anyhow::Result<()> {
    futures::stream::iter(channels.iter().enumerate())
        .map(async |(i, channel)| {
            let request = payer::close_request(&channel.key, &channel.id, Party::Payer);
            // Two rounds: a relayer that is just being restarted has a neighbour.
            let mut last = None;
            for relayer in relayers.iter().cycle().skip(i % relayers.len()).take(relayers.len() * 2) {
                match relayer.close(&channel.id, &request).await {
                    Err(error) if !is_closing(&error) => last = Some(error),
                    _ => {
                        asked.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                }
            }
            match last {
                Some(error) => Err(error).with_context(|| format!("cannot close channel {}", channel.id)),
                None => Ok(()),
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await
}

fn is_closing(error: &RelayerError) -> bool {
    matches!(error.code(), Some(Code::ChannelClosing | Code::ChannelClosed))
}

/// The key of the `n`th payer: from `dir` where it has one, else a new one.
fn payer_key(dir: Option<&Path>, n: usize) -> anyhow::Result<SigningKey> {
    let Some(dir) = dir else { return Ok(payer::new_key()) };
    let path = dir.join(format!("payer-{n:05}.key"));
    if path.exists() {
        return Ok(payer::read_key(&path)?);
    }
    let key = payer::new_key();
    write_signing_key(&path, &key).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(key)
}

fn noted_channel(path: &Path) -> Option<ChannelId> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The channel of an earlier load, if one can still pay from it.
async fn still_open(
    id: ChannelId,
    key: &SigningKey,
    options: &ChannelOptions,
    relayer: &RelayerClient,
) -> anyhow::Result<Option<PayingChannel>> {
    let channel = match relayer.channel(&id).await {
        Ok(channel) => channel,
        Err(error) if error.code() == Some(Code::UnknownChannel) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let latest = match &channel.latest {
        Some(latest) if payer::is_signed_by(latest, &PublicKey::of(key), &id) => latest.cumulative_amount,
        Some(_) => return Ok(None),
        None => Amount::ZERO,
    };
    let usable = channel.status == Status::Open
        && !channel.close_requested
        && channel.terms.payee == options.payee
        && latest < channel.capacity;
    Ok(usable.then(|| PayingChannel {
        id,
        key: key.clone(),
        capacity: channel.capacity,
        latest,
        done: false,
    }))
}

async fn open(
    key: SigningKey,
    options: &ChannelOptions,
    issuer: &IssuerClient,
    issuer_key: PublicKey,
) -> anyhow::Result<PayingChannel> {
    let payer = PublicKey::of(&key);
    issuer.register(&payer).await.context("cannot register a payer")?;
    let lifetime_s = i64::try_from(options.expires_in_s).unwrap_or(i64::MAX);
    let terms = Terms {
        issuer: issuer_key,
        payer,
        payer_authorizer: payer,
        payee: options.payee,
        asset: options.asset.clone(),
        capacity: options.capacity,
        expires_at: Clock::system().now_s().saturating_add(lifetime_s),
        salt: rand::random(),
        scheme: SchemeKind::Ed25519,
    };
    let channel = issuer.open(&payer::opening(&key, terms)).await.context("cannot open a channel")?;
    Ok(PayingChannel {
        id: channel.channel_id,
        key,
        capacity: options.capacity,
        latest: Amount::ZERO,
        done: false,
    })
}
