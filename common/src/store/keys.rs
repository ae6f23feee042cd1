//! Every key name. All keys of a partition share one hash tag, so that every script touches one slot of a cluster.

use bytes::BufMut;

use crate::ids::{ChannelId, SpelledId};

/// Builds key names for one prefix and partition count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
    partitions: u16,
    /// What the names of hot states start with, by partition.
    state_heads: Vec<String>,
}

impl Keys {
    /// Names under `prefix` for `partitions` partitions.
    pub fn new(prefix: &str, partitions: u16) -> Self {
        let head = |partition| format!("{{{prefix}:{partition:02}{}", Self::BEFORE_ID);
        let state_heads = (0..partitions).map(head).collect();
        Keys { prefix: prefix.to_owned(), partitions, state_heads }
    }

    /// What every key starts with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Number of partitions.
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// What stands before a channel's id in the name of its hot state, and nowhere else in it: prefixes have no braces.
    pub const BEFORE_ID: &str = "}:state:";

    fn in_partition(&self, partition: u16, rest: &str) -> String {
        format!("{{{}:{partition:02}}}:{rest}", self.prefix)
    }

    /// String: the hot state of a channel (see [`super::state::HotState`]).
    pub fn state(&self, id: &ChannelId) -> String {
        [self.state_head(id), &id.text()].concat()
    }

    /// [`Keys::state`], behind what is there.
    pub(super) fn write_state(&self, id: &SpelledId, names: &mut impl BufMut) {
        names.put_slice(self.state_head(id).as_bytes());
        names.put_slice(id.text().as_bytes());
    }

    fn state_head(&self, id: &ChannelId) -> &str {
        // There is one for each partition.
        self.state_heads.get(usize::from(id.partition(self.partitions))).map_or("", String::as_str)
    }

    /// Hash: terms, times, closing data and receipt of a channel.
    pub fn channel(&self, id: &ChannelId) -> String {
        self.in_partition(id.partition(self.partitions), &format!("channel:{id}"))
    }

    /// What every channel hash of a partition starts with, as a SCAN pattern.
    pub fn channel_pattern(&self, partition: u16) -> String {
        // Braces and colons mean nothing in a pattern; prefixes hold no pattern characters (see RedisConfig).
        self.in_partition(partition, "channel:*")
    }

    /// String: counts the accept calls that recorded something, so that a loss of data shows.
    pub fn seq(&self, partition: u16) -> String {
        self.in_partition(partition, "seq")
    }

    /// Stream: one entry an accept call. Its channels may be of other partitions.
    pub fn accepted(&self, partition: u16) -> String {
        self.in_partition(partition, "accepted")
    }

    /// Sorted set: channels by when the settler must look at them, ms since 1970.
    pub fn due(&self, partition: u16) -> String {
        self.in_partition(partition, "due")
    }

    /// String: highest fencing token that wrote to the partition.
    pub fn fence(&self, partition: u16) -> String {
        self.in_partition(partition, "fence")
    }

    /// Stream: entries and closes given up on.
    pub fn dead(&self, partition: u16) -> String {
        self.in_partition(partition, "dead")
    }

    /// Stream: closes that ended, until the journal has them. Without a journal nothing is written there.
    pub fn settled(&self, partition: u16) -> String {
        self.in_partition(partition, "settled")
    }

    /// Hash: what was accepted in the partition, and what became of it, in atomic units.
    pub fn books(&self, partition: u16) -> String {
        self.in_partition(partition, "books")
    }

    /// Stream: what the leader measured, again and again. Kept beside partition 0, whose fence it is written under.
    pub fn history(&self) -> String {
        self.in_partition(0, "history")
    }

    /// String: who leads, as `<process>:<term>`.
    pub fn lease(&self) -> String {
        format!("{{{}:settler}}:lease", self.prefix)
    }

    /// String: the counter behind fencing tokens.
    pub fn token(&self) -> String {
        format!("{{{}:settler}}:token", self.prefix)
    }

    /// Pub/Sub channel: a leader gave its lease back.
    pub fn released(&self) -> String {
        format!("{{{}:settler}}:released", self.prefix)
    }

    /// Hash: schema version, partitions.
    pub fn meta(&self) -> String {
        format!("{}:meta", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_names_are_what_the_design_says() {
        let keys = Keys::new("mr", 16);
        let mut raw = [0u8; 32];
        raw[1] = 7;
        let id = ChannelId(raw);
        assert_eq!(keys.state(&id), format!("{{mr:07}}:state:{id}"));
        let mut written = Vec::new();
        keys.write_state(&id.into(), &mut written);
        assert_eq!(written, keys.state(&id).as_bytes());
        assert_eq!(keys.channel(&id), format!("{{mr:07}}:channel:{id}"));
        assert_eq!(keys.channel_pattern(7), "{mr:07}:channel:*");
        assert_eq!(keys.seq(7), "{mr:07}:seq");
        assert_eq!(keys.accepted(7), "{mr:07}:accepted");
        assert_eq!(keys.due(7), "{mr:07}:due");
        assert_eq!(keys.fence(7), "{mr:07}:fence");
        assert_eq!(keys.dead(7), "{mr:07}:dead");
        assert_eq!(keys.settled(7), "{mr:07}:settled");
        assert_eq!(keys.books(7), "{mr:07}:books");
        assert_eq!(keys.history(), "{mr:00}:history");
        assert_eq!(keys.lease(), "{mr:settler}:lease");
        assert_eq!(keys.token(), "{mr:settler}:token");
        assert_eq!(keys.released(), "{mr:settler}:released");
        assert_eq!(keys.meta(), "mr:meta");
        assert_eq!(Keys::new("x", 256).seq(255), "{x:255}:seq");
    }
}
