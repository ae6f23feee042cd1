//! Writes that replicas have confirmed. WAIT covers what was written on the same connection before it, so it goes out
//! right behind the script, and one serves a whole call.

use std::time::Duration;

use fred::clients::Client;
use fred::error::Error as RedisError;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::{ClusterHash, CustomCommand, Key, Value};

use super::scripts::Script;
use super::{Store, StoreError};

/// How many replicas must confirm, and how long they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replicas {
    pub(super) min: u16,
    pub(super) within: Duration,
}

impl Replicas {
    fn wait_args(self) -> Vec<Value> {
        vec![self.min.to_string().into(), self.within.as_millis().to_string().into()]
    }

    /// Whether enough of them have what an answer of WAIT counts.
    fn enough(self, answer: &Value) -> bool {
        answer.as_u64().is_some_and(|confirmed| confirmed >= u64::from(self.min))
    }
}

impl Store {
    /// Runs a script on `partition`, and says whether as many replicas as configured have confirmed what it wrote, or,
    /// if it found everything done before, what was written then. See [`Script::run_made`].
    pub(super) async fn run_confirmed(
        &self,
        script: &Script,
        partition: u16,
        make: impl Fn() -> (Vec<Key>, Vec<Value>),
    ) -> Result<(Value, bool), StoreError> {
        let client = self.client(partition)?;
        let after_send = |error: RedisError| StoreError::after_send(&error);
        let Some(replicas) = self.inner.replicas else {
            return Ok((script.run_made(client, make).await.map_err(after_send)?, true));
        };
        let (keys, args) = make();
        let key = self.keys().seq(partition);
        let mut call: Vec<Value> = vec![script.sha1().into(), keys.len().to_string().into()];
        call.extend(keys.into_iter().map(Value::from));
        call.extend(args);
        let by_hash = attempt(client, replicas, &key, Some(("EVALSHA", call.clone()))).await;
        match by_hash {
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                if let Some(hash) = call.first_mut() {
                    *hash = script.source().into();
                }
                attempt(client, replicas, &key, Some(("EVAL", call))).await.map_err(after_send)
            }
            answer => answer.map_err(after_send),
        }
    }

    /// Waits until enough replicas have all that was written on this connection so far.
    ///
    /// # Errors
    /// [`StoreError::OutcomeUnknown`]: it is written, and a failover may undo it.
    pub(super) async fn confirm(&self, client: &Client, key: &str) -> Result<(), StoreError> {
        let Some(replicas) = self.inner.replicas else { return Ok(()) };
        match attempt(client, replicas, key, None).await {
            Ok((_, true)) => Ok(()),
            Ok((_, false)) => Err(self.unconfirmed()),
            Err(error) => Err(StoreError::after_send(&error)),
        }
    }

    /// Whether replicas have all that was read so far; without any to wait for, that is all that counts. In a cluster
    /// one server cannot speak for the others.
    pub(super) async fn confirm_all(&self) -> Result<bool, StoreError> {
        match self.inner.replicas {
            None => Ok(true),
            Some(_) if self.inner.is_cluster => Ok(false),
            Some(_) => match self.confirm(self.client(0)?, &self.keys().seq(0)).await {
                Ok(()) => Ok(true),
                Err(StoreError::OutcomeUnknown { .. }) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    pub(super) fn unconfirmed(&self) -> StoreError {
        let (min, ms) = self.inner.replicas.map_or((0, 0), |r| (r.min, r.within.as_millis()));
        StoreError::OutcomeUnknown { detail: format!("not confirmed by {min} replicas within {ms} ms") }
    }
}

/// Sends a script, a write that changes nothing, and WAIT, in one go. The write in between makes WAIT cover also what
/// others wrote and the script only read: of a connection that wrote nothing, newer servers ask nothing.
async fn attempt(
    client: &Client,
    replicas: Replicas,
    key: &str,
    script: Option<(&'static str, Vec<Value>)>,
) -> Result<(Value, bool), RedisError> {
    let pipeline = client.pipeline();
    let to = |command| CustomCommand::new_static(command, ClusterHash::from(key), false);
    if let Some((command, args)) = script {
        let _: Value = pipeline.custom(to(command), args).await?;
    }
    // Of a halted partition this is an error, which the script has told better.
    let _: Value = pipeline.incr_by(key, 0).await?;
    let _: Value = pipeline.custom(to("WAIT"), replicas.wait_args()).await?;
    let mut answers = pipeline.try_all::<Value>().await.into_iter();
    let answer = answers.next().transpose()?.unwrap_or(Value::Null);
    // What came after the script may have been lost with the connection: then nobody knows.
    let confirmed = answers.last().is_some_and(|wait| wait.is_ok_and(|wait| replicas.enough(&wait)));
    Ok((answer, confirmed))
}
