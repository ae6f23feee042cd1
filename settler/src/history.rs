//! What is unsettled, over time: the leader walks all channels that have not ended, at a bounded pace, sums up what is
//! recorded and not settled on them, and keeps a bounded number of sums in Redis. Money is not decided by it: a walk takes
//! its time, and payments go on meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::channel::Status;
use common::ids::ChannelId;
use common::store::StoreError;
use common::store::history::{Sample, Sums, Unsettled};
use common::store::listing::About;
use common::store::read::StoredChannel;

use crate::leadership::Leadership;

/// Channels in one step of a walk.
pub(crate) const CHANNELS_PER_STEP: u32 = 256;

/// Between two walks at least, whatever is configured.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Assets that are told apart during a walk: payers choose their names.
const ASSETS_TOLD_APART: usize = 1_024;

/// Measures again and again for as long as the leadership lasts.
pub(crate) async fn run(leadership: Arc<Leadership>) {
    let app = leadership.app.clone();
    let mut sample = Sample {
        holder: leadership.lease.holder().to_owned(),
        token: leadership.lease.token().map_or(0, |token| token.get()),
        since_ms: app.clock.now_ms(),
        sums: None,
    };
    let every = Duration::from_millis(app.config.console.history_every_ms);
    let samples_max = app.config.console.history_samples_max;
    let mut began_at = Instant::now();
    while !leadership.is_draining() {
        // The first says who leads since when, before anything is measured.
        match app.store.note_history(&leadership.lease, &sample, samples_max).await {
            Ok(()) if sample.sums.is_some() => {
                leadership.pause(every.saturating_sub(began_at.elapsed()).max(PAUSE_MIN)).await;
            }
            Ok(()) => {}
            Err(error) => leadership.trouble(&error, "keeping the history", 0).await,
        }
        began_at = Instant::now();
        match walk(&leadership).await {
            Ok(Some(sums)) => sample.sums = Some(sums),
            Ok(None) => return,
            Err(error) => leadership.trouble(&error, "summing up what is unsettled", 0).await,
        }
    }
}

/// Sums up all channels that have not ended. `None` if nothing new is to be taken up any more.
async fn walk(leadership: &Leadership) -> Result<Option<Sums>, StoreError> {
    let store = &leadership.app.store;
    let began_at = Instant::now();
    let mut tally = Tally::default();
    for partition in 0..store.partitions() {
        let mut cursor = None;
        loop {
            let (ids, next) = store.live_scan(partition, cursor.as_deref(), CHANNELS_PER_STEP).await?;
            if !read(leadership, &ids, &mut tally).await? {
                return Ok(None);
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        let mut before = None;
        loop {
            let letters = store.newest_dead(partition, before, CHANNELS_PER_STEP).await?;
            before = letters.last().map(|letter| letter.entry);
            let ids = letters.iter().filter_map(|letter| match letter.about {
                About::Close(id) => Some(id),
                About::Entry(_) | About::Unknown => None,
            });
            let ids: Vec<ChannelId> = ids.filter(|id| tally.failed_seen.insert(*id)).collect();
            if !read(leadership, &ids, &mut tally).await? {
                return Ok(None);
            }
            if before.is_none() {
                break;
            }
        }
    }
    let assets_max = usize::try_from(leadership.app.config.console.history_assets_max).unwrap_or(usize::MAX);
    Ok(Some(tally.sums(assets_max, began_at.elapsed())))
}

/// Reads a step's channels, and rests as long as the pace asks for. False if nothing new is to be taken up any more.
async fn read(leadership: &Leadership, ids: &[ChannelId], tally: &mut Tally) -> Result<bool, StoreError> {
    if !ids.is_empty() {
        for found in leadership.app.store.channels_anywhere(ids).await? {
            // What cannot be read is told by the loops whose work it is.
            if let Ok(Some(channel)) = found {
                tally.add(&channel);
            }
        }
        leadership.pause(rest(ids.len(), leadership.app.config.console.walk_channels_per_s)).await;
    }
    Ok(!leadership.is_draining())
}

/// How long to rest after so many channels, to read no more than `per_s`.
pub(crate) fn rest(channels: usize, per_s: u32) -> Duration {
    let channels = u64::try_from(channels).unwrap_or(u64::MAX);
    let micros = channels.saturating_mul(1_000_000).checked_div(u64::from(per_s)).unwrap_or(0);
    Duration::from_micros(micros)
}

/// Sums in the making.
#[derive(Debug, Default)]
struct Tally {
    open: u64,
    closing: u64,
    failed: u64,
    failed_seen: HashSet<ChannelId>,
    assets: HashMap<String, (u64, Unsettled)>,
    left_out: HashSet<String>,
}

impl Tally {
    fn add(&mut self, channel: &StoredChannel) {
        let count = match channel.state.status {
            Status::Open => &mut self.open,
            Status::Closing => &mut self.closing,
            Status::Failed => &mut self.failed,
            Status::Closed => return,
        };
        *count = count.saturating_add(1);
        let asset = &channel.terms.asset;
        if !self.assets.contains_key(asset) && self.assets.len() >= ASSETS_TOLD_APART {
            if self.left_out.len() < ASSETS_TOLD_APART {
                self.left_out.insert(asset.clone());
            }
            return;
        }
        let (channels, unsettled) = self.assets.entry(asset.clone()).or_default();
        *channels = channels.saturating_add(1);
        let sum = match channel.state.status {
            Status::Open => &mut unsettled.open,
            Status::Closing => &mut unsettled.closing,
            Status::Failed | Status::Closed => &mut unsettled.failed,
        };
        let owed = channel.state.amount.checked_sub(channel.settled_before).unwrap_or_default();
        *sum = sum.saturating_add(u128::from(owed.units()));
    }

    fn sums(self, assets_max: usize, took: Duration) -> Sums {
        let mut assets: Vec<(String, (u64, Unsettled))> = self.assets.into_iter().collect();
        assets.sort_by(|(a, (more, _)), (b, (less, _))| less.cmp(more).then_with(|| a.cmp(b)));
        let left_out = assets.len().saturating_sub(assets_max).saturating_add(self.left_out.len());
        assets.truncate(assets_max);
        Sums {
            took_ms: took.as_millis().try_into().unwrap_or(u64::MAX),
            open: self.open,
            closing: self.closing,
            failed: self.failed,
            assets: assets.into_iter().map(|(asset, (_, unsettled))| (asset, unsettled)).collect(),
            assets_left_out: left_out.try_into().unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::amount::Amount;
    use common::store::state::HotState;
    use common::testing::terms;

    fn channel(asset: &str, status: Status, amount: u64, settled_before: u64) -> StoredChannel {
        let mut terms = terms(1);
        terms.asset = asset.to_owned();
        let (amount, capacity) = (Amount::new(amount), terms.capacity);
        StoredChannel {
            terms,
            state: HotState { status, amount, capacity, proof: Vec::new() },
            settled_before: Amount::new(settled_before),
            first_at_ms: None,
            last_at_ms: None,
            close_requested_at_ms: None,
            closing_at_ms: None,
            closing_reason: None,
            attempts: 0,
            last_error: None,
            receipt: None,
        }
    }

    #[test]
    fn sums_are_by_asset_and_status_and_leave_out_what_is_settled() {
        let mut tally = Tally::default();
        for (asset, status, amount, before) in [
            ("usd", Status::Open, 10, 4),
            ("usd", Status::Closing, 5, 0),
            ("usd", Status::Failed, 3, 0),
            ("usd", Status::Closed, 1_000, 0),
            ("eur", Status::Open, u64::MAX, 0),
            ("eur", Status::Open, u64::MAX, 0),
        ] {
            tally.add(&channel(asset, status, amount, before));
        }
        let sums = tally.sums(8, Duration::from_millis(7));
        assert_eq!((sums.open, sums.closing, sums.failed, sums.took_ms), (3, 1, 1, 7));
        let usd = Unsettled { open: 6, closing: 5, failed: 3 };
        let eur = Unsettled { open: u128::from(u64::MAX) * 2, ..Unsettled::default() };
        assert_eq!(sums.assets, [("usd".to_owned(), usd), ("eur".to_owned(), eur)]);
    }

    #[test]
    fn assets_beyond_the_bound_are_counted_and_not_kept() {
        let mut tally = Tally::default();
        for asset in ["a", "b", "b", "c"] {
            tally.add(&channel(asset, Status::Open, 1, 0));
        }
        let sums = tally.sums(1, Duration::ZERO);
        assert_eq!(sums.assets.iter().map(|(asset, _)| asset.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(sums.assets_left_out, 2);
    }

    #[test]
    fn the_pace_is_what_was_configured() {
        assert_eq!(rest(256, 5_000), Duration::from_micros(51_200));
        assert_eq!(rest(0, 1), Duration::ZERO);
    }
}
