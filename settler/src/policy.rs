//! When an open channel is closed. Pure: no clock, no store.

use common::amount::Amount;
use common::store::read::StoredChannel;

use crate::config::PolicyConfig;

/// What the decision about an open channel rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The latest accepted amount.
    pub amount: Amount,
    /// What the issuer had paid before Redis knew the channel.
    pub settled_before: Amount,
    /// The most that the channel can pay.
    pub capacity: Amount,
    /// Time of the first payment that is not settled, in ms since 1970.
    pub first_at_ms: Option<u64>,
    /// Time of the last payment, in ms since 1970.
    pub last_at_ms: Option<u64>,
    /// Unix time in seconds after which the issuer settles nothing.
    pub expires_at: i64,
    /// True if payer or payee asked for a close.
    pub close_requested: bool,
    /// Now, in ms since 1970.
    pub now_ms: u64,
}

impl View {
    /// What Redis holds of an open channel, seen at `now_ms`.
    pub fn of(channel: &StoredChannel, now_ms: u64) -> View {
        View {
            amount: channel.state.amount,
            settled_before: channel.settled_before,
            capacity: channel.state.capacity,
            first_at_ms: channel.first_at_ms,
            last_at_ms: channel.last_at_ms,
            expires_at: channel.terms.expires_at,
            close_requested: channel.close_requested_at_ms.is_some(),
            now_ms,
        }
    }

    /// The same after payments up to `amount` between these two times, in ms since 1970.
    #[must_use]
    pub fn with_payments(self, amount: Amount, first_at_ms: u64, last_at_ms: u64) -> View {
        View {
            amount: self.amount.max(amount),
            // Entries come from several streams, and not in the order of their times.
            first_at_ms: Some(self.first_at_ms.map_or(first_at_ms, |before| before.min(first_at_ms))),
            last_at_ms: self.last_at_ms.max(Some(last_at_ms)),
            ..self
        }
    }
}

/// Why a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Payer or payee asked.
    CloseRequested,
    /// Its capacity is used up.
    Full,
    /// Too much is owed.
    Owed,
    /// Its oldest payment waits for too long.
    Age,
    /// Nobody has paid for too long.
    Idle,
    /// Its expiry is near.
    Expiring,
}

impl Reason {
    /// Every reason, the one that is named first where several hold.
    pub const ALL: [Reason; 6] =
        [Reason::CloseRequested, Reason::Full, Reason::Owed, Reason::Age, Reason::Idle, Reason::Expiring];

    /// As it stands in Redis, logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::CloseRequested => "close_requested",
            Reason::Full => "full",
            Reason::Owed => "owed",
            Reason::Age => "age",
            Reason::Idle => "idle",
            Reason::Expiring => "expiring",
        }
    }

    /// Reads what [`Reason::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// What to do with an open channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Close it now.
    Close(Reason),
    /// Look again then, if nothing happens before.
    Wait {
        /// In ms since 1970; after now, and never after the expiry less its margin.
        until_ms: u64,
    },
}

/// Decides about an open channel. One on which nothing is owed is closed only on request and ahead of its expiry.
pub fn decide(policy: &PolicyConfig, view: &View) -> Decision {
    if view.close_requested {
        return Decision::Close(Reason::CloseRequested);
    }
    let owed = view.amount.checked_sub(view.settled_before).unwrap_or_default();
    let mut times = vec![(Reason::Expiring, closes_at_ms(policy, view.expires_at))];
    if !owed.is_zero() {
        if policy.capacity_used_percent.is_some_and(|percent| is_used_up(view, percent)) {
            return Decision::Close(Reason::Full);
        }
        if policy.owed_max.is_some_and(|max| owed >= max) {
            return Decision::Close(Reason::Owed);
        }
        // Payments that the settler has not read yet have no times here; their entry brings them.
        times.extend(after(view.first_at_ms, policy.unsettled_age_max_s).map(|at| (Reason::Age, at)));
        times.extend(after(view.last_at_ms, policy.idle_max_s).map(|at| (Reason::Idle, at)));
    }
    let past = |reason: &Reason| times.iter().any(|(r, at)| r == reason && *at <= view.now_ms);
    match Reason::ALL.into_iter().find(past) {
        Some(reason) => Decision::Close(reason),
        None => Decision::Wait { until_ms: times.iter().map(|(_, at)| *at).min().unwrap_or(view.now_ms) },
    }
}

/// When a channel is closed at the latest, in ms since 1970.
pub fn closes_at_ms(policy: &PolicyConfig, expires_at: i64) -> u64 {
    let expires_at = u64::try_from(expires_at).unwrap_or(0);
    expires_at.saturating_sub(policy.expiry_margin_s).saturating_mul(1_000)
}

fn after(start_ms: Option<u64>, seconds: Option<u64>) -> Option<u64> {
    Some(start_ms?.saturating_add(seconds?.saturating_mul(1_000)))
}

/// In `u128`: 100 times the largest amount has its place there.
fn is_used_up(view: &View, percent: u8) -> bool {
    let hundredfold = |amount: Amount, by: u8| u128::from(amount.units()).saturating_mul(by.into());
    hundredfold(view.amount, 100) >= hundredfold(view.capacity, percent)
}

#[cfg(test)]
mod tests;
