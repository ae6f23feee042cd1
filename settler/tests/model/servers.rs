//! What Redis and the issuer do with a request: each script, and each transaction of the issuer, is one step.

use crate::config::{Config, Variant, Work};
use crate::state::{Close, Entry, Grant, Holder, Partition, ReadFrom, Request, State, Status, VOUCHERS};

/// An answer to a settler's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The token is too low.
    Refused,
    /// Nothing to learn from it.
    Done,
    /// Entries, as bits.
    Entries(u8),
    /// Where the close stands now.
    Close(Close),
}

impl Config {
    /// A voucher comes to a relayer, and its accept script runs.
    ///
    /// Stands for `common/src/store/accept.rs::accept`, `common/lua/accept.lua`.
    pub(crate) fn accept(self, state: &mut State, channel: usize, amount: u8) {
        let partition = &state.redis.partitions[channel];
        if partition.status == Status::Open && amount > partition.amount {
            self.write_voucher(state, channel, amount);
        }
    }

    /// The first half of an accept that is not atomic: the state was read, and let the voucher pass.
    pub(crate) fn accept_reads(self, state: &mut State, channel: usize, amount: u8) {
        state.half_accepted[channel] = Some(amount);
    }

    /// The second half: it is written, whatever has happened meanwhile.
    pub(crate) fn accept_writes(self, state: &mut State, channel: usize) {
        if let Some(amount) = state.half_accepted[channel].take() {
            state.redis.partitions[channel].status = Status::Open;
            self.write_voucher(state, channel, amount);
        }
    }

    /// Takes, keeps or refuses the lease. The token, or 0.
    ///
    /// Stands for `common/lua/acquire_lease.lua`.
    pub(crate) fn acquire_lease(self, state: &mut State, asker: Holder, term: u8) -> u8 {
        let redis = &mut state.redis;
        match redis.lease {
            Some(grant) if grant.holder != asker => return 0,
            Some(grant) if self.is_of_term(grant, term) => {}
            // A question of an earlier term, which comes late.
            Some(grant) if grant.term > term => return 0,
            Some(_) | None => redis.token += 1,
        }
        redis.lease = Some(Grant { holder: asker, term, ticks: self.ttl() });
        redis.token
    }

    fn is_of_term(self, grant: Grant, term: u8) -> bool {
        grant.term == term || self.variant == Variant::LeaseWithoutTerm
    }

    /// Prolongs the lease if it is still the asker's, in this term. Its token (of no use to the asker), or 0.
    ///
    /// Stands for `common/lua/renew_lease.lua`.
    pub(crate) fn renew_lease(self, state: &mut State, asker: Holder, term: u8) -> u8 {
        match &mut state.redis.lease {
            Some(grant) if grant.holder == asker && self.is_of_term(*grant, term) => {
                grant.ticks = self.ttl();
                state.redis.token
            }
            _ => 0,
        }
    }

    /// Gives the lease back if it is still the asker's, in this term.
    ///
    /// Stands for `common/lua/release_lease.lua`.
    pub(crate) fn release_lease(self, state: &mut State, asker: Holder, term: u8) {
        let is_held = |grant: Grant| grant.holder == asker && self.is_of_term(grant, term);
        if state.redis.lease.is_some_and(is_held) {
            state.redis.lease = None;
        }
    }

    /// A request of a leader's work arrives, from whoever and whenever.
    pub(crate) fn serve(self, state: &mut State, token: u8, channel: u8, request: Request) -> Answer {
        match request {
            Request::Settle(amount) => self.settle(state, token, usize::from(channel), amount),
            _ => self.fenced(state, token, usize::from(channel), request),
        }
    }

    /// Stands for `common/lua/fence.lua`, which comes before the body of every script below.
    fn fenced(self, state: &mut State, token: u8, channel: usize, request: Request) -> Answer {
        let before = state.redis.partitions[channel];
        let is_deposed = token < before.fence;
        let is_open = match self.variant {
            Variant::SettlerWithoutFence => true,
            Variant::ReadingWithoutFence => matches!(request, Request::ReadAccepted(_)),
            _ => false,
        };
        if is_deposed && !is_open {
            return Answer::Refused;
        }
        let partition = &mut state.redis.partitions[channel];
        partition.fence = partition.fence.max(token);
        let answer = self.script(partition, request);
        let after = *partition;
        let seen = &mut state.seen;
        if before.status == Status::Open && after.status == Status::Closing && seen.begun[channel].is_none() {
            seen.begun[channel] = Some(seen.accepted[channel]);
        }
        seen.deposed_changed_redis |= is_deposed && before != after;
        answer
    }

    fn script(self, partition: &mut Partition, request: Request) -> Answer {
        match request {
            // common/lua/take_partition.lua: the fence was all.
            Request::TakePartition => Answer::Done,
            // common/lua/read_accepted.lua
            Request::ReadAccepted(from) => Answer::Entries(read(partition, from)),
            // common/lua/apply.lua
            Request::Apply(page) => self.apply(partition, page),
            // common/lua/begin_close.lua
            Request::BeginClose => self.begin_close(partition),
            Request::WriteClosing(amount) => {
                partition.status = Status::Closing;
                partition.amount = amount;
                Answer::Close(Close::Pinned(amount))
            }
            // common/lua/finish_close.lua
            Request::FinishClose(settled) => self.finish_close(partition, settled),
            // common/lua/retry_close.lua: puts off what comes due again in any case.
            Request::RetryClose => Answer::Close(Close::Idle),
            // common/lua/fail_close.lua
            Request::FailClose => {
                if partition.status == Status::Closing {
                    partition.status = Status::Failed;
                }
                Answer::Close(Close::Idle)
            }
            Request::AcquireLease | Request::RenewLease | Request::ReleaseLease | Request::Settle(_) => {
                Answer::Done
            }
        }
    }

    fn apply(self, partition: &mut Partition, page: u8) -> Answer {
        for at in 0..VOUCHERS {
            let entry = &mut partition.stream[usize::from(at)];
            match *entry {
                Entry::Pending if page >> at & 1 == 1 => *entry = Entry::Applied,
                Entry::New | Entry::Pending if self.variant == Variant::TrimsUnacknowledged => {
                    *entry = Entry::Lost;
                }
                _ => {}
            }
        }
        Answer::Done
    }

    fn begin_close(self, partition: &mut Partition) -> Answer {
        let amount = partition.amount;
        Answer::Close(match partition.status {
            Status::Open if self.variant == Variant::BeginCloseInTwoSteps => Close::HalfBegun(amount),
            Status::Open | Status::Closing => {
                partition.status = Status::Closing;
                Close::Pinned(amount)
            }
            Status::Closed | Status::Failed => Close::Idle,
        })
    }

    fn finish_close(self, partition: &mut Partition, settled: u8) -> Answer {
        let ignores_amount = self.variant == Variant::FinishCloseIgnoresAmount;
        Answer::Close(match partition.status {
            Status::Open | Status::Failed => Close::Idle,
            // settler/src/closer.rs::finish gives up on another amount.
            _ if settled != partition.amount && !ignores_amount => Close::GiveUp,
            Status::Closed => Close::Idle,
            Status::Closing => {
                partition.status = Status::Closed;
                partition.receipt = Some(settled);
                Close::Idle
            }
        })
    }

    /// Stands for `issuer/src/ledger/settlements.rs::settle` with `check_fencing_token`, `recorded`, `check`, `pay`; and,
    /// of a refusal that is final, for `settler/src/closer.rs::reconcile`, whose look finds what the refusal rests on.
    fn settle(self, state: &mut State, token: u8, channel: usize, amount: u8) -> Answer {
        let issuer = &mut state.issuer;
        let is_deposed = token < issuer.highest;
        if is_deposed && self.variant != Variant::IssuerWithoutTokenCheck {
            return Answer::Refused;
        }
        issuer.highest = issuer.highest.max(token);
        let pays = match issuer.settled[channel] {
            _ if self.variant == Variant::SettlementNotIdempotent => true,
            None => true,
            Some(settled) if settled == amount => false,
            Some(_) => return Answer::Close(Close::GiveUp),
        };
        if pays {
            issuer.settled[channel] = Some(amount);
            issuer.payments[channel] = issuer.payments[channel].saturating_add(1).min(2);
            state.seen.deposed_changed_issuer |= is_deposed;
        }
        Answer::Close(Close::Receipt(amount))
    }

    /// MSET and XADD, and the answer to the payer.
    fn write_voucher(self, state: &mut State, channel: usize, amount: u8) {
        let partition = &mut state.redis.partitions[channel];
        partition.amount = amount;
        let place = partition.stream.iter_mut().find(|entry| **entry == Entry::Absent);
        if let Some(place) = place.filter(|_| self.work != Work::Closes) {
            *place = Entry::New;
        }
        let told = &mut state.seen.accepted[channel];
        *told = amount.max(*told);
    }
}

/// XREADGROUP of the one consumer: reading what is new makes it pending.
fn read(partition: &mut Partition, from: ReadFrom) -> u8 {
    match from {
        ReadFrom::Unacknowledged(after) => partition.entries(Entry::Pending, after),
        ReadFrom::New => {
            let page = partition.entries(Entry::New, 0);
            for entry in partition.stream.iter_mut().filter(|entry| **entry == Entry::New) {
                *entry = Entry::Pending;
            }
            page
        }
    }
}
