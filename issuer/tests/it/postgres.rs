//! The suite on PostgreSQL, and what PostgreSQL alone has: several issuers on one database, and a server to lose.

#![expect(clippy::duplicate_mod, reason = "the suite runs on both databases")]

use std::sync::Arc;

use crate::harness::Backend;

/// What every test here runs on.
const BACKEND: Backend = Backend::Postgres;

#[path = "batches.rs"]
mod batches;
#[path = "committing.rs"]
mod committing;
#[path = "keeping.rs"]
mod keeping;
#[path = "killing.rs"]
mod killing;
#[path = "opening.rs"]
mod opening;
#[path = "random.rs"]
mod random;
#[path = "refunding.rs"]
mod refunding;
#[path = "settling.rs"]
mod settling;

mod away;
mod reaching;
mod replicas;

use std::time::{Duration, Instant};

use common::amount::Amount;
use common::channel::{SchemeKind, Terms};
use common::clock::Clock;
use common::ids::ChannelId;
use common::secret::write_signing_key;
use common::wire::SettlementRequest;
use ed25519_dalek::SigningKey;
use issuer::config::{Development, Limits};
use issuer::ledger::Rules;

use crate::harness::{Database, Party, Process, issuer_key};

/// What an issuer without play money decides by.
fn rules() -> Rules {
    Rules {
        signing_key: SigningKey::from_bytes(&[200; 32]),
        public_key: issuer_key(),
        development: Development::default(),
        limits: Arc::new(Limits::default()).into(),
        clock: Clock::system(),
    }
}

/// Terms of a channel by the time of day, as processes have it.
fn terms(payer: &Party, payee: &Party, salt: u64) -> Terms {
    Terms {
        issuer: issuer_key(),
        payer: payer.key(),
        payer_authorizer: payer.key(),
        payee: payee.key(),
        asset: "usd".to_owned(),
        capacity: Amount::new(1_000),
        expires_at: Clock::system().now_s() + 3_600,
        salt,
        scheme: SchemeKind::Ed25519,
    }
}

/// The receipt for a settlement that is sent until it is answered.
async fn settled(process: &Process, id: &ChannelId, request: &SettlementRequest) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (status, body) = process.settle(id, request).await.expect("a healthy process");
        match status {
            200 => return body,
            _ => assert!(status >= 500 && Instant::now() < deadline, "{}", String::from_utf8_lossy(&body)),
        }
    }
}

/// What an issuer with this key says on its way out.
async fn refusal_to_start(database: &Database, key: &SigningKey) -> String {
    let dir = tempfile::tempdir().expect("a temp dir");
    write_signing_key(&dir.path().join("issuer.key"), key).expect("written");
    Process::refusal(dir.path(), database).await
}
