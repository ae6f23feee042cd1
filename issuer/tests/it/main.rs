//! The issuer over real HTTP, in this process, on a database of its own per test. The whole suite runs twice: on the
//! embedded database and on PostgreSQL.

mod harness;
mod postgres;
mod sqlite;
