//! Which database the issuer keeps its ledger in.

use std::fmt;
use std::path::{Path, PathBuf};

use common::config::{ConfigError, positive};
use common::secret::SecretRef;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tokio_postgres::config::{Host, SslMode};

/// The database, and the bounds on what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// `sqlite:PATH` (or a path alone): a file of the embedded database, whose directory must exist, for one issuer.
    /// `postgres://USER@HOST/NAME?sslmode=require`: a PostgreSQL database, which any number of issuers with the same
    /// `signing_key` may share. Without a password.
    pub url: String,
    /// Password as `env:NAME` or `file:/path`, if PostgreSQL asks for one.
    pub password: Option<SecretRef>,
    /// PEM file with the authorities whose certificate PostgreSQL may show with `sslmode=require`; the system's own
    /// where null.
    pub tls_ca_file: Option<PathBuf>,
    /// Connections to PostgreSQL for operations that move money. One each for the books and for readiness come on top.
    pub write_connections: u16,
    /// Connections to PostgreSQL for reads.
    pub read_connections: u16,
    /// Longest wait for a connection to PostgreSQL, in ms.
    pub connect_timeout_ms: u64,
    /// Longest that PostgreSQL may take for one statement, in ms, and how long it keeps the locks of an issuer that went
    /// silent in the middle of a transaction.
    pub statement_timeout_ms: u64,
    /// Attempts at a transaction that PostgreSQL ends because another came between; then it is `overloaded`.
    pub attempts_max: u32,
    /// Milliseconds between two looks at whether the database answers, for `/readyz`.
    pub check_interval_ms: u64,
    /// For the test that shows what goes wrong without locks; in no release build.
    #[cfg(feature = "fault-points")]
    #[serde(skip)]
    pub locks_nothing: bool,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: "sqlite:millrace-issuer.db".to_owned(),
            password: None,
            tls_ca_file: None,
            write_connections: 4,
            read_connections: 4,
            connect_timeout_ms: 2_000,
            statement_timeout_ms: 5_000,
            attempts_max: 5,
            check_interval_ms: 1_000,
            #[cfg(feature = "fault-points")]
            locks_nothing: false,
        }
    }
}

/// Where a database is.
#[derive(Debug)]
pub enum Place {
    /// In this file.
    File(PathBuf),
    /// With this server. Its `Debug` form leaves a password out.
    Server(Box<tokio_postgres::Config>),
}

impl DatabaseConfig {
    /// The embedded database in a file, with all else as it is by default.
    pub fn file(path: &Path) -> Self {
        Self { url: format!("sqlite:{}", path.display()), ..Self::default() }
    }

    /// Reads the URL.
    ///
    /// # Errors
    /// It is neither of the two forms. The message never repeats it: it may hold a secret.
    pub fn place(&self) -> Result<Place, ConfigError> {
        let invalid = |expected: &str| ConfigError::invalid("database.url", expected);
        let is_server = ["postgres://", "postgresql://"].iter().any(|scheme| self.url.starts_with(scheme));
        if !is_server {
            let path = self.url.strip_prefix("sqlite:").unwrap_or(&self.url);
            if path.is_empty() || path.contains("://") {
                return Err(invalid("sqlite:PATH or postgres://USER@HOST/NAME"));
            }
            return Ok(Place::File(PathBuf::from(path)));
        }
        let mut server: tokio_postgres::Config = self.url.parse().map_err(|_| {
            invalid("postgres://USER@HOST/NAME, with sslmode=disable or sslmode=require if any")
        })?;
        if server.get_password().is_some() {
            return Err(invalid("no password in the URL: put it under database.password (env: or file:)"));
        }
        if server.get_hosts().is_empty() || server.get_dbname().is_none() || server.get_user().is_none() {
            return Err(invalid("postgres://USER@HOST/NAME: all three"));
        }
        if server.get_ssl_mode() == SslMode::Prefer {
            // Nothing asked for: where others could listen or answer instead, somebody must have decided.
            if !server.get_hosts().iter().all(is_local) {
                return Err(invalid(
                    "sslmode=require (or sslmode=disable) for a server that is not on this machine",
                ));
            }
            server.ssl_mode(SslMode::Disable);
        }
        Ok(Place::Server(Box::new(server)))
    }

    /// Checks ranges and the URL. Keys are named as they stand under `database.`.
    ///
    /// # Errors
    /// The first key that does not hold what it should.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.place()?;
        positive("database.write_connections", self.write_connections)?;
        positive("database.read_connections", self.read_connections)?;
        positive("database.connect_timeout_ms", self.connect_timeout_ms)?;
        positive("database.statement_timeout_ms", self.statement_timeout_ms)?;
        if self.statement_timeout_ms > i32::MAX.unsigned_abs().into() {
            return Err(ConfigError::invalid("database.statement_timeout_ms", "at most 2147483647"));
        }
        positive("database.attempts_max", self.attempts_max)?;
        positive("database.check_interval_ms", self.check_interval_ms)
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

/// Reads `database: PATH` or `database: URL` as it does `database: {url: …}`.
pub(super) fn text_or_table<'de, D: Deserializer<'de>>(from: D) -> Result<DatabaseConfig, D::Error> {
    struct TextOrTable;

    impl<'de> Visitor<'de> for TextOrTable {
        type Value = DatabaseConfig;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the database's URL, or its keys")
        }

        fn visit_str<E: Error>(self, url: &str) -> Result<Self::Value, E> {
            Ok(DatabaseConfig { url: url.to_owned(), ..DatabaseConfig::default() })
        }

        fn visit_map<A: MapAccess<'de>>(self, keys: A) -> Result<Self::Value, A::Error> {
            DatabaseConfig::deserialize(MapAccessDeserializer::new(keys))
        }
    }

    from.deserialize_any(TextOrTable)
}

pub(super) fn text_or_table_schema(schemas: &mut SchemaGenerator) -> Schema {
    let keys = schemas.subschema_for::<DatabaseConfig>();
    json_schema!({ "anyOf": [{ "type": "string" }, keys] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Place, String> {
        DatabaseConfig { url: url.to_owned(), ..DatabaseConfig::default() }.place().map_err(|e| e.to_string())
    }

    #[test]
    fn a_path_alone_is_a_file_of_the_embedded_database() {
        for url in ["sqlite:some/where.db", "some/where.db"] {
            assert!(matches!(of(url), Ok(Place::File(path)) if path == Path::new("some/where.db")), "{url}");
        }
        for url in ["", "sqlite:", "mysql://a@b/c", "redis://h"] {
            assert!(of(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_server_elsewhere_is_reached_with_tls_unless_that_is_refused() {
        let mode = |url: &str| match of(url) {
            Ok(Place::Server(server)) => Ok(server.get_ssl_mode()),
            Ok(other) => panic!("{url}: {other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(mode("postgres://a@db.example/c?sslmode=require"), Ok(SslMode::Require));
        assert_eq!(mode("postgres://a@db.example/c?sslmode=disable"), Ok(SslMode::Disable));
        for url in ["postgres://a@127.0.0.1/c", "postgresql://a@[::1]:5/c", "postgres://a@%2Frun%2Fpg/c"] {
            assert_eq!(mode(url), Ok(SslMode::Disable), "{url}");
        }
        for url in ["postgres://a@db.example/c", "postgres://a@127.0.0.1,db.example/c?sslmode=prefer"] {
            assert!(mode(url).expect_err(url).contains("sslmode=require"), "{url}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        for url in [
            "postgres://a:hunter2@h/c?sslmode=require",
            "postgres://a@127.0.0.1/c?password=hunter2",
            "postgres://a:hunter2@h/c?no=such&option",
            "postgres://a:hun?hunter2@h/c",
            "mysql://a:hunter2@h/c",
        ] {
            let error = of(url).expect_err(url);
            assert!(error.contains("database.url") && !error.contains("hunter2"), "{error}");
        }
    }
}
