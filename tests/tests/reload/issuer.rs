//! The issuer's bounds.

use cli::stack::free_port;
use cli::stack::process::{Process, ProcessSpec, Role};
use common::clock::Clock;
use common::secret::write_signing_key;
use ed25519_dalek::SigningKey;
use serde_json::json;
use tests::binaries;
use tests::http::Http;
use tests::payer::Payer;
use tests::rig::{ConfigFile, SOON};

use super::{Changing, refuses_as_a_whole};

/// An issuer with a file that says no more than it must, and its base URL.
async fn issuer(dir: &std::path::Path) -> (Process, ConfigFile, String) {
    write_signing_key(&dir.join("issuer.key"), &SigningKey::from_bytes(&[1; 32])).expect("a new file");
    let port = || free_port().expect("loopback has a free port");
    let (public, admin) = (format!("127.0.0.1:{}", port()), format!("127.0.0.1:{}", port()));
    let mut file = ConfigFile::new(dir.join("issuer.yaml"));
    file.set("listen", public.clone())
        .set("admin_listen", admin.clone())
        .set("signing_key", format!("file:{}", dir.join("issuer.key").display()))
        .set("development.enabled", true);
    let spec = ProcessSpec {
        name: "issuer".to_owned(),
        role: Role::Issuer,
        binary: binaries::each(),
        config: Vec::new(),
        file: Some(file.path().to_owned()),
        admin_url: format!("http://{admin}"),
        dir: dir.to_owned(),
    };
    let mut process = Process::spawn(spec).expect("the program runs");
    process.wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    (process, file, format!("http://{public}"))
}

#[tokio::test]
async fn every_bound_of_an_issuer_takes_effect_while_it_runs() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut process, file, url) = issuer(dir.path()).await;
    let mut changing = Changing::new(&mut process, file);
    let payer = Payer::register(&url).await;
    let lasting = async |seconds: i64| {
        let opening = payer.channel(payer.public_key()).expires_at(Clock::system().now_s() + seconds);
        opening.try_open().await.is_ok()
    };
    assert!(lasting(1_000).await);
    changing.set(&[("limits.channel_lifetime_min_s", 2_000.into())]).await;
    assert!(!lasting(1_000).await && lasting(3_000).await);
    changing.set(&[("limits.channel_lifetime_max_s", 2_500.into())]).await;
    assert!(!lasting(3_000).await && lasting(2_300).await);

    let settle = async || {
        let settlement = json!({
            "channel_id": common::ids::ChannelId([9; 32]), "cumulative_amount": "0", "close": true,
            "fencing_token": 1, "payee_signature": common::ids::Signature([0; 64]),
        });
        let body = json!({ "settlements": [settlement, settlement] }).to_string();
        Http::default().post(&format!("{url}/v1/settlements"), body).await.status
    };
    assert_eq!(settle().await, 200, "a result for each");
    changing.set(&[("limits.settlements_batch_max", 1.into())]).await;
    assert_eq!(settle().await, 413);

    changing.what_every_service_has().await;
    changing.assert_all::<issuer::Config>();
}

#[tokio::test]
async fn an_issuer_refuses_what_needs_a_restart_and_all_that_comes_with_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut process, file, _) = issuer(dir.path()).await;
    refuses_as_a_whole(
        &mut process,
        file,
        [("limits.write_queue_max", json!(5)), ("limits.channel_lifetime_min_s", json!(61))],
    )
    .await;
}
