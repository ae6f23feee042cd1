//! The terms of channels: from memory, else from Redis, else from the issuer. Terms never change, so what is kept is
//! right for ever; what is not payable here is remembered for a while, so that invented ids do not load the issuer.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::amount::Amount;
use common::channel::{CheckedTerms, Terms};
use common::ids::{ChannelId, PublicKey};
use common::store::{Store, StoreError};
use common::voucher::{Proof, VerifiedVoucher};
use common::wire::{IssuerChannel, IssuerStatus};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::future::Cache;
use parking_lot::Mutex;
use service::issuer_client::{IssuerClient, IssuerError};
use service::trail;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use crate::config::ChannelsConfig;
use crate::metrics::{Lookup, Metrics};

/// A channel that pays this relayer's payee through its issuer.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Its terms, with the decoded key.
    pub(crate) terms: CheckedTerms,
    /// What the issuer had paid when it was asked; `None` if nothing, or if Redis knew the channel.
    pub(crate) settled: Option<(Amount, Proof)>,
    /// Set once Redis was seen to know the channel. It never forgets one unless it lost data.
    in_store: AtomicBool,
    /// The highest payment that was proven here, where a proof helps to check the next one. It need not have been
    /// recorded: what the payer committed to holds whatever became of a payment.
    known: Mutex<Option<Arc<VerifiedVoucher>>>,
    /// The recovery of Redis after which all this was learned. After another one it is to be learned anew.
    pub(crate) recovery: u64,
}

impl Channel {
    pub(crate) fn new(
        terms: CheckedTerms,
        settled: Option<(Amount, Proof)>,
        in_store: bool,
        recovery: u64,
    ) -> Arc<Self> {
        let in_store = AtomicBool::new(in_store);
        Arc::new(Channel { terms, settled, in_store, known: Mutex::new(None), recovery })
    }

    /// True once Redis was seen to know the channel.
    pub(crate) fn is_in_store(&self) -> bool {
        self.in_store.load(Ordering::Acquire)
    }

    /// Notes that Redis knows the channel.
    pub(crate) fn seen_in_store(&self) {
        // Read first: the line of a busy channel stays shared between cores.
        if !self.is_in_store() {
            self.in_store.store(true, Ordering::Release);
        }
    }

    /// The highest payment that was proven here, if proofs help to check later ones.
    pub(crate) fn known(&self) -> Option<Arc<VerifiedVoucher>> {
        self.known.lock().clone()
    }

    /// Notes what was proven.
    pub(crate) fn proven(&self, voucher: &Arc<VerifiedVoucher>) {
        let mut known = self.known.lock();
        if known.as_ref().is_none_or(|known| known.cumulative_amount() < voucher.cumulative_amount()) {
            let before = known.replace(Arc::clone(voucher));
            drop(known);
            // Not while others wait.
            drop(before);
        }
    }

    /// Unix time in seconds from which on payments are refused.
    pub(crate) fn last_payment_s(&self, margin_s: u32) -> i64 {
        self.terms.terms().expires_at.saturating_sub(i64::from(margin_s))
    }
}

/// Why payments on a channel cannot be taken here, whoever signs them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotPayable {
    /// Neither Redis nor the issuer knows it, or it belongs to another issuer.
    #[error("the channel is not known")]
    Unknown,
    /// It pays someone else.
    #[error("the channel pays someone else")]
    WrongPayee,
    /// The issuer has closed or refunded it, and Redis does not know it.
    #[error("the channel has ended")]
    Ended(Arc<IssuerChannel>),
}

/// Why there are no terms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// There never will be, or not for a while.
    #[error(transparent)]
    NotPayable(#[from] NotPayable),
    /// The issuer is asked too much already.
    #[error("too many channels are being looked up")]
    Overloaded,
    /// The issuer gave no answer to go by.
    #[error("{detail}")]
    Issuer {
        /// What went wrong.
        detail: String,
    },
    /// Redis gave none.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where terms come from.
pub(crate) trait Origin: Send + Sync + 'static {
    /// What Redis holds.
    fn stored(&self, id: &ChannelId) -> impl Future<Output = Result<Option<Terms>, StoreError>> + Send;
    /// What the issuer says.
    fn issued(
        &self,
        id: &ChannelId,
    ) -> impl Future<Output = Result<Option<IssuerChannel>, IssuerError>> + Send;
    /// See [`Store::recovery`].
    fn recovery(&self) -> u64;
}

/// Redis and the issuer themselves.
#[derive(Debug)]
pub(crate) struct StoreAndIssuer {
    pub(crate) store: Store,
    pub(crate) issuer: IssuerClient,
}

impl Origin for StoreAndIssuer {
    async fn stored(&self, id: &ChannelId) -> Result<Option<Terms>, StoreError> {
        Ok(self.store.channel(id).await?.map(|channel| channel.terms))
    }

    async fn issued(&self, id: &ChannelId) -> Result<Option<IssuerChannel>, IssuerError> {
        self.issuer.channel(id).await
    }

    fn recovery(&self) -> u64 {
        self.store.recovery()
    }
}

/// Whose channels are taken.
#[derive(Clone, Debug)]
pub(crate) struct Parties {
    /// The configured payees: few.
    pub(crate) payees: Vec<PublicKey>,
    /// The configured issuer.
    pub(crate) issuer: PublicKey,
}

/// The cache of terms, and how it is filled.
#[derive(Debug)]
pub(crate) struct Channels<O> {
    origin: O,
    parties: Parties,
    /// Asked for every payment: of the caches to be had, one whose readers write nothing down.
    known: quick_cache::sync::Cache<ChannelId, Arc<Channel>>,
    /// Look-ups under way, and no more than that: whoever waits for the same one shares its end, good or bad.
    finding: Cache<ChannelId, Arc<Channel>>,
    not_payable: Cache<ChannelId, NotPayable>,
    lookups: Semaphore,
    lookup_rate: DefaultDirectRateLimiter,
    issuer_away: AtomicBool,
    metrics: Arc<Metrics>,
}

impl<O: Origin> Channels<O> {
    pub(crate) fn new(config: &ChannelsConfig, parties: Parties, origin: O, metrics: Arc<Metrics>) -> Self {
        // Zero is refused by Config::validate.
        let per_s = NonZeroU32::new(config.issuer_lookups_per_s).unwrap_or(NonZeroU32::MIN);
        Self {
            origin,
            parties,
            known: quick_cache::sync::Cache::new(usize::try_from(config.cache_max).unwrap_or(usize::MAX)),
            finding: Cache::new(0),
            not_payable: Cache::builder()
                .max_capacity(config.unknown_cache_max)
                .time_to_live(Duration::from_millis(config.unknown_ttl_ms))
                .build(),
            lookups: Semaphore::new(config.issuer_lookups_in_flight_max.min(Semaphore::MAX_PERMITS)),
            lookup_rate: RateLimiter::direct(Quota::per_second(per_s)),
            issuer_away: AtomicBool::new(false),
            metrics,
        }
    }

    /// The terms of a channel. Of concurrent callers that miss, one looks it up for all; what failed is not kept.
    ///
    /// # Errors
    /// [`LookupError`], where there are none.
    pub(crate) async fn get(&self, id: &ChannelId) -> Result<Arc<Channel>, LookupError> {
        if let Some(channel) = self.at_hand(id) {
            return Ok(channel);
        }
        self.metrics.cache_missed();
        Box::pin(self.find(id)).await
    }

    /// A channel of which memory knows the terms. `None` says nothing; ask [`Channels::get`].
    pub(crate) fn at_hand(&self, id: &ChannelId) -> Option<Arc<Channel>> {
        let channel = self.remembered(id)?;
        self.metrics.cache_hit();
        Some(channel)
    }

    /// What memory does not hold.
    async fn find(&self, id: &ChannelId) -> Result<Arc<Channel>, LookupError> {
        if let Some(reason) = self.not_payable.get(id).await {
            return Err(reason.into());
        }
        // Rare enough for a span of its own, where the request has none: its lines name who asked.
        let span = match trail::current() {
            Some(trail) if tracing::Span::current().is_none() => trail.log_span(),
            _ => tracing::Span::none(),
        };
        match self.finding.try_get_with(*id, self.look_up(id).instrument(span)).await {
            Ok(channel) => {
                // From here on it is with what is known.
                self.finding.invalidate(id).await;
                Ok(channel)
            }
            Err(error) => Err(LookupError::clone(&error)),
        }
    }

    /// A channel of which memory knows the terms, and that Redis knows it: its payments need nothing else before they are
    /// recorded. `None` says nothing; ask [`Channels::get`].
    pub(crate) fn get_known(&self, id: &ChannelId) -> Option<Arc<Channel>> {
        let channel = self.remembered(id).filter(|channel| channel.is_in_store())?;
        self.metrics.cache_hit();
        Some(channel)
    }

    /// What memory holds of a channel since the latest recovery.
    fn remembered(&self, id: &ChannelId) -> Option<Arc<Channel>> {
        self.known.get(id).filter(|channel| channel.recovery == self.origin.recovery())
    }

    async fn look_up(&self, id: &ChannelId) -> Result<Arc<Channel>, LookupError> {
        // Somebody may have found it since the caller looked.
        if let Some(channel) = self.remembered(id) {
            return Ok(channel);
        }
        let recovery = self.origin.recovery();
        let found = match self.origin.stored(id).await? {
            Some(terms) => self.admit(terms).map(|terms| Channel::new(terms, None, true, recovery)),
            None => self.ask_issuer(id, recovery).await?,
        };
        match &found {
            Ok(channel) => self.known.insert(*id, Arc::clone(channel)),
            Err(reason) => self.not_payable.insert(*id, reason.clone()).await,
        }
        found.map_err(LookupError::NotPayable)
    }

    async fn ask_issuer(
        &self,
        id: &ChannelId,
        recovery: u64,
    ) -> Result<Result<Arc<Channel>, NotPayable>, LookupError> {
        let answer = self.issued(id).await;
        let found = match answer {
            Ok(Some(channel)) => self.sort(channel, recovery),
            Ok(None) => Ok(Err(NotPayable::Unknown)),
            Err(error) => Err(error),
        };
        self.metrics.looked_up(match &found {
            Ok(Ok(_)) => Lookup::Open,
            Ok(Err(NotPayable::Unknown)) => Lookup::Unknown,
            Ok(Err(NotPayable::WrongPayee)) => Lookup::Foreign,
            Ok(Err(NotPayable::Ended(_))) => Lookup::Ended,
            Err(LookupError::Overloaded) => Lookup::Overloaded,
            Err(_) => Lookup::Unavailable,
        });
        found
    }

    /// Asks the issuer, within the bounds of how often and how many at once.
    async fn issued(&self, id: &ChannelId) -> Result<Option<IssuerChannel>, LookupError> {
        let _place = self.lookups.try_acquire().map_err(|_| LookupError::Overloaded)?;
        self.lookup_rate.check().map_err(|_| LookupError::Overloaded)?;
        let answer = self.origin.issued(id).await;
        // Logged when it goes and when it is back, not for every payment in between.
        let away = answer.is_err();
        if self.issuer_away.swap(away, Ordering::Relaxed) != away {
            match &answer {
                Ok(_) => tracing::info!("the issuer is back"),
                Err(error) => tracing::warn!(%error, "channels cannot be looked up"),
            }
        }
        answer.map_err(|error| LookupError::Issuer { detail: error.to_string() })
    }

    fn sort(
        &self,
        channel: IssuerChannel,
        recovery: u64,
    ) -> Result<Result<Arc<Channel>, NotPayable>, LookupError> {
        let terms = match self.admit(channel.terms.clone()) {
            Ok(terms) => terms,
            Err(reason) => return Ok(Err(reason)),
        };
        if channel.status != IssuerStatus::Open {
            return Ok(Err(NotPayable::Ended(Arc::new(channel))));
        }
        let settled = channel.settled.map(|latest| (latest.cumulative_amount, latest.proof));
        // To start below what was paid already would let the payer spend it twice.
        if settled.as_ref().map_or(Amount::ZERO, |(amount, _)| *amount) != channel.settled_amount {
            return Err(LookupError::Issuer {
                detail: "the issuer's settled amount and voucher do not agree".to_owned(),
            });
        }
        Ok(Ok(Channel::new(terms, settled, false, recovery)))
    }

    /// Whether a channel of these terms can be paid here.
    fn admit(&self, terms: Terms) -> Result<CheckedTerms, NotPayable> {
        if terms.issuer != self.parties.issuer {
            let (found, expected) = (terms.issuer, self.parties.issuer);
            tracing::warn!(%found, %expected, "a channel of another issuer: is issuer.public_key right?");
            return Err(NotPayable::Unknown);
        }
        if !self.parties.payees.contains(&terms.payee) {
            return Err(NotPayable::WrongPayee);
        }
        terms.check().map_err(|error| {
            tracing::warn!(%error, "the issuer knows a channel that no channel can be");
            NotPayable::Unknown
        })
    }
}

#[cfg(test)]
mod tests;
