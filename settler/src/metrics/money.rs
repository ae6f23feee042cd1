//! The money that the leader answers for. What one scrape shows of it was read from Redis in one go for each partition,
//! and every script that moves money keeps the books of a partition balanced: so in each scrape
//! `accepted = settled + unsettled + dead`, and what it shows is a few seconds old at most.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::clock::Clock;
use common::ids::ChannelId;
use common::store::books::Books;
use prometheus::Registry;
use service::metrics::{Family, Kind, register_read_at_scrape};

const FAMILIES: &[Family] = &[
    Family {
        name: "millrace_settler_money_units",
        help: "Atomic units by what became of them: accepted, of these settled, unsettled, dead. 0 without the lease.",
        kind: Kind::Gauge,
        label: Some("state"),
    },
    Family {
        name: "millrace_settler_at_risk_units",
        help: "Atomic units of closes that have not ended with half of policy.expiry_margin_s gone, or less than that left.",
        kind: Kind::Gauge,
        label: None,
    },
];

/// What the leader knows of money. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Money(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    books: Books,
    closes: HashMap<ChannelId, Risk>,
}

/// A close that has not ended.
#[derive(Clone, Copy, Debug)]
struct Risk {
    units: u64,
    /// From when on its money is at risk, in ms since 1970.
    since_ms: u64,
}

impl Money {
    /// Shows it under `registry`; `clock` says what is at risk by now.
    pub(super) fn register(registry: &Registry, clock: Clock) -> prometheus::Result<Money> {
        let money = Money::default();
        let read = money.clone();
        register_read_at_scrape(registry, FAMILIES, move || {
            let known = read.known();
            let Books { accepted, unsettled, settled, dead } = known.books;
            let states =
                [("accepted", accepted), ("settled", settled), ("unsettled", unsettled), ("dead", dead)];
            vec![states.to_vec(), vec![("", known.at_risk(clock.now_ms()))]]
        })?;
        Ok(money)
    }

    /// Takes over what Redis holds.
    pub(crate) fn read(&self, books: Books) {
        self.known().books = books;
    }

    /// A close has begun, for so many units; they are at risk from `since_ms` on.
    pub(crate) fn closing(&self, id: ChannelId, units: u64, since_ms: u64) {
        self.known().closes.insert(id, Risk { units, since_ms });
    }

    /// A close has ended, well or badly.
    pub(crate) fn ended(&self, id: &ChannelId) {
        self.known().closes.remove(id);
    }

    /// Forgets everything: whoever leads next answers for it.
    pub(super) fn hand_over(&self) {
        *self.known() = Known::default();
    }

    /// What is written here is written whole, so a state left behind by a panic is as good as any.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn at_risk(&self, now_ms: u64) -> u128 {
        let at_risk = self.closes.values().filter(|risk| risk.since_ms <= now_ms);
        at_risk.map(|risk| u128::from(risk.units)).fold(0, u128::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_close_owes_is_at_risk_from_its_time_until_it_ends() {
        let money = Money::default();
        let (early, late) = (ChannelId([1; 32]), ChannelId([2; 32]));
        money.closing(early, 5, 1_000);
        money.closing(late, u64::MAX, 2_000);
        let at_risk = |now_ms| money.known().at_risk(now_ms);
        assert_eq!((at_risk(999), at_risk(1_000)), (0, 5));
        assert_eq!(at_risk(2_000), u128::from(u64::MAX) + 5, "no wrapping around");
        money.closing(early, 7, 1_000);
        money.ended(&late);
        assert_eq!(at_risk(2_000), 7, "counted once");
        money.hand_over();
        assert_eq!(at_risk(u64::MAX), 0);
    }
}
