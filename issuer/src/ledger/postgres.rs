//! PostgreSQL, which several issuers may share. It lets many writers in at once, so that each first locks whom its change
//! concerns (`docs/adr/0008`): two that have a party in common follow one another, as all do in the embedded database.
//!
//! # Layout
//!
//! * [`Session`]: a connection that is made anew when it is lost, and transactions on it.
//! * [`Transaction`]: what the rules see of one. `faults`: what an error means. `opening`: the tables and whose they are.

mod faults;
mod opening;

use std::cell::{Cell as Flag, RefCell};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use common::ids::PublicKey;
use common::tls::{self, TlsKeys};
use futures::TryStreamExt as _;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::sql::{Cell, Connection, Lock, Purpose, Row, Tx, Value, Work};
use super::{LedgerError, OpenError};
use crate::config::DatabaseConfig;
pub(super) use opening::open;

const TLS_KEYS: TlsKeys = TlsKeys { url: "database.url", ca_file: "database.tls_ca_file" };

/// What the server has to end a statement by itself before its client gives it up, and with it the connection.
const GRACE: Duration = Duration::from_secs(1);

/// How long a connection that is given up may take to say so.
const FAREWELL: Duration = Duration::from_millis(100);

/// How to reach the server, and what may be asked of it.
pub(super) struct Settings {
    server: Config,
    tls: Option<MakeRustlsConnect>,
    connect_timeout: Duration,
    statement_timeout: Duration,
    attempts_max: u32,
    locks: bool,
}

impl Settings {
    /// Reads the secret that the configuration names, and the authorities where TLS is asked for.
    pub(super) fn new(config: &DatabaseConfig, mut server: Config) -> Result<Arc<Self>, OpenError> {
        if let Some(password) = &config.password {
            server.password(password.read().map_err(OpenError::Password)?);
        }
        let connect_timeout = Duration::from_millis(config.connect_timeout_ms);
        let statement_timeout = Duration::from_millis(config.statement_timeout_ms);
        server.application_name("millrace-issuer").connect_timeout(connect_timeout);
        server.tcp_user_timeout(statement_timeout.saturating_add(GRACE));
        let tls = match server.get_ssl_mode() {
            tokio_postgres::config::SslMode::Require => {
                Some(MakeRustlsConnect::new(tls::believing(config.tls_ca_file.as_deref(), TLS_KEYS)?))
            }
            _ => None,
        };
        #[cfg(feature = "fault-points")]
        let locks = !config.locks_nothing;
        #[cfg(not(feature = "fault-points"))]
        let locks = true;
        let attempts_max = config.attempts_max;
        Ok(Arc::new(Self { server, tls, connect_timeout, statement_timeout, attempts_max, locks }))
    }
}

/// A connection for one thread. It stands while it is needed, and is made anew after it was lost.
pub(super) struct Session {
    settings: Arc<Settings>,
    /// `None`: a statement may take as long as it takes.
    statement_timeout: Option<Duration>,
    runtime: Runtime,
    live: Option<Live>,
}

/// A connection that stands.
struct Live {
    client: Client,
    statements: RefCell<HashMap<String, Statement>>,
    carrier: JoinHandle<()>,
}

impl Session {
    /// Not connected yet.
    pub(super) fn new(settings: &Arc<Settings>) -> std::io::Result<Self> {
        // The connection lives on the thread that uses it: no answer has to find its way between threads.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let statement_timeout = Some(settings.statement_timeout);
        Ok(Self { settings: settings.clone(), statement_timeout, runtime, live: None })
    }

    /// As [`Session::new`], for what reads or changes all there is.
    pub(super) fn patient(settings: &Arc<Settings>) -> std::io::Result<Self> {
        Ok(Self { statement_timeout: None, ..Self::new(settings)? })
    }

    fn connect(&self) -> Result<Live, LedgerError> {
        let settings = &*self.settings;
        let (client, carrier) = self.wait(Some(settings.connect_timeout.saturating_add(GRACE)), async {
            match &settings.tls {
                Some(tls) => connect(&settings.server, tls.clone()).await,
                None => connect(&settings.server, NoTls).await,
            }
        })?;
        let statement_ms = self.statement_timeout.map_or(0, |timeout| timeout.as_millis());
        let idle_ms = settings.statement_timeout.as_millis();
        // An issuer that freezes in the middle of a transaction must not keep its locks. Where the server would answer
        // before it has flushed, it is asked to flush; where it promises more than that, it keeps to it.
        let set_up = format!(
            "SET statement_timeout = {statement_ms}; SET idle_in_transaction_session_timeout = {idle_ms};
             SELECT set_config('synchronous_commit', 'on', false)
             WHERE current_setting('synchronous_commit') = 'off'"
        );
        self.wait(Some(settings.connect_timeout.saturating_add(GRACE)), client.batch_execute(&set_up))?;
        Ok(Live { client, statements: RefCell::default(), carrier })
    }

    /// Waits for an answer of the server. Past the time, the server can be said nothing of: the connection is given up.
    fn wait<T>(
        &self,
        within: Option<Duration>,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, LedgerError> {
        let answered = self.runtime.block_on(async {
            match within {
                Some(within) => tokio::time::timeout(within, answer).await,
                None => Ok(answer.await),
            }
        });
        match answered {
            Ok(answer) => answer.map_err(|error| faults::meaning(&error)),
            Err(_) => Err(LedgerError::Unavailable { detail: "no answer in time".to_owned() }),
        }
    }

    fn statement_limit(&self) -> Option<Duration> {
        self.statement_timeout.map(|timeout| timeout.saturating_add(GRACE))
    }

    /// A connection on which a transaction has begun.
    fn begin(&mut self, purpose: Purpose) -> Result<Live, LedgerError> {
        let sql = match purpose {
            // Each statement sees what was committed before it: behind a lock, all that its holder before did.
            Purpose::Write => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            Purpose::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        if let Some(live) = self.live.take() {
            match self.wait(self.statement_limit(), live.client.batch_execute(sql)) {
                Ok(()) => return Ok(live),
                // It was lost while nobody needed it, and nothing was asked of it yet: a new one will do.
                Err(_) => self.give_up(live),
            }
        }
        let live = self.connect()?;
        match self.wait(self.statement_limit(), live.client.batch_execute(sql)) {
            Ok(()) => Ok(live),
            Err(error) => {
                self.give_up(live);
                Err(error)
            }
        }
    }

    /// Closes a connection, and with it ends its transaction.
    fn give_up(&self, live: Live) {
        let Live { client, carrier, .. } = live;
        drop(client);
        // A server that does not answer notices by itself.
        let _ = self.runtime.block_on(async { tokio::time::timeout(FAREWELL, carrier).await });
    }

    /// One attempt at a transaction.
    fn attempt(&mut self, purpose: Purpose, work: &mut Work<'_>) -> Result<(), LedgerError> {
        let live = self.begin(purpose)?;
        let tx = Transaction {
            session: self,
            live: &live,
            held: RefCell::default(),
            has_failed: Flag::new(false),
        };
        let result = catch_unwind(AssertUnwindSafe(|| work(&tx)));
        let has_failed = tx.has_failed.get();
        let result = match result {
            Ok(result) => result,
            Err(panic) => {
                self.give_up(live);
                resume_unwind(panic);
            }
        };
        let (result, is_clean) = match result {
            // The server would answer a COMMIT and undo everything.
            Ok(()) if has_failed => {
                (Err(LedgerError::inconsistent("a failed statement was passed over")), false)
            }
            Ok(()) => {
                let committed = self.wait(self.statement_limit(), live.client.batch_execute("COMMIT"));
                let is_clean = committed.is_ok();
                (after_commit(purpose, committed), is_clean)
            }
            Err(error) => {
                let undone = self.wait(self.statement_limit(), live.client.batch_execute("ROLLBACK"));
                (Err(error), undone.is_ok())
            }
        };
        if is_clean {
            self.live = Some(live);
        } else {
            self.give_up(live);
        }
        result
    }
}

/// What the answer to a COMMIT says of the transaction.
fn after_commit(purpose: Purpose, committed: Result<(), LedgerError>) -> Result<(), LedgerError> {
    match (purpose, committed) {
        // What was read is as good whatever follows.
        (_, Ok(())) | (Purpose::Read, Err(_)) => Ok(()),
        (Purpose::Write, Err(LedgerError::Contended)) => Err(LedgerError::Contended),
        // Sent, and no word of what became of it.
        (Purpose::Write, Err(error)) => Err(LedgerError::OutcomeUnknown { detail: error.to_string() }),
    }
}

async fn connect<T>(server: &Config, tls: T) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = server.connect(tls).await?;
    let carrier = tokio::spawn(async move {
        // Whoever waits for an answer gets the error too.
        let _ = connection.await;
    });
    Ok((client, carrier))
}

impl Connection for Session {
    fn transact(&mut self, purpose: Purpose, work: &mut Work<'_>) -> Result<(), LedgerError> {
        for _ in 0..self.settings.attempts_max {
            match self.attempt(purpose, work) {
                // Undone by the server, or by the rules before they went wrong: the next attempt sees who was first.
                Err(LedgerError::Contended) => {}
                result => return result,
            }
        }
        Err(LedgerError::Overloaded)
    }
}

/// An open transaction.
struct Transaction<'a> {
    session: &'a Session,
    live: &'a Live,
    /// The parties that are locked.
    held: RefCell<HashSet<PublicKey>>,
    /// True once a statement failed: the server then undoes everything, whatever the rules make of the error.
    has_failed: Flag<bool>,
}

impl Transaction<'_> {
    fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, LedgerError> {
        let answered = self.session.wait(self.session.statement_limit(), answer);
        if answered.is_err() {
            self.has_failed.set(true);
        }
        answered
    }

    fn prepare(&self, sql: &str) -> Result<Statement, LedgerError> {
        if let Some(statement) = self.live.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        // No statement of the rules has a question mark but before the number of a value.
        let statement = self.wait(self.live.client.prepare(&sql.replace('?', "$")))?;
        self.live.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

impl Tx for Transaction<'_> {
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, LedgerError> {
        let statement = self.prepare(sql)?;
        self.wait(self.live.client.execute_raw(&statement, values))
    }

    fn each(
        &self,
        sql: &str,
        values: &[Value<'_>],
        take: &mut dyn FnMut(Row) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let statement = self.prepare(sql)?;
        let mut rows = pin!(self.wait(self.live.client.query_raw(&statement, values))?);
        while let Some(row) = self.wait(rows.try_next())? {
            let cells = (0..row.len()).map(|column| row.try_get::<_, Cell>(column));
            let cells: Result<_, _> = cells.collect();
            take(Row(cells.map_err(LedgerError::inconsistent)?))?;
        }
        Ok(())
    }

    fn lock(&self, what: Lock<'_>) -> Result<(), LedgerError> {
        let mut sql = match what {
            Lock::Party(_) => "SELECT public_key FROM parties WHERE public_key = ?1".to_owned(),
            // In the order of their keys: two that want the same parties cannot each have what the other waits for.
            Lock::PartiesOf(_) => "SELECT public_key FROM parties WHERE public_key IN (
                     SELECT payer FROM channels WHERE channel_id = ANY(?1)
                     UNION SELECT payee FROM channels WHERE channel_id = ANY(?1)
                 ) ORDER BY public_key"
                .to_owned(),
            Lock::Issuance => "SELECT public_key FROM issuer WHERE only_row = 1".to_owned(),
        };
        if self.session.settings.locks {
            sql.push_str(" FOR UPDATE");
        }
        let ids: Vec<&[u8]>;
        let values: &[&(dyn ToSql + Sync)] = match what {
            Lock::Party(key) => &[&key.0.as_slice()],
            Lock::PartiesOf(channels) => {
                ids = channels.iter().map(|id| id.0.as_slice()).collect();
                &[&ids]
            }
            Lock::Issuance => &[],
        };
        let statement = self.prepare(&sql)?;
        let rows = self.wait(self.live.client.query(&statement, values))?;
        for row in rows {
            let key: &[u8] = row.try_get(0).map_err(LedgerError::inconsistent)?;
            let key = key.try_into().map_err(LedgerError::inconsistent)?;
            self.held.borrow_mut().insert(PublicKey(key));
        }
        Ok(())
    }

    fn check_held(&self, party: &PublicKey) -> Result<(), LedgerError> {
        if self.held.borrow().contains(party) { Ok(()) } else { Err(LedgerError::Contended) }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Int(value) => value.to_sql(of, out),
            Value::Bool(value) => value.to_sql(of, out),
            Value::Number(bytes) => bytes.as_slice().to_sql(of, out),
            Value::Bytes(bytes) => bytes.to_sql(of, out),
            Value::Text(text) => text.to_sql(of, out),
            Value::Null => Ok(IsNull::Yes),
        }
    }

    fn accepts(of: &Type) -> bool {
        matches!(*of, Type::INT8 | Type::BOOL | Type::BYTEA | Type::TEXT)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match *of {
            Type::INT8 => Cell::Int(i64::from_sql(of, raw)?),
            Type::BYTEA => Cell::Bytes(raw.to_vec()),
            _ => Cell::Text(String::from_sql(of, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Cell::Null)
    }

    fn accepts(of: &Type) -> bool {
        matches!(*of, Type::INT8 | Type::BYTEA | Type::TEXT)
    }
}
