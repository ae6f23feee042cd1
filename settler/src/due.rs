//! Channels whose time has come: each is decided about anew, and closed or put off. One task a partition; every
//! close begins here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::amount::Amount;
use common::channel::Status;
use common::fault_point;
use common::ids::ChannelId;
use common::store::StoreError;
use common::store::read::StoredChannel;
use common::store::settle::ChannelUpdate;

use crate::closer;
use crate::leadership::{Hold, Holds, Leadership};
use crate::metrics::UNKNOWN_REASON;
use crate::policy::{Decision, Reason, View, decide};

/// How long to leave a channel alone that cannot be read, in ms.
const PUT_OFF_MS: u64 = 600_000;

/// How long to leave a channel alone whose key is not configured, in ms: when that is mended, it is with a restart.
const KEYLESS_MS: u64 = 10_000;

/// Looks at one partition's due channels again and again.
pub(crate) async fn run(leadership: Arc<Leadership>, partition: u16) {
    let poll = Duration::from_millis(leadership.app.config.consumer.poll_ms);
    let holds = Holds::default();
    while !leadership.is_draining() {
        match look(&leadership, partition, &holds).await {
            Ok(more) => {
                if !more {
                    leadership.pause(poll).await;
                }
            }
            Err(error) => leadership.trouble(&error, "looking for due channels", partition).await,
        }
    }
}

/// What is to be done about a due channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Begin to close it, or go on with that.
    Close(&'static str),
    /// Look again then, in ms since 1970.
    Wait(u64),
    /// The key that could settle it is not here: it stays open, and is looked at again.
    Keyless,
    /// It has ended: it should not be due.
    Ended,
}

/// Deals with one page of due channels. True if there may be more right now.
async fn look(leadership: &Arc<Leadership>, partition: u16, holds: &Holds) -> Result<bool, StoreError> {
    let app = &leadership.app;
    // Channels being closed stay due until they are closed: they come on top of those that are asked for. The set is
    // of before the read: what is released after it may have ended since, and must not be taken for new.
    let held = holds.snapshot();
    let wanted =
        usize::try_from(app.config.closes.due_per_read).unwrap_or(usize::MAX).saturating_add(held.len());
    let now_ms = app.clock.now_ms();
    let due = app.store.due(partition, now_ms, u32::try_from(wanted).unwrap_or(u32::MAX)).await?;
    if due.is_empty() {
        return Ok(false);
    }
    fault_point::reach("due_read");
    let more = due.len() >= wanted;
    let fresh = due.into_iter().filter(|id| !held.contains(id)).filter_map(|id| holds.hold(id));
    let fresh: Vec<Hold> = fresh.collect();
    let ids: Vec<ChannelId> = fresh.iter().map(|hold| hold.id).collect();
    let writing = leadership.books.of(&BTreeSet::from([partition])).await;
    let found = app.store.channels(partition, &ids).await?;

    let mut waiting = Vec::new();
    let mut closing = Vec::new();
    for (hold, found) in fresh.into_iter().zip(found) {
        let id = hold.id;
        match found {
            Ok(Some(channel)) => match step(leadership, &channel, now_ms) {
                Step::Close(reason) => {
                    leadership.note_closing(id, &channel, channel.state.amount);
                    closing.push((hold, channel, reason));
                }
                Step::Wait(until_ms) => waiting.push((hold, until_ms)),
                Step::Keyless => {
                    app.keyless.met(channel.terms.payee);
                    // One that was asked to close cannot be put off (see apply.lua), and must not come up all the time.
                    match channel.close_requested_at_ms {
                        Some(_) => hold.keep(),
                        None => waiting.push((hold, now_ms.saturating_add(KEYLESS_MS))),
                    }
                }
                Step::Ended => {
                    tracing::warn!(channel_id = %id, status = ?channel.state.status, "due, but it has ended");
                    hold.keep();
                }
            },
            Ok(None) => {
                app.metrics.close("unreadable", UNKNOWN_REASON);
                app.metrics.money.ended(&id);
                tracing::error!(channel_id = %id, "due, but Redis does not know the channel: looking again later");
                waiting.push((hold, now_ms.saturating_add(PUT_OFF_MS)));
            }
            Err(error @ StoreError::Corrupt { .. }) => {
                app.metrics.close("unreadable", UNKNOWN_REASON);
                tracing::error!(channel_id = %id, %error, "due, but it cannot be read: left to the next leader");
                hold.keep();
            }
            Err(error) => return Err(error),
        }
    }
    put_off(leadership, partition, waiting).await?;
    drop(writing);
    for (hold, channel, reason) in closing {
        start_close(leadership, hold, channel, reason).await;
    }
    Ok(more)
}

fn step(leadership: &Leadership, channel: &StoredChannel, now_ms: u64) -> Step {
    match channel.state.status {
        // Once its close has begun nobody can pay on it any more, and it could not be settled either.
        Status::Open if leadership.app.payees.of(&channel.terms.payee).is_none() => Step::Keyless,
        Status::Open => match decide(&leadership.app.live.load().policy, &View::of(channel, now_ms)) {
            Decision::Close(reason) => Step::Close(reason.as_str()),
            Decision::Wait { until_ms } => Step::Wait(until_ms),
        },
        // Begun by a leader that died, or waiting for another attempt: its reason was written down.
        Status::Closing => {
            let reason = channel.closing_reason.as_deref().and_then(Reason::parse);
            Step::Close(reason.map_or(UNKNOWN_REASON, Reason::as_str))
        }
        Status::Closed | Status::Failed => Step::Ended,
    }
}

/// Writes new times down. The channels are held until that is done.
async fn put_off(
    leadership: &Leadership,
    partition: u16,
    waiting: Vec<(Hold, u64)>,
) -> Result<(), StoreError> {
    if waiting.is_empty() {
        return Ok(());
    }
    let update = |(hold, until_ms): &(Hold, u64)| ChannelUpdate {
        channel_id: hold.id,
        paid_at_ms: None,
        due_at_ms: *until_ms,
        amount: Amount::ZERO,
    };
    let updates: Vec<ChannelUpdate> = waiting.iter().map(update).collect();
    leadership.app.store.apply(&leadership.lease, partition, &updates, &[], &[]).await
}

/// Starts a close once there is room for it. On the way out nothing is started.
async fn start_close(leadership: &Arc<Leadership>, hold: Hold, channel: StoredChannel, reason: &'static str) {
    let slot = leadership.unless_draining(leadership.close_slots.clone().acquire_owned()).await;
    // The semaphore is never closed, so there is a slot unless nothing is to be started any more.
    let Some(Ok(slot)) = slot else { return };
    let for_task = leadership.clone();
    leadership.spawn_apart(async move {
        let _slot = slot;
        closer::close(&for_task, &hold, &channel, reason).await;
    });
}
