//! What a relayer writes: channels it learns of, vouchers it accepts, closes it is asked for.

use fred::types::Value;

use super::scripts::{ACCEPT, REGISTER_CHANNEL, REQUEST_CLOSE};
use super::state::HEAD_LEN;
use super::{Store, StoreError};
use crate::amount::Amount;
use crate::channel::{CheckedTerms, Status};
use crate::ids::ChannelId;
use crate::voucher::{Proof, VerifiedVoucher};
use crate::wire::Party;

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

impl Store {
    /// Accepts vouchers of one partition in one call: each recorded only if it is above the latest amount of an open
    /// channel and within its capacity. The answers come in the order of the vouchers.
    ///
    /// # Errors
    /// [`StoreError`]; after [`StoreError::OutcomeUnknown`] the same vouchers may be sent again.
    pub async fn accept(
        &self,
        partition: u16,
        vouchers: &[VerifiedVoucher],
    ) -> Result<Vec<Verdict>, StoreError> {
        self.refuse_after_loss()?;
        let (keys, args) = self.accept_call(partition, vouchers)?;
        let (answer, confirmed) = self.run_confirmed(&ACCEPT, partition, keys, args).await?;
        let odd = || StoreError::corrupt("accept.lua", "an answer of unknown form");
        let mut results = answer.into_array().into_iter();
        let head = results.next().ok_or_else(odd)?;
        let Some(seq) = head.as_u64() else {
            let found = results.next().and_then(|seq| seq.into_string());
            return Err(self.lost_seq(partition, found));
        };
        if !confirmed {
            // A failover may undo it. What is sent again is found recorded, and confirmed then.
            return Err(self.unconfirmed());
        }
        self.inner.seen.saw_seq(partition, seq);
        let verdicts: Vec<Verdict> =
            results.map(|result| parse_verdict(&result).unwrap_or(Verdict::Unreadable)).collect();
        if verdicts.len() == vouchers.len() { Ok(verdicts) } else { Err(odd()) }
    }

    fn accept_call(
        &self,
        partition: u16,
        vouchers: &[VerifiedVoucher],
    ) -> Result<(Vec<String>, Vec<Value>), StoreError> {
        let mut keys = vec![self.keys().seq(partition), self.keys().accepted(partition)];
        let mut channels: Vec<&ChannelId> = Vec::with_capacity(vouchers.len());
        let mut positions = std::collections::HashMap::with_capacity(vouchers.len());
        let mut args: Vec<Value> = Vec::with_capacity(vouchers.len().saturating_mul(4).saturating_add(1));
        args.push(Value::from(self.inner.seen.seq(partition).to_string()));
        for voucher in vouchers {
            let id = voucher.channel_id();
            if self.partition_of(id) != partition {
                // Sending it would break the rule that a script touches one slot.
                return Err(StoreError::corrupt("accept.lua", "a voucher of another partition"));
            }
            let position = *positions.entry(id).or_insert_with(|| {
                channels.push(id);
                channels.len()
            });
            args.push(Value::from(position.to_string()));
            args.push(Value::from(id.to_string()));
            args.push(Value::from(voucher.cumulative_amount().to_lua()));
            args.push(Value::Bytes(voucher.proof().to_bytes().into()));
        }
        keys.extend(channels.into_iter().map(|id| self.keys().state(id)));
        Ok((keys, args))
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
        let keys = vec![keys.seq(partition), keys.state(&id), keys.channel(&id), keys.due(partition)];
        let json = serde_json::to_string(terms.terms())
            .map_err(|error| StoreError::corrupt("terms", error.to_string()))?;
        let (amount, proof) = match settled {
            Some((amount, proof)) => (amount, proof.to_bytes()),
            None => (Amount::ZERO, Vec::new()),
        };
        let args: Vec<Value> = vec![
            self.inner.seen.seq(partition).to_string().into(),
            id.to_string().into(),
            terms.terms().capacity.to_lua().into(),
            amount.to_lua().into(),
            Value::Bytes(proof.into()),
            json.into(),
            due_at_ms.to_string().into(),
        ];
        let (answer, confirmed) = self.run_confirmed(&REGISTER_CHANNEL, partition, keys, args).await?;
        let mut words = answer.into_array().into_iter().map(|word| word.into_string().unwrap_or_default());
        match words.next().as_deref() {
            Some("lost") => Err(self.lost_seq(partition, words.next())),
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

fn parse_verdict(result: &Value) -> Option<Verdict> {
    let (letter, rest) = result.as_bytes()?.split_first()?;
    let latest = || {
        let (amount, proof) = rest.split_at_checked(20)?;
        Some(LatestStored { amount: Amount::from_lua(amount).ok()?, proof: proof.to_vec() })
    };
    match letter {
        b'A' => Some(Verdict::Accepted),
        b'D' => Some(Verdict::Duplicate),
        b'M' => Some(Verdict::OverCapacity),
        b'U' => Some(Verdict::UnknownChannel),
        b'S' => Some(Verdict::Stale(latest()?)),
        letter => Some(Verdict::NotOpen(Status::from_letter(*letter)?, latest()?)),
    }
}

// The state's head and the script's answers must agree on where the proof starts.
const _: () = assert!(HEAD_LEN == 1 + 20 + 20);
