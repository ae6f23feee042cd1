//! Channels that pay through the real accept script, one payment an entry: a backlog first, then a steady stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use common::amount::Amount;
use common::channel::{CheckedTerms, SchemeKind, Terms};
use common::clock::Clock;
use common::ids::{ChannelId, PublicKey, Signature};
use common::message;
use common::store::Store;
use common::store::accept::Verdict;
use common::voucher::{Payment, Proof, VerifiedVoucher};
use common::wire::Party;
use ed25519_dalek::SigningKey;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::ground::Ground;
use super::issuer::CAPACITY;
use crate::machine::Machine;
use crate::stage;

/// Calls to Redis under way at once.
const IN_FLIGHT: usize = 128;

/// Between two portions of a steady stream of payments.
const PORTION_EVERY: Duration = Duration::from_millis(10);

/// 2100-01-01: nothing expires while it is measured.
const EXPIRES_AT_S: i64 = 4_102_444_800;

/// One channel, and what it has paid.
#[derive(Debug)]
pub(super) struct Channel {
    terms: CheckedTerms,
    authorizer: SigningKey,
    /// The latest amount that was signed.
    paid: AtomicU64,
}

impl Channel {
    fn new(issuer: PublicKey, payee: PublicKey) -> anyhow::Result<Channel> {
        let authorizer = SigningKey::from_bytes(&rand::random());
        let payer = PublicKey::of(&authorizer);
        let terms = Terms {
            issuer,
            payer,
            payer_authorizer: payer,
            payee,
            asset: "usd".to_owned(),
            capacity: CAPACITY,
            expires_at: EXPIRES_AT_S,
            salt: rand::random(),
            scheme: SchemeKind::Ed25519,
        };
        Ok(Channel { terms: terms.check()?, authorizer, paid: AtomicU64::new(0) })
    }

    pub(super) fn id(&self) -> ChannelId {
        self.terms.id()
    }

    pub(super) fn paid(&self) -> Amount {
        Amount::new(self.paid.load(Ordering::Acquire))
    }

    /// Signs for one more unit, and has it recorded, before anyone else pays on this channel.
    async fn pay(&self, store: &Store) -> anyhow::Result<()> {
        let id = self.id();
        let cumulative_amount = Amount::new(self.paid.fetch_add(1, Ordering::AcqRel) + 1);
        let signature = Signature::of(&self.authorizer, &message::voucher(&id, cumulative_amount, 0));
        let proof = Proof::Ed25519 { expires_at: 0, signature };
        let payment = Payment { channel_id: id, cumulative_amount: Some(cumulative_amount), proof };
        let voucher = VerifiedVoucher::verify(&self.terms, payment).context("a voucher signed just now")?;
        let verdicts = store.accept(&[voucher]).await?;
        ensure!(verdicts == [Verdict::Accepted], "{id}: {verdicts:?}");
        Ok(())
    }
}

/// All channels of a run.
#[derive(Debug)]
pub(super) struct Channels(Vec<Channel>);

impl Channels {
    /// Fresh ones, made known to Redis.
    pub(super) async fn open(ground: &Ground, count: usize) -> anyhow::Result<Channels> {
        let channels = (0..count).map(|_| Channel::new(ground.issuer_key, ground.payee));
        let channels: Vec<Channel> = channels.collect::<anyhow::Result<_>>()?;
        let due_at_ms = EXPIRES_AT_S.unsigned_abs() * 1_000;
        at_once(channels.iter(), async |channel| {
            Ok(ground.store.register_channel(&channel.terms, None, due_at_ms).await?)
        })
        .await?;
        Ok(Channels(channels))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// So many payments more, on one channel after another, as fast as it goes. Signing is what takes time: it has every
    /// core.
    pub(super) fn pay(&self, machine: &Machine, ground: &Ground, payments: u64) -> anyhow::Result<()> {
        let threads = machine.cores().len().min(self.len());
        let config = ground.redis_config();
        let config = &config;
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|thread| {
                    scope.spawn(move || {
                        machine.unpin_this_thread()?;
                        let share = payments.saturating_add(u64::try_from(thread)?) / u64::try_from(threads)?;
                        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                        runtime.block_on(async {
                            let store = stage::connect(config).await?;
                            // Channels of its own: amounts of one channel are accepted in order.
                            let own: Vec<&Channel> = self.0.iter().skip(thread).step_by(threads).collect();
                            pay_round_after_round(&store, &own, share).await
                        })
                    })
                })
                .collect();
            running
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Pays at a steady rate until `end` is cancelled, and keeps `paid` up to date; how many payments that were.
    pub(super) async fn pay_steadily(
        &self,
        store: &Store,
        per_second: u64,
        paid: &AtomicU64,
        end: &CancellationToken,
    ) -> anyhow::Result<u64> {
        let began = Instant::now();
        let (mut sent, mut next) = (0u64, 0usize);
        while !end.is_cancelled() {
            let due = u64::try_from(began.elapsed().as_millis())?.saturating_mul(per_second) / 1_000;
            let portion = usize::try_from(due.saturating_sub(sent))?.min(self.len());
            let round = (next..next + portion).filter_map(|at| self.0.get(at % self.len()));
            at_once(round, async |channel| channel.pay(store).await).await?;
            sent += u64::try_from(portion)?;
            next = (next + portion) % self.len();
            paid.store(sent, Ordering::Release);
            tokio::time::sleep(PORTION_EVERY).await;
        }
        Ok(sent)
    }

    /// Asks for a close of each.
    pub(super) async fn ask_to_close(&self, store: &Store) -> anyhow::Result<()> {
        let now_ms = Clock::system().now_ms();
        at_once(self.iter(), async |channel| {
            let known = store.request_close(&channel.id(), Party::Payee, now_ms).await?;
            ensure!(known.is_some(), "Redis does not know {}", channel.id());
            Ok(())
        })
        .await
    }
}

async fn pay_round_after_round(store: &Store, channels: &[&Channel], payments: u64) -> anyhow::Result<()> {
    let mut left = usize::try_from(payments)?;
    while left > 0 {
        // Each channel once a round, so that none overtakes itself.
        let round = channels.iter().take(left);
        at_once(round, async |channel| channel.pay(store).await).await?;
        left = left.saturating_sub(channels.len());
    }
    Ok(())
}

async fn at_once<T, F>(items: impl Iterator<Item = T>, work: impl Fn(T) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    stream::iter(items).map(work).buffer_unordered(IN_FLIGHT).try_collect().await
}
