//! What must hold, and what must be possible for the rest to mean anything.
//!
//! `eventually` properties of the checker are sound only where no run comes back to a state and what was true stays
//! true. Here every run ends (a test of its own shows it), and what has ended stays so.

use stateright::Property;

use crate::config::{Clock, Config, Work};
use crate::settlers::waiting_letter;
use crate::state::{CHANNELS, Entry, Holder, Letter, ReadFrom, Request, SETTLERS, Settler, State, Status};
use crate::steps::name;

pub(crate) const I3: &str = "I3: nothing is accepted after begin_close";
pub(crate) const I4_REDIS: &str = "I4: a deposed leader changes nothing in Redis";
pub(crate) const I4_ISSUER: &str = "I4: a deposed leader changes nothing at the issuer";
pub(crate) const I5_ONCE: &str = "I5: no channel is settled twice";
pub(crate) const I5_EXACTLY: &str = "I5: what is settled is the latest accepted amount";
pub(crate) const I5_IN_THE_END: &str = "I5: every channel is closed and settled in the end";
pub(crate) const RECEIPT: &str = "a closed channel holds a receipt for the pinned amount";
pub(crate) const STREAM: &str = "no entry leaves the stream before it is written down";
pub(crate) const STREAM_IN_THE_END: &str = "every entry is written down in the end";
pub(crate) const ONE_LEADER: &str = "no two settlers lead by their own clocks";

const CLOSES: &str = "both channels are closed for more than nothing";
const REDIS_REFUSES: &str = "a request of a deposed leader reaches Redis";
const ISSUER_REFUSES: &str = "a settlement of a deposed leader reaches the issuer";
const RECEIPT_REPEATED: &str = "what was settled is asked for again";
const LEFT_BEHIND: &str = "a leader finds entries that another has read";

const STRANDED: &str = "a late read of the leader itself leaves an entry to its successor";
const HANDED_OVER: &str = "a leader stops by its own clock before Redis ends its lease";

/// The properties of a configuration: of what its leaders do, and of their clocks if they have any.
pub(crate) fn all(config: Config) -> Vec<Property<Config>> {
    let (closes, reads) = match config.work {
        Work::Closes => (true, false),
        Work::Stream => (false, true),
        Work::Everything => (true, true),
        Work::Nothing => (false, false),
    };
    let mut properties = Vec::new();
    if closes || reads {
        properties.push(Property::<Config>::always(I4_REDIS, |_, state| !state.seen.deposed_changed_redis));
    }
    if closes {
        properties.extend(of_closes());
    }
    if reads {
        properties.extend(of_the_stream());
    }
    if (closes || reads) && config.faults.any > 0 {
        properties.push(redis_refuses());
    }
    if reads && config.faults.any > 0 {
        properties.push(stranded());
    }
    if closes && config.faults.any > 0 {
        properties.extend([issuer_refuses(), receipt_repeated()]);
    }
    if config.clock != Clock::Free {
        properties.extend(of_clocks());
    }
    properties
}

// A request is on its way for longer than a step only where a fault keeps it there.

fn redis_refuses() -> Property<Config> {
    Property::<Config>::sometimes(REDIS_REFUSES, |_, state| {
        some_request(state, |letter| {
            !matches!(letter.request, Request::Settle(_))
                && letter.token < state.redis.partitions[usize::from(letter.channel)].fence
        })
    })
}

fn issuer_refuses() -> Property<Config> {
    Property::<Config>::sometimes(ISSUER_REFUSES, |_, state| {
        some_request(state, |letter| {
            matches!(letter.request, Request::Settle(_)) && letter.token < state.issuer.highest
        })
    })
}

fn receipt_repeated() -> Property<Config> {
    Property::<Config>::sometimes(RECEIPT_REPEATED, |_, state| {
        some_request(state, |letter| match letter.request {
            Request::Settle(amount) => {
                state.issuer.settled[usize::from(letter.channel)] == Some(amount)
                    && letter.token >= state.issuer.highest
            }
            _ => false,
        })
    })
}

/// Not a promise but a limit: what a read of the present leader took that came too late to be heard, only an error or
/// the next leader makes it look for. The channel's time in `due` does not depend on it.
fn stranded() -> Property<Config> {
    Property::<Config>::sometimes(STRANDED, |_, state| {
        (0..SETTLERS).any(|settler| {
            let Settler { lead: Some(lead), waiting: None, tasks, .. } = state.settlers[settler] else {
                return false;
            };
            let all_arrived = state.letters.iter().all(Option::is_none);
            all_arrived
                && tasks.iter().zip(state.redis.partitions).any(|(tasks, partition)| {
                    lead.token == partition.fence
                        && tasks.read_from == ReadFrom::New
                        && tasks.page == 0
                        && partition.entries(Entry::Pending, 0) != 0
                })
        })
    })
}

fn of_closes() -> [Property<Config>; 7] {
    [
        Property::<Config>::always(I3, |_, state| {
            every_channel(|c| state.seen.begun[c].is_none_or(|begun| begun == state.seen.accepted[c]))
        }),
        Property::<Config>::always(I4_ISSUER, |_, state| !state.seen.deposed_changed_issuer),
        Property::<Config>::always(I5_ONCE, |_, state| state.issuer.payments.iter().all(|times| *times <= 1)),
        Property::<Config>::always(I5_EXACTLY, |_, state| {
            every_channel(|c| state.issuer.settled[c].is_none_or(|paid| paid == state.seen.accepted[c]))
        }),
        Property::<Config>::eventually(I5_IN_THE_END, |_, state| every_channel(|c| is_settled(state, c))),
        Property::<Config>::always(RECEIPT, |_, state| {
            state.redis.partitions.iter().all(|partition| {
                partition.status != Status::Closed || partition.receipt == Some(partition.amount)
            })
        }),
        Property::<Config>::sometimes(CLOSES, |_, state| {
            every_channel(|c| is_settled(state, c) && state.seen.accepted[c] > 0)
        }),
    ]
}

fn of_the_stream() -> [Property<Config>; 3] {
    [
        Property::<Config>::always(STREAM, |_, state| every_entry(state, |entry| entry != Entry::Lost)),
        Property::<Config>::eventually(STREAM_IN_THE_END, |config, state| {
            let no_more = |c: usize| {
                let partition = &state.redis.partitions[c];
                partition.status != Status::Open || partition.amount == config.vouchers
            };
            every_channel(no_more)
                && every_entry(state, |entry| matches!(entry, Entry::Absent | Entry::Applied))
        }),
        Property::<Config>::sometimes(LEFT_BEHIND, |_, state| {
            state.settlers.iter().filter(|settler| settler.lead.is_some()).any(|settler| {
                settler.tasks.iter().enumerate().any(|(channel, tasks)| {
                    !tasks.taken && state.redis.partitions[channel].entries(Entry::Pending, 0) != 0
                })
            })
        }),
    ]
}

fn of_clocks() -> [Property<Config>; 2] {
    [
        Property::<Config>::always(ONE_LEADER, |_, state| {
            state.settlers.iter().filter(|settler| settler.lead.is_some()).count() <= 1
        }),
        Property::<Config>::sometimes(HANDED_OVER, |_, state| {
            state.redis.lease.is_some_and(|grant| match grant.holder {
                Holder::Living(at) => {
                    let Settler { lead, asking, .. } = state.settlers[usize::from(at)];
                    lead.is_none() && asking.is_none()
                }
                Holder::Dead => false,
            })
        }),
    ]
}

fn every_channel(holds: impl Fn(usize) -> bool) -> bool {
    (0..CHANNELS).all(holds)
}

fn every_entry(state: &State, holds: impl Fn(Entry) -> bool) -> bool {
    state.redis.partitions.iter().flat_map(|partition| partition.stream).all(holds)
}

fn is_settled(state: &State, channel: usize) -> bool {
    let partition = &state.redis.partitions[channel];
    let accepted = Some(state.seen.accepted[channel]);
    partition.status == Status::Closed
        && partition.receipt == accepted
        && state.issuer.settled[channel] == accepted
        && state.issuer.payments[channel] == 1
}

/// Whether one of the requests of the leaders' work that are on their way is so.
fn some_request(state: &State, is_so: impl Fn(Letter) -> bool) -> bool {
    let waiting = (0..SETTLERS).filter_map(|settler| waiting_letter(state, settler, name(settler)));
    state
        .letters
        .iter()
        .flatten()
        .copied()
        .chain(waiting)
        .filter(|letter| !letter.request.is_about_the_lease())
        .any(is_so)
}
