//! What can happen, and what comes of it.

use stateright::{Model, Property};

use crate::config::{Clock, Config, Variant, Work};
use crate::properties;
use crate::settlers::waiting_letter;
use crate::state::{CHANNELS, Close, Entry, Holder, ReadFrom, Request, SETTLERS, Settler, State, Status};

/// One thing that happens. Whoever does nothing sleeps, for as long as that goes on: a pause between two requests is
/// no step of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A relayer takes a voucher: `relayer/src/batcher.rs::submit`. Its lost and repeated requests are further ones of
    /// these, for a voucher that is not above the latest changes nothing.
    Accept {
        channel: usize,
        amount: u8,
    },
    /// The two halves of an accept that is not atomic.
    AcceptReads {
        channel: usize,
        amount: u8,
    },
    AcceptWrites {
        channel: usize,
    },

    /// Redis ends the lease: the PX of `common/lua/acquire_lease.lua`.
    LeaseRunsOut,
    /// Time passes for all; the clock of `but` misses it. Leaders whose time is up by their own clock stop:
    /// `settler/src/leader.rs::expire`.
    Tick {
        but: Option<usize>,
    },

    /// A standby asks for the lease, or a leader for more: `settler/src/leader.rs::stand_by`, `renew`;
    /// `common/src/store/lease.rs::acquire_lease`, `renew_lease`. Where clocks are free the answer comes at once.
    Ask {
        settler: usize,
    },
    /// A question for the lease comes late, or its answer is lost.
    AskLate {
        settler: usize,
    },
    /// Redis answers, by `common/lua/acquire_lease.lua`, `renew_lease.lua`.
    RedisGrants {
        settler: usize,
    },
    /// The answer is heard: `common/src/store/lease.rs::extend`.
    GrantHeard {
        settler: usize,
    },
    /// A leader stops by its own clock, or because a renewal was refused: `settler/src/leader.rs::lead`.
    StandDown {
        settler: usize,
    },
    /// A leader stops and gives the lease back: `settler/src/leader.rs::give_back`, `common/lua/release_lease.lua`.
    GiveBack {
        settler: usize,
        late: bool,
    },
    /// SIGKILL, and a new start. What was sent is on its way.
    Crash {
        settler: usize,
    },

    /// A leader sends the next request of one of its tasks, and hears the answer. The time of its lease is looked at
    /// before it is sent, and not again: `common/src/store/settle.rs::fenced`, `settler/src/closer.rs::settle`.
    Call {
        settler: usize,
        channel: usize,
        request: Request,
    },
    /// The same, and a second copy of the request is still on its way.
    CallRepeated {
        settler: usize,
        channel: usize,
        request: Request,
    },
    /// The request is sent, and then its sender sleeps (SIGSTOP), or the network does.
    Send {
        settler: usize,
        channel: usize,
        request: Request,
    },
    /// The request arrives, the sender wakes and hears the answer.
    Answered {
        settler: usize,
    },
    /// A request is sent, its sender hears nothing in time and goes on (`StoreError::OutcomeUnknown`, `IssuerError::Unavailable`); the
    /// request arrives later, or never.
    CallUnanswered {
        settler: usize,
        channel: usize,
        request: Request,
    },
    /// A request arrives for which nobody waits.
    LetterArrives {
        at: usize,
    },
    LetterIsLost {
        at: usize,
    },

    /// The partition goes over to a replica that has not heard of the last voucher and of begin_close.
    Rollback {
        channel: usize,
    },
}

impl Model for Config {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State { left: self.faults, ..State::default() }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if self.is_over(state) {
            return;
        }
        if self.work != Work::Nothing {
            self.payments(state, steps);
        }
        self.time(state, steps);
        for settler in 0..SETTLERS {
            self.lease_steps(state, settler, steps);
            self.work_steps(state, settler, steps);
        }
        for (at, _) in state.letters.iter().enumerate().filter(|(_, letter)| letter.is_some()) {
            steps.extend([Step::LetterArrives { at }, Step::LetterIsLost { at }]);
        }
        if state.left.rollbacks > 0 {
            let closing = |channel: &usize| state.redis.partitions[*channel].status == Status::Closing;
            steps.extend((0..CHANNELS).filter(closing).map(|channel| Step::Rollback { channel }));
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = *last;
        self.take(&mut state, step);
        let state = state.canonical();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(*self)
    }
}

impl Config {
    /// Nothing is left to be done, and nothing on its way.
    fn is_over(&self, state: &State) -> bool {
        if self.work == Work::Nothing {
            return false;
        }
        let ended = state.redis.partitions.iter().all(|partition| {
            let is_closed = match self.work {
                Work::Stream => partition.amount == self.vouchers,
                _ => matches!(partition.status, Status::Closed | Status::Failed),
            };
            is_closed && partition.entries(Entry::New, 0) == 0 && partition.entries(Entry::Pending, 0) == 0
        });
        let is_idle = |settler: usize| {
            let has_next = |channel| !next_requests(*self, state, settler, channel).is_empty();
            let Settler { lead, waiting, .. } = state.settlers[settler];
            waiting.is_none() && (lead.is_none() || !(0..CHANNELS).any(has_next))
        };
        let on_its_way =
            state.letters.iter().any(Option::is_some) || state.half_accepted.iter().any(Option::is_some);
        ended && !on_its_way && (0..SETTLERS).all(is_idle)
    }

    /// From the last term on nothing fails any more: what is promised for the end must come now.
    pub(crate) fn is_calm(&self, state: &State) -> bool {
        state.redis.token >= self.terms
    }

    fn payments(&self, state: &State, steps: &mut Vec<Step>) {
        for (channel, partition) in state.redis.partitions.iter().enumerate() {
            let half = state.half_accepted[channel].is_some();
            if half {
                steps.push(Step::AcceptWrites { channel });
            }
            if partition.status != Status::Open || half {
                continue;
            }
            for amount in partition.amount + 1..=self.vouchers {
                steps.push(match self.variant {
                    Variant::AcceptInTwoSteps => Step::AcceptReads { channel, amount },
                    _ => Step::Accept { channel, amount },
                });
            }
        }
    }

    fn time(&self, state: &State, steps: &mut Vec<Step>) {
        let of_the_dead = state.redis.lease.is_some_and(|grant| grant.holder == Holder::Dead);
        let runs_out = self.clock == Clock::Free && !self.is_calm(state) && state.redis.lease.is_some();
        if runs_out || of_the_dead {
            steps.push(Step::LeaseRunsOut);
        }
        if self.clock != Clock::Free && !self.is_calm(state) {
            steps.push(Step::Tick { but: None });
            if state.left.slow_ticks > 0 {
                steps.extend((0..SETTLERS).map(|settler| Step::Tick { but: Some(settler) }));
            }
        }
    }

    fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Accept { channel, amount } => self.accept(state, channel, amount),
            Step::AcceptReads { channel, amount } => self.accept_reads(state, channel, amount),
            Step::AcceptWrites { channel } => self.accept_writes(state, channel),
            Step::LeaseRunsOut => state.redis.lease = None,
            Step::Tick { but } => self.tick(state, but),
            Step::Ask { settler } => self.ask(state, settler),
            Step::AskLate { settler } => self.ask_late(state, settler),
            Step::RedisGrants { settler } => self.redis_grants(state, settler),
            Step::GrantHeard { settler } => self.grant_heard(state, settler),
            Step::StandDown { settler } => self.stand_down(state, settler),
            Step::GiveBack { settler, late } => self.give_back(state, settler, late),
            Step::Crash { settler } => self.crash(state, settler),
            Step::Call { settler, channel, request } => {
                send(state, settler, channel, request);
                self.answered(state, settler);
            }
            Step::CallRepeated { settler, channel, request } => {
                state.left.any -= 1;
                send(state, settler, channel, request);
                let copy = waiting_letter(state, settler, name(settler));
                self.answered(state, settler);
                copy.into_iter().for_each(|copy| state.post(copy));
            }
            Step::CallUnanswered { settler, channel, request } => {
                state.left.any -= 1;
                send(state, settler, channel, request);
                self.no_answer(state, settler);
            }
            Step::Send { settler, channel, request } => {
                state.left.any -= 1;
                send(state, settler, channel, request);
            }
            Step::Answered { settler } => self.answered(state, settler),
            Step::LetterArrives { at } => {
                if let Some(letter) = state.letters[at].take() {
                    self.letter_arrives(state, letter);
                }
            }
            Step::LetterIsLost { at } => state.letters[at] = None,
            Step::Rollback { channel } => rollback(state, channel),
        }
    }
}

/// The name of a settler's running process.
pub(crate) fn name(settler: usize) -> Holder {
    Holder::Living(u8::try_from(settler).expect("two settlers"))
}

fn send(state: &mut State, settler: usize, channel: usize, request: Request) {
    let channel = u8::try_from(channel).expect("two channels");
    state.settlers[settler].waiting = Some((channel, request));
}

fn rollback(state: &mut State, channel: usize) {
    state.left.rollbacks -= 1;
    let partition = &mut state.redis.partitions[channel];
    partition.status = Status::Open;
    partition.amount = partition.amount.saturating_sub(1);
    if let Some(last) = partition.stream.iter_mut().rfind(|entry| **entry != Entry::Absent) {
        *last = Entry::Absent;
    }
}

/// What a leader may send next for one channel.
pub(crate) fn next_requests(config: Config, state: &State, settler: usize, channel: usize) -> Vec<Request> {
    let mut requests = Vec::with_capacity(2);
    let (reads, closes) = match config.work {
        Work::Closes => (false, true),
        Work::Stream => (true, false),
        Work::Everything => (true, true),
        Work::Nothing => return requests,
    };
    let tasks = &state.settlers[settler].tasks[channel];
    let partition = &state.redis.partitions[channel];
    if state.settlers[settler].tasks.iter().any(|tasks| !tasks.taken) {
        // settler/src/leadership.rs::take_partitions comes before all else.
        return if tasks.taken { Vec::new() } else { vec![Request::TakePartition] };
    }
    // settler/src/consumer.rs::run, take_page. It polls all the time; a poll that finds nothing is no step, but for the
    // one that tells a leader that it is deposed.
    let is_deposed = state.settlers[settler].lead.is_some_and(|lead| lead.token < partition.fence);
    let finds_something = is_deposed || partition.entries(Entry::New, 0) != 0;
    if reads {
        if tasks.page != 0 {
            requests.push(Request::Apply(tasks.page));
        } else if tasks.read_from != ReadFrom::New || finds_something {
            requests.push(Request::ReadAccepted(tasks.read_from));
        }
    }
    // settler/src/due.rs::run takes up what is open or closing; when policy wants an open channel closed is left open.
    // The rest is settler/src/closer.rs::run.
    if closes {
        match tasks.close {
            Close::Idle if matches!(partition.status, Status::Open | Status::Closing) => {
                requests.push(Request::BeginClose);
            }
            Close::Idle => {}
            Close::HalfBegun(amount) => requests.push(Request::WriteClosing(amount)),
            Close::Pinned(amount) => requests.push(Request::Settle(amount)),
            Close::Receipt(amount) => requests.push(Request::FinishClose(amount)),
            Close::Retry => requests.push(Request::RetryClose),
            Close::GiveUp => requests.push(Request::FailClose),
        }
    }
    requests
}
