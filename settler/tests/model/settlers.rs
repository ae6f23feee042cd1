//! What a settler does: ask for the lease, lead, hear answers or none, stop.

use crate::config::{Clock, Config};
use crate::servers::Answer;
use crate::state::{
    Asking, CHANNELS, Close, Faults, Holder, Lead, Letter, ReadFrom, Request, SETTLERS, Settler, State,
    Tasks, VOUCHERS,
};
use crate::steps::{Step, name, next_requests};

impl Config {
    /// What may happen about the lease.
    pub(crate) fn lease_steps(&self, state: &State, settler: usize, steps: &mut Vec<Step>) {
        let left = state.left;
        let calm = self.is_calm(state);
        let leads = state.settlers[settler].lead.is_some();
        let is_free = state.redis.lease.is_none();
        let is_ours = state.redis.lease.is_some_and(|grant| grant.holder == name(settler));
        let may_renew = left.renewals > 0 && !calm;
        // A refusal teaches nothing: only a question that may be granted is a step.
        let may_ask = match self.clock {
            Clock::Free => !leads && (is_free || is_ours),
            Clock::Ticks { .. } if leads => may_renew,
            // To take up an own lease again counts as a renewal, but in the end it must be possible.
            Clock::Ticks { .. } => is_free || is_ours && (may_renew || calm),
        };
        match state.settlers[settler].asking {
            Some(Asking { answer: None, .. }) => steps.push(Step::RedisGrants { settler }),
            Some(_) => steps.push(Step::GrantHeard { settler }),
            None if may_ask => {
                steps.push(Step::Ask { settler });
                if left.any > 0 && !calm && !leads {
                    steps.push(Step::AskLate { settler });
                }
            }
            None => {}
        }
        // Where clocks tick, leaders stop by the tick. One that leads under an earlier token than the lease has by now is
        // stopped by its clock in any case, also where the lease was granted anew to itself, by a question that came
        // late.
        let is_outdated = state.settlers[settler].lead.is_some_and(|lead| lead.token < state.redis.token);
        if is_outdated || leads && self.clock == Clock::Free && (!is_ours || may_renew) {
            steps.push(Step::StandDown { settler });
        }
        if leads && !calm && left.releases > 0 {
            steps.push(Step::GiveBack { settler, late: false });
        }
        if leads && !calm && left.late_releases > 0 {
            steps.push(Step::GiveBack { settler, late: true });
        }
        if left.any > 0 && !calm {
            steps.push(Step::Crash { settler });
        }
    }

    /// What may happen about a leader's work.
    pub(crate) fn work_steps(&self, state: &State, settler: usize, steps: &mut Vec<Step>) {
        let calm = self.is_calm(state);
        let Settler { lead: Some(_), waiting, .. } = state.settlers[settler] else { return };
        if waiting.is_some() {
            steps.push(Step::Answered { settler });
            return;
        }
        let left = if calm { Faults::default() } else { state.left };
        for channel in 0..CHANNELS {
            for request in next_requests(*self, state, settler, channel) {
                steps.push(Step::Call { settler, channel, request });
                if left.any > 0 {
                    steps.push(Step::CallRepeated { settler, channel, request });
                    steps.push(Step::CallUnanswered { settler, channel, request });
                    steps.push(Step::Send { settler, channel, request });
                }
            }
        }
    }

    pub(crate) fn tick(&self, state: &mut State, but: Option<usize>) {
        if but.is_some() {
            state.left.slow_ticks -= 1;
        }
        if let Some(grant) = &mut state.redis.lease {
            grant.ticks -= 1;
            if grant.ticks == 0 {
                state.redis.lease = None;
            }
        }
        for settler in (0..SETTLERS).filter(|settler| Some(*settler) != but) {
            if let Some(asking) = &mut state.settlers[settler].asking {
                // Older than any lease is all the same.
                asking.age = (asking.age + 1).min(self.ttl());
            }
            if let Some(lead) = &mut state.settlers[settler].lead {
                lead.ticks -= 1;
                if lead.ticks == 0 {
                    self.step_down(state, settler);
                }
            }
        }
    }

    pub(crate) fn ask(&self, state: &mut State, settler: usize) {
        if self.clock == Clock::Free {
            let term = state.settlers[settler].term;
            let token = self.acquire_lease(state, name(settler), term);
            state.settlers[settler].lead = Some(Lead { token, ticks: self.valid(0) });
            return;
        }
        let is_ours = state.redis.lease.is_some_and(|grant| grant.holder == name(settler));
        let renews = state.settlers[settler].lead.is_some();
        if (renews || is_ours) && !self.is_calm(state) {
            state.left.renewals -= 1;
        }
        state.settlers[settler].asking = Some(Asking { renews, age: 0, answer: None });
    }

    pub(crate) fn ask_late(&self, state: &mut State, settler: usize) {
        state.left.any -= 1;
        let term = state.settlers[settler].term;
        state.post(about_the_lease(name(settler), term, Request::AcquireLease));
    }

    pub(crate) fn redis_grants(&self, state: &mut State, settler: usize) {
        let Some(Asking { renews, age, .. }) = state.settlers[settler].asking else { return };
        let term = state.settlers[settler].term;
        let token = match renews {
            true => self.renew_lease(state, name(settler), term),
            false => self.acquire_lease(state, name(settler), term),
        };
        state.settlers[settler].asking = Some(Asking { renews, age, answer: Some(token) });
    }

    pub(crate) fn grant_heard(&self, state: &mut State, settler: usize) {
        let Some(Asking { renews, age, answer: Some(token) }) = state.settlers[settler].asking.take() else {
            return;
        };
        let ticks = self.valid(age);
        match &mut state.settlers[settler].lead {
            Some(_) if token == 0 => self.step_down(state, settler),
            Some(lead) => lead.ticks = lead.ticks.max(ticks),
            None if renews || token == 0 => {}
            // Granted, and over by its own clock already: the next question is for another term.
            None if ticks == 0 => state.settlers[settler].term += 1,
            None => state.settlers[settler].lead = Some(Lead { token, ticks }),
        }
    }

    /// Stopping while Redis holds the lease for this very term is one of the renewals: it can be taken up again.
    pub(crate) fn stand_down(&self, state: &mut State, settler: usize) {
        let is_ours = state.redis.lease.is_some_and(|grant| grant.holder == name(settler));
        let is_current = state.settlers[settler].lead.is_some_and(|lead| lead.token == state.redis.token);
        if is_ours && is_current {
            state.left.renewals -= 1;
        }
        self.step_down(state, settler);
    }

    /// Every task is dropped where it stands (`settler/src/leadership.rs::abandon`); what was sent is on its way. The next
    /// leadership is another term (`settler/src/app.rs::next_term`).
    pub(crate) fn step_down(&self, state: &mut State, settler: usize) {
        post_what_was_sent(state, settler, name(settler));
        let term = state.settlers[settler].term + 1;
        state.settlers[settler] = Settler { term, ..Settler::default() };
    }

    pub(crate) fn give_back(&self, state: &mut State, settler: usize, late: bool) {
        let term = state.settlers[settler].term;
        self.step_down(state, settler);
        if late {
            state.left.late_releases -= 1;
            state.post(about_the_lease(name(settler), term, Request::ReleaseLease));
        } else {
            state.left.releases -= 1;
            self.release_lease(state, name(settler), term);
        }
    }

    pub(crate) fn crash(&self, state: &mut State, settler: usize) {
        state.left.any -= 1;
        post_what_was_sent(state, settler, Holder::Dead);
        state.settlers[settler] = Settler::default();
        let old = name(settler);
        for letter in state.letters.iter_mut().flatten().filter(|letter| letter.from == old) {
            letter.from = Holder::Dead;
        }
        if let Some(grant) = state.redis.lease.as_mut().filter(|grant| grant.holder == old) {
            grant.holder = Holder::Dead;
        }
    }

    pub(crate) fn answered(&self, state: &mut State, settler: usize) {
        let Some(letter) = waiting_letter(state, settler, name(settler)) else { return };
        state.settlers[settler].waiting = None;
        let answer = self.serve(state, letter.token, letter.channel, letter.request);
        if answer == Answer::Refused {
            // StoreError::Fenced, or stale_fencing_token with the lease in other hands (raise_token.lua).
            self.step_down(state, settler);
            return;
        }
        let tasks = &mut state.settlers[settler].tasks[usize::from(letter.channel)];
        match (letter.request, answer) {
            (Request::TakePartition, _) => tasks.taken = true,
            (Request::ReadAccepted(_), Answer::Entries(0)) => tasks.read_from = ReadFrom::New,
            (Request::ReadAccepted(_), Answer::Entries(page)) => tasks.page = page,
            (Request::Apply(page), _) => applied(tasks, page),
            (_, Answer::Close(close)) => tasks.close = close,
            _ => {}
        }
    }

    /// Stands for the arms of `settler/src/consumer.rs::run`, `settler/src/closer.rs::close` and `run` for errors that
    /// are worth another attempt.
    pub(crate) fn no_answer(&self, state: &mut State, settler: usize) {
        let Some(letter) = waiting_letter(state, settler, name(settler)) else { return };
        state.settlers[settler].waiting = None;
        state.post(letter);
        let tasks = &mut state.settlers[settler].tasks[usize::from(letter.channel)];
        match letter.request {
            Request::ReadAccepted(_) | Request::Apply(_) => {
                tasks.page = 0;
                tasks.read_from = ReadFrom::default();
            }
            Request::Settle(_) => tasks.close = Close::Retry,
            _ => tasks.close = Close::Idle,
        }
    }

    pub(crate) fn letter_arrives(&self, state: &mut State, letter: Letter) {
        match letter.request {
            Request::AcquireLease => drop(self.acquire_lease(state, letter.from, letter.term)),
            Request::RenewLease => drop(self.renew_lease(state, letter.from, letter.term)),
            Request::ReleaseLease => self.release_lease(state, letter.from, letter.term),
            // Nobody hears the answer.
            request => drop(self.serve(state, letter.token, letter.channel, request)),
        }
    }
}

/// After a page of what was left, what comes after it; after a page of what is new, what is new.
fn applied(tasks: &mut Tasks, page: u8) {
    tasks.page = 0;
    if tasks.read_from != ReadFrom::New {
        let last = (0..VOUCHERS).rfind(|at| page >> at & 1 == 1);
        tasks.read_from = ReadFrom::Unacknowledged(last.map_or(0, |last| last + 1));
    }
}

fn about_the_lease(from: Holder, term: u8, request: Request) -> Letter {
    Letter { from, term, token: 0, channel: 0, request }
}

/// The request under way, as a letter.
pub(crate) fn waiting_letter(state: &State, settler: usize, from: Holder) -> Option<Letter> {
    let Settler { lead: Some(lead), waiting: Some((channel, request)), .. } = state.settlers[settler] else {
        return None;
    };
    Some(Letter { from, term: 0, token: lead.token, channel, request })
}

fn post_what_was_sent(state: &mut State, settler: usize, from: Holder) {
    if let Some(letter) = waiting_letter(state, settler, from) {
        state.post(letter);
    }
    if let Some(Asking { renews, answer: None, .. }) = state.settlers[settler].asking {
        let request = if renews { Request::RenewLease } else { Request::AcquireLease };
        let term = state.settlers[settler].term;
        state.post(about_the_lease(from, term, request));
    }
}
