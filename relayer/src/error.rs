//! The only map from what can go wrong to problem codes.

use common::channel::{CheckedTerms, Status};
use common::problem::{Code, Problem};
use common::store::StoreError;
use common::store::accept::{LatestStored, Verdict};
use common::voucher::{Proof, Unproven};
use common::wire::{InvalidJson, Latest, Outcome};
use service::error::ApiError;

use crate::channels::{LookupError, NotPayable};
use crate::limits::TooMany;
use crate::metrics::Ending;

/// Seconds after which what is away or full may be back.
const RETRY_AFTER_S: u64 = 1;

/// Why a payment, or a request about a channel, was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It has not the documented form.
    #[error("{0}")]
    Malformed(InvalidJson),
    /// The body is larger than anything that is taken.
    #[error("{detail}")]
    TooLarge {
        /// The limit.
        detail: String,
    },
    /// There are no terms to check it against.
    #[error("{0}")]
    Lookup(#[from] LookupError),
    /// The proof does not hold.
    #[error("{0}")]
    Unproven(#[from] Unproven),
    /// The proof leads to nothing that is known of the channel, for all that Redis holds.
    #[error("{unproven}")]
    OutOfReach {
        /// Why.
        unproven: Unproven,
        /// What is known.
        latest: Option<Latest>,
    },
    /// Too near to the channel's end.
    #[error("payments are taken until {until_s}")]
    Expired {
        /// Unix time in seconds at which the channel stops taking payments.
        until_s: i64,
    },
    /// More than the channel can pay.
    #[error("the amount is above the channel's capacity")]
    OverCapacity,
    /// Not above the latest amount.
    #[error("the amount is not above the latest")]
    Stale(Option<Latest>),
    /// The channel is on its way to its end, or there.
    #[error("the channel is {status:?}")]
    NotOpen {
        /// Where it stands.
        status: Status,
        /// Its last voucher.
        latest: Option<Latest>,
    },
    /// Too many of one channel or address.
    #[error("too many requests")]
    RateLimited(TooMany),
    /// Too many at once.
    #[error("{0}")]
    Overloaded(&'static str),
    /// Payments are not taken for now; `/readyz` says why.
    #[error("not ready")]
    NotReady,
    /// Redis did not do what it was asked to.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Refusal {
    /// Of a write that must come before the payment: that its own outcome is unknown does not matter, as nothing was
    /// taken yet and repeating it changes nothing.
    pub(crate) fn before_accept(error: StoreError) -> Self {
        Refusal::Store(match error {
            StoreError::OutcomeUnknown { detail } => StoreError::Unavailable { detail },
            other => other,
        })
    }

    /// The problem's code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Refusal::Malformed(_) => Code::Malformed,
            Refusal::TooLarge { .. } => Code::PayloadTooLarge,
            Refusal::Lookup(error) => code_of_lookup(error),
            Refusal::Unproven(unproven) => code_of_proof(unproven),
            Refusal::OutOfReach { unproven, .. } => code_of_proof(unproven),
            Refusal::Expired { .. } => Code::ChannelExpired,
            Refusal::OverCapacity => Code::OverCapacity,
            Refusal::Stale(_) => Code::StaleAmount,
            Refusal::NotOpen { status: Status::Closed, .. } => Code::ChannelClosed,
            Refusal::NotOpen { .. } => Code::ChannelClosing,
            Refusal::RateLimited(_) => Code::RateLimited,
            Refusal::Overloaded(_) => Code::Overloaded,
            Refusal::NotReady => Code::StoreUnavailable,
            Refusal::Store(error) => code_of_store(error),
        }
    }
}

fn code_of_proof(unproven: &Unproven) -> Code {
    match unproven {
        Unproven::InvalidSignature | Unproven::WrongScheme { .. } | Unproven::OtherAmount { .. } => {
            Code::InvalidSignature
        }
        Unproven::ExpiresEarly | Unproven::OutOfRange { .. } => Code::Malformed,
        Unproven::StepTooLarge { .. } => Code::StepTooLarge,
        Unproven::MissingSiblings { .. } => Code::MissingSiblings,
    }
}

/// The field of the body that a proof fails by, where it is one.
fn field_of_proof(unproven: &Unproven) -> Option<&'static str> {
    match unproven {
        Unproven::ExpiresEarly => Some("expires_at"),
        Unproven::OtherAmount { .. } => Some("cumulative_amount"),
        Unproven::OutOfRange { field, .. } => Some(field),
        Unproven::WrongScheme { .. } => Some("proof"),
        Unproven::InvalidSignature | Unproven::StepTooLarge { .. } | Unproven::MissingSiblings { .. } => None,
    }
}

fn code_of_lookup(error: &LookupError) -> Code {
    match error {
        LookupError::NotPayable(NotPayable::Unknown) => Code::UnknownChannel,
        LookupError::NotPayable(NotPayable::WrongPayee) => Code::WrongPayee,
        LookupError::NotPayable(NotPayable::Ended(_)) => Code::ChannelClosed,
        LookupError::Overloaded => Code::Overloaded,
        LookupError::Issuer { .. } => Code::IssuerUnavailable,
        LookupError::Store(error) => code_of_store(error),
    }
}

fn code_of_store(error: &StoreError) -> Code {
    match error {
        StoreError::Unavailable { .. } | StoreError::LostData { .. } => Code::StoreUnavailable,
        StoreError::OutcomeUnknown { .. } => Code::OutcomeUnknown,
        // A relayer holds no lease: the last two would be a bug.
        StoreError::Corrupt { .. } | StoreError::Fenced { .. } | StoreError::LeaseExpired => Code::Internal,
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let code = refusal.code();
        tracing::debug!(%code, %refusal, "refused");
        let mut problem = match &refusal {
            Refusal::Malformed(error) => Problem::malformed(error),
            Refusal::Unproven(unproven) => match field_of_proof(unproven) {
                Some(field) => Problem::new(code).field(field).detail(unproven),
                None => Problem::new(code).detail(unproven),
            },
            // What Redis or the issuer said is for the operator's eyes.
            Refusal::Store(_) | Refusal::Lookup(_) | Refusal::NotReady => Problem::new(code),
            other => Problem::new(code).detail(other),
        };
        problem.latest = match refusal {
            Refusal::Stale(latest) | Refusal::NotOpen { latest, .. } | Refusal::OutOfReach { latest, .. } => {
                latest
            }
            Refusal::Lookup(LookupError::NotPayable(NotPayable::Ended(channel))) => channel.settled.clone(),
            Refusal::RateLimited(too_many) => return problem.retry_after_s(too_many.retry_after_s),
            _ => None,
        };
        match code.status() {
            503 => problem.retry_after_s(RETRY_AFTER_S),
            _ => problem,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        Problem::from(refusal).into()
    }
}

/// What the accept script's word on a voucher means to its payer. `None`: Redis does not know the channel.
pub(crate) fn judge(verdict: Verdict, terms: &CheckedTerms) -> Option<Result<Outcome, Refusal>> {
    let latest = |stored: LatestStored| {
        let proof = Proof::from_bytes(terms.terms().scheme, &stored.proof).ok()?;
        Some(Latest { cumulative_amount: stored.amount, proof })
    };
    Some(match verdict {
        Verdict::Accepted => Ok(Outcome::Accepted),
        Verdict::Duplicate => Ok(Outcome::Duplicate),
        Verdict::OverCapacity => Err(Refusal::OverCapacity),
        Verdict::UnknownChannel => return None,
        Verdict::Stale(stored) => Err(Refusal::Stale(latest(stored))),
        Verdict::NotOpen(status, stored) => Err(Refusal::NotOpen { status, latest: latest(stored) }),
        Verdict::Unreadable => Err(Refusal::Store(StoreError::Corrupt {
            key: format!("the state of channel {}", terms.id()),
            detail: "no version of Millrace wrote it".to_owned(),
        })),
    })
}

/// How a payment that ended so is counted.
pub(crate) fn ending(result: &Result<Outcome, Refusal>) -> Ending {
    match result {
        Ok(outcome) => Ending::Taken(*outcome),
        Err(refusal) => Ending::Refused(refusal.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::amount::Amount;
    use common::ids::Signature;

    fn store(error: fn(String) -> StoreError) -> Refusal {
        Refusal::Store(error("x".to_owned()))
    }

    #[test]
    fn what_the_store_says_is_told_apart() {
        let unknown = |detail| StoreError::OutcomeUnknown { detail };
        assert_eq!(store(|detail| StoreError::Unavailable { detail }).code(), Code::StoreUnavailable);
        assert_eq!(store(|detail| StoreError::LostData { detail }).code(), Code::StoreUnavailable);
        assert_eq!(
            store(|detail| StoreError::Corrupt { key: detail.clone(), detail }).code(),
            Code::Internal
        );
        assert_eq!(Refusal::Store(unknown("x".to_owned())).code(), Code::OutcomeUnknown);
        assert_eq!(Refusal::before_accept(unknown("x".to_owned())).code(), Code::StoreUnavailable);
    }

    #[test]
    fn whoever_may_come_again_is_told_when() {
        for refusal in [
            Refusal::NotReady,
            Refusal::Overloaded("x"),
            store(|detail| StoreError::Unavailable { detail }),
            Refusal::Lookup(LookupError::Overloaded),
            Refusal::Lookup(LookupError::Issuer { detail: "x".to_owned() }),
        ] {
            let problem = Problem::from(refusal);
            assert_eq!((problem.status, problem.retry_after_s), (503, Some(1)), "{}", problem.code);
        }
        let limited = Problem::from(Refusal::RateLimited(TooMany { retry_after_s: 7 }));
        assert_eq!((limited.status, limited.retry_after_s), (429, Some(7)));
        assert_eq!(Problem::from(Refusal::OverCapacity).retry_after_s, None);
    }

    #[test]
    fn addresses_of_redis_do_not_reach_payers() {
        let error = StoreError::Unavailable { detail: "redis://10.0.0.7".to_owned() };
        let problem = serde_json::to_string(&Problem::from(Refusal::Store(error))).expect("JSON");
        assert!(!problem.contains("10.0.0.7"), "{problem}");
    }

    #[test]
    fn rejections_for_order_carry_the_latest_voucher() {
        let terms = crate::testing::terms(1).check().expect("usable terms");
        let proof = Proof::Ed25519 { expires_at: 9, signature: Signature([1; 64]) };
        let stored = LatestStored { amount: Amount::new(5), proof: proof.to_bytes() };
        let none = LatestStored { amount: Amount::ZERO, proof: Vec::new() };
        let latest = Some(Latest { cumulative_amount: Amount::new(5), proof });
        for (verdict, code) in [
            (Verdict::Stale(stored.clone()), Code::StaleAmount),
            (Verdict::NotOpen(Status::Closing, stored.clone()), Code::ChannelClosing),
            (Verdict::NotOpen(Status::Failed, stored.clone()), Code::ChannelClosing),
            (Verdict::NotOpen(Status::Closed, stored), Code::ChannelClosed),
        ] {
            let refusal = judge(verdict, &terms).expect("known").expect_err("refused");
            let problem = Problem::from(refusal);
            assert_eq!((problem.code, &problem.latest), (code, &latest));
        }
        let empty = judge(Verdict::Stale(none), &terms).expect("known").expect_err("refused");
        assert_eq!(Problem::from(empty).latest, None);
        assert_eq!(judge(Verdict::UnknownChannel, &terms), None);
    }

    #[test]
    fn a_voucher_that_ends_too_early_is_malformed_in_its_expiry() {
        let problem = Problem::from(Refusal::Unproven(Unproven::ExpiresEarly));
        assert_eq!((problem.code, problem.field.as_deref()), (Code::Malformed, Some("expires_at")));
        assert_eq!(Refusal::Unproven(Unproven::InvalidSignature).code(), Code::InvalidSignature);
    }
}
