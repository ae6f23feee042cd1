//! Payments on their way through a relayer, counted so that no scrape can contradict itself: in each,
//! `received = accepted + duplicate + refused + abandoned + in flight`, whatever is going on meanwhile.
//!
//! A payment counts as received first and as ended last. Whoever reads the endings before what was received therefore
//! finds no ending without its beginning, and what is left over is in flight: [`Flow::read`]. Nobody takes a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::problem::Code;
use common::wire::Outcome;
use prometheus::Registry;
use service::metrics::{Family, Figures, Kind, register_read_at_scrape};

const FAMILIES: &[Family] = &[
    Family {
        name: "millrace_relayer_payments_received_total",
        help: "Payments that came in.",
        kind: Kind::Counter,
        label: None,
    },
    Family {
        name: "millrace_relayer_payments_total",
        help: "Payments by how they ended: accepted, duplicate, abandoned, or the code of the refusal.",
        kind: Kind::Counter,
        label: Some("outcome"),
    },
    Family {
        name: "millrace_relayer_payments_in_flight",
        help: "Payments being handled: received and not ended.",
        kind: Kind::Gauge,
        label: None,
    },
];

/// How a payment ended, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Recorded, now or before.
    Taken(Outcome),
    /// Answered with this code.
    Refused(Code),
    /// The request took too long, or the client of a stream left, before the voucher was handed to the store: nothing recorded.
    /// (Or the task that had it failed by then.)
    Abandoned,
}

/// How many payments have come in, and ended how.
#[derive(Debug)]
pub(crate) struct Flow {
    received: AtomicU64,
    /// What admission goes by: one number to read, where the scrape has a sum to take.
    in_flight: AtomicU64,
    accepted: AtomicU64,
    duplicate: AtomicU64,
    abandoned: AtomicU64,
    /// By code, in the order of [`Code::ALL`].
    refused: [AtomicU64; Code::ALL.len()],
}

impl Flow {
    /// Counts under `registry`.
    pub(super) fn register(registry: &Registry) -> Result<Arc<Flow>, prometheus::Error> {
        let flow = Arc::new(Flow {
            received: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            duplicate: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            refused: [const { AtomicU64::new(0) }; Code::ALL.len()],
        });
        let read = Arc::clone(&flow);
        register_read_at_scrape(registry, FAMILIES, move || read.read().figures())?;
        Ok(flow)
    }

    /// Counts a payment in.
    pub(super) fn begin(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a payment out that was counted in before.
    pub(super) fn end(&self, ending: Ending) {
        let counter = match ending {
            Ending::Taken(Outcome::Accepted) => &self.accepted,
            Ending::Taken(Outcome::Duplicate) => &self.duplicate,
            // `Code::ALL` holds every code, in the order of its discriminants.
            Ending::Refused(code) => self.refused.get(code as usize).unwrap_or(&self.abandoned),
            Ending::Abandoned => &self.abandoned,
        };
        // Whoever sees this ending also sees the payment received.
        counter.fetch_add(1, Ordering::Release);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Payments counted in and not out.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Every ending so far. To be read before [`Flow::received`].
    fn endings(&self) -> Vec<(&'static str, u64)> {
        let taken =
            [("accepted", &self.accepted), ("duplicate", &self.duplicate), ("abandoned", &self.abandoned)];
        let refused = Code::ALL.iter().map(|code| code.as_str()).zip(&self.refused);
        taken
            .into_iter()
            .chain(refused)
            .map(|(label, count)| (label, count.load(Ordering::Acquire)))
            .collect()
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// The figures of one scrape.
    fn read(&self) -> Reading {
        let endings = self.endings();
        Reading { endings, received: self.received() }
    }
}

/// What one scrape goes by.
#[derive(Debug)]
struct Reading {
    endings: Vec<(&'static str, u64)>,
    received: u64,
}

impl Reading {
    fn figures(self) -> Vec<Figures> {
        let ended = self.endings.iter().fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
        let in_flight = self.received.saturating_sub(ended);
        let endings = self.endings.into_iter().map(|(label, count)| (label, count.into()));
        vec![vec![("", self.received.into())], endings.collect(), vec![("", in_flight.into())]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    /// Whether the figures of a scrape add up.
    fn adds_up(figures: &[Figures]) -> bool {
        let sum = |figures: &Figures| figures.iter().map(|(_, figure)| figure).sum::<u128>();
        sum(&figures[0]) == sum(&figures[1]) + sum(&figures[2])
    }

    fn flow() -> Arc<Flow> {
        Flow::register(&Registry::new()).expect("new names")
    }

    fn pass(flow: &Flow) {
        flow.begin();
        flow.end(Ending::Taken(Outcome::Accepted));
    }

    #[test]
    fn a_payment_that_passes_while_a_scrape_reads_contradicts_nothing() {
        let flow = flow();
        pass(&flow);
        let endings = flow.endings();
        pass(&flow);
        let reading = Reading { endings, received: flow.received() };
        assert!(adds_up(&reading.figures()), "what ended meanwhile is in flight in this scrape");
    }

    #[test]
    fn a_scrape_that_reads_in_the_wrong_order_is_caught() {
        let flow = flow();
        pass(&flow);
        let received = flow.received();
        pass(&flow);
        let reading = Reading { endings: flow.endings(), received };
        assert!(!adds_up(&reading.figures()), "two endings of one payment received");
    }

    #[test]
    fn scrapes_add_up_and_never_go_back_while_payments_pass() {
        let (flow, stop) = (flow(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let payers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            pass(&flow);
                        }
                    })
                })
                .collect();
            let mut before = 0;
            for _ in 0..20_000 {
                let figures = flow.read().figures();
                assert!(adds_up(&figures), "{figures:?}");
                assert!(figures[0][0].1 >= before);
                before = figures[0][0].1;
            }
            stop.store(true, Ordering::Relaxed);
            payers.into_iter().for_each(|payer| payer.join().expect("a payer"));
        });
        assert_eq!(flow.in_flight(), 0);
    }

    #[test]
    fn every_code_has_a_place_of_its_own() {
        let flow = flow();
        for (place, code) in Code::ALL.iter().enumerate() {
            flow.begin();
            flow.end(Ending::Refused(*code));
            assert_eq!(flow.refused[place].load(Ordering::Relaxed), 1, "{code}");
        }
        assert_eq!(flow.abandoned.load(Ordering::Relaxed), 0);
    }
}
