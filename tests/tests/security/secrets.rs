//! Nothing that a process says contains a secret, however much it is asked to say.

use std::process::Command;

use common::config::{Config as _, RedisConfig};
use common::ids::PublicKey;
use common::secret::{SecretRef, write_signing_key};
use ed25519_dalek::SigningKey;
use settler::settlement::Payee;
use tests::binaries;
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;

use super::guarded::{Guarded, RELAYER_PASSWORD, SETTLER_PASSWORD};

const MARKER: &str = "marker-that-nobody-may-see";

/// The text of a signing key as its file holds it.
fn text_of(key: &SigningKey) -> String {
    let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
    let path = dir.path().join("key");
    write_signing_key(&path, key).expect("a new file");
    std::fs::read_to_string(path).expect("just written").trim().to_owned()
}

fn assert_silent(what: &str, said: &str, secrets: &[&str]) {
    assert!(!said.is_empty(), "{what} says nothing at all");
    for secret in secrets {
        assert!(!said.contains(secret), "{what} tells {secret}:\n{said}");
    }
}

#[tokio::test]
async fn logs_metrics_statuses_and_answers_hold_no_secret_even_when_everything_is_logged() {
    let guarded = Guarded::start().await;
    let mut rig = Rig::start(RigOptions { relayers: 0, ..RigOptions::default() }).await;
    let with = |role, further: &[(&'static str, &str)]| {
        let mut config = guarded.config(role);
        config.push(("log.filter", "trace".to_owned()));
        config.extend(further.iter().map(|(key, value)| (*key, (*value).to_owned())));
        config
    };
    let ready = rig.spawn_settler(&with("settler", &[])).wait_ready(SOON).await;
    ready.unwrap_or_else(|error| panic!("{error}"));
    let ready = rig.spawn_relayer(&with("relayer", &[("log.format", "json")])).wait_ready(SOON).await;
    ready.unwrap_or_else(|error| panic!("{error}"));
    // One whose password is wrong has even more to complain of.
    let wrong = format!("file:{}", guarded.file("settler.password").display());
    rig.spawn_relayer(&with("relayer", &[("redis.password", &wrong)]));

    let channel = rig.channel(1_000).await;
    assert_eq!(rig.pay(0, &channel, 5).await.status, 200);
    assert_eq!(channel.close(rig.relayer(0)).await.expect("an answer").status, 202);
    rig.settled(&channel).await;
    wait_until(SOON, "the relayer with the wrong password says so", || async {
        rig.log(&rig.relayers[1]).contains("WRONGPASS")
    })
    .await;

    let seed = text_of(rig.payee_key());
    let secrets = [seed.as_str(), RELAYER_PASSWORD, SETTLER_PASSWORD];
    for process in rig.relayers.iter().chain(&rig.settlers) {
        assert_silent(&format!("the log of {}", process.name()), &rig.log(process), &secrets);
        for route in ["readyz", "metrics", "livez", "status"] {
            let reply = rig.http.get(&format!("{}/{route}", process.admin_url())).await;
            assert_silent(&format!("/{route} of {}", process.name()), &reply.body, &secrets);
        }
    }
    let refused = rig.http.post(&format!("{}/v1/payments", rig.relayer(1)), "{}").await;
    assert_silent("a refusal", &refused.body, &secrets);
}

/// What `millrace config <verb> <service>` says, on both streams, with this file and these variables.
fn millrace_config(verb: &str, service: &str, file: &str, variables: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
    let path = dir.path().join("config.yaml");
    std::fs::write(&path, file).expect("a new file");
    let output = Command::new(binaries::path("millrace"))
        .current_dir(dir.path())
        .args(["config", verb, service, "--config"])
        .arg(&path)
        .envs(variables.iter().copied())
        .output()
        .expect("millrace runs");
    [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat()
}

#[test]
fn a_configuration_is_shown_with_where_its_secrets_are_and_not_with_them() {
    let key = text_of(&SigningKey::from_bytes(&[7; 32]));
    let public = PublicKey::of(&SigningKey::from_bytes(&[7; 32]));
    let file = format!(
        "issuer:\n  public_key: {public}\npayee_key: env:MARKED_KEY\nredis:\n  password: env:MARKED\n"
    );
    let variables = [("MARKED", MARKER), ("MARKED_KEY", key.as_str())];
    let shown = millrace_config("show", "settler", &file, &variables);
    assert!(shown.contains("env:MARKED_KEY") && shown.contains("env:MARKED"), "{shown}");
    assert_silent("config show", &shown, &[MARKER, &key]);
}

#[test]
fn a_secret_that_stands_where_its_place_should_is_refused_and_not_repeated() {
    let files = [
        ("settler", format!("redis:\n  password: {MARKER}\n")),
        ("settler", format!("redis: {{password: \"{MARKER}\"}}\n")),
        ("settler", format!("payee_key: {MARKER}\n")),
        ("issuer", format!("signing_key: {MARKER}\n")),
        ("relayer", format!("redis:\n  url: redis://user:{MARKER}@redis:6379\n")),
        ("relayer", format!("issuer:\n  url: http://user:{MARKER}@issuer\n")),
        ("issuer", format!("database: postgres://user:{MARKER}@db/ledger?sslmode=require\n")),
        ("issuer", format!("database:\n  url: postgres://user@127.0.0.1/ledger?password={MARKER}\n")),
        ("issuer", format!("database:\n  password: {MARKER}\n")),
    ];
    for (service, file) in files {
        for verb in ["check", "show"] {
            assert_silent(
                &format!("config {verb} of {file}"),
                &millrace_config(verb, service, &file, &[]),
                &[MARKER],
            );
        }
    }
    let variables = [
        ("settler", "MILLRACE_SETTLER__REDIS__PASSWORD"),
        ("settler", "MILLRACE_SETTLER__PAYEE_KEY"),
        ("issuer", "MILLRACE_ISSUER__SIGNING_KEY"),
        ("issuer", "MILLRACE_ISSUER__DATABASE__PASSWORD"),
    ];
    for (service, variable) in variables {
        let said = millrace_config("check", service, "", &[(variable, MARKER)]);
        assert!(said.contains(variable), "{said}");
        assert_silent(variable, &said, &[MARKER]);
    }
}

#[test]
fn nothing_that_holds_a_secret_shows_it_to_a_debugger() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let seed = text_of(&key);
    let bytes = format!("{:?}", [7u8; 32]);
    let place = SecretRef::Env("PLACE".to_owned());
    let mut settler = settler::Config { payee_key: Some(place.clone()), ..settler::Config::default() };
    settler.redis = RedisConfig { password: Some(place.clone()), ..RedisConfig::default() };
    assert!(settler.validate().is_err(), "there is no issuer's key");
    for said in [
        format!("{:?}", Payee::new(key.clone())),
        format!("{:#?}", Payee::new(key.clone())),
        format!("{key:?}"),
        format!("{settler:?}"),
        format!("{place:?}"),
    ] {
        assert_silent("Debug", &said, &[&seed, &bytes, "7, 7, 7"]);
    }
}
