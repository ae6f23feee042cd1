//! Whether a Redis may be used: it promises what it must, and it holds what it held.

use std::time::{Duration, Instant};

use common::ids::PublicKey;
use common::problem::Code;
use common::store::Store;
use common::store::preflight::{Finding, Meta, ROOM};

use crate::issuer_client::{IssuerClient, IssuerError};

/// How long the issuer is waited for in a look, and how long it is left alone after it did not answer: payments do not
/// need it, and it may be away for long.
const ISSUER_WITHIN: Duration = Duration::from_millis(500);
const ISSUER_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Why a Redis may not be used. The text says what is wrong and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not now; it may be at the next look.
    #[error("{0}")]
    NotNow(String),
    /// It lost what it had acknowledged. To go on would be to act as if that had never been paid.
    #[error(
        "Redis lost data: {0}; restore the newest data and restart, or see `millrace recover` if it is gone"
    )]
    LostData(String),
}

impl Unfit {
    fn not_now(reason: impl std::fmt::Display) -> Self {
        Unfit::NotNow(reason.to_string())
    }
}

/// Looks at Redis, again and again, and remembers what only a first look can tell.
#[derive(Debug)]
pub struct Fitness {
    /// Whether payments are taken, or settled: what is needed for that, and what may be written.
    takes_payments: bool,
    /// True once Redis was right: an empty one is no first start then.
    was_fit: bool,
    /// True once everyone was told of the loss that this process knows of.
    halted: bool,
    /// Connections that had been lost when Redis' tokens were last compared with the issuer's.
    compared_after: Option<u64>,
    /// When the issuer last did not say what it has seen.
    issuer_away_at: Option<Instant>,
}

impl Fitness {
    /// Of a process that takes payments.
    pub fn to_take_payments() -> Self {
        Fitness { takes_payments: true, ..Fitness::to_settle() }
    }

    /// Of a process that settles.
    pub fn to_settle() -> Self {
        Fitness {
            takes_payments: false,
            was_fit: false,
            halted: false,
            compared_after: None,
            issuer_away_at: None,
        }
    }

    /// Looks at Redis before it is used. An empty one is marked as begun if it may be a new one; one that lost data is
    /// halted for everyone, also for those that did not notice or have only just started.
    ///
    /// # Errors
    /// [`Unfit`], with all that is wrong.
    pub async fn examine(
        &mut self,
        store: &Store,
        issuer: &IssuerClient,
        payees: &[PublicKey],
    ) -> Result<(), Unfit> {
        let looked = self.look(store, issuer, payees).await;
        // What this process has seen lost, now or at any call before, counts whatever else is wrong.
        let Some(detail) = store.lost_data() else {
            self.halted = false;
            self.was_fit |= looked.is_ok();
            return looked;
        };
        if !self.halted {
            let told = match self.takes_payments {
                true => store.halt_payments(&detail).await,
                false => store.halt(&detail).await,
            };
            match told {
                Ok(()) => {
                    self.halted = true;
                    tracing::error!(detail, "Redis lost data: everyone on it is halted");
                }
                Err(error) => {
                    tracing::error!(detail, %error, "Redis lost data, and not everyone is halted yet")
                }
            }
        }
        Err(Unfit::LostData(detail))
    }

    async fn look(
        &mut self,
        store: &Store,
        issuer: &IssuerClient,
        payees: &[PublicKey],
    ) -> Result<(), Unfit> {
        let disconnects = store.disconnects();
        let findings = store.preflight().await.map_err(Unfit::not_now)?;
        let Err(reason) = self.sum_up(&findings) else {
            return self.compare_tokens(store, issuer, payees, disconnects).await;
        };
        let only_data = findings.iter().all(|finding| finding.ok || finding.check == "data");
        if !only_data || store.meta().await.map_err(Unfit::not_now)? == Meta::Present {
            return Err(Unfit::NotNow(reason));
        }
        if self.was_fit {
            return Err(lost(store, "everything that was there is gone".to_owned()));
        }
        start_anew(store, issuer, payees).await?;
        let findings = store.preflight().await.map_err(Unfit::not_now)?;
        self.sum_up(&findings).map_err(Unfit::NotNow)
    }

    /// Whether the issuer has seen a higher fencing token than Redis knows of: then Redis went back, though nobody who
    /// runs may have seen it. Asked at the start and after each lost connection, until the issuer answers.
    async fn compare_tokens(
        &mut self,
        store: &Store,
        issuer: &IssuerClient,
        payees: &[PublicKey],
        disconnects: u64,
    ) -> Result<(), Unfit> {
        let left_alone = self.issuer_away_at.is_some_and(|at| at.elapsed() < ISSUER_AGAIN_AFTER);
        if self.compared_after == Some(disconnects) || left_alone {
            return Ok(());
        }
        let at_issuer = match tokio::time::timeout(ISSUER_WITHIN, highest_token(issuer, payees)).await {
            Ok(Ok(highest)) => highest,
            Ok(Err(_)) | Err(_) => {
                tracing::debug!("whether Redis is as new as the issuer's books is not known yet");
                self.issuer_away_at = Some(Instant::now());
                return Ok(());
            }
        };
        self.issuer_away_at = None;
        // Tokens only rise: what Redis is asked after the issuer is no lower, unless it was lost.
        let in_redis = store.highest_token().await.map_err(Unfit::not_now)?;
        if in_redis < at_issuer {
            return Err(lost(
                store,
                format!(
                    "the issuer has seen fencing token {at_issuer}, and Redis knows of none above {in_redis}"
                ),
            ));
        }
        self.compared_after = Some(disconnects);
        Ok(())
    }

    /// `Err` with every finding that is not right: check, what was found, what to do.
    ///
    /// # Errors
    /// All that is wrong, in one line.
    pub fn sum_up(&self, findings: &[Finding]) -> Result<(), String> {
        let wrong: Vec<String> = findings
            .iter()
            .filter(|finding| !finding.ok && (self.takes_payments || finding.check != ROOM))
            .map(|finding| {
                let remedy = finding.remedy.as_deref().unwrap_or("see the log");
                format!("{}: {}; {remedy}", finding.check, finding.found)
            })
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join(" | ")) }
    }
}

/// Has the process know of a loss that only comes to light beside the issuer's books.
fn lost(store: &Store, detail: String) -> Unfit {
    // Where another loss was noticed first, that one is told.
    let _ = store.report_lost(detail.as_str());
    Unfit::LostData(store.lost_data().unwrap_or(detail))
}

/// The highest fencing token that the issuer has seen of any of these payees: all their settlements carry those of one
/// Redis.
///
/// # Errors
/// The issuer does not say.
pub async fn highest_token(issuer: &IssuerClient, payees: &[PublicKey]) -> Result<u64, IssuerError> {
    let mut highest = 0;
    for payee in payees {
        highest = match issuer.account(payee).await {
            Ok(account) => account.highest_fencing_token.max(highest),
            Err(error) if error.code() == Some(Code::UnknownAccount) => highest,
            Err(error) => return Err(error),
        };
    }
    Ok(highest)
}

/// Leaves the marks of a first start on an empty Redis, if the issuer confirms that it is one: whoever has settled
/// before had a Redis that was not empty.
async fn start_anew(store: &Store, issuer: &IssuerClient, payees: &[PublicKey]) -> Result<(), Unfit> {
    let highest = match highest_token(issuer, payees).await {
        Ok(highest) => highest,
        Err(error) => {
            let reason = format!("Redis is empty, and whether it should be is not known: {error}");
            return Err(Unfit::NotNow(reason));
        }
    };
    if highest > 0 {
        // Found at a start: someone may restore the data, or decide to go on, while this process waits.
        return Err(Unfit::NotNow(format!(
            "Redis is empty, but the issuer has settled for this payee up to fencing token {highest}: Redis lost \
             data; restore it, or see `millrace recover` if it is gone"
        )));
    }
    tracing::info!("first start on this Redis");
    store.initialise(0).await.map_err(Unfit::not_now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_finding_is_named_with_its_remedy() {
        let finding = |check, ok: bool| Finding {
            check,
            ok,
            found: "x".to_owned(),
            remedy: (!ok).then(|| "do y".to_owned()),
        };
        let relayer = Fitness::to_take_payments();
        assert_eq!(relayer.sum_up(&[finding("a", true)]), Ok(()));
        let wrong = relayer.sum_up(&[finding("a", false), finding("b", true), finding("c", false)]);
        assert_eq!(wrong, Err("a: x; do y | c: x; do y".to_owned()));
        let full = [finding(ROOM, false)];
        assert!(relayer.sum_up(&full).is_err(), "no payments without room");
        assert_eq!(Fitness::to_settle().sum_up(&full), Ok(()), "settling makes room");
    }
}
