//! Single things that go wrong in a run, and what the checker must call them.

use common::amount::Amount;
use common::channel::Status;
use common::ids::ChannelId;
use common::problem::Code;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::simulation::World;
use crate::history::{Kind, Leg};
use crate::ledger::LedgerOutcome;

/// One thing that goes wrong.
pub(super) struct Spoil {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// False where the run has nothing that could be spoilt so.
    pub(super) apply: fn(&mut World, &mut StdRng) -> bool,
}

const fn spoil(name: &'static str, kind: Kind, apply: fn(&mut World, &mut StdRng) -> bool) -> Spoil {
    Spoil { name, kind, apply }
}

pub(super) const SPOILS: &[Spoil] = &[
    spoil("a channel forgotten by Redis", Kind::AcknowledgedMissing, |world, rng| {
        let Some((id, _)) = acknowledged(world, rng) else { return false };
        world.redis.channels.remove(&id).is_some()
    }),
    spoil("an amount below what was acknowledged", Kind::AcknowledgedMissing, |world, rng| {
        let Some((id, highest)) = acknowledged(world, rng) else { return false };
        stored(world, id).accepted = less(highest);
        true
    }),
    spoil("an acknowledgement of what was dropped", Kind::AcknowledgedMissing, |world, rng| {
        let Some(id) = any_channel(world, rng) else { return false };
        let amount = more(stored(world, id).accepted);
        say(world, id, amount, (LedgerOutcome::Accepted, None, None));
        true
    }),
    spoil("a look that shows less than was told", Kind::AmountFell, |world, rng| {
        let Some((id, highest)) = acknowledged(world, rng) else { return false };
        say(world, id, less(highest), (LedgerOutcome::Observed, None, None));
        true
    }),
    spoil("a refusal that shows less than was told", Kind::AmountFell, |world, rng| {
        let Some((id, highest)) = acknowledged(world, rng) else { return false };
        let latest = Some(less(highest));
        say(world, id, Amount::new(1), (LedgerOutcome::Rejected, Some(Code::StaleAmount), latest));
        true
    }),
    spoil("a stream that goes back", Kind::AmountFell, |world, _| {
        let stream = &mut world.redis.stream;
        let Some(at) = stream.windows(2).position(|pair| pair[0].channel_id == pair[1].channel_id) else {
            return false;
        };
        stream.swap(at, at + 1);
        true
    }),
    spoil("an acknowledgement above the capacity", Kind::CapacityPassed, |world, rng| {
        let Some(id) = any_channel(world, rng) else { return false };
        let amount = more(stored(world, id).terms.capacity);
        stored(world, id).accepted = amount;
        say(world, id, amount, (LedgerOutcome::Accepted, None, None));
        true
    }),
    spoil("a settlement above the capacity", Kind::CapacityPassed, |world, rng| {
        let Some(id) = closed_channel(world, rng) else { return false };
        issued(world, id).settled_amount = more(issued(world, id).terms.capacity);
        true
    }),
    spoil("an acknowledgement above what was settled", Kind::AcceptedAfterClose, |world, rng| {
        let Some(id) = closed_channel(world, rng) else { return false };
        let amount = more(issued(world, id).settled_amount);
        stored(world, id).accepted = amount;
        say(world, id, amount, (LedgerOutcome::Accepted, None, None));
        true
    }),
    spoil("an acknowledgement after a close was told", Kind::AcceptedAfterClose, |world, rng| {
        let Some((id, highest)) = acknowledged(world, rng) else { return false };
        let closing = (LedgerOutcome::Rejected, Some(Code::ChannelClosing), Some(highest));
        say(world, id, highest, closing);
        say(world, id, highest, (LedgerOutcome::Duplicate, None, None));
        true
    }),
    spoil("a settlement of less", Kind::SettledWrongAmount, |world, rng| {
        let Some(id) = closed_channel(world, rng) else { return false };
        let settled = issued(world, id).settled_amount;
        if settled.is_zero() {
            return false;
        }
        issued(world, id).settled_amount = less(settled);
        true
    }),
    spoil("a settlement of more", Kind::SettledWrongAmount, |world, rng| {
        let Some(id) = any_channel(world, rng) else { return false };
        issued(world, id).settled_amount = more(stored(world, id).accepted);
        true
    }),
    spoil("a second close", Kind::SettledTwice, |world, rng| {
        let Some(id) = closed_channel(world, rng) else { return false };
        let found = world.issuer.settlements.iter().find(|settlement| settlement.channel_id == id).cloned();
        world.issuer.settlements.extend(found);
        true
    }),
    spoil("a channel paid for twice", Kind::SettledTwice, |world, rng| {
        let Some(id) = closed_channel(world, rng) else { return false };
        let payee = issued(world, id).terms.payee;
        let paid = |leg: &&Leg| leg.account == crate::history::Account::Party(payee);
        let escrow = crate::history::Account::Escrow(id);
        let of_channel = |leg: &&Leg| {
            world.issuer.legs.iter().any(|l| l.operation == leg.operation && l.account == escrow)
        };
        let found =
            world.issuer.legs.iter().filter(paid).find(|leg| of_channel(leg) && leg.units > 0).cloned();
        let Some(leg) = found else { return false };
        world.issuer.legs.push(leg);
        true
    }),
    spoil("a posting without its other side", Kind::PostingsUnbalanced, |world, rng| {
        let at = rng.random_range(0..world.issuer.legs.len());
        world.issuer.legs.remove(at).units != 0
    }),
    spoil("a posting of one unit more", Kind::PostingsUnbalanced, |world, rng| {
        let at = rng.random_range(0..world.issuer.legs.len());
        world.issuer.legs[at].units += 1;
        true
    }),
    spoil("books that do not balance by the issuer's own word", Kind::PostingsUnbalanced, |world, _| {
        world.issuer.fault = Some("an escrow holds too little".to_owned());
        true
    }),
    spoil("a receipt that nobody signed", Kind::ReceiptWrong, |world, rng| {
        let Some(id) = closed_channel(world, rng) else { return false };
        let Some(receipt) = &mut issued(world, id).receipt else { return false };
        receipt.signature.0[5] ^= 1;
        true
    }),
    spoil("a receipt that is not in its batch", Kind::ReceiptWrong, |world, rng| {
        let Some(id) = closed_channel(world, rng) else { return false };
        let in_books = world.issuer.settlements.iter_mut().find(|settlement| settlement.channel_id == id);
        let Some(inclusion) = in_books.and_then(|settlement| settlement.receipt.inclusion.as_mut()) else {
            return false;
        };
        inclusion.root.0[5] ^= 1;
        true
    }),
    spoil("a receipt for something else", Kind::ReceiptWrong, |world, rng| {
        let Some(id) = closed_channel(world, rng) else { return false };
        let settled = more(stored(world, id).accepted);
        let receipt = world.receipt(id, settled, Amount::ZERO);
        stored(world, id).receipt = Some(receipt);
        true
    }),
    spoil("a close without its receipt", Kind::ReceiptWrong, |world, rng| {
        let Some(id) = closed_channel(world, rng) else { return false };
        stored(world, id).receipt = None;
        true
    }),
    spoil("one voucher accepted twice", Kind::Contradiction, |world, rng| {
        let Some((id, highest)) = acknowledged(world, rng) else { return false };
        say(world, id, highest, (LedgerOutcome::Accepted, None, None));
        true
    }),
    spoil("a voucher stale though above the latest", Kind::Contradiction, |world, rng| {
        let Some((id, highest)) = acknowledged(world, rng) else { return false };
        let stale = (LedgerOutcome::Rejected, Some(Code::StaleAmount), Some(highest));
        say(world, id, more(highest), stale);
        true
    }),
    spoil("a voucher over capacity that is not", Kind::Contradiction, |world, rng| {
        let Some(id) = any_channel(world, rng) else { return false };
        let capacity = stored(world, id).terms.capacity;
        say(world, id, capacity, (LedgerOutcome::Rejected, Some(Code::OverCapacity), None));
        true
    }),
    spoil("a payment recorded twice", Kind::RecordedTwice, |world, rng| {
        if world.redis.stream.is_empty() {
            return false;
        }
        let at = rng.random_range(0..world.redis.stream.len());
        world.redis.stream.insert(at, world.redis.stream[at]);
        true
    }),
    spoil("a payment that nobody sent", Kind::NeverSent, |world, rng| {
        let Some((id, _)) = recorded(world, rng) else { return false };
        let accepted = stored(world, id).accepted;
        for history in &mut world.histories {
            history.retain(|entry| {
                entry.channel_id != id
                    || entry.cumulative_amount != accepted
                    || entry.outcome == LedgerOutcome::Observed
            });
        }
        // A history without a single line is not one of this channel.
        world
            .histories
            .iter()
            .flatten()
            .any(|entry| entry.channel_id == id && entry.outcome == LedgerOutcome::Sent)
    }),
    spoil("a payment refused and recorded all the same", Kind::RefusedButRecorded, |world, rng| {
        let Some((id, _)) = recorded(world, rng) else { return false };
        let accepted = stored(world, id).accepted;
        let mut unanswered = std::collections::BTreeSet::new();
        for (n, history) in world.histories.iter_mut().enumerate() {
            let ours = |entry: &&mut crate::ledger::LedgerEntry| {
                entry.channel_id == id && entry.cumulative_amount == accepted
            };
            for entry in history.iter_mut().filter(ours) {
                if entry.outcome == LedgerOutcome::Sent {
                    unanswered.insert((n, entry.seq));
                } else if entry.outcome != LedgerOutcome::Observed {
                    unanswered.remove(&(n, entry.attempt.expect("an answer to something")));
                    (entry.outcome, entry.latest) = (LedgerOutcome::Rejected, None);
                    entry.code = Some(Code::StoreUnavailable);
                }
            }
        }
        unanswered.is_empty()
    }),
    spoil("a proof that does not check", Kind::ProofInvalid, |world, rng| {
        let Some((id, _)) = recorded(world, rng) else { return false };
        stored(world, id).proof_holds = false;
        true
    }),
    spoil("a close that was given up", Kind::CloseFailed, |world, rng| {
        let Some(id) = any_channel(world, rng) else { return false };
        stored(world, id).status = Status::Failed;
        true
    }),
    spoil("a channel that the issuer never heard of", Kind::MissingAtIssuer, |world, rng| {
        let Some(id) = any_channel(world, rng) else { return false };
        world.issuer.channels.remove(&id).is_some()
    }),
];

fn more(amount: Amount) -> Amount {
    Amount::new(amount.units() + 1)
}

fn less(amount: Amount) -> Amount {
    Amount::new(amount.units() - 1)
}

fn stored(world: &mut World, id: ChannelId) -> &mut crate::audit::StoredFacts {
    world.redis.channels.get_mut(&id).expect("the channel is there")
}

fn issued(world: &mut World, id: ChannelId) -> &mut common::wire::IssuerChannel {
    world.issuer.channels.get_mut(&id).expect("the channel is there")
}

/// Adds a voucher to the end of the first history, with what it was told.
fn say(
    world: &mut World,
    id: ChannelId,
    amount: Amount,
    answer: (LedgerOutcome, Option<Code>, Option<Amount>),
) {
    let attempt = world.sent(0, id, amount);
    world.told(0, id, amount, attempt, answer);
}

fn pick<T: Copy>(all: &[T], rng: &mut StdRng) -> Option<T> {
    (!all.is_empty()).then(|| all[rng.random_range(0..all.len())])
}

fn any_channel(world: &World, rng: &mut StdRng) -> Option<ChannelId> {
    pick(&world.redis.channels.keys().copied().collect::<Vec<_>>(), rng)
}

fn closed_channel(world: &World, rng: &mut StdRng) -> Option<ChannelId> {
    let closed = world.redis.channels.iter().filter(|(_, stored)| stored.status == Status::Closed);
    pick(&closed.map(|(id, _)| *id).collect::<Vec<_>>(), rng)
}

/// A channel that holds something.
fn recorded(world: &World, rng: &mut StdRng) -> Option<(ChannelId, Amount)> {
    let paid = world.redis.channels.iter().filter(|(_, stored)| !stored.accepted.is_zero());
    pick(&paid.map(|(id, stored)| (*id, stored.accepted)).collect::<Vec<_>>(), rng)
}

/// A channel of which the first history was told something, and the highest amount that it was told was accepted.
fn acknowledged(world: &World, rng: &mut StdRng) -> Option<(ChannelId, Amount)> {
    let mut highest = std::collections::BTreeMap::new();
    for entry in world.histories[0].iter().filter(|entry| entry.outcome == LedgerOutcome::Accepted) {
        let of_channel = highest.entry(entry.channel_id).or_insert(Amount::ZERO);
        *of_channel = (*of_channel).max(entry.cumulative_amount);
    }
    pick(&highest.into_iter().collect::<Vec<_>>(), rng)
}
