//! What the settler writes. Every call asks the lease first and carries its fencing token; a partition that a newer
//! leader has taken refuses it.

use std::collections::BTreeMap;

use fred::types::Value;

use super::lease::{FencingToken, Lease};
use super::scripts::{
    APPLY, BEGIN_CLOSE, FAIL_CLOSE, FINISH_CLOSE, READ_ACCEPTED, RETRY_CLOSE, Script, TAKE_PARTITION,
};
use super::stream::{Entry, EntryId, parse_entries};
use super::{Store, StoreError};
use crate::amount::Amount;
use crate::channel::Status;
use crate::fault_point;
use crate::ids::ChannelId;

/// The consumer group that all leaders share, one after another.
pub const GROUP: &str = "settler";

/// The one consumer of the group: who leads is said by the lease, and what a predecessor read is the successor's.
const CONSUMER: &str = "leader";

/// Payments after which a page takes no more entries: an entry holds as many as an accept call had vouchers, and a page
/// is held in memory.
pub const PAYMENTS_PER_PAGE: usize = 2_048;

/// Entries that are read before their payments are counted: so many may come on top.
const ENTRIES_AT_ONCE: usize = 16;

/// Where to read the stream of accepted payments from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// Entries that no leader has read yet.
    New,
    /// Entries after this one that were read and never acknowledged: what a predecessor left.
    Unacknowledged(EntryId),
}

/// What the leader learned of one channel from entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelUpdate {
    /// The channel.
    pub channel_id: ChannelId,
    /// Times of the first and the last payment in these entries, in ms since 1970; `None` if there was none.
    pub paid_at_ms: Option<(u64, u64)>,
    /// When to look at the channel next, in ms since 1970.
    pub due_at_ms: u64,
    /// The highest amount of these payments; without one what the books know already.
    pub amount: Amount,
}

/// A channel that was stopped, with the voucher that is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Where the channel stands: closing, unless it was closed or given up on before.
    pub status: Status,
    /// The amount to settle.
    pub amount: Amount,
    /// The proof behind it, as stored; empty if the channel was never paid from.
    pub proof: Vec<u8>,
}

/// What became of an attempt to end a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Done now.
    Now,
    /// Done before.
    Already,
    /// Not done: another amount is pinned.
    Mismatch(Amount),
    /// Not done: the channel is not closing.
    NotClosing,
}

impl Store {
    /// Shuts older leaders out of a partition, and makes its consumer group.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn take_partition(&self, lease: &Lease, partition: u16) -> Result<(), StoreError> {
        let keys = vec![self.keys().accepted(partition)];
        self.fenced(&TAKE_PARTITION, lease, partition, keys, vec![GROUP.into()]).await?;
        Ok(())
    }

    /// Reads up to `count` entries of a partition's stream: fewer once they hold [`PAYMENTS_PER_PAGE`] payments.
    ///
    /// # Errors
    /// [`StoreError`]; entries that were read without an answer are among [`ReadFrom::Unacknowledged`].
    pub async fn read_accepted(
        &self,
        lease: &Lease,
        partition: u16,
        from: ReadFrom,
        count: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let from = match from {
            ReadFrom::New => ">".to_owned(),
            ReadFrom::Unacknowledged(after) => after.to_string(),
        };
        let keys = vec![self.keys().accepted(partition)];
        let [count, enough, at_once] =
            [count, PAYMENTS_PER_PAGE, ENTRIES_AT_ONCE].map(|number| Value::from(number.to_string()));
        let args = vec![GROUP.into(), CONSUMER.into(), count, from.into(), enough, at_once];
        let mut answer = self.fenced(&READ_ACCEPTED, lease, partition, keys, args).await?;
        let entries = answer.pop().and_then(parse_entries);
        // With replicas, an entry that none of them has may be gone after a failover without having been promised.
        let last = entries.as_ref().and_then(|entries| entries.last());
        if let (None, Some(last)) = (self.inner.replicas, last) {
            self.inner.seen.saw_entry(partition, last.id);
        }
        entries.ok_or_else(|| StoreError::corrupt(self.keys().accepted(partition), "entries of unknown form"))
    }

    /// Writes down what was learned from entries of a partition's stream, acknowledges them and trims the stream. `dead`
    /// are those among `acknowledge` that could not be read, with the reason. The channels may be of any partitions.
    ///
    /// Where one server has all partitions this is all or nothing. In a cluster, channels of other partitions (of entries
    /// from before there was a cluster) are written down first, each behind the fence of its own.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn apply(
        &self,
        lease: &Lease,
        partition: u16,
        updates: &[ChannelUpdate],
        acknowledge: &[EntryId],
        dead: &[(EntryId, String)],
    ) -> Result<(), StoreError> {
        let mut here: BTreeMap<u16, Vec<&ChannelUpdate>> = BTreeMap::new();
        for update in updates {
            here.entry(self.partition_of(&update.channel_id)).or_default().push(update);
        }
        let elsewhere = here.extract_if(.., |with, _| !self.in_one_call(*with, partition));
        for (other, updates) in elsewhere.collect::<Vec<_>>() {
            self.apply_in_one_call(lease, other, &BTreeMap::from([(other, updates)]), &[], &[]).await?;
        }
        self.apply_in_one_call(lease, partition, &here, acknowledge, dead).await
    }

    async fn apply_in_one_call(
        &self,
        lease: &Lease,
        partition: u16,
        updates: &BTreeMap<u16, Vec<&ChannelUpdate>>,
        acknowledge: &[EntryId],
        dead: &[(EntryId, String)],
    ) -> Result<(), StoreError> {
        let keys = self.keys();
        let mut names = vec![keys.accepted(partition), keys.dead(partition)];
        names.extend(updates.keys().map(|of| keys.fence(*of)));
        names.extend(updates.keys().map(|of| keys.due(*of)));
        names.extend(updates.keys().map(|of| keys.books(*of)));
        names.extend(updates.values().flatten().map(|update| keys.channel(&update.channel_id)));
        let count = |number: usize| Value::from(number.to_string());
        let mut args: Vec<Value> = vec![GROUP.into(), count(updates.len())];
        for updates in updates.values() {
            args.push(count(updates.len()));
            for update in updates {
                let (first, last) = match update.paid_at_ms {
                    Some((first, last)) => (first.to_string(), last.to_string()),
                    None => (String::new(), String::new()),
                };
                let due_at_ms = update.due_at_ms.to_string();
                args.extend([update.channel_id.to_string(), first, last, due_at_ms].map(Value::from));
                args.push(update.amount.to_lua().into());
            }
        }
        args.push(count(acknowledge.len()));
        args.extend(acknowledge.iter().map(|id| Value::from(id.to_string())));
        args.push(count(dead.len()));
        args.extend(dead.iter().flat_map(|(id, reason)| [id.to_string().into(), reason.as_str().into()]));
        self.fenced(&APPLY, lease, partition, names, args).await?;
        Ok(())
    }

    /// Stops a channel and pins its latest voucher. `None` if Redis does not know the channel. Also answers with the
    /// token that the settlement must carry.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again gives back what was pinned first.
    pub async fn begin_close(
        &self,
        lease: &Lease,
        id: &ChannelId,
        now_ms: u64,
        reason: &str,
    ) -> Result<Option<Pinned>, StoreError> {
        let partition = self.partition_of(id);
        let keys = self.keys();
        let keys = vec![keys.state(id), keys.channel(id), keys.seq(partition), keys.books(partition)];
        let args = vec![now_ms.to_string().into(), reason.into()];
        let answer = self.fenced(&BEGIN_CLOSE, lease, self.partition_of(id), keys, args).await?;
        let mut words = answer.iter().filter_map(Value::as_bytes);
        let corrupt = || StoreError::corrupt(self.keys().state(id), "not a hot state");
        let letter = match words.next() {
            Some([]) => return Ok(None),
            Some([letter]) => *letter,
            _ => return Err(corrupt()),
        };
        let amount = words.next().and_then(|text| Amount::from_lua(text).ok());
        match (Status::from_letter(letter), amount, words.next()) {
            (Some(status), Some(amount), Some(proof)) => {
                let pinned = Pinned { status, amount, proof: proof.to_vec() };
                // Nothing is settled for what a failover could open again.
                let partition = self.partition_of(id);
                self.confirm(self.client(partition)?, &self.keys().seq(partition)).await?;
                Ok(Some(pinned))
            }
            _ => Err(corrupt()),
        }
    }

    /// Marks a closing channel as closed with the issuer's receipt (JSON) for `settled`. With `journaled`, tells the
    /// journal in the same step.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn finish_close(
        &self,
        lease: &Lease,
        id: &ChannelId,
        settled: Amount,
        receipt: &str,
        now_ms: u64,
        journaled: bool,
    ) -> Result<Ended, StoreError> {
        let partition = self.partition_of(id);
        let keys = self.keys();
        let keys = vec![
            keys.state(id),
            keys.channel(id),
            keys.due(partition),
            keys.settled(partition),
            keys.books(partition),
        ];
        let args = vec![
            id.to_string().into(),
            settled.to_lua().into(),
            receipt.into(),
            now_ms.to_string().into(),
            flag(journaled),
        ];
        let answer = self.fenced(&FINISH_CLOSE, lease, partition, keys, args).await?;
        let word = |i: usize| answer.get(i).and_then(Value::as_str);
        match word(0).as_deref() {
            Some("finished") => Ok(Ended::Now),
            Some("already") => Ok(Ended::Already),
            Some("not_closing") => Ok(Ended::NotClosing),
            Some("mismatch") => word(1)
                .and_then(|text| Amount::from_lua(text.as_bytes()).ok())
                .map(Ended::Mismatch)
                .ok_or_else(|| StoreError::corrupt(self.keys().state(id), "not an amount")),
            _ => Err(StoreError::corrupt("finish_close.lua", "an answer of unknown form")),
        }
    }

    /// Puts a closing channel off until `next_at_ms`. Answers with the attempts so far, or `None` if it is not closing.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe, but counts another attempt.
    pub async fn retry_close(
        &self,
        lease: &Lease,
        id: &ChannelId,
        next_at_ms: u64,
        error: &str,
    ) -> Result<Option<u64>, StoreError> {
        let partition = self.partition_of(id);
        let keys = vec![self.keys().state(id), self.keys().channel(id), self.keys().due(partition)];
        let args = vec![id.to_string().into(), next_at_ms.to_string().into(), error.into()];
        let answer = self.fenced(&RETRY_CLOSE, lease, partition, keys, args).await?;
        Ok(answer.get(1).and_then(Value::as_u64))
    }

    /// Gives up on a closing channel that the issuer refuses for good, and lists it among the dead. With `journaled`,
    /// tells the journal in the same step.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn fail_close(
        &self,
        lease: &Lease,
        id: &ChannelId,
        now_ms: u64,
        reason: &str,
        journaled: bool,
    ) -> Result<Ended, StoreError> {
        let partition = self.partition_of(id);
        let keys = self.keys();
        let keys = vec![
            keys.state(id),
            keys.channel(id),
            keys.due(partition),
            keys.dead(partition),
            keys.settled(partition),
            keys.books(partition),
        ];
        let args = vec![id.to_string().into(), now_ms.to_string().into(), reason.into(), flag(journaled)];
        let answer = self.fenced(&FAIL_CLOSE, lease, partition, keys, args).await?;
        match answer.first().and_then(Value::as_str).as_deref() {
            Some("failed") => Ok(Ended::Now),
            Some("not_closing") => Ok(Ended::NotClosing),
            _ => Err(StoreError::corrupt("fail_close.lua", "an answer of unknown form")),
        }
    }

    /// Runs a script behind the fence: the partition's fence key and the lease's token come first.
    pub(super) async fn fenced(
        &self,
        script: &Script,
        lease: &Lease,
        partition: u16,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Vec<Value>, StoreError> {
        let token: FencingToken = lease.token()?;
        self.refuse_after_loss()?;
        let mut all_keys = vec![self.keys().fence(partition)];
        all_keys.extend(keys);
        let mut all_args: Vec<Value> = vec![token.to_lua().into()];
        all_args.extend(args);
        let client = self.client(partition)?;
        let answer = if fault_point::is_broken("fence") {
            script.run_unfenced(client, all_keys, all_args).await
        } else {
            script.run(client, all_keys, all_args).await
        };
        let answer = answer.map_err(|e| StoreError::after_send(&e))?.into_array();
        if answer.first().and_then(Value::as_str).as_deref() != Some("fenced") {
            return Ok(answer);
        }
        lease.end();
        Err(self.fenced_by(answer.get(1).and_then(Value::as_string)))
    }
}

/// As the scripts take it.
fn flag(set: bool) -> Value {
    if set { "1" } else { "" }.into()
}
