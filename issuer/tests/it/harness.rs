//! An issuer per test, and the parties that deal with it.

mod database;
mod process;
mod server;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::amount::Amount;
use common::channel::{SchemeKind, Terms};
use common::clock::Clock;
use common::ids::{ChannelId, PublicKey, Signature};
use common::message;
use common::problem::{Code, Problem};
use common::secret::{SecretRef, write_signing_key};
use common::voucher::Proof;
use common::wire::{Balance, IssuerChannel, OpenRequest, RefundRequest, SettlementRequest};
use ed25519_dalek::SigningKey;
use issuer::{Config, Running};
use service::issuer_client::{IssuerClient, IssuerClientConfig, IssuerError};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) use database::{Backend, Database};
pub(crate) use process::Process;
pub(crate) use server::Server;

/// Where every test's clock starts, in ms since 1970.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

/// What a channel of [`Bank::terms`] lasts.
pub(crate) const LIFETIME_S: i64 = 3_600;

/// A key pair.
#[derive(Clone)]
pub(crate) struct Party(SigningKey);

impl Party {
    pub(crate) fn new(seed: u8) -> Self {
        Party(SigningKey::from_bytes(&[seed; 32]))
    }

    pub(crate) fn key(&self) -> PublicKey {
        PublicKey::of(&self.0)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        Signature::of(&self.0, message)
    }

    pub(crate) fn opening(&self, terms: Terms) -> OpenRequest {
        let signature = self.sign(&message::open(&terms.id()));
        OpenRequest { terms, signature }
    }

    pub(crate) fn refund(&self, id: &ChannelId) -> RefundRequest {
        RefundRequest { signature: self.sign(&message::refund(id)) }
    }
}

/// A settlement before it is signed.
#[derive(Clone, Copy)]
pub(crate) struct Settlement {
    pub(crate) channel_id: ChannelId,
    pub(crate) amount: u64,
    pub(crate) expires_at: i64,
    pub(crate) close: bool,
    pub(crate) token: u64,
}

impl Settlement {
    pub(crate) fn of(channel_id: ChannelId, amount: u64) -> Self {
        Settlement { channel_id, amount, expires_at: 0, close: false, token: 1 }
    }

    pub(crate) fn close(self) -> Self {
        Settlement { close: true, ..self }
    }

    pub(crate) fn token(self, token: u64) -> Self {
        Settlement { token, ..self }
    }

    pub(crate) fn voucher_until(self, expires_at: i64) -> Self {
        Settlement { expires_at, ..self }
    }

    /// Signed by the payer (if anything is paid) and by the payee.
    pub(crate) fn signed(self, payer: &Party, payee: &Party) -> SettlementRequest {
        let Settlement { channel_id, amount, expires_at, .. } = self;
        let amount = Amount::new(amount);
        let voucher = message::voucher(&channel_id, amount, expires_at);
        let signature = (!amount.is_zero()).then(|| payer.sign(&voucher));
        let proof = signature.map(|signature| Proof::Ed25519 { expires_at, signature });
        self.redeeming(proof, payee)
    }

    /// With this proof, signed by the payee.
    pub(crate) fn redeeming(self, proof: Option<Proof>, payee: &Party) -> SettlementRequest {
        let Settlement { channel_id, amount, close, token, .. } = self;
        let amount = Amount::new(amount);
        let payee_signature = payee.sign(&message::settle(&channel_id, amount, close, token));
        SettlementRequest { payee_signature, ..SettlementRequest::unsigned(amount, proof, close, token) }
    }
}

/// An issuer on a database of its own.
pub(crate) struct Bank {
    dir: TempDir,
    pub(crate) database: Database,
    config: Config,
    running: Running,
    shutdown: CancellationToken,
    salt: AtomicU64,
    pub(crate) clock: Clock,
    pub(crate) client: IssuerClient,
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) admin_url: String,
}

impl Bank {
    /// With play money: 1000 usd an account.
    pub(crate) async fn start(backend: Backend) -> Bank {
        Self::start_with(backend, |config| {
            config.development.enabled = true;
            config.development.starting_balance = Amount::new(1_000);
        })
        .await
    }

    pub(crate) async fn start_with(backend: Backend, change: impl FnOnce(&mut Config)) -> Bank {
        let dir = tempfile::tempdir().expect("a temp dir");
        let database = Database::new(backend, dir.path()).await;
        Self::start_on(dir, database, change).await
    }

    /// On a database that is there, which other issuers may have open.
    pub(crate) async fn start_on(dir: TempDir, database: Database, change: impl FnOnce(&mut Config)) -> Bank {
        let key_path = dir.path().join("issuer.key");
        write_signing_key(&key_path, &SigningKey::from_bytes(&[200; 32])).expect("written");
        let any = "127.0.0.1:0".parse().expect("an address");
        let mut config = Config {
            listen: any,
            admin_listen: any,
            database: database.config(),
            signing_key: Some(SecretRef::File(key_path.display().to_string())),
            ..Config::default()
        };
        change(&mut config);
        Self::run(dir, database, config, Clock::manual(START_MS), 1).await
    }

    /// Ends the issuer and starts another on the same database.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Bank {
        let Bank { dir, database, mut config, running, shutdown, salt, clock, .. } = self;
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), running.wait()).await.expect("it ends");
        change(&mut config);
        Self::run(dir, database, config, clock, salt.into_inner()).await
    }

    async fn run(dir: TempDir, database: Database, config: Config, clock: Clock, salt: u64) -> Bank {
        let shutdown = CancellationToken::new();
        let running =
            issuer::start(config.clone(), clock.clone(), shutdown.clone()).await.expect("the issuer starts");
        let url = format!("http://{}", running.addr);
        let client = IssuerClient::new(&IssuerClientConfig {
            url: url.clone(),
            public_key: Some(issuer_key()),
            request_timeout_ms: 20_000,
            ..IssuerClientConfig::default()
        })
        .expect("a valid config");
        Bank {
            admin_url: format!("http://{}", running.admin_addr),
            dir,
            database,
            config,
            running,
            shutdown,
            salt: AtomicU64::new(salt),
            clock,
            client,
            http: reqwest::Client::new(),
            url,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// A registered party.
    pub(crate) async fn party(&self, seed: u8) -> Party {
        let party = Party::new(seed);
        self.client.register(&party.key()).await.expect("registered");
        party
    }

    /// Terms of a channel that no other call gives.
    pub(crate) fn terms(&self, payer: &Party, payee: &Party, capacity: u64) -> Terms {
        Terms {
            issuer: issuer_key(),
            payer: payer.key(),
            payer_authorizer: payer.key(),
            payee: payee.key(),
            asset: "usd".to_owned(),
            capacity: Amount::new(capacity),
            expires_at: self.clock.now_s() + LIFETIME_S,
            salt: self.salt.fetch_add(1, Ordering::SeqCst),
            scheme: SchemeKind::Ed25519,
        }
    }

    /// An open channel.
    pub(crate) async fn channel(&self, payer: &Party, payee: &Party, capacity: u64) -> ChannelId {
        let opening = payer.opening(self.terms(payer, payee, capacity));
        self.client.open(&opening).await.expect("opened").channel_id
    }

    /// The channel as the issuer has it.
    pub(crate) async fn read(&self, id: &ChannelId) -> IssuerChannel {
        self.client.channel(id).await.expect("an answer").expect("a known channel")
    }

    /// Available and locked usd.
    pub(crate) async fn usd(&self, party: &Party) -> (u64, u64) {
        let account = self.client.account(&party.key()).await.expect("an account");
        let usd = account.balances.iter().find(|balance| balance.asset == "usd");
        usd.map_or((0, 0), |Balance { available, locked, .. }| (available.units(), locked.units()))
    }

    /// The code that a settlement is refused with; `None` if it is taken.
    pub(crate) async fn refusal(&self, id: &ChannelId, request: &SettlementRequest) -> Option<Code> {
        code_of(self.client.settle(id, request).await)
    }

    /// A settlement's status and raw body.
    pub(crate) async fn settle_raw(&self, id: &ChannelId, request: &SettlementRequest) -> (u16, Vec<u8>) {
        self.post(&format!("/v1/channels/{id}/settlements"), serde_json::to_vec(request).expect("JSON")).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> (u16, Vec<u8>) {
        let request = self.http.post(format!("{}{path}", self.url)).body(body.into());
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.bytes().await.expect("a body").to_vec())
    }

    pub(crate) async fn get(&self, url: &str) -> (u16, String) {
        let answer = self.http.get(url).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    /// The books must balance; called at the end of every test that moves money.
    pub(crate) async fn assert_balanced(&self) {
        let books = self.client.books().await.expect("books");
        assert!(books.balanced, "{books:?}");
    }
}

pub(crate) fn issuer_key() -> PublicKey {
    Party::new(200).key()
}

/// The code of a refusal; `None` for anything taken.
pub(crate) fn code_of<T: std::fmt::Debug>(result: Result<T, IssuerError>) -> Option<Code> {
    match result {
        Ok(_) => None,
        Err(IssuerError::Refused(problem)) => Some(problem.code),
        Err(error) => panic!("no answer: {error}"),
    }
}

/// The problem behind a refusal.
pub(crate) fn problem_of<T: std::fmt::Debug>(result: Result<T, IssuerError>) -> Problem {
    match result {
        Err(IssuerError::Refused(problem)) => *problem,
        other => panic!("not refused: {other:?}"),
    }
}

/// Code and field of a refusal.
pub(crate) fn fault_of<T: std::fmt::Debug>(result: Result<T, IssuerError>) -> (Code, Option<String>) {
    let problem = problem_of(result);
    (problem.code, problem.field)
}
