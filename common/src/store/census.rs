//! All channels that have not ended, a page at a time: and whom they pay.

use std::collections::BTreeMap;

use fred::prelude::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};

use super::scripts::READ_CHANNELS;
use super::{Store, StoreError};
use crate::channel::Terms;
use crate::ids::{ChannelId, PublicKey};

/// Channels that are asked for at a time.
const PAGE: u32 = 256;

/// Channels that have not ended, by the payee that they pay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// How many of each payee: open ones and those that are being closed.
    pub by_payee: BTreeMap<PublicKey, u64>,
    /// Channels that cannot be read.
    pub unreadable: u64,
    /// False if there are more than were to be looked at.
    pub is_complete: bool,
}

impl Store {
    /// One page of a partition's channels that have not ended, in no order, and the cursor of the next page (`None` after
    /// the last). A channel may come twice; none that is there throughout is missed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or [`StoreError::Corrupt`].
    pub async fn due_page(
        &self,
        partition: u16,
        cursor: Option<&str>,
        count: u32,
    ) -> Result<(Vec<ChannelId>, Option<String>), StoreError> {
        let due = self.keys().due(partition);
        let scan = CustomCommand::new("ZSCAN", ClusterHash::FirstKey, false);
        let args: Vec<Value> =
            vec![due.as_str().into(), cursor.unwrap_or("0").into(), "COUNT".into(), count.to_string().into()];
        let page: (String, Vec<String>) =
            self.client(partition)?.custom(scan, args).await.map_err(|e| StoreError::of_read(&e))?;
        let corrupt = |id: &String| StoreError::corrupt(due.clone(), format!("member {id}"));
        // Members and their times by turns.
        let ids = page.1.iter().step_by(2).map(|id| id.parse().map_err(|_| corrupt(id)));
        Ok((ids.collect::<Result<_, _>>()?, (page.0 != "0").then_some(page.0)))
    }

    /// Counts channels that have not ended by payee, but looks at no more than about `most` of them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or [`StoreError::Corrupt`].
    pub async fn census(&self, most: u64) -> Result<Census, StoreError> {
        let mut census = Census { is_complete: true, ..Census::default() };
        let mut looked_at: u64 = 0;
        for partition in 0..self.partitions() {
            let mut cursor = None;
            loop {
                if looked_at >= most {
                    census.is_complete = false;
                    return Ok(census);
                }
                let (ids, next) = self.due_page(partition, cursor.as_deref(), PAGE).await?;
                looked_at = looked_at.saturating_add(u64::try_from(ids.len()).unwrap_or(u64::MAX));
                for terms in self.terms_of(partition, &ids).await? {
                    match serde_json::from_str::<Terms>(&terms) {
                        Ok(terms) => {
                            let count = census.by_payee.entry(terms.payee).or_default();
                            *count = count.saturating_add(1);
                        }
                        Err(_) => census.unreadable = census.unreadable.saturating_add(1),
                    }
                }
                match next {
                    Some(next) => cursor = Some(next),
                    None => break,
                }
            }
        }
        Ok(census)
    }

    /// The terms of channels of one partition, as their text; nothing of one that Redis does not know.
    async fn terms_of(&self, partition: u16, ids: &[ChannelId]) -> Result<Vec<String>, StoreError> {
        let mut all = Vec::with_capacity(ids.len());
        for ids in ids.chunks(usize::try_from(PAGE).unwrap_or(usize::MAX)) {
            let keys = ids.iter().flat_map(|id| [self.keys().state(id), self.keys().channel(id)]).collect();
            let found = READ_CHANNELS
                .run(self.client(partition)?, keys, vec!["terms".into()])
                .await
                .map_err(|e| StoreError::of_read(&e))?;
            for channel in found.into_array() {
                // Its state, and the fields that were asked for.
                let fields =
                    channel.into_array().into_iter().nth(1).map(Value::into_array).unwrap_or_default();
                all.extend(fields.into_iter().next().and_then(Value::into_string));
            }
        }
        Ok(all)
    }
}
