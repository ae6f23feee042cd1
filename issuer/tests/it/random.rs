//! Random operations against a model that is too simple to be wrong.

use std::collections::HashMap;
use std::time::Duration;

use common::amount::Amount;
use common::batch::ChannelSettlement;
use common::channel::{SchemeKind, Terms};
use common::clock::Clock;
use common::ids::ChannelId;
use common::problem::Code;
use ed25519_dalek::SigningKey;
use issuer::config::{Development, Limits};
use issuer::ledger::{Ledger, LedgerError, Rules};
use proptest::prelude::*;

use super::BACKEND;
use crate::harness::{Backend, Database, Party, START_MS, Settlement, issuer_key};

const START: u64 = 100;
const LIFETIME_S: u64 = 100;

#[derive(Clone, Debug)]
enum Step {
    Open { payer: usize, capacity: u64 },
    Settle(Settle),
    SettleAll(Vec<Settle>),
    Refund { channel: usize },
    Wait { seconds: u64 },
}

#[derive(Clone, Copy, Debug)]
struct Settle {
    channel: usize,
    amount: u64,
    close: bool,
    token: u64,
}

fn settle() -> impl Strategy<Value = Settle> {
    (0..8usize, 0..70u64, prop::bool::weighted(0.2), 0..4u64)
        .prop_map(|(channel, amount, close, token)| Settle { channel, amount, close, token })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2usize, 1..60u64).prop_map(|(payer, capacity)| Step::Open { payer, capacity }),
        4 => settle().prop_map(Step::Settle),
        2 => prop::collection::vec(settle(), 1..6).prop_map(Step::SettleAll),
        1 => (0..8usize).prop_map(|channel| Step::Refund { channel }),
        1 => (0..60u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// What the ledger should hold, as plainly as it can be put.
#[derive(Default)]
struct Model {
    now_s: u64,
    available: [u64; 3],
    channels: Vec<Channel>,
    token: u64,
    settled: HashMap<(usize, u64, bool), ()>,
}

struct Channel {
    payer: usize,
    capacity: u64,
    expires_s: u64,
    paid: u64,
    is_open: bool,
    is_refunded: bool,
}

const PAYEE: usize = 2;

impl Model {
    fn open(&mut self, payer: usize, capacity: u64) -> Option<Code> {
        if self.available[payer] < capacity {
            return Some(Code::InsufficientFunds);
        }
        self.available[payer] -= capacity;
        let expires_s = self.now_s + LIFETIME_S;
        self.channels.push(Channel {
            payer,
            capacity,
            expires_s,
            paid: 0,
            is_open: true,
            is_refunded: false,
        });
        None
    }

    fn settle(&mut self, settle: &Settle) -> Option<Code> {
        let Settle { channel, amount, close, token } = *settle;
        let index = channel % self.channels.len();
        if amount == 0 && !close {
            return Some(Code::Malformed);
        }
        if token < self.token {
            return Some(Code::StaleFencingToken);
        }
        self.token = token;
        if self.settled.contains_key(&(index, amount, close)) {
            return None;
        }
        let channel = &mut self.channels[index];
        if !channel.is_open {
            return Some(Code::ChannelClosed);
        }
        if self.now_s > channel.expires_s {
            return Some(Code::ChannelExpired);
        }
        if amount > channel.capacity {
            return Some(Code::OverCapacity);
        }
        if amount < channel.paid || (amount == channel.paid && !close) {
            return Some(Code::StaleAmount);
        }
        self.available[PAYEE] += amount - channel.paid;
        channel.paid = amount;
        if close {
            self.available[channel.payer] += channel.capacity - amount;
            channel.is_open = false;
        }
        self.settled.insert((index, amount, close), ());
        None
    }

    fn refund(&mut self, index: usize) -> Option<Code> {
        let channel = &mut self.channels[index];
        if channel.is_refunded {
            return None;
        }
        if !channel.is_open {
            return Some(Code::ChannelClosed);
        }
        if self.now_s <= channel.expires_s {
            return Some(Code::ChannelNotExpired);
        }
        channel.is_open = false;
        channel.is_refunded = true;
        self.available[channel.payer] += channel.capacity - channel.paid;
        None
    }

    fn locked(&self, payer: usize) -> u64 {
        let open = self.channels.iter().filter(|channel| channel.payer == payer && channel.is_open);
        open.map(|channel| channel.capacity - channel.paid).sum()
    }
}

/// A ledger under test: two payers and a payee.
struct Subject {
    _dir: tempfile::TempDir,
    _database: Database,
    ledger: Ledger,
    clock: Clock,
    parties: [Party; 3],
    channels: Vec<(ChannelId, usize)>,
}

impl Subject {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temp dir");
        let clock = Clock::manual(START_MS);
        let rules = Rules {
            signing_key: SigningKey::from_bytes(&[200; 32]),
            public_key: issuer_key(),
            development: Development {
                enabled: true,
                starting_balance: Amount::new(START),
                ..Development::default()
            },
            limits: std::sync::Arc::new(Limits::default()).into(),
            clock: clock.clone(),
        };
        let database = Database::new(BACKEND, dir.path()).await;
        let config = database.config();
        let opening = tokio::task::spawn_blocking(move || Ledger::open(&config, rules));
        let ledger = opening.await.expect("no panic").expect("opened");
        let parties = [1, 2, 3].map(Party::new);
        for party in &parties {
            ledger.register(party.key()).await.expect("registered");
        }
        Subject { _dir: dir, _database: database, ledger, clock, parties, channels: Vec::new() }
    }

    async fn open(&mut self, payer: usize, capacity: u64, salt: u64) -> Option<Code> {
        let terms = Terms {
            issuer: issuer_key(),
            payer: self.parties[payer].key(),
            payer_authorizer: self.parties[payer].key(),
            payee: self.parties[PAYEE].key(),
            asset: "usd".to_owned(),
            capacity: Amount::new(capacity),
            expires_at: self.clock.now_s().saturating_add_unsigned(LIFETIME_S),
            salt,
            scheme: SchemeKind::Ed25519,
        };
        let id = terms.id();
        let code = code_of(self.ledger.open_channel(self.parties[payer].opening(terms)).await);
        if code.is_none() {
            self.channels.push((id, payer));
        }
        code
    }

    fn settlement(&self, settle: &Settle) -> ChannelSettlement {
        let Settle { channel, amount, close, token } = *settle;
        let (channel_id, payer) = self.channels[channel % self.channels.len()];
        let settlement = Settlement { channel_id, amount, expires_at: 0, close, token };
        let request = settlement.signed(&self.parties[payer], &self.parties[PAYEE]);
        ChannelSettlement { channel_id, request }
    }

    async fn settle(&self, settle: &Settle) -> Option<Code> {
        let ChannelSettlement { channel_id, request } = self.settlement(settle);
        code_of(self.ledger.settle(channel_id, request).await)
    }

    async fn settle_all(&self, batch: &[Settle]) -> Vec<Option<Code>> {
        let batch = batch.iter().map(|settle| self.settlement(settle)).collect();
        self.ledger.settle_all(batch).await.expect("the ledger works").into_iter().map(code_of).collect()
    }

    async fn refund(&self, index: usize) -> Option<Code> {
        let (id, payer) = self.channels[index];
        code_of(self.ledger.refund(id, self.parties[payer].refund(&id)).await)
    }
}

fn code_of<T>(result: Result<T, LedgerError>) -> Option<Code> {
    match result {
        Ok(_) => None,
        Err(LedgerError::Refused(problem)) => Some(problem.code),
        Err(error) => panic!("the ledger failed: {error}"),
    }
}

async fn compare(steps: Vec<Step>) {
    let mut subject = Subject::new().await;
    let mut model = Model { available: [START; 3], ..Model::default() };
    for (salt, step) in (0u64..).zip(steps) {
        let count = model.channels.len();
        let (found, expected) = match &step {
            &Step::Open { payer, capacity } => {
                (vec![subject.open(payer, capacity, salt).await], vec![model.open(payer, capacity)])
            }
            Step::Settle(settle) if count > 0 => {
                (vec![subject.settle(settle).await], vec![model.settle(settle)])
            }
            // A batch is nothing but its settlements, one after the other.
            Step::SettleAll(batch) if count > 0 => {
                let expected = batch.iter().map(|settle| model.settle(settle)).collect();
                (subject.settle_all(batch).await, expected)
            }
            Step::Refund { channel } if count > 0 => {
                (vec![subject.refund(channel % count).await], vec![model.refund(channel % count)])
            }
            Step::Wait { seconds } => {
                subject.clock.advance(Duration::from_secs(*seconds));
                model.now_s += seconds;
                (Vec::new(), Vec::new())
            }
            Step::Settle(_) | Step::SettleAll(_) | Step::Refund { .. } => (Vec::new(), Vec::new()),
        };
        assert_eq!(found, expected, "{step:?}");
    }
    for (index, party) in subject.parties.iter().enumerate() {
        let account = subject.ledger.account(party.key()).await.expect("an account");
        let usd = account.balances.first().expect("usd");
        let found = (usd.available.units(), usd.locked.units());
        assert_eq!(found, (model.available[index], model.locked(index)), "party {index}");
    }
    let books = subject.ledger.verify_books().await.expect("books");
    assert!(books.balanced, "{books:?}");
    assert_eq!(books.assets.first().expect("usd").issued.units(), 3 * START);
}

proptest! {
    // A database for each case takes PostgreSQL a while.
    #![proptest_config(ProptestConfig {
        cases: if BACKEND == Backend::Postgres { 12 } else { 48 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_operations_end_as_a_naive_model_says_and_the_books_balance(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(compare(steps));
    }
}
