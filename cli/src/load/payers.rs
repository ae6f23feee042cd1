//! Channels to pay from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use common::amount::Amount;
use common::channel::{Status, Terms};
use common::client::ClientError;
use common::client::state::StateFile;
use common::clock::Clock;
use common::ids::{ChannelId, Hash, PublicKey};
use common::problem::Code;
use common::secret::write_signing_key;
use common::voucher::Proof;
use common::wire::{Latest, Party, PaymentRequest};
use ed25519_dalek::SigningKey;
use futures::{StreamExt as _, TryStreamExt as _};
use service::issuer_client::IssuerClient;

use crate::client::{RelayerClient, RelayerError};
use crate::payer::{self, Means, Paying, Scheme};

/// Requests to issuer and relayers that are on their way at once while channels are opened and closed.
const IN_FLIGHT: usize = 16;

/// A channel and what pays from it.
#[derive(Clone, Debug)]
pub struct PayingChannel {
    /// The channel.
    pub id: ChannelId,
    /// The payer's key. Where vouchers are signed, it signs them too.
    pub key: SigningKey,
    /// What its payments are made with.
    pub means: Means,
    /// The most that it can pay.
    pub capacity: Amount,
    /// What it owes so far.
    pub latest: Amount,
    /// What proves that, once a relayer is known to have it.
    pub proof: Option<Proof>,
    /// True once it takes no more payments.
    pub done: bool,
}

impl PayingChannel {
    /// A channel that nothing was paid from yet.
    pub fn new(id: ChannelId, key: SigningKey, means: Means, capacity: Amount) -> Self {
        PayingChannel { id, key, means, capacity, latest: Amount::ZERO, proof: None, done: false }
    }

    /// One whose vouchers its payer signs.
    pub fn of_key(id: ChannelId, key: SigningKey, capacity: Amount) -> Self {
        let means = Means::Key(Box::new(key.clone()));
        Self::new(id, key, means, capacity)
    }

    /// The payment of `amount` in total.
    ///
    /// # Errors
    /// What the channel was opened with has no such amount.
    pub fn paying(&self, amount: Amount) -> Result<Paying, ClientError> {
        Ok(Paying::after(self.means.payment(self.id, amount)?, self.proof.as_ref()))
    }

    /// Notes that `paid`, complete, was taken.
    pub fn paid(&mut self, paid: &PaymentRequest) {
        (self.latest, self.proof) = (paid.cumulative_amount, Some(paid.proof.clone()));
    }

    /// Goes on from what a relayer calls the latest payment, if it was made here.
    pub fn go_on_from(&mut self, latest: &Latest) -> bool {
        let ours = self.means.made(&self.id, latest);
        if ours {
            (self.latest, self.proof) = (latest.cumulative_amount, Some(latest.proof.clone()));
        }
        ours
    }
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
    /// The deposit of each; less where a commitment holds less.
    pub capacity: Amount,
    /// How long each lasts, in seconds.
    pub expires_in_s: u64,
    /// How they pay, by turns; vouchers where it is empty.
    pub schemes: Vec<Scheme>,
    /// What a step or leaf pays, where there are any.
    pub unit: Amount,
    /// How many units a commitment has room for.
    pub units: u32,
    /// Keeps keys, channel ids and state files, so that a later load goes on with them.
    pub dir: Option<PathBuf>,
}

impl ChannelOptions {
    fn scheme(&self, n: usize) -> Scheme {
        let turn = n.checked_rem(self.schemes.len()).and_then(|turn| self.schemes.get(turn));
        turn.copied().unwrap_or_default()
    }
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
            let kept = options.dir.as_deref().map(|dir| Kept::new(dir, n, options.scheme(n)));
            let known = kept.as_ref().map(|kept| kept.known(&key)).transpose()?.flatten();
            let channel = match known {
                Some((id, means)) => still_open(id, &key, means, options, relayer).await?,
                None => None,
            };
            let channel = match channel {
                Some(channel) => channel,
                None => open(key, options.scheme(n), options, issuer, issuer_key, kept.as_ref()).await?,
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

/// Where it is written down from which channel a payer pays.
struct Kept {
    scheme: Scheme,
    path: PathBuf,
}

impl Kept {
    fn new(dir: &Path, n: usize, scheme: Scheme) -> Kept {
        let name = match scheme {
            Scheme::Ed25519 => format!("payer-{n:05}.channel"),
            committed => format!("payer-{n:05}.{}", committed.name()),
        };
        Kept { scheme, path: dir.join(name) }
    }

    /// The channel of an earlier load, and what pays from it.
    fn known(&self, key: &SigningKey) -> anyhow::Result<Option<(ChannelId, Means)>> {
        if !self.path.exists() {
            return Ok(None);
        }
        if self.scheme == Scheme::Ed25519 {
            let id = std::fs::read_to_string(&self.path).ok().and_then(|text| text.trim().parse().ok());
            return Ok(id.map(|id| (id, Means::Key(Box::new(key.clone())))));
        }
        let (file, purse) = StateFile::open(&self.path)?;
        Ok(Some((file.state().channel_id, Means::Purse(Arc::new(purse)))))
    }

    /// Writes a new channel down, before it is opened. What was there before is kept under another name.
    fn note(&self, terms: &Terms, seed: Hash) -> anyhow::Result<()> {
        if self.scheme == Scheme::Ed25519 {
            return std::fs::write(&self.path, format!("{}\n", terms.id()))
                .with_context(|| format!("cannot write {}", self.path.display()));
        }
        if self.path.exists() {
            let before = StateFile::open(&self.path)?.0.state().channel_id;
            let aside = self.path.with_added_extension(before.to_string());
            std::fs::rename(&self.path, &aside)
                .with_context(|| format!("cannot rename {}", self.path.display()))?;
        }
        let mut file = StateFile::create(&self.path, terms.clone(), seed)?;
        // A load shows what it likes, and writes nothing before each payment.
        file.raise(terms.capacity)?;
        Ok(())
    }
}

/// The channel of an earlier load, if one can still pay from it.
async fn still_open(
    id: ChannelId,
    key: &SigningKey,
    means: Means,
    options: &ChannelOptions,
    relayer: &RelayerClient,
) -> anyhow::Result<Option<PayingChannel>> {
    let channel = match relayer.channel(&id).await {
        Ok(channel) => channel,
        Err(error) if error.code() == Some(Code::UnknownChannel) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let same_unit = match &means {
        Means::Key(_) => true,
        Means::Purse(purse) => purse.unit() == options.unit,
    };
    let mut paying = PayingChannel::new(id, key.clone(), means, channel.capacity);
    let ours = channel.latest.as_ref().is_none_or(|latest| paying.go_on_from(latest));
    let usable = ours
        && same_unit
        && channel.status == Status::Open
        && !channel.close_requested
        && channel.terms.payee == options.payee
        && paying.latest < paying.capacity;
    Ok(usable.then_some(paying))
}

async fn open(
    key: SigningKey,
    scheme: Scheme,
    options: &ChannelOptions,
    issuer: &IssuerClient,
    issuer_key: PublicKey,
    kept: Option<&Kept>,
) -> anyhow::Result<PayingChannel> {
    let payer = PublicKey::of(&key);
    issuer.register(&payer).await.context("cannot register a payer")?;
    let lifetime_s = i64::try_from(options.expires_in_s).unwrap_or(i64::MAX);
    let seed = Hash(rand::random());
    let (unit, units) = (options.unit, options.units);
    // Growing a large tree takes a while, and others are opened meanwhile.
    let purse = tokio::task::spawn_blocking(move || scheme.purse(seed, unit, units)).await??;
    let (means, capacity) = match purse {
        None => (Means::Key(Box::new(key.clone())), options.capacity),
        Some(purse) => {
            let most = unit.units().saturating_mul(u64::from(purse.units_max()));
            (Means::Purse(Arc::new(purse)), options.capacity.min(Amount::new(most)))
        }
    };
    let terms = Terms {
        issuer: issuer_key,
        payer,
        payer_authorizer: payer,
        payee: options.payee,
        asset: options.asset.clone(),
        capacity,
        expires_at: Clock::system().now_s().saturating_add(lifetime_s),
        salt: rand::random(),
        scheme: means.scheme(),
    };
    if let Some(kept) = kept {
        kept.note(&terms, seed)?;
    }
    let channel = issuer.open(&payer::opening(&key, terms)).await.context("cannot open a channel")?;
    Ok(PayingChannel::new(channel.channel_id, key, means, capacity))
}
