//! The settler's leadership: one lease in Redis, and the fencing token that makes a deposed leader harmless.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fred::types::Value;

use super::scripts::{ACQUIRE_LEASE, RAISE_TOKEN, RELEASE_LEASE, RENEW_LEASE};
use super::{Store, StoreError};
use crate::fault_point;

/// A number that rises at every change of leader; whoever writes with a lower one than was seen is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FencingToken(u64);

impl FencingToken {
    /// The number, as the issuer gets it.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Twenty digits, as the scripts compare it.
    pub(super) fn to_lua(self) -> String {
        format!("{:020}", self.0)
    }
}

/// Leadership, for as long as this process' own monotonic clock says. Every write of the settler asks it first.
#[derive(Debug)]
pub struct Lease {
    /// `<process>:<term>`, as it stands in Redis.
    holder: String,
    token: AtomicU64,
    /// Where `valid_for_ms` counts from.
    epoch: Instant,
    valid_for_ms: AtomicU64,
    /// Set when another holder was seen: time alone does not bring it back.
    ended: AtomicBool,
    ttl: Duration,
}

impl Lease {
    /// Who holds it, as it stands in Redis: `<process>:<term>`.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// The token to write with.
    ///
    /// # Errors
    /// [`StoreError::LeaseExpired`]: the time is up by this process' own clock, or someone else leads.
    pub fn token(&self) -> Result<FencingToken, StoreError> {
        if self.remaining().is_zero() {
            return Err(StoreError::LeaseExpired);
        }
        Ok(FencingToken(self.token.load(Ordering::Acquire)))
    }

    /// How long this process may still act.
    pub fn remaining(&self) -> Duration {
        if self.ended.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let until = Duration::from_millis(self.valid_for_ms.load(Ordering::Acquire));
        until.saturating_sub(self.epoch.elapsed())
    }

    /// Ends the lease for this process, whatever Redis holds.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Prolongs the lease, counted from when the renewal was sent: Redis counts from later, so it ends later there.
    fn extend(&self, sent_at: Instant) {
        // A tenth of the TTL is kept back for clocks that do not run at the same rate.
        let valid = self.ttl.saturating_sub(self.ttl.checked_div(10).unwrap_or_default());
        let until = sent_at.saturating_duration_since(self.epoch).saturating_add(valid);
        self.valid_for_ms.fetch_max(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }
}

/// Answer to an attempt to lead.
#[derive(Debug)]
pub enum Acquired {
    /// This process leads.
    Held(Arc<Lease>),
    /// Someone else does, for at least this long unless they release it.
    HeldByOther {
        /// Until the lease runs out.
        expires_in: Duration,
    },
}

impl Store {
    /// Tries to take the lease for `process`, a random id of a process start, and its `term`:
    /// a number that rises with each leadership that the process seeks. So a renewal or release of an earlier term that
    /// arrives late finds another holder. A process that holds the lease for an earlier term has it at once, with the next
    /// token.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe: who asks again for the same term keeps its lease and token.
    pub async fn acquire_lease(
        &self,
        process: &str,
        term: u64,
        ttl: Duration,
    ) -> Result<Acquired, StoreError> {
        self.refuse_after_loss()?;
        let sent_at = Instant::now();
        let args: Vec<Value> =
            vec![process.into(), term.to_string().into(), ttl.as_millis().to_string().into()];
        let keys = vec![self.keys().lease(), self.keys().token()];
        let answer =
            ACQUIRE_LEASE.run(self.client(0)?, keys, args).await.map_err(|e| StoreError::after_send(&e))?;
        let numbers: Vec<i64> = answer.into_array().iter().filter_map(Value::as_i64).collect();
        match numbers.as_slice() {
            [1, token] if *token > 0 => {
                let lease = Lease {
                    holder: format!("{process}:{term}"),
                    token: AtomicU64::new(token.unsigned_abs()),
                    epoch: sent_at,
                    valid_for_ms: AtomicU64::new(0),
                    ended: AtomicBool::new(false),
                    ttl,
                };
                lease.extend(sent_at);
                // The issuer will see this token: no failover may give it to another.
                self.confirm(self.client(0)?, &self.keys().token()).await?;
                self.inner.seen.saw_token(token.unsigned_abs());
                Ok(Acquired::Held(Arc::new(lease)))
            }
            [0, expires_in_ms] => Ok(Acquired::HeldByOther {
                expires_in: Duration::from_millis(u64::try_from(*expires_in_ms).unwrap_or(0)),
            }),
            _ => Err(StoreError::corrupt("acquire_lease.lua", "an answer of unknown form")),
        }
    }

    /// Prolongs a lease. `false`: someone else holds it now, and this one has ended.
    ///
    /// # Errors
    /// [`StoreError`]; the lease stands for as long as it stood, and the renewal may be tried again.
    pub async fn renew_lease(&self, lease: &Lease) -> Result<bool, StoreError> {
        let sent_at = Instant::now();
        let args: Vec<Value> = vec![lease.holder.as_str().into(), lease.ttl.as_millis().to_string().into()];
        let keys = vec![self.keys().lease()];
        let answer =
            RENEW_LEASE.run(self.client(0)?, keys, args).await.map_err(|e| StoreError::after_send(&e))?;
        fault_point::reach("lease_renewed");
        let renewed = answer.as_i64() == Some(1);
        if renewed {
            let sent_at = if fault_point::is_broken("lease_from_sending") { Instant::now() } else { sent_at };
            lease.extend(sent_at);
        } else {
            lease.end();
        }
        Ok(renewed)
    }

    /// Gives a lease back, if it is still this one's, and tells the standbys.
    ///
    /// # Errors
    /// [`StoreError`]; the lease runs out by itself.
    pub async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        lease.end();
        let args: Vec<Value> = vec![lease.holder.as_str().into(), self.keys().released().into()];
        let keys = vec![self.keys().lease()];
        RELEASE_LEASE.run(self.client(0)?, keys, args).await.map_err(|e| StoreError::after_send(&e))?;
        Ok(())
    }

    /// After the issuer saw a higher token than ours: takes one above it, if the lease is still ours (then Redis had
    /// lost its count). `false`: a successor leads, and this lease has ended.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again is safe.
    pub async fn raise_token(&self, lease: &Lease, seen_by_issuer: u64) -> Result<bool, StoreError> {
        lease.token()?;
        let keys = vec![self.keys().lease(), self.keys().token()];
        let args: Vec<Value> = vec![lease.holder.as_str().into(), seen_by_issuer.to_string().into()];
        let answer =
            RAISE_TOKEN.run(self.client(0)?, keys, args).await.map_err(|e| StoreError::after_send(&e))?;
        match answer.as_u64() {
            Some(0) | None => {
                lease.end();
                Ok(false)
            }
            Some(token) => {
                lease.token.fetch_max(token, Ordering::AcqRel);
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(ttl: Duration) -> Lease {
        Lease {
            holder: "a:1".to_owned(),
            token: AtomicU64::new(7),
            epoch: Instant::now(),
            valid_for_ms: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            ttl,
        }
    }

    #[test]
    fn a_lease_is_over_ahead_of_its_ttl() {
        let lease = lease(Duration::from_secs(10));
        assert_eq!(lease.token(), Err(StoreError::LeaseExpired), "before the first extension");
        lease.extend(lease.epoch);
        assert_eq!(lease.token(), Ok(FencingToken(7)));
        assert!(lease.remaining() <= Duration::from_secs(9), "a tenth is kept back");
        lease.end();
        assert_eq!(lease.token(), Err(StoreError::LeaseExpired));
        lease.extend(Instant::now());
        assert_eq!(lease.token(), Err(StoreError::LeaseExpired), "an ended lease does not come back");
    }
}
