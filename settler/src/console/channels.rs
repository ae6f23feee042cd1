//! Lists of channels and dead letters, a bounded page at a time, however many there are. Channels that have not ended come
//! from Redis by when they are due, all others from the issuer in the order of their ids: nothing walks the keyspace.

use std::fmt;
use std::str::FromStr;

use common::channel::Status;
use common::ids::ChannelId;
use common::store::listing::Letter;
use common::store::read::StoredChannel;
use common::store::stream::EntryId;
use common::store::{Store, StoreError};
use common::wire::{IssuerChannel, IssuerChannelPage, IssuerStatus};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use service::issuer_client::{ChannelQuery, IssuerError};

use super::search;
use crate::app::App;

/// Channels in one call.
const CHANNELS_PER_READ: u32 = 250;

/// Partitions that are asked at once.
const PARTITIONS_AT_ONCE: usize = 16;

/// Why a list cannot be shown.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// Redis did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The issuer did not answer.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

/// Which channels to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Those that take payments.
    #[default]
    Open,
    /// Those on their way to the issuer.
    Closing,
    /// Those that are settled.
    Closed,
    /// Every channel that the issuer has for this payee.
    All,
}

impl Filter {
    pub(crate) const EVERY: [Filter; 4] = [Filter::Open, Filter::Closing, Filter::Closed, Filter::All];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Filter::Open => "open",
            Filter::Closing => "closing",
            Filter::Closed => "closed",
            Filter::All => "all",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Filter> {
        Filter::EVERY.into_iter().find(|filter| filter.as_str() == text)
    }
}

/// One channel of a list.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: ChannelId,
    /// What Redis holds of it.
    pub(crate) stored: Option<StoredChannel>,
    /// What the issuer holds, where it was asked.
    pub(crate) issued: Option<IssuerChannel>,
    /// When the settler looks at it, in ms since 1970, where that is known.
    pub(crate) due_at_ms: Option<u64>,
}

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listed {
    pub(crate) rows: Vec<Row>,
    /// Where the next page begins; `None` after the last.
    pub(crate) next: Option<String>,
    /// Channels that were read to find these.
    pub(crate) read: u64,
}

/// Where a page of channels that have not ended begins: a partition, and how many of its channels come before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveCursor {
    partition: u16,
    skip: u64,
}

impl fmt::Display for LiveCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.partition, self.skip)
    }
}

impl FromStr for LiveCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (partition, skip) = text.split_once('.').ok_or(())?;
        Ok(LiveCursor { partition: partition.parse().map_err(drop)?, skip: skip.parse().map_err(drop)? })
    }
}

/// Channels of one status that have not ended, partition by partition, those first that are due first.
pub(crate) async fn live(app: &App, status: Status, from: LiveCursor) -> Result<Listed, ListError> {
    let config = &app.config.console;
    let rows_max = usize::try_from(config.rows_per_page).unwrap_or(usize::MAX);
    // A channel that is closing is due at once, or when it is tried again: no later than this.
    let closing_until_ms =
        app.clock.now_ms().saturating_add(app.config.closes.retry_delay_max_ms.saturating_mul(2));
    let mut listed = Listed::default();
    let mut at = from;
    while at.partition < app.store.partitions() {
        let left = u64::from(config.channels_read_per_page).saturating_sub(listed.read);
        let count = u32::try_from(left).unwrap_or(u32::MAX).min(CHANNELS_PER_READ);
        if count == 0 {
            listed.next = Some(at.to_string());
            return Ok(listed);
        }
        let page = app.store.live_page(at.partition, at.skip, count).await?;
        let ids: Vec<ChannelId> = page.iter().map(|(id, _)| *id).collect();
        let found = app.store.channels(at.partition, &ids).await?;
        for ((id, due_at_ms), stored) in page.iter().zip(found) {
            if listed.rows.len() == rows_max {
                listed.next = Some(at.to_string());
                return Ok(listed);
            }
            at.skip = at.skip.saturating_add(1);
            listed.read = listed.read.saturating_add(1);
            // What cannot be read is listed: someone must see it.
            let stored = stored.ok().flatten();
            if stored.as_ref().is_none_or(|channel| channel.state.status == status) {
                listed.rows.push(Row { id: *id, stored, issued: None, due_at_ms: Some(*due_at_ms) });
            }
        }
        let is_last = u64::try_from(page.len()).unwrap_or(u64::MAX) < u64::from(count);
        let is_past =
            status == Status::Closing && page.last().is_some_and(|(_, due)| *due > closing_until_ms);
        if is_last || is_past {
            at = LiveCursor { partition: at.partition.saturating_add(1), skip: 0 };
        }
    }
    Ok(listed)
}

/// Channels that the issuer has for this payee, in the order of their ids, after `after`; with `closed_only`, those that it
/// has closed.
pub(crate) async fn issued(
    app: &App,
    closed_only: bool,
    mut after: Option<ChannelId>,
) -> Result<Listed, ListError> {
    let config = &app.config.console;
    let rows_max = usize::try_from(config.rows_per_page).unwrap_or(usize::MAX);
    let mut listed = Listed::default();
    let mut chosen = Vec::new();
    'pages: while listed.read < u64::from(config.channels_read_per_page) {
        let page = page(app, after, CHANNELS_PER_READ).await?;
        for channel in page.channels {
            if chosen.len() == rows_max {
                listed.next = after.map(|after| after.to_string());
                break 'pages;
            }
            after = Some(channel.channel_id);
            listed.read = listed.read.saturating_add(1);
            if !closed_only || channel.status == IssuerStatus::Closed {
                chosen.push(channel);
            }
        }
        listed.next = page.next.map(|next| next.to_string());
        if page.next.is_none() {
            break;
        }
        after = page.next;
    }
    listed.rows = rows(app, chosen).await?;
    Ok(listed)
}

/// Channels whose ids begin with `prefix`: as many as fit on a page.
pub(crate) async fn with_prefix(app: &App, prefix: &str) -> Result<Listed, ListError> {
    let config = &app.config.console;
    let rows_max = usize::try_from(config.rows_per_page).unwrap_or(usize::MAX);
    let mut chosen: Vec<IssuerChannel> = Vec::new();
    let mut listed = Listed::default();
    for (first, last) in search::ranges(prefix) {
        if chosen.len() > rows_max || listed.read >= u64::from(config.channels_read_per_page) {
            break;
        }
        let page = page(app, search::before(&first), CHANNELS_PER_READ).await?;
        let begin_so = page.channels.into_iter().filter(|channel| {
            channel.channel_id <= last && channel.channel_id.to_string().starts_with(prefix)
        });
        chosen.extend(begin_so);
        listed.read = listed.read.saturating_add(u64::from(CHANNELS_PER_READ));
    }
    // That there is more is said; where, is for a longer prefix to find.
    listed.next = (chosen.len() > rows_max).then(String::new);
    chosen.truncate(rows_max);
    listed.rows = rows(app, chosen).await?;
    Ok(listed)
}

/// Up to `limit` channels that the issuer has for any of the payee's keys, in the order of their ids, after `after`.
pub(super) async fn page(
    app: &App,
    after: Option<ChannelId>,
    limit: u32,
) -> Result<IssuerChannelPage, IssuerError> {
    let (mut channels, mut more) = (Vec::new(), false);
    for payee in app.payees.public() {
        let query = ChannelQuery { payer: None, payee: Some(payee), after, limit: Some(limit) };
        let page = app.issuer.channels(&query).await?;
        channels.extend(page.channels);
        more |= page.next.is_some();
    }
    channels.sort_by_key(|channel| channel.channel_id);
    // None of a key's channels is left out below these: a page that ends early is full of lower ones.
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    more |= channels.len() > most;
    channels.truncate(most);
    let next = channels.last().filter(|_| more).map(|last| last.channel_id);
    Ok(IssuerChannelPage { channels, next })
}

async fn rows(app: &App, channels: Vec<IssuerChannel>) -> Result<Vec<Row>, ListError> {
    let ids: Vec<ChannelId> = channels.iter().map(|channel| channel.channel_id).collect();
    let found = app.store.channels_anywhere(&ids).await?;
    let row = |(issued, stored): (IssuerChannel, Result<Option<StoredChannel>, StoreError>)| Row {
        id: issued.channel_id,
        stored: stored.ok().flatten(),
        issued: Some(issued),
        due_at_ms: None,
    };
    Ok(channels.into_iter().zip(found).map(row).collect())
}

/// Where a page of dead letters begins: before this one of this partition. Letters of one time stand in the order of their
/// partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeadCursor {
    entry: EntryId,
    partition: u16,
}

impl fmt::Display for DeadCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.entry, self.partition)
    }
}

impl FromStr for DeadCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (entry, partition) = text.split_once('.').ok_or(())?;
        Ok(DeadCursor { entry: entry.parse().map_err(drop)?, partition: partition.parse().map_err(drop)? })
    }
}

/// Up to `count` dead letters of all partitions, the newest first, and where the next page begins.
pub(crate) async fn newest_dead(
    store: &Store,
    from: Option<DeadCursor>,
    count: u32,
) -> Result<(Vec<Letter>, Option<DeadCursor>), StoreError> {
    let before = |partition: u16| {
        let DeadCursor { entry, partition: last } = from?;
        // Those of the same time in partitions before it are still to come.
        let same_time = EntryId { ms: entry.ms, n: entry.n.saturating_add(1) };
        Some(if partition < last { same_time } else { entry })
    };
    let mut letters = stream::iter(0..store.partitions())
        .map(|partition| store.newest_dead(partition, before(partition), count.saturating_add(1)))
        .buffered(PARTITIONS_AT_ONCE)
        .try_concat()
        .await?;
    letters.sort_by_key(|letter| std::cmp::Reverse((letter.entry, letter.partition)));
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let is_more = letters.len() > count;
    letters.truncate(count);
    let last = letters.last().filter(|_| is_more);
    let next = last.map(|letter| DeadCursor { entry: letter.entry, partition: letter.partition });
    Ok((letters, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_a_link() {
        let live = LiveCursor { partition: 7, skip: 1_000 };
        assert_eq!(live.to_string().parse(), Ok(live));
        let dead = DeadCursor { entry: EntryId { ms: 17, n: 2 }, partition: 1_023 };
        assert_eq!(dead.to_string().parse(), Ok(dead));
        for nonsense in ["", "7", "7.", ".7", "a.b", "7.-1"] {
            assert_eq!(nonsense.parse::<LiveCursor>(), Err(()), "{nonsense}");
            assert_eq!(nonsense.parse::<DeadCursor>(), Err(()), "{nonsense}");
        }
    }
}
