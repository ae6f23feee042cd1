//! Payers that open channels, pay from them in every way a payer can, close them, and write down what they were told.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use common::amount::Amount;
use common::channel::Terms;
use common::clock::Clock;
use common::ids::{ChannelId, Hash, PublicKey};
use common::problem::Code;
use common::wire::{Latest, Party, PaymentAnswer, PaymentRequest};
use ed25519_dalek::SigningKey;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use service::issuer_client::{IssuerClient, IssuerError};

use crate::client::{RelayerClient, RelayerError};
use crate::ledger::LedgerWriter;
use crate::load::payers::PayingChannel;
use crate::payer::{self, Means, Paying, Scheme};

/// First pause before something is tried again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// Longest pause before something is tried again.
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// How long an outcome is asked for after everything has healed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Seconds that a channel lasts: longer than any campaign.
const LIFETIME_S: i64 = 7 * 86_400;

/// What all payers share, and what the rest of the campaign sees of them.
#[derive(Debug)]
pub(super) struct Shared {
    issuer: IssuerClient,
    pub(super) relayers: Vec<RelayerClient>,
    payee: PublicKey,
    issuer_key: PublicKey,
    opened: Mutex<Vec<PayingChannel>>,
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
    unresolved: AtomicU64,
    closes: AtomicU64,
    over: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        issuer: IssuerClient,
        relayers: Vec<RelayerClient>,
        payee: PublicKey,
        issuer_key: PublicKey,
    ) -> Self {
        Shared {
            issuer,
            relayers,
            payee,
            issuer_key,
            opened: Mutex::default(),
            acknowledged: AtomicU64::default(),
            unknown: AtomicU64::default(),
            refused: AtomicU64::default(),
            unresolved: AtomicU64::default(),
            closes: AtomicU64::default(),
            over: AtomicBool::default(),
        }
    }

    /// Payments acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Answers so far that left an outcome unknown.
    pub(super) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Payments refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Vouchers whose outcome was still unknown when patience ran out.
    pub(super) fn unresolved(&self) -> u64 {
        self.unresolved.load(Ordering::Relaxed)
    }

    /// Closes that payers asked for while faults went on.
    pub(super) fn closes(&self) -> u64 {
        self.closes.load(Ordering::Relaxed)
    }

    /// Has every payer finish what it is at, and stop.
    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Every channel that was opened.
    pub(super) fn opened(&self) -> MutexGuard<'_, Vec<PayingChannel>> {
        self.opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// How the life of a channel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its payer asks for the close, and goes on paying until it is told that the channel closes.
    Request,
    /// Nobody pays any more, and the settler closes it for that.
    Idle,
    /// Its capacity is used up.
    Full,
}

/// What became of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// This is the latest one now.
    Latest(Latest),
    /// The channel takes no more payments.
    Closed,
    /// The campaign ended before anyone could say.
    Unresolved,
}

/// One payer.
pub(super) struct Payer {
    shared: Arc<Shared>,
    ledger: LedgerWriter,
    rng: StdRng,
    key: SigningKey,
    turn: usize,
    /// From when on patience counts.
    over_since: Option<Instant>,
}

impl Payer {
    /// The `number`th payer, whose choices follow from the seed.
    pub(super) fn new(seed: u64, number: usize, shared: Arc<Shared>, ledger: &Path) -> anyhow::Result<Self> {
        let own = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number as u64 + 1);
        let (ledger, rng) = (LedgerWriter::append_to(ledger)?, StdRng::seed_from_u64(own));
        Ok(Payer { shared, ledger, rng, key: payer::new_key(), turn: number, over_since: None })
    }

    /// Goes from channel to channel until told to stop.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        while !self.shared.is_over() {
            let end = [End::Request, End::Idle, End::Full][self.rng.random_range(0..3)];
            let scheme = Scheme::ALL[self.rng.random_range(0..Scheme::ALL.len())];
            let payments = self.rng.random_range(5..=60u32);
            let step_max = self.rng.random_range(1..=9u32);
            // A channel that is to be full gets there by the last of its payments, or earlier.
            let units = if end == End::Full { payments * step_max / 2 + 1 } else { payments * step_max * 4 };
            let Some(mut channel) = self.open(scheme, units, step_max).await? else { break };
            for n in 0.. {
                if self.shared.is_over() || channel.done || (n >= payments && end != End::Full) {
                    break;
                }
                self.pay_somehow(&mut channel, step_max).await?;
                tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..=12))).await;
            }
            if end == End::Request && !self.shared.is_over() {
                self.close(&mut channel, step_max).await?;
            }
        }
        Ok(())
    }

    /// Opens a channel of so many units; `None` if the campaign ended before the issuer answered.
    async fn open(
        &mut self,
        scheme: Scheme,
        units: u32,
        step_max: u32,
    ) -> anyhow::Result<Option<PayingChannel>> {
        let own = PublicKey::of(&self.key);
        let unit = Amount::new(if scheme == Scheme::Ed25519 { 1 } else { self.rng.random_range(1..=5) });
        let seed = Hash(self.rng.random());
        // Room for what is asked for beyond the capacity.
        let means = match scheme.purse(seed, unit, units + step_max)? {
            Some(purse) => Means::Purse(Arc::new(purse)),
            None => Means::Key(Box::new(self.key.clone())),
        };
        let capacity = Amount::new(unit.units() * u64::from(units));
        let terms = Terms {
            issuer: self.shared.issuer_key,
            payer: own,
            payer_authorizer: own,
            payee: self.shared.payee,
            asset: "usd".to_owned(),
            capacity,
            expires_at: Clock::system().now_s().saturating_add(LIFETIME_S),
            salt: self.rng.random(),
            scheme: means.scheme(),
        };
        let opening = payer::opening(&self.key, terms);
        let mut pause = PAUSE_MIN;
        while !self.shared.is_over() {
            let opened = match self.shared.issuer.register(&own).await {
                Ok(_) => self.shared.issuer.open(&opening).await,
                Err(error) => Err(error),
            };
            match opened {
                Ok(opened) => {
                    let (id, key) = (opened.channel_id, self.key.clone());
                    let channel = PayingChannel::new(id, key, means, capacity);
                    self.shared.opened().push(channel.clone());
                    return Ok(Some(channel));
                }
                Err(IssuerError::Unavailable { .. }) => {}
                Err(refused) => return Err(refused).context("the issuer opens no channel"),
            }
            pause = self.rest(pause).await;
        }
        Ok(None)
    }

    /// Pays once, and now and then does what a confused or impatient payer does.
    async fn pay_somehow(&mut self, channel: &mut PayingChannel, step_max: u32) -> anyhow::Result<()> {
        let unit = channel.means.unit().units();
        let step = Amount::new(unit * u64::from(self.rng.random_range(1..=step_max)));
        let next = channel.latest.checked_add(step).filter(|next| *next <= channel.capacity);
        let Some(next) = next else {
            // Full: one payment too much, and then the settler closes.
            let over = channel.capacity.checked_add(step).context("capacities are small")?;
            // Whatever the answer is, it is written down.
            drop(self.present(&channel.paying(over)?).await?);
            channel.done = true;
            return Ok(());
        };
        match self.rng.random_range(0..100u32) {
            0..4 if channel.latest.units() > unit => {
                let old = Amount::new(unit * self.rng.random_range(1..channel.latest.units() / unit));
                drop(self.present(&channel.paying(old)?).await?);
            }
            4..7 if !channel.latest.is_zero() => {
                drop(self.present(&channel.paying(channel.latest)?).await?);
            }
            7..12 => self.look(channel).await?,
            12..16 => return self.pay_twice_at_once(channel, next, step).await,
            _ => {}
        }
        self.pay(channel, next).await
    }

    /// Two payments on their way at once, to two relayers: either may come first.
    async fn pay_twice_at_once(
        &mut self,
        channel: &mut PayingChannel,
        next: Amount,
        step: Amount,
    ) -> anyhow::Result<()> {
        let Some(after) = next.checked_add(step).filter(|after| *after <= channel.capacity) else {
            return self.pay(channel, next).await;
        };
        let (low, high) = (channel.paying(next)?, channel.paying(after)?);
        let (a, b) = (self.relayer(), self.relayer());
        let (first, second) = tokio::join!(self.present_to(&a, &low), self.present_to(&b, &high));
        drop(first?);
        if second?.is_ok() {
            channel.paid(&high.complete);
            return Ok(());
        }
        self.pay(channel, after).await
    }

    /// Presents a payment again and again until its outcome is known.
    async fn pay(&mut self, channel: &mut PayingChannel, amount: Amount) -> anyhow::Result<()> {
        let paying = channel.paying(amount)?;
        match self.fate(paying).await? {
            Fate::Latest(latest) => {
                if !channel.go_on_from(&latest) {
                    bail!("a relayer shows a payment that was never made: {latest:?}");
                }
            }
            Fate::Closed => channel.done = true,
            Fate::Unresolved => {
                self.shared.unresolved.fetch_add(1, Ordering::Relaxed);
                channel.done = true;
            }
        }
        Ok(())
    }

    async fn fate(&mut self, mut paying: Paying) -> anyhow::Result<Fate> {
        let mut pause = PAUSE_MIN;
        let mut unknown = false;
        loop {
            let error = match self.present(&paying).await? {
                Ok(_) => {
                    let PaymentRequest { cumulative_amount, proof, .. } = paying.complete;
                    return Ok(Fate::Latest(Latest { cumulative_amount, proof }));
                }
                Err(error) => error,
            };
            unknown |= error.outcome_is_unknown();
            if let RelayerError::Refused(problem) = &error {
                match problem.code {
                    Code::ChannelClosing | Code::ChannelClosed => return Ok(Fate::Closed),
                    Code::StaleAmount => {
                        let latest = problem.latest.clone();
                        return Ok(Fate::Latest(latest.context("a stale amount comes with the latest")?));
                    }
                    // The relayer that was paid before has not told this one, or nobody.
                    Code::MissingSiblings if paying.sent != paying.complete => {
                        paying.complete();
                        continue;
                    }
                    code if code.status() < 500 && code != Code::RateLimited => {
                        bail!("a payer that pays in order is told {problem:?}");
                    }
                    _ => {}
                }
            }
            if self.shared.is_over() {
                // Nothing is known to be recorded, and nobody wants to pay any more.
                let since = *self.over_since.get_or_insert_with(Instant::now);
                if !unknown || since.elapsed() > PATIENCE {
                    return Ok(if unknown { Fate::Unresolved } else { Fate::Closed });
                }
            }
            pause = self.rest(pause).await;
        }
    }

    /// Asks for the close until a relayer takes the request, and pays on until the channel says no.
    async fn close(&mut self, channel: &mut PayingChannel, step_max: u32) -> anyhow::Result<()> {
        let request = payer::close_request(&channel.key, &channel.id, Party::Payer);
        let mut pause = PAUSE_MIN;
        while !self.shared.is_over() {
            let relayer = self.relayer();
            match relayer.close(&channel.id, &request).await {
                Ok(_) => {
                    self.shared.closes.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Err(error) if matches!(error.code(), Some(Code::ChannelClosing | Code::ChannelClosed)) => {
                    break;
                }
                Err(_) => {}
            }
            pause = self.rest(pause).await;
        }
        while !self.shared.is_over() && !channel.done {
            self.pay_somehow(channel, step_max).await?;
        }
        Ok(())
    }

    /// Looks at the channel through a relayer.
    async fn look(&mut self, channel: &PayingChannel) -> anyhow::Result<()> {
        let relayer = self.relayer();
        let look = self.ledger.look();
        // A relayer that does not answer tells nothing.
        if let Ok(seen) = relayer.channel(&channel.id).await {
            self.ledger.observed(look, channel.id, seen.latest.as_ref(), relayer.url())?;
        }
        Ok(())
    }

    async fn present(&mut self, paying: &Paying) -> anyhow::Result<Result<PaymentAnswer, RelayerError>> {
        let relayer = self.relayer();
        self.present_to(&relayer, paying).await
    }

    /// Sends a payment, and writes down that it was sent, with all of its proof, and what came of it.
    async fn present_to(
        &self,
        relayer: &RelayerClient,
        paying: &Paying,
    ) -> anyhow::Result<Result<PaymentAnswer, RelayerError>> {
        let attempt = self.ledger.sent(&paying.complete, relayer.url())?;
        let answer = relayer.pay(&paying.sent).await;
        self.ledger.told(attempt, &paying.complete, &answer, relayer.url())?;
        let count = match &answer {
            Ok(_) => &self.shared.acknowledged,
            Err(error) if error.outcome_is_unknown() => &self.shared.unknown,
            Err(_) => &self.shared.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(answer)
    }

    fn relayer(&mut self) -> RelayerClient {
        self.turn = self.turn.wrapping_add(1);
        self.shared.relayers[self.turn % self.shared.relayers.len()].clone()
    }

    /// Waits, and gives back how long to wait the next time.
    async fn rest(&mut self, pause: Duration) -> Duration {
        let jitter = Duration::from_millis(self.rng.random_range(0..20));
        tokio::time::sleep(pause + jitter).await;
        (pause * 2).min(PAUSE_MAX)
    }
}

/// The ids of channels.
pub(super) fn ids(channels: &[PayingChannel]) -> Vec<ChannelId> {
    channels.iter().map(|channel| channel.id).collect()
}
