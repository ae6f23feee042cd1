//! What can be done to a stack.

use std::fmt;

/// A part that can be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A relayer.
    Relayer,
    /// A settler.
    Settler,
    /// The issuer.
    Issuer,
    /// Redis.
    Redis,
}

/// How a part is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stop {
    /// SIGKILL; started again at the end.
    Kill,
    /// SIGTERM; started again at the end.
    Term,
    /// SIGSTOP; SIGCONT at the end.
    Pause,
}

/// A way that payments or settlements take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// Between a relayer and Redis.
    RelayerRedis,
    /// Between a settler and Redis.
    SettlerRedis,
    /// Between a settler and the issuer.
    SettlerIssuer,
    /// Between a relayer and the issuer.
    RelayerIssuer,
}

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trouble {
    /// Connections are closed, and new ones as they come.
    Cut,
    /// Everything comes late.
    Delay,
    /// Requests arrive and are carried out, replies do not come back.
    SwallowReplies,
    /// Requests do not arrive.
    SwallowRequests,
    /// Every request is answered 500 by the way itself. Links to the issuer only.
    Answer500,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// A part stops.
    Process(Part, Stop),
    /// A link misbehaves.
    Link(Link, Trouble),
}

impl FaultKind {
    /// Every kind, in the order of the report.
    pub fn all() -> Vec<FaultKind> {
        let parts = [Part::Relayer, Part::Settler, Part::Issuer, Part::Redis];
        let stops = [Stop::Kill, Stop::Term, Stop::Pause];
        let links = [Link::RelayerRedis, Link::SettlerRedis, Link::SettlerIssuer, Link::RelayerIssuer];
        let troubles = [Trouble::Cut, Trouble::Delay, Trouble::SwallowReplies, Trouble::SwallowRequests];
        let mut all = Vec::new();
        all.extend(parts.into_iter().flat_map(|part| stops.map(|stop| FaultKind::Process(part, stop))));
        for link in links {
            all.extend(troubles.map(|trouble| FaultKind::Link(link, trouble)));
            if matches!(link, Link::SettlerIssuer | Link::RelayerIssuer) {
                all.push(FaultKind::Link(link, Trouble::Answer500));
            }
        }
        all
    }

    /// The kinds that a list names: each entry a whole name, or what stands before its colon, or after it.
    ///
    /// # Errors
    /// The entry that names none.
    pub fn parse_list(list: &str) -> Result<Vec<FaultKind>, String> {
        let mut chosen = Vec::new();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let named = |kind: &FaultKind| {
                let name = kind.to_string();
                name == word || name.split(':').any(|half| half == word)
            };
            let before = chosen.len();
            chosen.extend(FaultKind::all().into_iter().filter(named));
            if chosen.len() == before {
                let all: Vec<String> = FaultKind::all().iter().map(ToString::to_string).collect();
                return Err(format!("no fault is called {word}; there are {}", all.join(", ")));
            }
        }
        chosen.sort_unstable();
        chosen.dedup();
        if chosen.is_empty() { Err("name at least one fault".to_owned()) } else { Ok(chosen) }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, what) = match self {
            FaultKind::Process(part, stop) => (
                match part {
                    Part::Relayer => "relayer",
                    Part::Settler => "settler",
                    Part::Issuer => "issuer",
                    Part::Redis => "redis",
                },
                match stop {
                    Stop::Kill => "kill",
                    Stop::Term => "term",
                    Stop::Pause => "pause",
                },
            ),
            FaultKind::Link(link, trouble) => (
                match link {
                    Link::RelayerRedis => "relayer-redis",
                    Link::SettlerRedis => "settler-redis",
                    Link::SettlerIssuer => "settler-issuer",
                    Link::RelayerIssuer => "relayer-issuer",
                },
                match trouble {
                    Trouble::Cut => "cut",
                    Trouble::Delay => "delay",
                    Trouble::SwallowReplies => "swallow-replies",
                    Trouble::SwallowRequests => "swallow-requests",
                    Trouble::Answer500 => "answer-500",
                },
            ),
        };
        write!(f, "{place}:{what}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_chosen_by_name_by_place_and_by_what_is_done() {
        let all = FaultKind::all();
        assert_eq!(all.len(), 30);
        for kind in &all {
            assert_eq!(FaultKind::parse_list(&kind.to_string()), Ok(vec![*kind]));
        }
        assert_eq!(FaultKind::parse_list("settler").map(|kinds| kinds.len()), Ok(3));
        assert_eq!(FaultKind::parse_list("settler-issuer, relayer:kill").map(|kinds| kinds.len()), Ok(6));
        assert_eq!(FaultKind::parse_list("cut,cut").map(|kinds| kinds.len()), Ok(4));
        assert!(FaultKind::parse_list("meteor").is_err_and(|error| error.contains("redis:kill")));
        assert!(FaultKind::parse_list("").is_err());
    }
}
