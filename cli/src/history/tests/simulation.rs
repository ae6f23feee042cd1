//! A correct system in a few lines, and payers that try everything.

use std::collections::{BTreeMap, BTreeSet};

use common::amount::Amount;
use common::channel::{Status, Terms};
use common::ids::{ChannelId, PublicKey, Signature};
use common::message;
use common::problem::Code;
use common::voucher::Proof;
use common::wire::{IssuerChannel, IssuerStatus, Receipt};
use ed25519_dalek::{Signer as _, SigningKey};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::audit::StoredFacts;
use crate::history::{
    Account, History, IssuerBooks, Kind, Leg, Recorded, RedisSnapshot, Settlement, Violation, check,
};
use crate::ledger::{LedgerEntry, LedgerOutcome};

/// A run and what came of it.
pub(super) struct World {
    pub(super) histories: Vec<History>,
    pub(super) redis: RedisSnapshot,
    pub(super) issuer: IssuerBooks,
    key: SigningKey,
    operations: i64,
}

const PAYEE: PublicKey = PublicKey([9; 32]);
const PAYER: PublicKey = PublicKey([8; 32]);

/// The model of one channel.
struct Channel {
    id: ChannelId,
    terms: Terms,
    latest: Amount,
    status: Status,
    stream: Vec<Amount>,
}

/// An answer: outcome, code, latest.
type Answer = (LedgerOutcome, Option<Code>, Option<Amount>);

impl Channel {
    fn new(number: u64, capacity: u64) -> Self {
        let terms = Terms {
            payer: PAYER,
            payer_authorizer: PAYER,
            payee: PAYEE,
            capacity: Amount::new(capacity),
            ..common::testing::terms(number)
        };
        let (id, latest) = (terms.id(), Amount::ZERO);
        Channel { id, terms, latest, status: Status::Open, stream: Vec::new() }
    }

    /// What `accept.lua` does.
    fn accept(&mut self, amount: Amount) -> Answer {
        let latest = (!self.latest.is_zero()).then_some(self.latest);
        match self.status {
            Status::Closed => (LedgerOutcome::Rejected, Some(Code::ChannelClosed), latest),
            Status::Closing | Status::Failed => (LedgerOutcome::Rejected, Some(Code::ChannelClosing), latest),
            Status::Open if amount == self.latest => (LedgerOutcome::Duplicate, None, None),
            Status::Open if amount < self.latest => {
                (LedgerOutcome::Rejected, Some(Code::StaleAmount), latest)
            }
            Status::Open if amount > self.terms.capacity => {
                (LedgerOutcome::Rejected, Some(Code::OverCapacity), None)
            }
            Status::Open => {
                self.latest = amount;
                self.stream.push(amount);
                (LedgerOutcome::Accepted, None, None)
            }
        }
    }
}

impl World {
    fn new(histories: usize) -> Self {
        let key = SigningKey::from_bytes(&[3; 32]);
        let public_key = PublicKey::of(&key);
        let (settlements, legs, channels) = (Vec::new(), Vec::new(), BTreeMap::new());
        World {
            histories: vec![History::new(); histories],
            redis: RedisSnapshot::default(),
            issuer: IssuerBooks { public_key, channels, settlements, legs, fault: None },
            key,
            operations: 0,
        }
    }

    pub(super) fn check(&self) -> Vec<Violation> {
        check(&self.histories, &self.redis, &self.issuer)
    }

    pub(super) fn kinds(&self) -> BTreeSet<Kind> {
        self.check().into_iter().map(|violation| violation.kind).collect()
    }

    /// One channel that is paid 5 and 8 of 10, closed and settled.
    pub(super) fn minimal() -> World {
        let mut world = World::new(1);
        let mut channel = Channel::new(1, 10);
        world.open(&channel);
        for amount in [5, 8].map(Amount::new) {
            let attempt = world.sent(0, channel.id, amount);
            let answer = channel.accept(amount);
            world.told(0, channel.id, amount, attempt, answer);
        }
        channel.status = Status::Closed;
        let attempt = world.sent(0, channel.id, Amount::new(9));
        let answer = channel.accept(Amount::new(9));
        world.told(0, channel.id, Amount::new(9), attempt, answer);
        world.end(channel);
        world
    }

    /// A run of a few channels with everything that can come between.
    pub(super) fn simulate(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(3);
        for number in 0..rng.random_range(1..5) {
            let mut channel = Channel::new(number, rng.random_range(1..200));
            world.open(&channel);
            for _ in 0..rng.random_range(1..25) {
                world.step(&mut channel, &mut rng);
            }
            if rng.random_range(0..4) > 0 {
                channel.status = Status::Closing;
                for _ in 0..rng.random_range(0..4) {
                    world.step(&mut channel, &mut rng);
                }
                channel.status = Status::Closed;
                for _ in 0..rng.random_range(0..4) {
                    world.step(&mut channel, &mut rng);
                }
            }
            world.end(channel);
        }
        world
    }

    /// One to three vouchers on their way at once, each perhaps refused before it is looked at, or lost, or its answer
    /// lost; and a look.
    fn step(&mut self, channel: &mut Channel, rng: &mut StdRng) {
        let history = usize::from(rng.random_bool(0.2));
        let mut under_way = Vec::new();
        for _ in 0..rng.random_range(1..=3) {
            let near = channel.latest.units().saturating_sub(3)..channel.latest.units() + 12;
            let amount = Amount::new(rng.random_range(near).max(1));
            under_way.push((amount, self.sent(history, channel.id, amount)));
        }
        let look = self.position(2);
        while !under_way.is_empty() {
            let (amount, attempt) = under_way.remove(rng.random_range(0..under_way.len()));
            let answer = match rng.random_range(0..20) {
                0 => (LedgerOutcome::Rejected, Some(Code::StoreUnavailable), None),
                1 => (LedgerOutcome::NotSent, None, None),
                2 => (LedgerOutcome::NoAnswer, None, None),
                3 => {
                    channel.accept(amount);
                    (LedgerOutcome::NoAnswer, None, None)
                }
                4 => {
                    channel.accept(amount);
                    (LedgerOutcome::Unknown, Some(Code::OutcomeUnknown), None)
                }
                _ => channel.accept(amount),
            };
            // One in twenty payers dies before it writes down what it was told.
            if rng.random_range(0..20) > 0 {
                self.told(history, channel.id, amount, attempt, answer);
            }
        }
        if rng.random_bool(0.3) {
            self.told(2, channel.id, channel.latest, look, (LedgerOutcome::Observed, None, None));
        }
    }

    pub(super) fn position(&self, history: usize) -> u64 {
        self.histories[history].len() as u64 + 1
    }

    pub(super) fn sent(&mut self, history: usize, id: ChannelId, amount: Amount) -> u64 {
        let seq = self.position(history);
        self.line(history, id, amount, None, (LedgerOutcome::Sent, None, None));
        seq
    }

    pub(super) fn told(
        &mut self,
        history: usize,
        id: ChannelId,
        amount: Amount,
        attempt: u64,
        answer: Answer,
    ) {
        self.line(history, id, amount, Some(attempt), answer);
    }

    fn line(&mut self, history: usize, id: ChannelId, amount: Amount, attempt: Option<u64>, answer: Answer) {
        let (outcome, code, latest) = answer;
        let entry = LedgerEntry {
            channel_id: id,
            cumulative_amount: amount,
            proof: Proof::Ed25519 { expires_at: 0, signature: Signature([0; 64]) },
            outcome,
            relayer: "http://relayer".to_owned(),
            at_ms: 0,
            seq: self.position(history),
            attempt,
            code,
            latest,
        };
        self.histories[history].push(entry);
    }

    fn moved(&mut self, operation: i64, from: Account, to: Account, amount: Amount) {
        let units = i128::from(amount.units());
        for (account, units) in [(from, -units), (to, units)] {
            self.issuer.legs.push(Leg { operation, account, asset: "usd".to_owned(), units });
        }
    }

    fn operation(&mut self) -> i64 {
        self.operations += 1;
        self.operations
    }

    fn open(&mut self, channel: &Channel) {
        let capacity = channel.terms.capacity;
        let operation = self.operation();
        self.moved(operation, Account::Issuance, Account::Party(PAYER), capacity);
        let operation = self.operation();
        self.moved(operation, Account::Party(PAYER), Account::Escrow(channel.id), capacity);
    }

    pub(super) fn receipt(&self, id: ChannelId, settled: Amount, refunded: Amount) -> Receipt {
        let signature = self.key.sign(&message::receipt(&id, settled, refunded, true, 5));
        let receipt = Receipt {
            channel_id: id,
            settled_amount: settled,
            refunded_amount: refunded,
            closed: true,
            settled_at_ms: 5,
            signature: Signature(signature.to_bytes()),
            inclusion: None,
        };
        let mut alone = [receipt];
        common::batch::commit(&mut alone, &self.key);
        let [receipt] = alone;
        receipt
    }

    /// Writes down how a channel stands, settled if it is closed.
    fn end(&mut self, channel: Channel) {
        let Channel { id, terms, latest, status, stream } = channel;
        let closed = status == Status::Closed;
        let capacity = terms.capacity;
        let settled = if closed { latest } else { Amount::ZERO };
        let refunded =
            if closed { capacity.checked_sub(latest).expect("within capacity") } else { Amount::ZERO };
        let receipt = closed.then(|| self.receipt(id, settled, refunded));
        if let Some(receipt) = receipt.clone() {
            let operation = self.operation();
            self.moved(operation, Account::Escrow(id), Account::Party(PAYEE), settled);
            self.moved(operation, Account::Escrow(id), Account::Party(PAYER), refunded);
            self.issuer.settlements.push(Settlement {
                channel_id: id,
                amount: settled,
                close: true,
                receipt,
            });
        }
        self.redis.stream.extend(stream.into_iter().map(|amount| Recorded { channel_id: id, amount }));
        let stored = StoredFacts {
            terms: terms.clone(),
            status,
            accepted: latest,
            settled_before: Amount::ZERO,
            proof_holds: true,
            receipt: receipt.clone(),
        };
        self.redis.channels.insert(id, stored);
        let issued = IssuerChannel {
            channel_id: id,
            terms,
            status: if closed { IssuerStatus::Closed } else { IssuerStatus::Open },
            settled_amount: settled,
            refunded_amount: refunded,
            settled: None,
            receipt,
            opened_at_ms: 0,
        };
        self.issuer.channels.insert(id, issued);
    }
}
