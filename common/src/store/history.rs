//! What the leader measured over time: a bounded stream in Redis, so that it outlives a leader and every standby can show
//! it. Written under the fence of partition 0.

use fred::interfaces::StreamsInterface;
use fred::types::Value;
use serde::{Deserialize, Serialize};

use super::lease::Lease;
use super::scripts::NOTE_HISTORY;
use super::stream::EntryId;
use super::{Store, StoreError};

/// Money of one asset that is recorded and not settled, in atomic units. Sums of channels may be past a `u64`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsettled {
    /// On channels that take payments.
    #[serde(with = "units")]
    pub open: u128,
    /// On channels that are being closed.
    #[serde(with = "units")]
    pub closing: u128,
    /// On channels that were given up on.
    #[serde(with = "units")]
    pub failed: u128,
}

impl Unsettled {
    /// All three.
    pub fn total(&self) -> u128 {
        self.open.saturating_add(self.closing).saturating_add(self.failed)
    }
}

/// What one walk over all channels that have not ended found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// How long the walk took, in ms: the sums are of no one moment.
    pub took_ms: u64,
    /// Channels that take payments.
    pub open: u64,
    /// Channels that are being closed.
    pub closing: u64,
    /// Channels that were given up on.
    pub failed: u64,
    /// By asset, those with the most channels first.
    pub assets: Vec<(String, Unsettled)>,
    /// Assets beyond those, of which nothing is kept.
    pub assets_left_out: u64,
}

/// One entry of the history. The first of a leadership has no sums yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Who led, as `<process>:<term>`.
    pub holder: String,
    /// Its fencing token when it began to lead.
    pub token: u64,
    /// When it began to lead, in ms since 1970.
    pub since_ms: u64,
    /// What it found.
    pub sums: Option<Sums>,
}

impl Store {
    /// Adds a sample, and keeps `samples_max` in all.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again adds it twice, which does no harm.
    pub async fn note_history(
        &self,
        lease: &Lease,
        sample: &Sample,
        samples_max: u32,
    ) -> Result<(), StoreError> {
        let json = serde_json::to_string(sample)
            .map_err(|error| StoreError::corrupt(self.keys().history(), error.to_string()))?;
        let args = vec![samples_max.to_string().into(), "sample".into(), json.into()];
        self.fenced(&NOTE_HISTORY, lease, 0, vec![self.keys().history()], args).await?;
        Ok(())
    }

    /// The newest `count` samples with their times in ms since 1970, the oldest of them first. What cannot be read is left
    /// out: nothing is decided by it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn history(&self, count: u32) -> Result<Vec<(u64, Sample)>, StoreError> {
        let entries: Vec<(String, Vec<Value>)> = self
            .client(0)?
            .xrevrange(self.keys().history(), "+", "-", Some(u64::from(count)))
            .await
            .map_err(|error| StoreError::of_read(&error))?;
        let sample = |(id, fields): &(String, Vec<Value>)| {
            let at: EntryId = id.parse().ok()?;
            let json = fields.get(1)?.as_str()?;
            Some((at.ms, serde_json::from_str(&json).ok()?))
        };
        Ok(entries.iter().rev().filter_map(sample).collect())
    }
}

/// Sums as decimal texts.
mod units {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(sum: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(sum)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_past_a_u64_keep_every_digit() {
        let open = u128::from(u64::MAX) + 2;
        let sums = Sums {
            assets: vec![("usd".to_owned(), Unsettled { open, ..Unsettled::default() })],
            ..Sums::default()
        };
        let json = serde_json::to_string(&sums).expect("JSON");
        assert!(json.contains("\"18446744073709551617\""), "{json}");
        assert_eq!(serde_json::from_str::<Sums>(&json).expect("round trip"), sums);
    }
}
