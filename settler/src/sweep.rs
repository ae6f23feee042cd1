//! Another policy is another time to look at each channel: with the start of each leadership, and whenever the policy has
//! changed meanwhile, every open channel is decided about anew. So neither a restart with another policy nor a leader that
//! died half-way leaves channels behind that go by the old one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::amount::Amount;
use common::channel::Status;
use common::store::StoreError;
use common::store::read::StoredChannel;
use common::store::settle::ChannelUpdate;

use crate::config::PolicyConfig;
use crate::leadership::Leadership;
use crate::policy::{Decision, View, decide};

/// Between two looks whether the policy has changed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Channels that are asked for at a time. Redis may give some more.
const PAGE: u32 = 256;

/// Goes over all channels when the policy has changed, until the end of the leadership.
pub(crate) async fn run(leadership: Arc<Leadership>) {
    let mut decided_by: Option<PolicyConfig> = None;
    while !leadership.is_draining() {
        let policy = leadership.app.live.load().policy.clone();
        if decided_by.as_ref() != Some(&policy) {
            match sweep(&leadership, &policy).await {
                Ok(()) => decided_by = Some(policy),
                Err(error) => leadership.trouble(&error, "deciding about channels anew", 0).await,
            }
        }
        leadership.pause(LOOK_EVERY).await;
    }
}

async fn sweep(leadership: &Leadership, policy: &PolicyConfig) -> Result<(), StoreError> {
    let store = &leadership.app.store;
    let mut channels: usize = 0;
    for partition in 0..store.partitions() {
        let mut cursor = None;
        loop {
            let (ids, next) = store.due_page(partition, cursor.as_deref(), PAGE).await?;
            let _writing = leadership.books.of(&BTreeSet::from([partition])).await;
            let found = store.channels(partition, &ids).await?;
            let now_ms = leadership.app.clock.now_ms();
            let open = ids.iter().zip(found).filter_map(|(id, found)| {
                let channel = found.ok().flatten().filter(|channel| channel.state.status == Status::Open)?;
                Some(ChannelUpdate {
                    channel_id: *id,
                    paid_at_ms: None,
                    due_at_ms: due_at_ms(policy, &channel, now_ms),
                    amount: Amount::ZERO,
                })
            });
            let updates: Vec<ChannelUpdate> = open.collect();
            channels = channels.saturating_add(updates.len());
            if !updates.is_empty() {
                store.apply(&leadership.lease, partition, &updates, &[], &[]).await?;
            }
            match next {
                Some(next) if !leadership.is_draining() => cursor = Some(next),
                Some(_) => return Ok(()),
                None => break,
            }
        }
    }
    tracing::info!(channels, "every open channel was decided about anew, by the policy in effect");
    Ok(())
}

fn due_at_ms(policy: &PolicyConfig, channel: &StoredChannel, now_ms: u64) -> u64 {
    match decide(policy, &View::of(channel, now_ms)) {
        Decision::Close(_) => now_ms,
        Decision::Wait { until_ms } => until_ms,
    }
}
