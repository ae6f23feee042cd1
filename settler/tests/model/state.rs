//! What the model remembers: Redis, the issuer, two settlers, letters on their way, and how many faults are left.
//!
//! Everything is small and of fixed size: a state is hashed millions of times.

/// Settlers that compete.
pub(crate) const SETTLERS: usize = 2;
/// Channels, each in a partition of its own, so that one fence says nothing of the other.
pub(crate) const CHANNELS: usize = 2;
/// Vouchers that a payer has signed for each channel: amounts 1 to this.
pub(crate) const VOUCHERS: u8 = 2;
/// Requests without a sender that waits for them, at once.
pub(crate) const LETTERS: usize = 2;

/// One state of the whole system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct State {
    pub(crate) redis: Redis,
    pub(crate) issuer: Issuer,
    pub(crate) settlers: [Settler; SETTLERS],
    /// For each channel, a voucher that a relayer has compared and not yet written; only where accept is not atomic.
    pub(crate) half_accepted: [Option<u8>; CHANNELS],
    /// Sorted, free places first.
    pub(crate) letters: [Option<Letter>; LETTERS],
    pub(crate) left: Faults,
    pub(crate) seen: Seen,
}

/// What Redis holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Redis {
    /// `{mr:settler}:lease`.
    pub(crate) lease: Option<Grant>,
    /// `{mr:settler}:token`.
    pub(crate) token: u8,
    pub(crate) partitions: [Partition; CHANNELS],
}

/// A lease that has not run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Grant {
    pub(crate) holder: Holder,
    /// Which of the holder's terms.
    pub(crate) term: u8,
    /// Ticks until Redis ends it. Stays as it is where clocks are free.
    pub(crate) ticks: u8,
}

/// A process start. One that was killed has a name that nobody bears any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Holder {
    Living(u8),
    Dead,
}

/// A partition with its one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Partition {
    pub(crate) fence: u8,
    pub(crate) status: Status,
    /// Of the latest accepted voucher, as the hot state has it.
    pub(crate) amount: u8,
    /// What the receipt that ended the channel says was paid.
    pub(crate) receipt: Option<u8>,
    /// The stream: one entry for each acceptance, in order.
    pub(crate) stream: [Entry; VOUCHERS as usize],
}

impl Partition {
    /// Positions of the entries, from `from` on, that are `entry`, as bits.
    pub(crate) fn entries(&self, entry: Entry, from: u8) -> u8 {
        (from..VOUCHERS)
            .filter(|at| self.stream[usize::from(*at)] == entry)
            .fold(0, |bits, at| bits | 1 << at)
    }
}

/// The status letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Status {
    #[default]
    Open,
    Closing,
    Closed,
    Failed,
}

/// Where an entry of the stream stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Entry {
    /// Not there yet.
    #[default]
    Absent,
    /// No leader has read it.
    New,
    /// Read, and not acknowledged.
    Pending,
    /// Written down, acknowledged, trimmed.
    Applied,
    /// Trimmed before it was written down: must not be.
    Lost,
}

/// What the issuer's books hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Issuer {
    /// Highest fencing token seen.
    pub(crate) highest: u8,
    /// Amount for which each channel was settled and closed.
    pub(crate) settled: [Option<u8>; CHANNELS],
    /// Times that money moved on each channel.
    pub(crate) payments: [u8; CHANNELS],
}

/// One settler process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Settler {
    /// Which of its leaderships it is in, or seeks. Counted anew from the oldest that anything still names.
    pub(crate) term: u8,
    pub(crate) lead: Option<Lead>,
    /// A question about the lease that is not answered; only where clocks tick.
    pub(crate) asking: Option<Asking>,
    /// The one request of its work that is under way, with its channel.
    pub(crate) waiting: Option<(u8, Request)>,
    pub(crate) tasks: [Tasks; CHANNELS],
}

/// Leadership, as its holder sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lead {
    pub(crate) token: u8,
    /// Ticks of its own clock that it may still act.
    pub(crate) ticks: u8,
}

/// A question about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Asking {
    pub(crate) renews: bool,
    /// Ticks of the asker's clock since it was sent.
    pub(crate) age: u8,
    /// Redis' answer, on its way: the token, or 0 for no.
    pub(crate) answer: Option<u8>,
}

/// What a leader's tasks know of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tasks {
    /// The partition's fence was raised.
    pub(crate) taken: bool,
    pub(crate) read_from: ReadFrom,
    /// Entries read and not yet applied, as bits.
    pub(crate) page: u8,
    pub(crate) close: Close,
}

/// Where the consumer reads next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ReadFrom {
    /// Unacknowledged entries from this position on.
    Unacknowledged(u8),
    New,
}

impl Default for ReadFrom {
    fn default() -> Self {
        ReadFrom::Unacknowledged(0)
    }
}

/// How far a close has come, between two requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Close {
    #[default]
    Idle,
    /// The amount was read and the channel not yet stopped; only where that takes two steps.
    HalfBegun(u8),
    Pinned(u8),
    Receipt(u8),
    Retry,
    GiveUp,
}

/// What a settler asks of Redis or of the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Request {
    AcquireLease,
    RenewLease,
    ReleaseLease,
    TakePartition,
    ReadAccepted(ReadFrom),
    /// With the entries, as bits.
    Apply(u8),
    BeginClose,
    /// Second half of a begin_close in two steps.
    WriteClosing(u8),
    Settle(u8),
    FinishClose(u8),
    RetryClose,
    FailClose,
}

/// A request that arrives although nobody waits for its answer any more: its sender gave up, was killed or deposed,
/// or it is a second copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Letter {
    pub(crate) from: Holder,
    /// Of the sender, if it is about the lease; else 0, for nobody looks at it.
    pub(crate) term: u8,
    pub(crate) token: u8,
    pub(crate) channel: u8,
    pub(crate) request: Request,
}

/// How many of each may still happen. A budget that is used up makes every run end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Faults {
    /// Of any kind: a settler is killed; one sleeps, or the network does, while its request is on its way; a request or
    /// its answer comes too late for its sender, or never; a request arrives twice.
    pub(crate) any: u8,
    /// Terms that a leader ends, and lease questions that it asks, while Redis holds the lease for it.
    pub(crate) renewals: u8,
    /// Leases given back.
    pub(crate) releases: u8,
    /// Leases given back by a request that comes late.
    pub(crate) late_releases: u8,
    /// Ticks that a settler's clock misses.
    pub(crate) slow_ticks: u8,
    /// Times that a partition forgets its latest writes.
    pub(crate) rollbacks: u8,
}

/// What an observer writes down to judge by; nothing in the system reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seen {
    /// The highest amount that payers were told is accepted.
    pub(crate) accepted: [u8; CHANNELS],
    /// That amount when begin_close first took effect.
    pub(crate) begun: [Option<u8>; CHANNELS],
    /// A token below the fence has changed Redis.
    pub(crate) deposed_changed_redis: bool,
    /// A token below the highest has changed the issuer's books.
    pub(crate) deposed_changed_issuer: bool,
}

impl State {
    /// Puts a letter on its way. Where there is no place, it is lost: that happens to letters too.
    pub(crate) fn post(&mut self, letter: Letter) {
        if let Some(place) = self.letters.iter_mut().find(|place| place.is_none()) {
            *place = Some(letter);
        }
    }

    /// Settlers are alike and channels are alike: of the states that differ by names alone, the least stands for all.
    #[must_use]
    pub(crate) fn canonical(mut self) -> State {
        for holder in [Holder::Living(0), Holder::Living(1), Holder::Dead] {
            self.count_terms_anew(holder);
        }
        self.letters.sort_unstable();
        let settlers = self.with_settlers_swapped();
        [self.with_channels_swapped(), settlers, settlers.with_channels_swapped()]
            .into_iter()
            .fold(self, State::min)
    }

    /// Terms are only ever compared: those of one process that anything names are numbered in their order, from 0.
    fn count_terms_anew(&mut self, process: Holder) {
        let mut terms: Vec<&mut u8> = Vec::with_capacity(LETTERS + 2);
        terms
            .extend(self.redis.lease.iter_mut().filter(|grant| grant.holder == process).map(|g| &mut g.term));
        let letters = self.letters.iter_mut().flatten();
        terms.extend(
            letters
                .filter(|letter| letter.from == process && letter.request.is_about_the_lease())
                .map(|letter| &mut letter.term),
        );
        if let Holder::Living(name) = process {
            terms.push(&mut self.settlers[usize::from(name)].term);
        }
        let mut named: Vec<u8> = terms.iter().map(|term| **term).collect();
        named.sort_unstable();
        named.dedup();
        for term in terms {
            let place = named.iter().position(|other| other == term).expect("it is one of them");
            *term = u8::try_from(place).expect("few terms are named at once");
        }
    }

    fn with_settlers_swapped(mut self) -> State {
        fn swap(holder: &mut Holder) {
            if let Holder::Living(name) = holder {
                *name = 1 - *name;
            }
        }
        self.settlers.swap(0, 1);
        self.redis.lease.iter_mut().for_each(|grant| swap(&mut grant.holder));
        self.letters.iter_mut().flatten().for_each(|letter| swap(&mut letter.from));
        self.letters.sort_unstable();
        self
    }

    fn with_channels_swapped(mut self) -> State {
        self.redis.partitions.swap(0, 1);
        self.issuer.settled.swap(0, 1);
        self.issuer.payments.swap(0, 1);
        for settler in &mut self.settlers {
            settler.tasks.swap(0, 1);
            if let Some((channel, _)) = &mut settler.waiting {
                *channel = 1 - *channel;
            }
        }
        self.half_accepted.swap(0, 1);
        // A letter about the lease is about no channel, and bears 0.
        for letter in self.letters.iter_mut().flatten().filter(|letter| !letter.request.is_about_the_lease())
        {
            letter.channel = 1 - letter.channel;
        }
        self.letters.sort_unstable();
        self.seen.accepted.swap(0, 1);
        self.seen.begun.swap(0, 1);
        self
    }
}

impl Request {
    pub(crate) fn is_about_the_lease(self) -> bool {
        matches!(self, Request::AcquireLease | Request::RenewLease | Request::ReleaseLease)
    }
}
