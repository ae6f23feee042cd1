//! What a relayer writes: channels it learns of, vouchers it accepts, closes it is asked for.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use fred::types::{Key, Value};
use futures::future::join_all;

use super::followed::{self, Followed};
use super::keys::Keys;
use super::schema::{SHARED_ENTRIES, TRAILS};
use super::scripts::{ACCEPT, REGISTER_CHANNEL, REQUEST_CLOSE};
use super::state::HEAD_LEN;
use super::{Store, StoreError};
use crate::amount::Amount;
use crate::channel::{CheckedTerms, Status};
use crate::ids::ChannelId;
use crate::voucher::{Proof, VerifiedVoucher};
use crate::wire::Party;

/// Digits of an amount as Lua compares it.
const AMOUNT_LEN: usize = 20;

/// Bytes of an `ed25519` proof, the most common one: what to reserve.
const PROOF_LEN: usize = 72;

/// Bytes to reserve for the name of a state, with a prefix of ordinary length, and for a record.
const CUT_LEN: usize = 80 + AMOUNT_LEN + PROOF_LEN;

/// What the accept script said of one voucher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Recorded now.
    Accepted,
    /// It is the latest voucher: recorded before.
    Duplicate,
    /// More than the channel's capacity.
    OverCapacity,
    /// Redis does not know the channel yet: register it first.
    UnknownChannel,
    /// Not above the latest amount.
    Stale(LatestStored),
    /// The channel takes no payments any more.
    NotOpen(Status, LatestStored),
    /// Redis holds something of the channel that no version of Millrace writes. Nothing was recorded; what the same call
    /// recorded on other channels stands.
    Unreadable,
}

/// The latest accepted amount and its proof, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatestStored {
    /// The amount.
    pub amount: Amount,
    /// The proof's bytes; empty before the first payment.
    pub proof: Vec<u8>,
}

/// Calls whose entries go to one stream before the next one's turn comes: about a page of a settler, which reads the
/// less of a channel again the more of its payments stand together.
const CALLS_PER_TURN: u64 = 128;

/// Which of a call's partitions has the entry in its stream: each gets as many as the others over time.
#[derive(Debug, Default)]
pub(super) struct Turns(AtomicU64);

impl Turns {
    /// The partition whose turn it is; where the call has none of it, the next one after it that it has.
    fn next(&self, of_call: impl Iterator<Item = u16>, partitions: u16) -> u16 {
        let turn = self.0.fetch_add(1, Ordering::Relaxed).wrapping_div(CALLS_PER_TURN);
        let first = u16::try_from(turn.checked_rem(partitions.into()).unwrap_or(0)).unwrap_or(0);
        let wait = |partition: &u16| match partition.checked_sub(first) {
            Some(wait) => wait,
            None => partition.wrapping_add(partitions).wrapping_sub(first),
        };
        of_call.min_by_key(wait).unwrap_or(first)
    }
}

fn odd() -> StoreError {
    StoreError::corrupt("accept.lua", "an answer of unknown form")
}

/// Of the errors of several calls, the one to go by: a loss stops everyone, and what may have happened is not what did not.
fn worse(before: Option<StoreError>, error: StoreError) -> StoreError {
    let rank = |error: &StoreError| match error {
        StoreError::LostData { .. } => 2,
        StoreError::Unavailable { .. } => 0,
        _ => 1,
    };
    match before {
        Some(before) if rank(&before) >= rank(&error) => before,
        _ => error,
    }
}

impl Store {
    /// Number of lanes. Vouchers of one lane can be recorded in one call: a lane is a connection, or, in a cluster,
    /// where a call may touch one slot only, a partition.
    pub fn lanes(&self) -> u16 {
        if self.inner.is_cluster {
            return self.partitions();
        }
        let connections = u16::try_from(self.inner.pool.clients().len()).unwrap_or(u16::MAX);
        connections.clamp(1, self.partitions())
    }

    /// The lane of a channel: always the same.
    pub fn lane_of(&self, id: &ChannelId) -> u16 {
        self.partition_of(id).checked_rem(self.lanes()).unwrap_or(0)
    }

    /// Accepts vouchers of one lane in one call: each recorded only if it is above the latest amount of an open channel
    /// and within its capacity. The answers come in the order of the vouchers.
    ///
    /// # Errors
    /// [`StoreError`]; after [`StoreError::OutcomeUnknown`] the same vouchers may be sent again.
    pub async fn accept(
        &self,
        vouchers: &[impl Borrow<VerifiedVoucher> + Sync],
    ) -> Result<Vec<Verdict>, StoreError> {
        self.accept_followed(vouchers, &[]).await
    }

    /// As [`Store::accept`]. Of what is recorded, whoever reads it learns what the payers of `followed` call it, from the
    /// schema on that has a place for that.
    ///
    /// # Errors
    /// As [`Store::accept`].
    pub async fn accept_followed(
        &self,
        vouchers: &[impl Borrow<VerifiedVoucher> + Sync],
        followed: &[Followed],
    ) -> Result<Vec<Verdict>, StoreError> {
        self.refuse_after_loss()?;
        let vouchers: Vec<&VerifiedVoucher> = vouchers.iter().map(Borrow::borrow).collect();
        let Some(first) = vouchers.first() else { return Ok(Vec::new()) };
        let lane = self.lane_of(first.channel_id());
        if vouchers.iter().any(|voucher| self.lane_of(voucher.channel_id()) != lane) {
            // It may belong to another server, and calls on other connections would overtake it.
            return Err(StoreError::corrupt("accept.lua", "a voucher of another lane"));
        }
        if self.schema() < SHARED_ENTRIES {
            return self.accept_apart(&vouchers).await;
        }
        let partition = self.partition_of(first.channel_id());
        let of_call = vouchers.iter().map(|voucher| self.partition_of(voucher.channel_id()));
        let taking = self.inner.turns.next(of_call, self.partitions());
        let followed = if self.schema() < TRAILS { &[] } else { followed };
        self.call(partition, taking, &vouchers, followed).await
    }

    /// [`Store::accept`], as schemas before [`SHARED_ENTRIES`] have it: each partition has its own call, and so its own
    /// entry. They are on their way together.
    async fn accept_apart(&self, vouchers: &[&VerifiedVoucher]) -> Result<Vec<Verdict>, StoreError> {
        let mut shares: BTreeMap<u16, (Vec<usize>, Vec<&VerifiedVoucher>)> = BTreeMap::new();
        for (place, voucher) in vouchers.iter().enumerate() {
            let (places, share) = shares.entry(self.partition_of(voucher.channel_id())).or_default();
            places.push(place);
            share.push(voucher);
        }
        let calls =
            shares.iter().map(|(partition, (_, share))| self.call(*partition, *partition, share, &[]));
        let calls = join_all(calls).await;
        let mut verdicts = vec![Verdict::Unreadable; vouchers.len()];
        let (mut failed, mut recorded) = (None, false);
        for ((places, _), call) in shares.values().zip(calls) {
            match call {
                Ok(answers) => {
                    recorded = true;
                    for (place, verdict) in places.iter().zip(answers) {
                        *verdicts.get_mut(*place).ok_or_else(odd)? = verdict;
                    }
                }
                Err(error) => failed = Some(worse(failed, error)),
            }
        }
        match failed {
            None => Ok(verdicts),
            // Of one of the calls: others may have recorded what they had.
            Some(StoreError::Unavailable { detail }) if recorded => {
                Err(StoreError::OutcomeUnknown { detail })
            }
            Some(error) => Err(error),
        }
    }

    /// Runs the script for vouchers of one lane, one of them of `partition`. The stream of `taking` gets the entry.
    async fn call(
        &self,
        partition: u16,
        taking: u16,
        vouchers: &[&VerifiedVoucher],
        followed: &[Followed],
    ) -> Result<Vec<Verdict>, StoreError> {
        let counter = self.counter_of(partition);
        let make = || {
            let (keys, mut args) = self.accept_call(counter, taking, vouchers);
            args.extend(followed::write(followed).map(Value::from));
            (keys, args)
        };
        let (answer, confirmed) = self.run_confirmed(&ACCEPT, partition, make).await?;
        let mut answer = answer.into_array().into_iter();
        let letters = answer.next().ok_or_else(odd)?;
        let letters = letters.as_bytes().ok_or_else(odd)?;
        let seq = answer.next().ok_or_else(odd)?;
        if letters == b"lost" {
            return Err(self.lost_seq(counter, seq.into_string()));
        }
        if !confirmed {
            // A failover may undo it. What is sent again is found recorded, and confirmed then.
            return Err(self.unconfirmed());
        }
        self.inner.seen.saw_seq(counter, seq.as_u64().ok_or_else(odd)?);
        let verdict = |letter: &u8| {
            Ok(match letter {
                b'A' => Verdict::Accepted,
                b'D' => Verdict::Duplicate,
                b'M' => Verdict::OverCapacity,
                b'U' => Verdict::UnknownChannel,
                letter => refused(*letter, &answer.next().ok_or_else(odd)?).unwrap_or(Verdict::Unreadable),
            })
        };
        let verdicts = letters.iter().map(verdict).collect::<Result<Vec<_>, StoreError>>()?;
        if verdicts.len() == vouchers.len() { Ok(verdicts) } else { Err(odd()) }
    }

    /// The partition whose seq counts the calls to the server that has `partition`. A server loses data of all its
    /// partitions or of none, so that one is enough for it; in a cluster no call may ask for that of another slot.
    fn counter_of(&self, partition: u16) -> u16 {
        if self.inner.is_cluster { partition } else { 0 }
    }

    /// Keys and arguments of a call that is counted in the seq of `counter`.
    fn accept_call(
        &self,
        counter: u16,
        taking: u16,
        vouchers: &[&VerifiedVoucher],
    ) -> (Vec<Key>, Vec<Value>) {
        let names = self.keys();
        let mut keys: Vec<Key> = Vec::with_capacity(vouchers.len().saturating_add(2));
        let mut args: Vec<Value> = Vec::with_capacity(vouchers.len().saturating_add(2));
        keys.push(names.seq(counter).into());
        args.push(Keys::BEFORE_ID.into());
        args.push(self.inner.seen.seq(counter).to_string().into());
        // Cut from one piece of memory: there are hundreds of thousands of them a second.
        let mut memory = BytesMut::with_capacity(vouchers.len().saturating_mul(CUT_LEN));
        for voucher in vouchers {
            names.write_state(voucher.spelled_id(), &mut memory);
            keys.push(memory.split().freeze().into());
            memory.extend_from_slice(&voucher.cumulative_amount().lua_digits());
            voucher.proof().write_to(&mut memory);
            args.push(Value::Bytes(memory.split().freeze()));
        }
        keys.push(names.accepted(taking).into());
        (keys, args)
    }

    /// Makes a channel known to Redis, starting from what its issuer has already paid on it. Changes nothing if it is
    /// known.
    ///
    /// `due_at_ms`: when the settler must look at it even if it hears nothing, in ms since 1970.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn register_channel(
        &self,
        terms: &CheckedTerms,
        settled: Option<(Amount, &Proof)>,
        due_at_ms: u64,
    ) -> Result<(), StoreError> {
        self.refuse_after_loss()?;
        let id = terms.id();
        let partition = self.partition_of(&id);
        let keys = self.keys();
        let counter = self.counter_of(partition);
        let keys = [keys.seq(counter), keys.state(&id), keys.channel(&id), keys.due(partition)];
        let json = serde_json::to_string(terms.terms())
            .map_err(|error| StoreError::corrupt("terms", error.to_string()))?;
        let (amount, proof) = match settled {
            Some((amount, proof)) => (amount, proof.to_bytes()),
            None => (Amount::ZERO, Vec::new()),
        };
        let args: Vec<Value> = vec![
            self.inner.seen.seq(counter).to_string().into(),
            id.to_string().into(),
            terms.terms().capacity.to_lua().into(),
            amount.to_lua().into(),
            Value::Bytes(proof.into()),
            json.into(),
            due_at_ms.to_string().into(),
        ];
        let make = || (keys.clone().map(Key::from).into(), args.clone());
        let (answer, confirmed) = self.run_confirmed(&REGISTER_CHANNEL, partition, make).await?;
        let mut words = answer.into_array().into_iter().map(|word| word.into_string().unwrap_or_default());
        match words.next().as_deref() {
            Some("lost") => Err(self.lost_seq(counter, words.next())),
            Some("behind") => Err(self.report_lost(format!(
                "channel {id} holds {} and the issuer has paid {amount} already",
                words.next().unwrap_or_default()
            ))),
            Some("registered" | "known") if confirmed => Ok(()),
            Some("registered" | "known") => Err(self.unconfirmed()),
            _ => Err(StoreError::corrupt("register_channel.lua", "an answer of unknown form")),
        }
    }

    /// Notes that a close was asked for. Answers where the channel stands; `None` if Redis does not know it.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn request_close(
        &self,
        id: &ChannelId,
        by: Party,
        now_ms: u64,
    ) -> Result<Option<Status>, StoreError> {
        self.refuse_after_loss()?;
        let partition = self.partition_of(id);
        let keys = vec![self.keys().state(id), self.keys().channel(id), self.keys().due(partition)];
        let by = match by {
            Party::Payer => "payer",
            Party::Payee => "payee",
        };
        let args: Vec<Value> = vec![id.to_string().into(), now_ms.to_string().into(), by.into()];
        let client = self.client(partition)?;
        let answer = REQUEST_CLOSE.run(client, keys, args).await.map_err(|e| StoreError::after_send(&e))?;
        match answer.as_bytes() {
            Some([]) => Ok(None),
            Some([letter]) if Status::from_letter(*letter).is_some() => Ok(Status::from_letter(*letter)),
            _ => Err(StoreError::corrupt(self.keys().state(id), "an unknown status")),
        }
    }
}

/// Of a voucher that meets another state than it needs: what that state is.
fn refused(letter: u8, detail: &Value) -> Option<Verdict> {
    let (amount, proof) = detail.as_bytes()?.split_at_checked(AMOUNT_LEN)?;
    let latest = LatestStored { amount: Amount::from_lua(amount).ok()?, proof: proof.to_vec() };
    match letter {
        b'S' => Some(Verdict::Stale(latest)),
        letter => Some(Verdict::NotOpen(Status::from_letter(letter)?, latest)),
    }
}

// The state's head and the script's answers must agree on where the proof starts.
const _: () = assert!(HEAD_LEN == 1 + AMOUNT_LEN + AMOUNT_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_gets_the_entries_of_as_many_calls() {
        const PARTITIONS: u16 = 16;
        let (turns, mut calls) = (Turns::default(), [0u64; 16]);
        for call in 0..2 * CALLS_PER_TURN * u64::from(PARTITIONS) {
            let next = turns.next(0..PARTITIONS, PARTITIONS);
            assert_eq!(u64::from(next), call / CALLS_PER_TURN % 16, "some of one after the other");
            calls[usize::from(next)] += 1;
        }
        assert_eq!(calls, [2 * CALLS_PER_TURN; 16]);
    }

    #[test]
    fn a_call_without_the_partition_whose_turn_it_is_takes_the_next_it_has() {
        let turns = Turns(AtomicU64::new(5 * CALLS_PER_TURN));
        let next = |of_call: &[u16]| turns.next(of_call.iter().copied(), 16);
        assert_eq!(next(&[2, 5, 9]), 5);
        assert_eq!(next(&[15, 2, 9]), 9);
        assert_eq!(next(&[2, 3, 4]), 2);
        assert_eq!(next(&[3]), 3, "its own");
    }
}
