//! What a running relayer can be told anew: see [`Config::RELOADABLE`](common::config::Config::RELOADABLE).

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::config::Config;
use crate::limits::Limits;

/// Bounds that are looked at with each payment or batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// See [`Config::settle_margin_s`].
    pub(crate) settle_margin_s: u32,
    /// See [`Config::batch_max`].
    pub(crate) batch_max: usize,
    /// See [`crate::LimitsConfig::hash_steps_max`].
    pub(crate) steps_max: u32,
    /// See [`crate::LimitsConfig::payments_in_flight_max`].
    pub(crate) payments_in_flight_max: usize,
}

impl Bounds {
    fn of(config: &Config) -> Self {
        Bounds {
            settle_margin_s: config.settle_margin_s,
            batch_max: config.batch_max,
            steps_max: config.limits.hash_steps_max,
            payments_in_flight_max: config.limits.payments_in_flight_max,
        }
    }
}

/// The bounds of this moment. Reading them costs a few nanoseconds and waits for nobody.
#[derive(Debug)]
pub(crate) struct Tuning {
    bounds: ArcSwap<Bounds>,
    pub(crate) limits: Limits,
}

impl Tuning {
    pub(crate) fn new(config: &Config) -> Self {
        Tuning { bounds: ArcSwap::from_pointee(Bounds::of(config)), limits: Limits::new(&config.limits) }
    }

    /// The bounds as they are now. Not to be held across an await.
    pub(crate) fn bounds(&self) -> Guard<Arc<Bounds>> {
        self.bounds.load()
    }

    /// Goes by another configuration from now on.
    pub(crate) fn take_up(&self, config: &Config) {
        self.bounds.store(Arc::new(Bounds::of(config)));
        self.limits.take_up(&config.limits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LimitsConfig;
    use common::ids::ChannelId;

    #[tokio::test]
    async fn a_limit_that_comes_changes_or_goes_is_in_effect_at_once() {
        let with = |per_s, keys_max| Config {
            limits: LimitsConfig { per_channel_per_s: per_s, keys_max, ..LimitsConfig::default() },
            ..Config::default()
        };
        let id = ChannelId([1; 32]);
        let tuning = Tuning::new(&with(None, 10));
        let taken = async || {
            let mut taken = 0;
            while taken < 5 && tuning.limits.check_channel(&id).await.is_ok() {
                taken += 1;
            }
            taken
        };
        assert_eq!(taken().await, 5, "no limit");
        tuning.take_up(&with(Some(3), 10));
        assert_eq!(taken().await, 3);
        tuning.take_up(&with(Some(3), 10));
        assert_eq!(taken().await, 0, "what was counted stays counted");
        tuning.take_up(&with(Some(2), 10));
        assert_eq!(taken().await, 2);
        tuning.take_up(&with(Some(2), 20));
        assert_eq!(taken().await, 2, "a bound on what is counted begins to count anew");
        tuning.take_up(&with(None, 20));
        assert_eq!(taken().await, 5);
    }
}
