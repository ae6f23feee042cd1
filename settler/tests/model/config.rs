//! What is checked: the system as it is or broken in one place, and how much may happen to it.

use crate::state::Faults;

/// The system as the code is, or broken in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// As the code is.
    AsBuilt,
    /// The scripts do not look at the fence.
    SettlerWithoutFence,
    /// Only the script that reads the stream does not look at the fence.
    ReadingWithoutFence,
    /// The issuer takes any token.
    IssuerWithoutTokenCheck,
    /// The holder counts its lease from the answer, not from before the question.
    LeaseCountedFromTheAnswer,
    /// The lease names a process, and not which of its terms.
    LeaseWithoutTerm,
    /// begin_close reads the amount in one step, and stops the channel in another.
    BeginCloseInTwoSteps,
    /// The issuer pays at every request.
    SettlementNotIdempotent,
    /// finish_close takes a receipt for any amount.
    FinishCloseIgnoresAmount,
    /// Acknowledging trims the whole stream.
    TrimsUnacknowledged,
    /// Accept compares in one step and writes in another.
    AcceptInTwoSteps,
}

/// How time is modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// A lease may run out in Redis at any moment, and its holder may notice at any later one, or never: more than any
    /// drift and any pause can do. What holds here owes nothing to clocks.
    Free,
    /// Redis ends a lease this many ticks after it was granted or prolonged; its holder stops `valid` ticks of its own
    /// clock after it asked.
    Ticks { ttl: u8, valid: u8 },
}

/// What leaders do. Consumer and closer share the lease and the fence and nothing else: the consumer never reads what a
/// close writes, but for the choice of a due time, and begin_close is modelled as due at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// They close channels. Entries are not looked at.
    Closes,
    /// They read, write down, acknowledge and trim entries. No channel is closed.
    Stream,
    /// Both at once.
    Everything,
    /// They only hold the lease: what comes of it is not looked at.
    Nothing,
}

/// One question to the checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) variant: Variant,
    pub(crate) clock: Clock,
    pub(crate) work: Work,
    /// Vouchers that a payer has signed for each channel: amounts 1 to this.
    pub(crate) vouchers: u8,
    /// The lease changes hands until its token is this; from then on nothing fails, and the last leader goes on.
    pub(crate) terms: u8,
    pub(crate) faults: Faults,
}

/// Lease and margin as in `common/src/store/lease.rs::extend`, with a coarse tick: a third is kept back, not a tenth.
pub(crate) const TICKS: Clock = Clock::Ticks { ttl: 3, valid: 2 };

impl Config {
    pub(crate) fn ttl(self) -> u8 {
        match self.clock {
            Clock::Free => 1,
            Clock::Ticks { ttl, .. } => ttl,
        }
    }

    /// Ticks that a holder may act on an answer to a question of this age.
    pub(crate) fn valid(self, age: u8) -> u8 {
        match self.clock {
            Clock::Free => 1,
            Clock::Ticks { valid, .. } if self.variant == Variant::LeaseCountedFromTheAnswer => valid,
            Clock::Ticks { valid, .. } => valid.saturating_sub(age),
        }
    }
}
