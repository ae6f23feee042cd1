//! Payers of the command line that pay over streams: nothing is lost, and everything is accounted for.

use std::sync::Arc;
use std::time::Duration;

use cli::client::{RelayerClient, Transport};
use cli::ledger::LedgerWriter;
use cli::load::payers::PayingChannel;
use cli::load::schedule::Until;
use cli::load::{LoadOptions, Progress};
use common::amount::Amount;
use ed25519_dalek::SigningKey;
use tests::payer::{Channel, Payer};
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;
use tokio_util::sync::CancellationToken;

/// A channel as a test has it and as a load pays from it.
async fn channel(rig: &Rig) -> (Channel, PayingChannel) {
    let key = SigningKey::from_bytes(&rand::random());
    let payer = Payer::register_as(&rig.issuer.url(), key.clone()).await;
    let channel = payer.channel(rig.payee()).capacity(1_000_000).open().await;
    let (id, capacity) = (channel.id(), Amount::new(1_000_000));
    (channel, PayingChannel::of_key(id, key, capacity))
}

#[tokio::test]
async fn a_load_over_streams_loses_nothing_when_relayers_are_killed_and_stopped() {
    const CHANNELS: usize = 12;
    let mut rig = Rig::start(RigOptions { relayers: 2, ..RigOptions::default() }).await;
    let (mut channels, mut paying) = (Vec::new(), Vec::new());
    for _ in 0..CHANNELS {
        let (channel, pays) = channel(&rig).await;
        channels.push(channel);
        paying.push(pays);
    }
    let relayers = (0..2)
        .map(|i| {
            let client = RelayerClient::with_timeout(rig.relayer(i), Duration::from_secs(2));
            client.expect("an HTTP client").over(Transport::Stream, 2)
        })
        .collect();
    let options = LoadOptions {
        relayers,
        concurrency: CHANNELS,
        rate: None,
        until: Until::Elapsed(Duration::from_secs(3_600)),
        step: Amount::new(1),
        patience: SOON,
    };
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.ndjson");
    let ledger = Arc::new(LedgerWriter::append_to(&path).expect("writable"));
    let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
    let load =
        tokio::spawn(cli::load::run(options, paying, Some(ledger), Arc::clone(&progress), cancel.clone()));
    let more = async || {
        let goal = progress.acknowledged() + 150;
        wait_until(SOON, "payments go on", || async { progress.acknowledged() >= goal }).await;
    };
    for round in 0..2 {
        more().await;
        rig.relayers[round].kill();
        more().await;
        rig.relayers[round].restart().expect("the program runs");
        rig.relayers[round].wait_ready(SOON).await.expect("it comes back");
    }
    more().await;
    rig.relayers[0].signal(nix::sys::signal::Signal::SIGTERM).expect("it runs");
    rig.relayers[0].wait_exit(SOON).await.expect("it ends");
    more().await;
    cancel.cancel();
    let (report, paid) = load.await.expect("no panic").expect("the ledger is written");
    let summary = report.summary();
    eprintln!("{summary:?}");
    assert_eq!(summary.unresolved, 0, "every outcome was found out");
    let mut owed = 0;
    for (channel, paid) in channels.iter().map(|c| (c, paid.iter().find(|paid| paid.id == c.id()))) {
        let paid = paid.expect("every channel comes back");
        assert_eq!(rig.stored(channel).await.state.amount, paid.latest, "exactly what its payer knows");
        owed += paid.latest.units();
    }
    assert_eq!(summary.amount, owed.to_string(), "each payment was counted once");
    assert_recorded_once(&rig, &channels).await;
    let mut sent = 0;
    cli::ledger::read(&path, |entry| sent += u64::from(entry.outcome == cli::ledger::LedgerOutcome::Sent))
        .expect("a ledger");
    assert!(sent >= summary.acknowledged, "each was written down before it left");
}

/// Asserts that every amount of a channel is in the stream exactly once.
async fn assert_recorded_once(rig: &Rig, channels: &[Channel]) {
    let mut paid = Vec::new();
    for channel in channels {
        let amount = rig.stored(channel).await.state.amount.units();
        let (channel, failures) = (channel.clone(), Vec::new());
        paid.push(tests::load::Paid { channel, acknowledged: amount, presented: amount, failures });
    }
    rig.assert_kept(&paid).await;
}
