//! The books: what was accepted, and what became of it, in whole sums of atomic units. `common/lua/books.lua` enters
//! each change where it happens.

use fred::interfaces::{HashesInterface, KeysInterface};

use super::state::HotState;
use super::{Store, StoreError};
use crate::amount::Amount;
use crate::channel::Status;
use crate::ids::ChannelId;

/// What one unit of the upper field of a sum stands for.
const UPPER: i128 = 10_000_000_000;

/// The fields, each sum's own and its upper one by turns.
const FIELDS: [&str; 8] =
    ["accepted", "accepted_e10", "unsettled", "unsettled_e10", "settled", "settled_e10", "dead", "dead_e10"];

/// Sums of one moment, in atomic units, since there are books. What the issuer had paid on a channel before Redis knew
/// it is in none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Books {
    /// Accepted, as far as the settler has read.
    pub accepted: u128,
    /// Of these, on channels that are open or closing.
    pub unsettled: u128,
    /// Of these, paid by the issuer.
    pub settled: u128,
    /// Of these, on channels that were given up on.
    pub dead: u128,
}

impl Books {
    /// True if everything that was accepted is somewhere, and once.
    pub fn balance(&self) -> bool {
        [self.unsettled, self.settled, self.dead]
            .into_iter()
            .try_fold(0u128, u128::checked_add)
            .is_some_and(|sum| sum == self.accepted)
    }

    /// These and those of another partition.
    #[must_use]
    pub fn and(self, other: Books) -> Books {
        Books {
            accepted: self.accepted.saturating_add(other.accepted),
            unsettled: self.unsettled.saturating_add(other.unsettled),
            settled: self.settled.saturating_add(other.settled),
            dead: self.dead.saturating_add(other.dead),
        }
    }

    fn from_fields(fields: &[Option<i64>]) -> Option<Books> {
        let mut sums = fields.chunks(2).map(|pair| {
            let [own, upper] = [0, 1].map(|i| i128::from(pair.get(i).copied().flatten().unwrap_or(0)));
            upper.checked_mul(UPPER)?.checked_add(own)?.try_into().ok()
        });
        let mut next = || sums.next().flatten();
        Some(Books { accepted: next()?, unsettled: next()?, settled: next()?, dead: next()? })
    }
}

/// How a channel stands in the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Booked {
    /// Where the channel stands.
    pub status: Status,
    /// What of it was accepted and is in the books.
    pub units: u64,
}

impl Store {
    /// The books of a partition, of one moment.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or [`StoreError::Corrupt`].
    pub async fn books(&self, partition: u16) -> Result<Books, StoreError> {
        let key = self.keys().books(partition);
        let fields: Vec<Option<i64>> = self
            .client(partition)?
            .hmget(&key, FIELDS.to_vec())
            .await
            .map_err(|e| StoreError::of_read(&e))?;
        Books::from_fields(&fields).ok_or_else(|| StoreError::corrupt(key, "sums below nothing"))
    }

    /// How a channel stands in the books; `None` if it is in none: not known, or never paid from since there are books.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or [`StoreError::Corrupt`].
    pub async fn booked(&self, id: &ChannelId) -> Result<Option<Booked>, StoreError> {
        let client = self.client(self.partition_of(id))?;
        let of_read = |error| StoreError::of_read(&error);
        let key = self.keys().channel(id);
        let fields = vec!["booked", "settled_before"];
        let fields: Vec<Option<String>> = client.hmget(&key, fields).await.map_err(of_read)?;
        // Not of one moment with it: whoever sums up while channels are closed compares with the books before and after.
        let state: Option<Vec<u8>> = client.get(self.keys().state(id)).await.map_err(of_read)?;
        let [Some(Some(booked)), settled_before] = [0, 1].map(|i| fields.get(i).cloned()) else {
            return Ok(None);
        };
        let amount = |text: &str| Amount::from_lua(text.as_bytes());
        let before = settled_before.flatten().map_or(Ok(Amount::ZERO), |text| amount(&text));
        let state = state.as_deref().and_then(HotState::parse);
        match (amount(&booked), before, state) {
            (Ok(booked), Ok(before), Some(state)) => {
                let units = booked.checked_sub(before).unwrap_or_default().units();
                Ok(Some(Booked { status: state.status, units }))
            }
            _ => Err(StoreError::corrupt(key, "amounts of unknown form")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_both_of_its_fields() {
        let of = |fields: [i64; 8]| Books::from_fields(&fields.map(Some));
        let books = of([-1, 2, 5, 0, i64::MAX, 1, -3, 1]).expect("no sum is below nothing");
        assert_eq!((books.accepted, books.unsettled), (19_999_999_999, 5));
        assert_eq!((books.settled, books.dead), (9_223_372_046_854_775_807, 9_999_999_997));
        assert_eq!(of([0, 0, -1, 0, 0, 0, 0, 0]), None);
        assert_eq!(Books::from_fields(&[None; 8]), Some(Books::default()), "a new partition has nothing");
    }

    #[test]
    fn books_balance_when_every_unit_is_somewhere_once() {
        let books = Books { accepted: 10, unsettled: 3, settled: 5, dead: 2 };
        assert!(books.balance() && books.and(books).balance());
        assert!(!Books { dead: 3, ..books }.balance());
        assert!(!Books { settled: u128::MAX, ..books }.balance(), "no wrapping around");
    }
}
