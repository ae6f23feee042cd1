//! What a person may do from the console, and who may: each action is one step in Redis that any settler can take, and
//! needs the configured token in the very request that asks for it.

use std::net::IpAddr;
use std::num::NonZeroU32;

use common::channel::Status;
use common::ids::ChannelId;
use common::problem::{Code, Problem};
use common::store::StoreError;
use common::store::operate::{Requeued, Retried};
use common::store::stream::EntryId;
use common::wire::Party;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use serde::Serialize;
use service::error::ApiError;
use subtle::ConstantTimeEq as _;

use crate::app::App;

/// Addresses that are counted at once; beyond it, those that have been quiet for a while are forgotten.
const ADDRESSES_KEPT: usize = 1_024;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub(crate) enum Action {
    /// Close an open channel, as the payee.
    Close {
        /// The channel.
        channel_id: ChannelId,
    },
    /// Have a failed channel closed again, for the same pinned voucher.
    Retry {
        /// The channel.
        channel_id: ChannelId,
    },
    /// Have an entry of accepted payments read once more.
    Requeue {
        /// In whose list of the dead it is.
        partition: u16,
        /// Where in it.
        #[serde(serialize_with = "text")]
        entry: EntryId,
    },
}

fn text<S: serde::Serializer>(entry: &EntryId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(entry)
}

impl Action {
    /// As it stands in paths and logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Action::Close { .. } => "close",
            Action::Retry { .. } => "retry",
            Action::Requeue { .. } => "requeue",
        }
    }

    /// What it is done to, for the log.
    fn target(self) -> String {
        match self {
            Action::Close { channel_id } | Action::Retry { channel_id } => channel_id.to_string(),
            Action::Requeue { partition, entry } => format!("{partition:02}/{entry}"),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operator {
    /// The token that was given.
    pub(crate) token: Option<String>,
    /// What a person called itself, for the log.
    pub(crate) name: Option<String>,
}

/// Decides who may act.
#[derive(Debug)]
pub(crate) struct Guard {
    token: Option<String>,
    attempts: DefaultKeyedRateLimiter<IpAddr>,
}

impl Guard {
    pub(crate) fn new(token: Option<String>, attempts_per_min: u32) -> Guard {
        let per_min = NonZeroU32::new(attempts_per_min).unwrap_or(NonZeroU32::MIN);
        Guard { token, attempts: RateLimiter::keyed(Quota::per_minute(per_min)) }
    }

    /// Whether anyone can act at all.
    pub(crate) fn is_enabled(&self) -> bool {
        self.token.is_some()
    }

    /// Lets the right token pass. Every attempt counts, and is counted before the token is looked at: whoever guesses
    /// learns nothing more once its share is used up.
    ///
    /// # Errors
    /// `actions_disabled`, `rate_limited` or `wrong_token`.
    fn check(&self, peer: IpAddr, given: Option<&str>) -> Result<(), ApiError> {
        let Some(token) = &self.token else { return Err(ApiError::new(Code::ActionsDisabled)) };
        if self.attempts.len() > ADDRESSES_KEPT {
            self.attempts.retain_recent();
        }
        if let Err(not_until) = self.attempts.check_key(&peer.to_canonical()) {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            return Err(Problem::new(Code::RateLimited)
                .retry_after_s(wait.as_secs().saturating_add(1))
                .into());
        }
        let is_right = given.is_some_and(|given| bool::from(given.as_bytes().ct_eq(token.as_bytes())));
        if is_right { Ok(()) } else { Err(ApiError::new(Code::WrongToken)) }
    }

    /// Does what is asked for, if it may be, and writes down who asked and what came of it.
    ///
    /// # Errors
    /// What stands against it.
    pub(crate) async fn act(
        &self,
        app: &App,
        peer: IpAddr,
        operator: &Operator,
        action: Action,
    ) -> Result<(), ApiError> {
        let outcome = match self.check(peer, operator.token.as_deref()) {
            Ok(()) => perform(app, action).await,
            Err(refusal) => Err(refusal),
        };
        let word = outcome.as_ref().map_or_else(|refusal| refusal.0.code.as_str(), |()| "done");
        let (action, target) = (action.as_str(), action.target());
        let name = operator.name.as_deref().unwrap_or_default();
        tracing::info!(action, target, name, %peer, outcome = word, "an operator acts");
        outcome
    }
}

async fn perform(app: &App, action: Action) -> Result<(), ApiError> {
    let now_ms = app.clock.now_ms();
    match action {
        Action::Close { channel_id } => {
            let status = app.store.request_close(&channel_id, Party::Payee, now_ms).await;
            match status.map_err(|error| of_store(&error))? {
                Some(Status::Open) => Ok(()),
                Some(Status::Closing) => Err(ApiError::new(Code::ChannelClosing)),
                Some(Status::Closed) => Err(ApiError::new(Code::ChannelClosed)),
                Some(Status::Failed) => Err(Problem::new(Code::ChannelClosing)
                    .detail("the close was given up on: it can be tried again")
                    .into()),
                None => Err(ApiError::new(Code::UnknownChannel)),
            }
        }
        Action::Retry { channel_id } => {
            match app.store.retry_failed(&channel_id, now_ms).await.map_err(|error| of_store(&error))? {
                Retried::Closing => Ok(()),
                Retried::NotFailed(status) => Err(Problem::new(Code::ChannelNotFailed)
                    .detail(format_args!("it is {}", status.as_str()))
                    .into()),
                Retried::Unknown => Err(ApiError::new(Code::UnknownChannel)),
            }
        }
        Action::Requeue { partition, entry } => {
            if partition >= app.store.partitions() {
                return Err(ApiError::new(Code::UnknownEntry));
            }
            match app.store.requeue_dead(partition, entry).await.map_err(|error| of_store(&error))? {
                Requeued::As(_) => Ok(()),
                Requeued::Unknown => Err(ApiError::new(Code::UnknownEntry)),
                Requeued::NotAnEntry => Err(Problem::new(Code::UnknownEntry)
                    .detail("this dead letter is no entry of payments: it cannot be put back")
                    .into()),
            }
        }
    }
}

/// What to answer where Redis did not do what it was asked.
pub(crate) fn of_store(error: &StoreError) -> ApiError {
    let code = match error {
        StoreError::Unavailable { .. } | StoreError::LostData { .. } => Code::StoreUnavailable,
        StoreError::OutcomeUnknown { .. } => Code::OutcomeUnknown,
        StoreError::Fenced { .. } | StoreError::LeaseExpired | StoreError::Corrupt { .. } => Code::Internal,
    };
    Problem::new(code).detail(error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "sixteen letters!";

    fn code(guard: &Guard, last_octet: u8, given: Option<&str>) -> Option<Code> {
        guard.check(IpAddr::from([192, 0, 2, last_octet]), given).err().map(|refusal| refusal.0.code)
    }

    #[test]
    fn only_the_configured_token_passes() {
        let guard = Guard::new(Some(TOKEN.to_owned()), 10);
        assert_eq!(code(&guard, 1, Some(TOKEN)), None);
        for wrong in [None, Some(""), Some("sixteen letters?"), Some("sixteen letters!!"), Some("sixteen")] {
            assert_eq!(code(&guard, 1, wrong), Some(Code::WrongToken), "{wrong:?}");
        }
        assert_eq!(code(&Guard::new(None, 10), 1, Some("")), Some(Code::ActionsDisabled));
    }

    #[test]
    fn who_guesses_is_slowed_down_and_nobody_else_is() {
        let guard = Guard::new(Some(TOKEN.to_owned()), 3);
        for _ in 0..3 {
            assert_eq!(code(&guard, 1, Some("a guess")), Some(Code::WrongToken));
        }
        assert_eq!(code(&guard, 1, Some(TOKEN)), Some(Code::RateLimited), "not even the right one");
        assert_eq!(code(&guard, 2, Some(TOKEN)), None);
    }
}
