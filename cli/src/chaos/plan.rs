//! What is done when: a function of the seed and of nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::ChaosOptions;
use super::fault::{FaultKind, Link, Part, Stop, Trouble};

/// Longest mean time between two faults, in ms.
const MEAN_GAP_MAX_MS: u64 = 800;

/// No fault begins so shortly before the end, in ms.
const LAST_MS: u64 = 500;

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// When it begins, from the start.
    pub at: Duration,
    /// How long it lasts.
    pub hold: Duration,
    /// What it is.
    pub kind: FaultKind,
    /// Whom it befalls.
    pub target: Target,
}

/// Which of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The one of this number.
    One(usize),
    /// Every one at once.
    All,
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            Target::One(i) => write!(f, "{} #{i} for {} ms", self.kind, self.hold.as_millis()),
            Target::All => write!(f, "{} all for {} ms", self.kind, self.hold.as_millis()),
        }
    }
}

/// A fault begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, from the start.
    pub at: Duration,
    /// The fault's place in the plan.
    pub injection: usize,
    /// Whether it begins.
    pub begins: bool,
}

/// What a fault lays hands on, so that two do not get in each other's way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Process(Part, usize),
    Link(Link, usize),
}

/// The plan of a campaign. Each kind comes once before any comes again, in an order that the seed gives.
pub fn make(options: &ChaosOptions) -> Vec<Injection> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let duration_ms = u64::try_from(options.duration.as_millis()).unwrap_or(u64::MAX);
    let kinds = u64::try_from(options.kinds.len()).unwrap_or(u64::MAX);
    let end_ms = duration_ms.saturating_sub(LAST_MS);
    // Even a short campaign is to see every kind once.
    let mean_ms = (end_ms / (kinds + 4)).clamp(20, MEAN_GAP_MAX_MS);
    let mut busy_until = BTreeMap::<Place, u64>::new();
    let mut bag: Vec<FaultKind> = Vec::new();
    let mut plan = Vec::new();
    let mut at_ms = 0;
    loop {
        at_ms += rng.random_range(mean_ms / 4..=mean_ms * 7 / 4);
        if at_ms >= end_ms || options.kinds.is_empty() {
            return plan;
        }
        if bag.is_empty() {
            bag = options.kinds.clone();
            bag.shuffle(&mut rng);
        }
        // The first that finds its place free; what does not stays in the bag for the next time.
        let mut chosen = None;
        for (n, &kind) in bag.iter().enumerate() {
            let target = target(kind, options, &mut rng);
            let places = places(kind, target, options);
            if places.iter().all(|place| busy_until.get(place).is_none_or(|&until| until < at_ms)) {
                chosen = Some((n, kind, target, places));
                break;
            }
        }
        let Some((n, kind, target, places)) = chosen else { continue };
        bag.remove(n);
        let hold_ms = hold_ms(kind, &mut rng).min(duration_ms - at_ms);
        for place in places {
            // A moment to recover, or the next fault would meet something that does not work yet.
            busy_until.insert(place, at_ms + hold_ms + 300);
        }
        let (at, hold) = (Duration::from_millis(at_ms), Duration::from_millis(hold_ms));
        plan.push(Injection { at, hold, kind, target });
    }
}

/// The beginnings and ends of a plan, in order.
pub fn events(plan: &[Injection]) -> Vec<Event> {
    let mut events: Vec<Event> = plan
        .iter()
        .enumerate()
        .flat_map(|(injection, planned)| {
            let begin = Event { at: planned.at, injection, begins: true };
            [begin, Event { at: planned.at + planned.hold, injection, begins: false }]
        })
        .collect();
    events.sort_by_key(|event| (event.at, event.injection, !event.begins));
    events
}

fn count(kind: FaultKind, options: &ChaosOptions) -> usize {
    match kind {
        FaultKind::Process(Part::Issuer | Part::Redis, _) => 1,
        FaultKind::Process(Part::Relayer, _)
        | FaultKind::Link(Link::RelayerRedis | Link::RelayerIssuer, _) => options.relayers,
        FaultKind::Process(Part::Settler, _)
        | FaultKind::Link(Link::SettlerRedis | Link::SettlerIssuer, _) => options.settlers,
    }
}

fn target(kind: FaultKind, options: &ChaosOptions, rng: &mut StdRng) -> Target {
    let count = count(kind, options);
    let i = match kind {
        FaultKind::Process(..) => rng.random_range(0..count.max(1)),
        FaultKind::Link(..) => rng.random_range(0..=count),
    };
    if i < count || count == 0 { Target::One(i) } else { Target::All }
}

fn places(kind: FaultKind, target: Target, options: &ChaosOptions) -> Vec<Place> {
    let place = |i| match kind {
        FaultKind::Process(part, _) => Place::Process(part, i),
        FaultKind::Link(link, _) => Place::Link(link, i),
    };
    match target {
        Target::One(i) => vec![place(i)],
        Target::All => (0..count(kind, options)).map(place).collect(),
    }
}

fn hold_ms(kind: FaultKind, rng: &mut StdRng) -> u64 {
    match kind {
        // Time to end by itself.
        FaultKind::Process(_, Stop::Term) => rng.random_range(800..=2_500),
        // Shorter and longer than a settler's lease.
        FaultKind::Process(Part::Settler, Stop::Pause) => rng.random_range(200..=4_000),
        FaultKind::Process(..) => rng.random_range(100..=2_500),
        // Shorter and longer than every timeout.
        FaultKind::Link(_, Trouble::Delay) => rng.random_range(500..=3_000),
        FaultKind::Link(..) => rng.random_range(200..=2_500),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::process::Binary;
    use std::collections::BTreeSet;

    fn options(seed: u64, seconds: u64) -> ChaosOptions {
        ChaosOptions::new(seed, Duration::from_secs(seconds), "nowhere", Binary::EachIn("nowhere".into()))
    }

    #[test]
    fn a_plan_follows_from_its_seed_alone() {
        assert_eq!(make(&options(7, 60)), make(&options(7, 60)));
        assert_ne!(make(&options(7, 60)), make(&options(8, 60)));
    }

    #[test]
    fn a_short_campaign_has_every_fault_and_none_after_its_end() {
        for seed in 0..50 {
            let options = options(seed, 25);
            let plan = make(&options);
            let kinds: BTreeSet<FaultKind> = plan.iter().map(|injection| injection.kind).collect();
            assert!(kinds.len() >= 29, "seed {seed}: {} kinds", kinds.len());
            assert!(plan.iter().all(|injection| injection.at + injection.hold <= options.duration));
        }
    }

    #[test]
    fn no_two_faults_befall_one_place_at_a_time() {
        for seed in 0..50 {
            let options = options(seed, 120);
            let plan = make(&options);
            assert!(plan.len() > 100, "{}", plan.len());
            let mut until = BTreeMap::<Place, Duration>::new();
            for injection in &plan {
                for place in places(injection.kind, injection.target, &options) {
                    assert!(until.get(&place).is_none_or(|until| *until <= injection.at), "seed {seed}");
                    until.insert(place, injection.at + injection.hold);
                }
            }
        }
    }
}
