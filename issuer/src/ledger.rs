//! The ledger: accounts, channels and settlements in an SQL database, where money moves only by postings.
//!
//! # What must stay true
//!
//! * An operation is one transaction: its checks, its postings and the balances that they change.
//! * Of each asset at most 2^64 - 1 units are ever issued, so no credit can overflow.
//! * Nothing is answered before it is committed and flushed; whatever was answered is found again by a repeat.
//!
//! # Layout
//!
//! * `sql`: what the rules ask of a database. `sqlite`, `postgres`: the two that carry it out, with their tables and how
//!   these came about. `opening`: from a configuration to connections; `worker`: the threads behind them.
//! * `books`: postings, the only way money moves, and the check that adds them up anew.
//! * `accounts`, `channels`, `settlements`: the operations, as functions of an open transaction. `batches`: several
//!   settlements in one, and what the issuer commits to.

mod accounts;
mod batches;
mod books;
mod channels;
mod opening;
mod postgres;
mod settlements;
mod sql;
mod sqlite;
mod worker;

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use common::batch::ChannelSettlement;
use common::clock::Clock;
use common::fault_point;
use common::ids::{ChannelId, PublicKey};
use common::problem::{Code, Problem};
use common::voucher::Unproven;
use common::wire::{
    Account, IssuerChannel, IssuerChannelPage, IssuerInfo, OpenRequest, RefundRequest, SettlementRequest,
};
use ed25519_dalek::SigningKey;
use service::issuer_client::{Books, ChannelQuery};

use crate::config::{DatabaseConfig, Development, Limits};
pub use batches::Settlement;
pub use opening::OpenError;
use sql::{Purpose, Tx};
use worker::Worker;

/// Why an operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The caller's fault, with what to answer.
    #[error("refused: {}", .0.code)]
    Refused(Box<Problem>),
    /// Too many operations wait already; this one was not begun.
    #[error("too many operations are waiting")]
    Overloaded,
    /// Another transaction came between, and nothing was changed. Begun anew, this one sees what the other did.
    #[error("another transaction came between")]
    Contended,
    /// The database cannot be reached, or takes nothing now; nothing was changed.
    #[error("the database is not available: {detail}")]
    Unavailable {
        /// What it said, or what became of the connection.
        detail: String,
    },
    /// The database was told to commit and did not answer. The same again is safe, and finds what took place.
    #[error("the database did not say whether it committed: {detail}")]
    OutcomeUnknown {
        /// What became of the connection.
        detail: String,
    },
    /// The database failed.
    #[error("database: {0}")]
    Database(Box<dyn std::error::Error + Send + Sync>),
    /// What is stored contradicts itself; nothing was changed.
    #[error("the ledger contradicts itself: {detail}")]
    Inconsistent {
        /// What contradicts what.
        detail: String,
    },
    /// The operation's thread ended before it answered.
    #[error("the ledger has stopped")]
    Stopped,
}

impl LedgerError {
    fn inconsistent(detail: impl std::fmt::Display) -> Self {
        LedgerError::Inconsistent { detail: detail.to_string() }
    }

    fn malformed(field: &str, expected: impl std::fmt::Display) -> Self {
        Problem::new(Code::Malformed).field(field).detail(expected).into()
    }
}

impl From<Problem> for LedgerError {
    fn from(problem: Problem) -> Self {
        LedgerError::Refused(Box::new(problem))
    }
}

impl From<Code> for LedgerError {
    fn from(code: Code) -> Self {
        Problem::new(code).into()
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // Another process held the write lock for all of the busy timeout: the transaction never began.
            Some(rusqlite::ErrorCode::DatabaseBusy) => LedgerError::Overloaded,
            _ => LedgerError::Database(error.into()),
        }
    }
}

/// What an issuer decides by.
#[derive(Debug)]
pub struct Rules {
    /// Signs receipts.
    pub signing_key: SigningKey,
    /// Its public half, which stands in every channel id.
    pub public_key: PublicKey,
    /// Play money.
    pub development: Development,
    /// Bounds on what is taken.
    pub limits: ArcSwap<Limits>,
    /// The time of day.
    pub clock: Clock,
}

impl Rules {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX)
    }
}

/// What became of an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Opened now.
    New(Box<IssuerChannel>),
    /// The same opening came before: this is its channel, as it stands now.
    Before(Box<IssuerChannel>),
}

/// A handle to the ledger. Cheap to clone; the database closes when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Ledger {
    rules: Arc<Rules>,
    writer: Worker,
    reader: Worker,
    auditor: Worker,
    watcher: Worker,
}

impl Ledger {
    /// Opens the database, making or upgrading its tables as needed. Blocks; not for async threads.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: &DatabaseConfig, rules: Rules) -> Result<Self, OpenError> {
        let opening::Workers { writer, reader, auditor, watcher } = opening::open(config, &rules)?;
        Ok(Self { rules: Arc::new(rules), writer, reader, auditor, watcher })
    }

    /// Whether the database answers: on a connection of its own, so that it is not asked whether the others are busy.
    ///
    /// # Errors
    /// It does not.
    pub async fn check(&self) -> Result<(), LedgerError> {
        Self::read_with(&self.watcher, |tx| tx.one("SELECT only_row FROM issuer", &[]).map(drop)).await
    }

    /// Who the issuer is.
    pub fn info(&self) -> IssuerInfo {
        IssuerInfo { public_key: self.rules.public_key, development: self.rules.development.enabled }
    }

    /// Registers an account. Repeating it changes nothing.
    ///
    /// # Errors
    /// `malformed` for a key of small order; `insufficient_funds` if the starting balance can no longer be issued.
    pub async fn register(&self, public_key: PublicKey) -> Result<Account, LedgerError> {
        self.write(move |tx, rules| accounts::register(tx, rules, &public_key)).await
    }

    /// Reads an account.
    ///
    /// # Errors
    /// `unknown_account`.
    pub async fn account(&self, public_key: PublicKey) -> Result<Account, LedgerError> {
        self.read(move |tx| accounts::read(tx, &public_key)?.ok_or(Code::UnknownAccount.into())).await
    }

    /// Opens a channel and locks its deposit. The same opening again gives the channel there is.
    ///
    /// # Errors
    /// `malformed`, `invalid_signature`, `unknown_account`, `insufficient_funds`.
    pub async fn open_channel(&self, request: OpenRequest) -> Result<Opened, LedgerError> {
        self.write(move |tx, rules| channels::open(tx, rules, &request)).await
    }

    /// Reads a channel.
    ///
    /// # Errors
    /// `unknown_channel`.
    pub async fn channel(&self, id: ChannelId) -> Result<IssuerChannel, LedgerError> {
        self.read(move |tx| channels::read(tx, &id)?.ok_or(Code::UnknownChannel.into())).await
    }

    /// Reads one page of channels, in the order of their ids.
    ///
    /// # Errors
    /// `malformed` for a limit out of range.
    pub async fn channels(&self, query: ChannelQuery) -> Result<IssuerChannelPage, LedgerError> {
        self.read(move |tx| channels::page(tx, &query)).await
    }

    /// Gives back what was never settled of an expired channel. Repeating it changes nothing.
    ///
    /// # Errors
    /// `unknown_channel`, `invalid_signature`, `channel_closed`, `channel_not_expired`.
    pub async fn refund(&self, id: ChannelId, request: RefundRequest) -> Result<IssuerChannel, LedgerError> {
        self.write(move |tx, rules| channels::refund(tx, rules, &id, &request)).await
    }

    /// Redeems a voucher and gives the text of the receipt; a repeat gives the same text.
    ///
    /// # Errors
    /// `malformed`, `unknown_channel`, `invalid_signature`, `stale_fencing_token`, `channel_closed`,
    /// `channel_expired`, `over_capacity`, `stale_amount`.
    pub async fn settle(&self, id: ChannelId, request: SettlementRequest) -> Result<String, LedgerError> {
        let alone = vec![ChannelSettlement { channel_id: id, request }];
        self.settle_all(alone).await?.pop().unwrap_or(Err(LedgerError::Stopped))
    }

    /// Redeems vouchers, each as [`Ledger::settle`] does, in one transaction: one flush for all of them, and one
    /// signature that commits to all receipts that are new. Gives a result for each, in order.
    ///
    /// # Errors
    /// Nothing took place. What is wrong with one of them is its own result.
    pub async fn settle_all(&self, batch: Vec<ChannelSettlement>) -> Result<Vec<Settlement>, LedgerError> {
        let mut proven = Vec::with_capacity(batch.len());
        for ChannelSettlement { channel_id, request } in &batch {
            proven.push(self.prove_ahead(*channel_id, request).await?);
        }
        let results = self.write(move |tx, rules| batches::settle(tx, rules, &batch, &proven)).await?;
        fault_point::reach("settlement_committed");
        Ok(results)
    }

    /// The bounds on what is taken.
    pub fn limits(&self) -> Guard<Arc<Limits>> {
        self.rules.limits.load()
    }

    /// Goes by other bounds from now on; how much may wait stays as it was.
    pub fn take_up(&self, limits: &Limits) {
        self.rules.limits.store(Arc::new(limits.clone()));
    }

    /// See [`settlements::prove_ahead`]; a signed voucher is checked where it is settled.
    async fn prove_ahead(
        &self,
        id: ChannelId,
        request: &SettlementRequest,
    ) -> Result<Option<Result<(), Unproven>>, LedgerError> {
        if request.proof.is_none() {
            return Ok(None);
        }
        // Terms never change: what is read here is what the transaction will find.
        let Some(channel) = self.read(move |tx| channels::read(tx, &id)).await? else { return Ok(None) };
        let request = request.clone();
        let proving =
            tokio::task::spawn_blocking(move || settlements::prove_ahead(&channel.terms, &id, &request));
        proving.await.map_err(|_| LedgerError::Stopped)
    }

    /// Adds every balance up anew from the postings and compares.
    ///
    /// # Errors
    /// The database fails. Books that do not balance are an answer, not an error.
    pub async fn verify_books(&self) -> Result<Books, LedgerError> {
        Self::read_with(&self.auditor, books::verify).await
    }

    /// Runs an operation in a transaction that ends with it: committed and flushed if `Ok`, undone if not. Where the
    /// database asks for that, it is begun anew: what it did before was undone.
    async fn write<T: Send + 'static>(
        &self,
        mut operation: impl FnMut(&dyn Tx, &Rules) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let rules = self.rules.clone();
        self.writer
            .run(move |connection| {
                let mut done = None;
                connection.transact(Purpose::Write, &mut |tx| {
                    done = Some(operation(tx, &rules)?);
                    Ok(())
                })?;
                done.ok_or(LedgerError::Stopped)
            })
            .await
    }

    /// Runs a read on one state of the database.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnMut(&dyn Tx) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        Self::read_with(&self.reader, read).await
    }

    async fn read_with<T: Send + 'static>(
        worker: &Worker,
        mut read: impl FnMut(&dyn Tx) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        worker
            .run(move |connection| {
                let mut found = None;
                connection.transact(Purpose::Read, &mut |tx| {
                    found = Some(read(tx)?);
                    Ok(())
                })?;
                found.ok_or(LedgerError::Stopped)
            })
            .await
    }
}
