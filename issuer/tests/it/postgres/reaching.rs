//! Which PostgreSQL an issuer takes for its own, and how it gets there: tables, TLS, passwords.

use std::sync::Arc;

use issuer::config::DatabaseConfig;
use issuer::ledger::Ledger;

use super::{BACKEND, rules};
use crate::harness::{Bank, Database, Party, Server, Settlement};

#[tokio::test]
async fn tables_of_a_newer_version_are_refused_by_number() {
    let bank = Bank::start(BACKEND).await;
    bank.database.execute("UPDATE millrace_schema SET version = 99").await;
    let config = bank.database.config();
    let opened = tokio::task::spawn_blocking(move || Ledger::open(&config, rules())).await.expect("no panic");
    let error = opened.expect_err("too new").to_string();
    assert!(error.contains("schema version 99") && error.contains("upgrade"), "{error}");
}

#[tokio::test]
async fn history_cannot_be_rewritten_and_amounts_have_one_form() {
    let bank = Bank::start(BACKEND).await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    let id = bank.channel(&payer, &payee, 20).await;
    bank.client.settle(&id, &Settlement::of(id, 7).signed(&payer, &payee)).await.expect("settled");
    let one = bank.database.amount(1);
    for refused in [
        format!("UPDATE postings SET amount = {one}"),
        "DELETE FROM postings".to_owned(),
        "TRUNCATE postings".to_owned(),
        "DELETE FROM operations".to_owned(),
        format!("UPDATE accounts SET balance = {}", bank.database.bytes(&[5])),
        format!(
            "INSERT INTO postings (operation_id, from_account, to_account, asset, amount) VALUES (1, 1, 1, 'usd', {one})"
        ),
        format!(
            "INSERT INTO postings (operation_id, from_account, to_account, asset, amount) VALUES (99, 1, 2, 'usd', {one})"
        ),
    ] {
        assert!(bank.database.try_execute(&refused).await.is_err(), "{refused}");
    }
    bank.assert_balanced().await;
}

#[tokio::test]
async fn where_the_tables_are_there_a_role_that_may_make_none_is_enough() {
    let bank = Bank::start(BACKEND).await;
    let Database::Postgres { server, name } = &bank.database else { panic!("not a file") };
    bank.database
        .execute(
            "CREATE ROLE modest LOGIN;
             GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO modest",
        )
        .await;
    let url = server.url(name).replacen("postgres@", "modest@", 1);
    let config = DatabaseConfig { url, ..DatabaseConfig::default() };
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    let id = bank.channel(&payer, &payee, 20).await;
    let mut rules = rules();
    rules.clock = bank.clock.clone();
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(&config, rules)).await.expect("no panic");
    let ledger = ledger.expect("opened");
    let request = Settlement::of(id, 7).close().signed(&payer, &payee);
    let receipt = ledger.settle(id, request.clone()).await.expect("settled");
    assert_eq!(bank.settle_raw(&id, &request).await, (200, receipt.into_bytes()));
    ledger.register(Party::new(3).key()).await.expect("registered");
    assert!(ledger.verify_books().await.expect("books").balanced);
}

/// A server that takes connections with TLS and a password alone, and the file with its certificate.
fn guarded(password: &str) -> (Arc<Server>, std::path::PathBuf) {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let server = Server::start_with(&["listen_addresses=127.0.0.1", "ssl=on"], |server| {
        server.give("data/server.crt", &pair.cert.pem());
        server.give("data/server.key", &pair.signing_key.serialize_pem());
        server.give("data/pg_hba.conf", "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n");
    });
    let ca = server.dir().join("ca.pem");
    std::fs::write(&ca, pair.cert.pem()).expect("a new file");
    std::fs::write(server.dir().join("password"), format!("{password}\n")).expect("a new file");
    (Arc::new(server), ca)
}

#[tokio::test]
async fn tls_checks_whom_it_speaks_to_and_a_password_is_taken_from_its_place_and_never_told() {
    const PASSWORD: &str = "marker-that-nobody-may-see";
    let (server, ca) = tokio::task::spawn_blocking(|| guarded(PASSWORD)).await.expect("a server");
    let database = Database::on(server.clone()).await;
    database.execute(&format!("ALTER USER postgres PASSWORD '{PASSWORD}'")).await;
    let Database::Postgres { name, .. } = &database else { panic!("not a file") };
    let url = |mode: &str| format!("postgres://postgres@localhost:{}/{name}?sslmode={mode}", server.port());
    let secret = |text: &str| {
        let path = server.dir().join(text);
        Some(format!("file:{}", path.display()).parse().expect("a reference"))
    };
    std::fs::write(server.dir().join("wrong"), "marker-too").expect("a new file");
    let good = DatabaseConfig {
        url: url("require"),
        password: secret("password"),
        tls_ca_file: Some(ca),
        ..DatabaseConfig::default()
    };
    for (what, config) in [
        ("without TLS", DatabaseConfig { url: url("disable"), ..good.clone() }),
        ("by authorities that do not know it", DatabaseConfig { tls_ca_file: None, ..good.clone() }),
        (
            "by another name",
            DatabaseConfig { url: url("require").replace("localhost", "127.0.0.1"), ..good.clone() },
        ),
        ("without a password", DatabaseConfig { password: None, ..good.clone() }),
        ("with a wrong one", DatabaseConfig { password: secret("wrong"), ..good.clone() }),
    ] {
        let opened =
            tokio::task::spawn_blocking(move || Ledger::open(&config, rules())).await.expect("no panic");
        let said = format!("{:?}", opened.expect_err(what));
        assert!(!said.contains("marker"), "{what}: {said}");
    }
    let told = format!("{good:?}{}", serde_json::to_string(&good).expect("JSON"));
    assert!(!told.contains(PASSWORD) && told.contains("password"), "{told}");
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(&good, rules())).await.expect("no panic");
    let ledger = ledger.expect("with everything right");
    ledger.register(Party::new(1).key()).await.expect("registered");
    let encrypted =
        "SELECT count(*) > 0 AND bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
                     WHERE a.application_name = 'millrace-issuer'";
    let row = server.client(name).await.query_one(encrypted, &[]).await.expect("an answer");
    assert!(row.get::<_, bool>(0), "every connection of the issuer");
}
