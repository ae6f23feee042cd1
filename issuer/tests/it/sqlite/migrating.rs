//! A database file of an earlier version goes on.

use common::problem::Code;
use rusqlite::Connection;

use super::committing::{bank_with_parties, chain, open, proof, terms};
use crate::harness::{Database, Settlement, code_of};

fn path_of(database: &Database) -> &std::path::Path {
    match database {
        Database::Sqlite(path) => path,
        Database::Postgres { .. } => panic!("not a file"),
    }
}

/// Every table, index and trigger of a database, as it was made.
fn made_of(database: &Connection) -> Vec<String> {
    let mut statement = database
        .prepare("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        .expect("a table that every database has");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("texts")
}

#[tokio::test]
async fn a_database_from_before_there_were_commitments_goes_on_with_all_its_data() {
    let (bank, payer, payee) = bank_with_parties().await;
    let (open_before, closed) =
        (bank.channel(&payer, &payee, 100).await, bank.channel(&payer, &payee, 100).await);
    let partial = Settlement::of(open_before, 30).token(4).signed(&payer, &payee);
    let close = Settlement::of(closed, 60).close().token(4).signed(&payer, &payee);
    let receipts = (bank.settle_raw(&open_before, &partial).await, bank.settle_raw(&closed, &close).await);
    let kept = (bank.read(&open_before).await, bank.read(&closed).await, bank.client.books().await);

    // What the first version of the schema makes, with this data in it.
    let path = path_of(&bank.database).to_owned();
    let bank = bank
        .restart_with(|_| {
            let database = Connection::open(&path).expect("opened");
            database.execute_batch("DROP TABLE commitments; PRAGMA user_version = 1;").expect("taken back");
            let first = Connection::open_in_memory().expect("opened");
            first.execute_batch(include_str!("../../../src/ledger/schema/sqlite/1.sql")).expect("made");
            assert_eq!(made_of(&database), made_of(&first));
        })
        .await;
    assert_eq!(
        (bank.settle_raw(&open_before, &partial).await, bank.settle_raw(&closed, &close).await),
        receipts
    );
    let found = (bank.read(&open_before).await, bank.read(&closed).await, bank.client.books().await);
    assert_eq!(found, kept);
    let version: i64 = Connection::open(path_of(&bank.database))
        .expect("opened")
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .expect("a version");
    assert_eq!(version, 2);

    let purse = chain(15, 100);
    let id = open(&bank, &payer, &payee, &purse).await;
    let again = payer.opening(terms(&bank, &payer, &payee, purse.scheme()));
    assert_eq!(code_of(bank.client.open(&again).await), Some(Code::CommitmentReused));
    let rest = Settlement::of(open_before, 70).token(4).close().signed(&payer, &payee);
    assert_eq!(bank.refusal(&open_before, &rest).await, None);
    assert_eq!(
        bank.refusal(&id, &Settlement::of(id, 30).token(4).redeeming(Some(proof(&purse, 10)), &payee)).await,
        None
    );
    bank.assert_balanced().await;
}
