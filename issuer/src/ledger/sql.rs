//! What the ledger's rules ask of a database: statements within a transaction, their values and rows, and the lock of
//! whom they concern. The rules are written once against [`Tx`]; [`super::sqlite`] and [`super::postgres`] carry it out.
//!
//! Statements are the part of SQL that both databases share, with `?1`, `?2`, … for values. Amounts and fencing tokens
//! are unsigned 64-bit numbers, which neither database has as integers: they are kept as 8 bytes, big-endian, so that
//! the order of the bytes is the order of the numbers.

use common::amount::Amount;
use common::ids::{ChannelId, Hash, PublicKey};

use super::LedgerError;

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Changes: committed and flushed if its work is `Ok`, undone if not.
    Write,
    /// Reads, all of them of one state of the database.
    Read,
}

/// The work of a transaction. It may be run again from the start where a database asks for that.
pub(super) type Work<'a> = dyn FnMut(&dyn Tx) -> Result<(), LedgerError> + 'a;

/// A connection to a database, on a thread of its own.
pub(super) trait Connection: Send {
    /// Runs `work` in one transaction.
    fn transact(&mut self, purpose: Purpose, work: &mut Work<'_>) -> Result<(), LedgerError>;
}

/// An open transaction.
pub(super) trait Tx {
    /// Runs a statement that gives no rows; how many rows it changed.
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, LedgerError>;

    /// Runs a statement and hands over its rows, one after the other.
    fn each(
        &self,
        sql: &str,
        values: &[Value<'_>],
        row: &mut dyn FnMut(Row) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError>;

    /// Keeps every other writer away from what is about to change, until the transaction ends. Asked for once in a
    /// transaction, before anything is read that the change depends on.
    fn lock(&self, what: Lock<'_>) -> Result<(), LedgerError>;

    /// That this transaction may change what is `party`'s.
    ///
    /// # Errors
    /// [`LedgerError::Contended`] if its lock is not held: begun anew, the transaction finds whom it missed.
    fn check_held(&self, party: &PublicKey) -> Result<(), LedgerError>;
}

impl dyn Tx + '_ {
    /// All rows of a statement.
    pub(super) fn rows(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, LedgerError> {
        let mut rows = Vec::new();
        self.each(sql, values, &mut |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The first row of a statement.
    pub(super) fn first(&self, sql: &str, values: &[Value<'_>]) -> Result<Option<Row>, LedgerError> {
        Ok(self.rows(sql, values)?.into_iter().next())
    }

    /// The first row of a statement that always gives one.
    pub(super) fn one(&self, sql: &str, values: &[Value<'_>]) -> Result<Row, LedgerError> {
        self.first(sql, values)?.ok_or_else(|| LedgerError::inconsistent(format_args!("no row: {sql}")))
    }
}

/// Whom a change concerns. Everything that changes is someone's: balances, a fencing token, and a channel, which is its
/// payer's and its payee's. So whoever holds the locks of the parties is alone with all that it reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lock<'a> {
    /// One party.
    Party(&'a PublicKey),
    /// Payers and payees of these channels.
    PartiesOf(&'a [ChannelId]),
    /// What was issued of every asset. Only ever asked for after a party that this transaction has registered itself.
    Issuance,
}

/// A value of a statement.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Int(i64),
    Bool(bool),
    Number([u8; 8]),
    Bytes(&'a [u8]),
    Text(&'a str),
    Null,
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        Value::Number(value.to_be_bytes())
    }
}

impl From<Amount> for Value<'_> {
    fn from(value: Amount) -> Self {
        value.units().into()
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Value::Text(value)
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(value: Option<&'a str>) -> Self {
        value.map_or(Value::Null, Value::Text)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Value::Bytes(value)
    }
}

macro_rules! from_bytes {
    ($($id:ty),*) => {$(
        impl<'a> From<&'a $id> for Value<'a> {
            fn from(value: &'a $id) -> Self {
                Value::Bytes(&value.0)
            }
        }
    )*};
}
from_bytes!(PublicKey, ChannelId, Hash);

/// A value of a row.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Int(i64),
    Bytes(Vec<u8>),
    Text(String),
    Null,
}

/// A row of an answer.
#[derive(Clone, Debug)]
pub(super) struct Row(pub(super) Vec<Cell>);

impl Row {
    /// The value of a column, counted from 0.
    ///
    /// # Errors
    /// [`LedgerError::Inconsistent`]: the column holds something else.
    pub(super) fn get<T: FromCell>(&self, column: usize) -> Result<T, LedgerError> {
        self.0.get(column).and_then(T::from_cell).ok_or_else(|| {
            let wanted = std::any::type_name::<T>();
            LedgerError::inconsistent(format_args!("column {column} of a row is not {wanted}"))
        })
    }
}

/// What a cell can be read as.
pub(super) trait FromCell: Sized {
    /// `None`: it is something else.
    fn from_cell(cell: &Cell) -> Option<Self>;
}

impl FromCell for i64 {
    fn from_cell(cell: &Cell) -> Option<Self> {
        if let Cell::Int(value) = cell { Some(*value) } else { None }
    }
}

impl FromCell for String {
    fn from_cell(cell: &Cell) -> Option<Self> {
        if let Cell::Text(text) = cell { Some(text.clone()) } else { None }
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: &Cell) -> Option<Self> {
        if let Cell::Bytes(bytes) = cell { Some(bytes.clone()) } else { None }
    }
}

impl<const N: usize> FromCell for [u8; N] {
    fn from_cell(cell: &Cell) -> Option<Self> {
        if let Cell::Bytes(bytes) = cell { bytes.as_slice().try_into().ok() } else { None }
    }
}

impl FromCell for u64 {
    fn from_cell(cell: &Cell) -> Option<Self> {
        <[u8; 8]>::from_cell(cell).map(u64::from_be_bytes)
    }
}

impl FromCell for Amount {
    fn from_cell(cell: &Cell) -> Option<Self> {
        u64::from_cell(cell).map(Amount::new)
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: &Cell) -> Option<Self> {
        if let Cell::Null = cell { Some(None) } else { T::from_cell(cell).map(Some) }
    }
}
