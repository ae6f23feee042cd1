//! Channels that have not ended, and what was given up on, a bounded page at a time. Neither walks the keyspace: channels
//! that have not ended are the members of `due`.

use fred::interfaces::StreamsInterface;
use fred::prelude::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};

use super::scripts::READ_CHANNELS;
use super::stream::EntryId;
use super::{Store, StoreError};
use crate::ids::ChannelId;

/// What an operator asks about one channel besides the channel itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Who asked for a close.
    pub close_requested_by: Option<String>,
    /// When the receipt was kept, in ms since 1970.
    pub closed_at_ms: Option<u64>,
    /// When the channel was given up on, in ms since 1970.
    pub failed_at_ms: Option<u64>,
    /// When a person last had it tried again, in ms since 1970.
    pub retried_at_ms: Option<u64>,
}

/// A dead letter, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The partition in whose list it stands.
    pub partition: u16,
    /// Its id there; its time is when it was given up on.
    pub entry: EntryId,
    /// Why.
    pub reason: String,
    /// What it is about.
    pub about: About,
}

/// What was given up on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The close of a channel.
    Close(ChannelId),
    /// An entry of accepted payments, with the id that it had.
    Entry(String),
    /// Something that no version of Millrace wrote there.
    Unknown,
}

impl Store {
    /// Up to `count` channels of a partition that have not ended, by the time at which the settler looks at them, from the
    /// `skip`th on, each with that time in ms since 1970. A channel whose time changes between two pages may be missed or
    /// come twice.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn live_page(
        &self,
        partition: u16,
        skip: u64,
        count: u32,
    ) -> Result<Vec<(ChannelId, u64)>, StoreError> {
        let last = skip.saturating_add(u64::from(count)).saturating_sub(1);
        let args = vec![skip.to_string().into(), last.to_string().into(), "WITHSCORES".into()];
        let answer = self.ask_due("ZRANGE", partition, args).await?;
        self.with_scores(partition, answer)
    }

    /// One step of a walk over a partition's channels that have not ended, in no order, and the cursor of the next (`None`
    /// after the last). A channel may come twice; none that is there throughout is missed, also if its time changes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn live_scan(
        &self,
        partition: u16,
        cursor: Option<&str>,
        count: u32,
    ) -> Result<(Vec<ChannelId>, Option<String>), StoreError> {
        let args = vec![cursor.unwrap_or("0").into(), "COUNT".into(), count.to_string().into()];
        let mut parts = self.ask_due("ZSCAN", partition, args).await?.into_array().into_iter();
        let next = parts.next().and_then(Value::into_string).unwrap_or_default();
        let members = parts.next().unwrap_or(Value::Array(Vec::new()));
        let ids = self.with_scores(partition, members)?.into_iter().map(|(id, _)| id).collect();
        Ok((ids, (next != "0" && !next.is_empty()).then_some(next)))
    }

    async fn ask_due(
        &self,
        command: &'static str,
        partition: u16,
        further: Vec<Value>,
    ) -> Result<Value, StoreError> {
        let mut args = vec![Value::from(self.keys().due(partition))];
        args.extend(further);
        let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
        self.client(partition)?.custom(command, args).await.map_err(|error| StoreError::of_read(&error))
    }

    fn odd(&self, partition: u16) -> StoreError {
        StoreError::corrupt(self.keys().due(partition), "an answer of unknown form")
    }

    /// Reads `member, score, member, score, …`.
    fn with_scores(&self, partition: u16, members: Value) -> Result<Vec<(ChannelId, u64)>, StoreError> {
        let members = members.into_array();
        let (pairs, _) = members.as_chunks();
        pairs
            .iter()
            .map(|[id, score]| {
                let id = id.as_str()?.parse().ok()?;
                // Written as whole ms; one that is past what a double keeps is as good as never.
                Some((id, score.as_str()?.parse().unwrap_or(u64::MAX)))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| self.odd(partition))
    }

    /// What else is known of a channel; nothing of one that Redis does not know.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn marks(&self, id: &ChannelId) -> Result<Marks, StoreError> {
        const FIELDS: [&str; 4] = ["close_requested_by", "closed_at", "failed_at", "retried_at"];
        let keys = vec![self.keys().state(id), self.keys().channel(id)];
        let args = FIELDS.map(Value::from).into();
        let client = self.client(self.partition_of(id))?;
        let found = READ_CHANNELS.run(client, keys, args).await.map_err(|e| StoreError::of_read(&e))?;
        let channel = found.into_array().into_iter().next().map(Value::into_array).unwrap_or_default();
        let fields = channel.into_iter().nth(1).map(Value::into_array).unwrap_or_default();
        let number = |i: usize| fields.get(i).and_then(Value::as_str).and_then(|text| text.parse().ok());
        Ok(Marks {
            close_requested_by: fields.first().and_then(Value::as_string),
            closed_at_ms: number(1),
            failed_at_ms: number(2),
            retried_at_ms: number(3),
        })
    }

    /// Up to `count` dead letters of a partition from before `before`, the newest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn newest_dead(
        &self,
        partition: u16,
        before: Option<EntryId>,
        count: u32,
    ) -> Result<Vec<Letter>, StoreError> {
        let key = self.keys().dead(partition);
        let from = before.map_or_else(|| "+".to_owned(), |before| format!("({before}"));
        let entries: Vec<(String, Vec<Value>)> = self
            .client(partition)?
            .xrevrange(&key, from, "-", Some(u64::from(count)))
            .await
            .map_err(|error| StoreError::of_read(&error))?;
        entries
            .iter()
            .map(|(id, fields)| {
                let entry =
                    id.parse().map_err(|_| StoreError::corrupt(key.clone(), format!("entry {id}")))?;
                Ok(letter(partition, entry, fields))
            })
            .collect()
    }
}

fn letter(partition: u16, entry: EntryId, fields: &[Value]) -> Letter {
    let (pairs, _) = fields.as_chunks();
    // What stood in an entry follows, and may be named the same.
    let text = |wanted: &str| {
        let field = pairs.iter().find(|[name, _]| name.as_bytes() == Some(wanted.as_bytes()));
        field.and_then(|[_, value]| value.as_string()).unwrap_or_default()
    };
    let about = match (text("kind").as_str(), text("id")) {
        ("close", id) => id.parse().map_or(About::Unknown, About::Close),
        ("entry", id) => About::Entry(id),
        _ => About::Unknown,
    };
    Letter { partition, entry, reason: text("reason"), about }
}
