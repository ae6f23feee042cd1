//! How work goes on after a loss: vouchers are put back while everyone is halted, then everything is opened again above
//! whatever anyone has seen.

use fred::interfaces::{HashesInterface, KeysInterface};
use fred::types::Value;

use super::scripts::{REOPEN, TAKE_BACK};
use super::{Store, StoreError, schema};
use crate::amount::Amount;
use crate::channel::CheckedTerms;
use crate::voucher::VerifiedVoucher;

/// What became of a voucher that was presented again after a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenBack {
    /// Redis held this much less.
    Taken {
        /// The amount before.
        from: Amount,
    },
    /// Redis holds as much, or more.
    Known,
    /// More than the channel's capacity.
    OverCapacity,
    /// The channel has begun to close for less.
    NotOpen,
}

impl Store {
    /// Puts a voucher back that Redis has lost, of a channel with these terms, on which the issuer has paid `settled`.
    /// One that is closing for less takes only what was settled. Everyone must be halted: nobody else writes meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the partition works; calling it again is safe.
    pub async fn take_back(
        &self,
        terms: &CheckedTerms,
        voucher: &VerifiedVoucher,
        settled: Amount,
        due_at_ms: u64,
    ) -> Result<TakenBack, StoreError> {
        let id = terms.id();
        if id != *voucher.channel_id() {
            return Err(StoreError::corrupt("take_back.lua", "a voucher of another channel"));
        }
        let partition = self.partition_of(&id);
        let keys = self.keys();
        let keys = vec![
            keys.seq(partition),
            keys.accepted(partition),
            keys.state(&id),
            keys.channel(&id),
            keys.due(partition),
        ];
        let json = serde_json::to_string(terms.terms())
            .map_err(|error| StoreError::corrupt("terms", error.to_string()))?;
        let args: Vec<Value> = vec![
            id.to_string().into(),
            voucher.cumulative_amount().to_lua().into(),
            Value::Bytes(voucher.proof().to_bytes().into()),
            terms.terms().capacity.to_lua().into(),
            json.into(),
            settled.to_lua().into(),
            due_at_ms.to_string().into(),
            u8::from(voucher.cumulative_amount() == settled).to_string().into(),
        ];
        let client = self.client(partition)?;
        let answer = TAKE_BACK.run(client, keys, args).await.map_err(|e| StoreError::after_send(&e))?;
        let words: Vec<String> = answer.into_array().into_iter().filter_map(Value::into_string).collect();
        let amount = words.get(1).and_then(|text| Amount::from_lua(text.as_bytes()).ok());
        match (words.first().map(String::as_str), amount) {
            (Some("taken"), Some(from)) => Ok(TakenBack::Taken { from }),
            (Some("known"), _) => Ok(TakenBack::Known),
            (Some("over"), _) => Ok(TakenBack::OverCapacity),
            (Some("not_open"), _) => Ok(TakenBack::NotOpen),
            (Some("not_halted"), _) => Err(StoreError::Unavailable {
                detail: "vouchers are put back only while all is halted".to_owned(),
            }),
            _ => Err(StoreError::corrupt("take_back.lua", "an answer of unknown form")),
        }
    }

    /// Lifts the halt: leaves whatever marks of a first start are missing, sets every seq above whatever anyone has seen
    /// of it, and has fencing tokens go on above `token_floor`. What is open already stays as it is.
    ///
    /// `now_us`: the time in µs since 1970. No partition takes a call a µs, so the time is above every seq of before.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again finishes what was begun.
    pub async fn reopen(&self, token_floor: u64, now_us: u64) -> Result<(), StoreError> {
        let after_send = |error| StoreError::after_send(&error);
        let client = self.client(0)?;
        let meta = self.keys().meta();
        let before: Option<u64> = client.hget(&meta, "recovered_at_us").await.map_err(after_send)?;
        let recovery = now_us.max(before.unwrap_or(0).saturating_add(1));
        // Whoever led may hold a token as high as the highest that is known: it is shut out too.
        let token = token_floor.max(self.highest_token().await?).saturating_add(1);
        let _: Value = client
            .set(self.keys().token(), token.to_string(), None, None, false)
            .await
            .map_err(after_send)?;
        let _: i64 = client.del(self.keys().lease()).await.map_err(after_send)?;
        let partitions = self.partitions().to_string();
        let _: bool = client.hsetnx(&meta, "partitions", partitions).await.map_err(after_send)?;
        // Before the first partition: whoever finds one open knows that it is one of after the recovery.
        let _: i64 =
            client.hset(&meta, ("recovered_at_us", recovery.to_string())).await.map_err(after_send)?;
        // The first one last: where one server has all partitions its seq is that of every call.
        for partition in (0..self.partitions()).rev() {
            let keys = vec![self.keys().seq(partition), self.keys().fence(partition)];
            let args: Vec<Value> = vec![recovery.to_string().into(), format!("{token:020}").into()];
            REOPEN.run(self.client(partition)?, keys, args).await.map_err(after_send)?;
        }
        let _: bool = client.hsetnx(&meta, "schema", schema::NEWEST.to_string()).await.map_err(after_send)?;
        Ok(())
    }
}
