//! Checks a whole journal, segment by segment: that it is what its settler wrote, and that what it says is true. Pure:
//! whoever has the bytes can check, without Redis, issuer or settler.
//!
//! Held in memory: one segment, and some two hundred bytes a channel.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::line::{
    DeadLine, FailedLine, Line, Paid, PaymentLine, Position, SettlementLine, Source, TermsLine,
};
use super::segment::{self, Fault, Head, Segment};
use crate::amount::Amount;
use crate::channel::{CheckedTerms, Terms};
use crate::ids::{ChannelId, JournalRoot};
use crate::scheme::Check;
use crate::store::stream::EntryId;
use crate::verify::UsableKey;
use crate::voucher::{Payment, Proof, VerifiedVoucher};

/// Faults that are kept; the others are only counted.
const FAULTS_KEPT: usize = 1_000;

/// What to hold a journal against besides itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expect {
    /// Whose signature receipts must carry; without it they are not checked.
    pub issuer: Option<UsableKey>,
    /// The root that the journal must have had after some segment.
    pub root: Option<JournalRoot>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments that hold together.
    pub segments: u64,
    /// The first of them.
    pub first: Option<u64>,
    /// The last of them, with the journal's root.
    pub head: Option<(u64, JournalRoot)>,
    /// Accepted payments.
    pub payments: u64,
    /// Those whose proof holds. The others are faults.
    pub proofs: u64,
    /// Channels that were closed.
    pub settlements: u64,
    /// Those whose receipt the issuer signed; 0 without its key.
    pub receipts: u64,
    /// Channels that were given up on.
    pub failed: u64,
    /// Entries that were given up on.
    pub dead: u64,
    /// Channels with a payment or an end.
    pub channels: u64,
    /// What is wrong, in the order of the journal; a thousand at most.
    pub faults: Vec<Fault>,
    /// How much is wrong.
    pub fault_count: u64,
}

/// What is known of a channel while the journal is walked.
#[derive(Debug, Default)]
struct Known {
    /// The latest payment, by the partition in whose stream it stood: one stream has the order in which they were
    /// accepted, two streams have none.
    latest: Vec<(u16, Amount)>,
    /// What the receipt says, and where it stands.
    settled: Option<(Amount, u64, u64)>,
    /// A proof that held: a chain is not walked from its root for each of its payments.
    proven: Option<Proof>,
}

/// Checks segments that are given to it in the order of their numbers.
#[derive(Debug)]
pub struct Verifier {
    expect: Expect,
    seen_root: bool,
    source: Option<Source>,
    last: Option<Head>,
    channels: HashMap<ChannelId, Known>,
    report: Report,
}

impl Verifier {
    /// Before the first segment.
    pub fn new(expect: Expect) -> Verifier {
        Verifier {
            expect,
            seen_root: false,
            source: None,
            last: None,
            channels: HashMap::new(),
            report: Report::default(),
        }
    }

    /// Checks the next segment. After a fault it goes on: what follows is checked as far as it can be.
    pub fn segment(&mut self, number: u64, bytes: &[u8]) {
        let position = Positions::of(self.last.as_ref(), number);
        let mut walk = Walk { verifier: self, number, position, terms: HashMap::new(), faults: Vec::new() };
        let read = segment::read(number, bytes, |at, line, _| walk.line(at, line));
        let Walk { position, faults, .. } = walk;
        faults.into_iter().for_each(|fault| self.fault(fault));
        match read {
            Ok(segment) => self.link(&segment, &position),
            Err(fault) => {
                self.fault(fault);
                // The next one cannot be held against this one.
                self.last = None;
            }
        }
    }

    /// What was found, after the last segment.
    pub fn finish(mut self) -> Report {
        let mut over = Vec::new();
        for (id, known) in &self.channels {
            let paid = known.latest.iter().map(|(_, amount)| *amount).max().unwrap_or_default();
            if let Some((settled, segment, line)) = known.settled
                && paid > settled
            {
                let detail = format!("channel {id} was settled for {settled}, and {paid} was accepted on it");
                over.push(Fault { segment, line: Some(line), detail });
            }
        }
        over.sort_by_key(|fault| (fault.segment, fault.line));
        over.into_iter().for_each(|fault| self.fault(fault));
        if let Some(root) = self.expect.root
            && !self.seen_root
        {
            let segment = self.report.head.map_or(0, |(number, _)| number);
            let detail = format!("after no segment does the journal have the root {root}");
            self.fault(Fault { segment, line: None, detail });
        }
        self.report.channels = self.channels.len().try_into().unwrap_or(u64::MAX);
        self.report
    }

    fn fault(&mut self, fault: Fault) {
        self.report.fault_count = self.report.fault_count.saturating_add(1);
        if self.report.faults.len() < FAULTS_KEPT {
            self.report.faults.push(fault);
        }
    }

    /// Holds a segment against the one before it.
    fn link(&mut self, segment: &Segment, found: &Positions) {
        let header = &segment.header;
        let number = header.number;
        let wrong = |detail: String| Fault { segment: number, line: Some(1), detail };
        match self.last.take() {
            None if number == 1 && header.previous != segment::NO_ROOT => {
                self.fault(wrong("the first segment names a root before it".to_owned()));
            }
            // Those before it are gone: by their age, or because they could not be read.
            None => {}
            Some(last) if last.number.checked_add(1) != Some(number) => {
                let missing = last.number.saturating_add(1);
                self.fault(wrong(format!("segment {missing} is missing before this one")));
            }
            Some(last) if last.root != header.previous => {
                let (previous, root) = (header.previous, last.root);
                self.fault(wrong(format!("it builds on the root {previous}, the segment before has {root}")));
            }
            Some(_) => {}
        }
        if let Some(detail) = found.differ_from(&header.positions) {
            self.fault(wrong(detail));
        }
        // A payee may have another key by now; the roots say that it is one journal all the same.
        let source = self.source.get_or_insert_with(|| header.source.clone());
        if (&source.prefix, source.partitions) != (&header.source.prefix, header.source.partitions) {
            self.fault(wrong("it is of another journal: prefix or partitions differ".to_owned()));
        }
        let head = segment.head();
        self.seen_root |= Some(head.root) == self.expect.root;
        self.report.segments = self.report.segments.saturating_add(1);
        self.report.first.get_or_insert(number);
        self.report.head = Some((number, head.root));
        self.last = Some(head);
    }
}

/// Walks the records of one segment.
struct Walk<'a> {
    verifier: &'a mut Verifier,
    number: u64,
    position: Positions,
    /// Terms that stood above, in this segment.
    terms: HashMap<ChannelId, CheckedTerms>,
    faults: Vec<Fault>,
}

impl Walk<'_> {
    fn line(&mut self, at: u64, line: &Line) {
        let checked = match line {
            Line::Terms(line) => self.terms(line),
            Line::Payment(line) => self.payment(line),
            Line::Settlement(line) => self.settlement(at, line),
            Line::Failed(line) => self.failed(line),
            Line::Dead(line) => self.dead(line),
            // Taken care of by whoever reads the lines.
            Line::Header(_) | Line::Footer(_) => Ok(()),
        };
        if let Err(detail) = checked {
            self.faults.push(Fault { segment: self.number, line: Some(at), detail });
        }
    }

    fn terms(&mut self, line: &TermsLine) -> Result<(), String> {
        let terms = checked(&line.terms)?;
        if terms.id() != line.channel_id {
            return Err(format!("the terms are those of channel {}", terms.id()));
        }
        self.terms.insert(line.channel_id, terms);
        Ok(())
    }

    fn payment(&mut self, line: &PaymentLine) -> Result<(), String> {
        let PaymentLine { partition, entry, paid } = line;
        let report = &mut self.verifier.report;
        report.payments = report.payments.saturating_add(1);
        let moved = self.position.accepted(*partition, *entry);
        let terms = self.terms.get(&paid.channel_id).ok_or("no terms of this channel stand above")?;
        let known = self.verifier.channels.entry(paid.channel_id).or_default();
        let proven = prove(terms, paid, known.proven.as_ref())?;
        known.proven = Some(proven.proof().clone());
        report.proofs = report.proofs.saturating_add(1);
        let known = self.verifier.channels.entry(paid.channel_id).or_default();
        let amount = paid.cumulative_amount;
        match known.latest.iter_mut().find(|(of, _)| of == partition) {
            Some((_, latest)) if amount <= *latest => {
                return Err(format!("{amount} was accepted after {latest} on channel {}", paid.channel_id));
            }
            Some((_, latest)) => *latest = amount,
            None => known.latest.push((*partition, amount)),
        }
        moved
    }

    fn settlement(&mut self, at: u64, line: &SettlementLine) -> Result<(), String> {
        let SettlementLine { partition, entry, channel_id, cumulative_amount, receipt } = line;
        let report = &mut self.verifier.report;
        report.settlements = report.settlements.saturating_add(1);
        self.position.settled(*partition, *entry)?;
        if receipt.channel_id != *channel_id {
            return Err(format!("the receipt is for channel {}", receipt.channel_id));
        }
        if receipt.settled_amount != *cumulative_amount {
            let settled = receipt.settled_amount;
            return Err(format!("the receipt is for {settled}, {cumulative_amount} was pinned"));
        }
        if let Some(issuer) = &self.verifier.expect.issuer {
            if !receipt.is_signed_with(issuer) {
                return Err(format!("the issuer did not sign the receipt of channel {channel_id}"));
            }
            if let Err(flaw) = receipt.check_inclusion(issuer) {
                return Err(format!("the receipt of channel {channel_id}: {flaw}"));
            }
            report.receipts = report.receipts.saturating_add(1);
        }
        let known = self.verifier.channels.entry(*channel_id).or_default();
        if known.settled.is_some() {
            return Err(format!("channel {channel_id} was settled before"));
        }
        known.settled = Some((receipt.settled_amount, self.number, at));
        Ok(())
    }

    fn failed(&mut self, line: &FailedLine) -> Result<(), String> {
        self.verifier.report.failed = self.verifier.report.failed.saturating_add(1);
        self.verifier.channels.entry(line.channel_id).or_default();
        self.position.settled(line.partition, line.entry)
    }

    fn dead(&mut self, line: &DeadLine) -> Result<(), String> {
        self.verifier.report.dead = self.verifier.report.dead.saturating_add(1);
        if line.settled {
            self.position.settled(line.partition, line.entry)
        } else {
            self.position.accepted(line.partition, line.entry)
        }
    }
}

fn checked(terms: &Terms) -> Result<CheckedTerms, String> {
    terms.clone().check().map_err(|error| format!("terms that no channel can have: {error}"))
}

/// Checks that the payer agreed to a payment, as relayer and issuer do. `known`: the proof of another payment on the
/// channel that held.
fn prove(terms: &CheckedTerms, paid: &Paid, known: Option<&Proof>) -> Result<VerifiedVoucher, String> {
    let of = |why: &dyn std::fmt::Display| {
        format!("{} on channel {}: {why}", paid.cumulative_amount, paid.channel_id)
    };
    let proof = Proof::from_bytes(terms.terms().scheme, &paid.proof).map_err(|error| of(&error))?;
    let payment =
        Payment { channel_id: paid.channel_id, cumulative_amount: Some(paid.cumulative_amount), proof };
    let check = Check { known, ..Check::FROM_TERMS };
    VerifiedVoucher::verify_with(terms, &payment, check).map_err(|error| of(&error))
}

/// How far the records of a segment reach, beside what its header says.
#[derive(Debug)]
struct Positions {
    /// False for the first segment that is there: what is before it is not known.
    knows_start: bool,
    reached: HashMap<u16, [Reach; 2]>,
}

/// One stream: where the segment before ended, and the last entry seen since.
#[derive(Clone, Copy, Debug)]
struct Reach {
    start: EntryId,
    last: EntryId,
}

impl Positions {
    fn of(last: Option<&Head>, number: u64) -> Positions {
        let positions = last.map_or(&[][..], |last| &last.positions);
        let from = |id| Reach { start: id, last: id };
        let reached = positions.iter().map(|p| (p.partition, [from(p.accepted), from(p.settled)])).collect();
        Positions { knows_start: number == 1 || last.is_some(), reached }
    }

    fn accepted(&mut self, partition: u16, entry: EntryId) -> Result<(), String> {
        let [accepted, _] = self.of_partition(partition);
        accepted.reach(entry)
    }

    fn settled(&mut self, partition: u16, entry: EntryId) -> Result<(), String> {
        let [_, settled] = self.of_partition(partition);
        settled.reach(entry)
    }

    fn of_partition(&mut self, partition: u16) -> &mut [Reach; 2] {
        let from_the_start = Reach { start: EntryId::ZERO, last: EntryId::ZERO };
        self.reached.entry(partition).or_insert([from_the_start; 2])
    }

    /// What is wrong with the positions of the header, if anything.
    fn differ_from(&self, header: &[Position]) -> Option<String> {
        let mut named = HashMap::new();
        for p in header {
            match named.entry(p.partition) {
                Entry::Occupied(_) => return Some(format!("two positions of partition {}", p.partition)),
                Entry::Vacant(free) => drop(free.insert([p.accepted, p.settled])),
            }
        }
        let partitions = if self.knows_start { named.len() } else { self.reached.len() };
        let same = |(partition, reached): (&u16, &[Reach; 2])| {
            let found = named.get(partition).copied().unwrap_or([EntryId::ZERO; 2]);
            reached.iter().zip(found).all(|(reached, found)| {
                // A stream without a record in the first segment that is there has its position from before.
                reached.last == found || (!self.knows_start && reached.last == EntryId::ZERO)
            })
        };
        let as_told = partitions == self.reached.len() && self.reached.iter().all(same);
        (!as_told).then(|| "the positions in its header are not those that its records reach".to_owned())
    }
}

impl Reach {
    /// Entries come in the order of their ids, those of one entry together.
    fn reach(&mut self, entry: EntryId) -> Result<(), String> {
        if entry < self.last || (entry == self.start && entry != EntryId::ZERO) {
            return Err(format!("entry {entry} does not come after {}", self.last));
        }
        self.last = entry;
        Ok(())
    }
}
