//! How often one channel, or one address, may pay. The number of keys that are counted is bounded.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use common::ids::ChannelId;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use parking_lot::Mutex;

use crate::config::LimitsConfig;

/// After this, an unused limiter is as good as a new one.
const IDLE: Duration = Duration::from_secs(10);

/// Too many payments of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    /// Seconds until one more would be taken.
    pub(crate) retry_after_s: u64,
}

/// The limits that are configured.
#[derive(Debug)]
pub(crate) struct Limits {
    channels: ArcSwapOption<Keyed<ChannelId>>,
    addresses: ArcSwapOption<Keyed<IpAddr>>,
    /// What they were made from.
    config: Mutex<LimitsConfig>,
}

impl Limits {
    pub(crate) fn new(config: &LimitsConfig) -> Self {
        Self {
            channels: ArcSwapOption::new(keyed(config.per_channel_per_s, config)),
            addresses: ArcSwapOption::new(keyed(config.per_address_per_s, config)),
            config: Mutex::new(config.clone()),
        }
    }

    /// Goes by other limits from now on. One that stays as it was keeps its counts.
    pub(crate) fn take_up(&self, config: &LimitsConfig) {
        let mut before = self.config.lock();
        let same_keys = before.keys_max == config.keys_max;
        if !same_keys || before.per_channel_per_s != config.per_channel_per_s {
            self.channels.store(keyed(config.per_channel_per_s, config));
        }
        if !same_keys || before.per_address_per_s != config.per_address_per_s {
            self.addresses.store(keyed(config.per_address_per_s, config));
        }
        *before = config.clone();
    }

    /// Counts one payment of a channel. Only for channels whose payer has just signed: otherwise anyone could use up
    /// the share of another.
    pub(crate) async fn check_channel(&self, id: &ChannelId) -> Result<(), TooMany> {
        match self.channels.load_full() {
            Some(limit) => Box::pin(limit.check(*id, 1)).await,
            None => Ok(()),
        }
    }

    /// Counts `count` payments or requests of an address.
    pub(crate) async fn check_address(&self, address: IpAddr, count: usize) -> Result<(), TooMany> {
        match self.addresses.load_full() {
            Some(limit) => {
                Box::pin(limit.check(network(address), u32::try_from(count).unwrap_or(u32::MAX))).await
            }
            None => Ok(()),
        }
    }
}

fn keyed<K: Hash + Eq + Send + Sync>(per_s: Option<u32>, config: &LimitsConfig) -> Option<Arc<Keyed<K>>> {
    per_s.and_then(|per_s| Keyed::new(per_s, config.keys_max)).map(Arc::new)
}

/// Who an address belongs to: a host is given a whole IPv6 /64, and could use a new address for every payment.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// One limiter a key. The least recently used keys are forgotten beyond the bound.
#[derive(Debug)]
struct Keyed<K: Hash + Eq + Send + Sync + 'static> {
    quota: Quota,
    limiters: Cache<K, Arc<DefaultDirectRateLimiter>>,
}

impl<K: Hash + Eq + Send + Sync + 'static> Keyed<K> {
    fn new(per_s: u32, keys_max: u64) -> Option<Self> {
        let limiters = Cache::builder()
            .max_capacity(keys_max)
            .time_to_idle(IDLE)
            // The default policy keeps what is used often and may not admit a newcomer: it would never be limited.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        NonZeroU32::new(per_s).map(|per_s| Keyed { quota: Quota::per_second(per_s), limiters })
    }

    async fn check(&self, key: K, count: u32) -> Result<(), TooMany> {
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        let limiter = self.limiters.get_with(key, async { Arc::new(RateLimiter::direct(self.quota)) }).await;
        match limiter.check_n(count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                Err(TooMany { retry_after_s: wait.as_secs().saturating_add(1) })
            }
            // More at once than a second allows: it must be sent in smaller parts.
            Err(_) => Err(TooMany { retry_after_s: 1 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_s: u32) -> Limits {
        Limits::new(&LimitsConfig {
            per_channel_per_s: Some(per_s),
            per_address_per_s: Some(per_s),
            ..LimitsConfig::default()
        })
    }

    #[tokio::test]
    async fn a_channel_over_its_limit_waits_and_another_does_not() {
        let limits = limits(2);
        for _ in 0..2 {
            assert_eq!(limits.check_channel(&ChannelId([1; 32])).await, Ok(()));
        }
        let refused = limits.check_channel(&ChannelId([1; 32])).await.expect_err("the third within a second");
        assert_eq!(refused.retry_after_s, 1);
        assert_eq!(limits.check_channel(&ChannelId([2; 32])).await, Ok(()));
    }

    #[tokio::test]
    async fn addresses_of_one_network_share_a_limit_and_batches_count_in_full() {
        let limits = limits(4);
        let [a, b, c] = ["2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"].map(|a| a.parse().expect("v6"));
        assert_eq!(limits.check_address(a, 3).await, Ok(()));
        assert!(limits.check_address(b, 2).await.is_err());
        assert_eq!(limits.check_address(c, 4).await, Ok(()));
        assert!(limits.check_address("192.0.2.1".parse().expect("v4"), 5).await.is_err(), "never fits");
    }

    #[tokio::test]
    async fn without_a_limit_nothing_is_counted() {
        let limits = Limits::new(&LimitsConfig::default());
        for _ in 0..100 {
            assert_eq!(limits.check_channel(&ChannelId([1; 32])).await, Ok(()));
        }
    }
}
