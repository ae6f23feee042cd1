//! The cache of terms, with an issuer whose answers are written down.

//! What is looked up, what is remembered, and what the issuer is asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use common::ids::Signature;
use common::wire::Latest;
use prometheus::Registry;
use tokio::sync::Notify;

use super::*;
use crate::testing::{issued, public, terms};

type Issued = Result<Option<IssuerChannel>, IssuerError>;

/// An issuer whose answers are written down, and a Redis that knows what it is given.
struct Fake {
    recovery: AtomicU64,
    stored: Mutex<Option<Terms>>,
    issued: Mutex<Issued>,
    asked: AtomicUsize,
    /// Waited for before each answer of the issuer, where there is one.
    release: Option<Arc<Notify>>,
}

impl Origin for Arc<Fake> {
    async fn stored(&self, _: &ChannelId) -> Result<Option<Terms>, StoreError> {
        Ok(self.stored.lock().expect("no panic").clone())
    }

    async fn issued(&self, _: &ChannelId) -> Issued {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(release) = &self.release {
            release.notified().await;
        }
        self.issued.lock().expect("no panic").clone()
    }

    fn recovery(&self) -> u64 {
        self.recovery.load(Ordering::SeqCst)
    }
}

fn fake(issued: Issued, release: Option<Arc<Notify>>) -> Arc<Fake> {
    Arc::new(Fake {
        recovery: AtomicU64::new(0),
        stored: Mutex::new(None),
        issued: Mutex::new(issued),
        asked: AtomicUsize::new(0),
        release,
    })
}

fn channels(config: &ChannelsConfig, fake: &Arc<Fake>) -> Arc<Channels<Arc<Fake>>> {
    let parties = Parties { payees: vec![public(3), public(8)], issuer: public(1) };
    let metrics = Metrics::register(&Registry::new()).expect("new names");
    Arc::new(Channels::new(config, parties, Arc::clone(fake), metrics))
}

fn asked(fake: &Fake) -> usize {
    fake.asked.load(Ordering::SeqCst)
}

fn not_payable(result: Result<Arc<Channel>, LookupError>) -> NotPayable {
    match result {
        Err(LookupError::NotPayable(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn concurrent_first_payments_ask_the_issuer_once() {
    let release = Arc::new(Notify::new());
    let fake = fake(Ok(Some(issued(terms(1)))), Some(Arc::clone(&release)));
    let channels = channels(&ChannelsConfig::default(), &fake);
    let id = terms(1).id();
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let channels = Arc::clone(&channels);
            tokio::spawn(async move { channels.get(&id).await })
        })
        .collect();
    while asked(&fake) == 0 {
        tokio::task::yield_now().await;
    }
    release.notify_one();
    for caller in callers {
        assert_eq!(caller.await.expect("no panic").expect("open").terms.id(), id);
    }
    assert_eq!(asked(&fake), 1);
    assert!(channels.get(&id).await.is_ok());
    assert_eq!(asked(&fake), 1, "kept");
}

#[tokio::test]
async fn what_redis_knows_is_not_asked_of_the_issuer() {
    let fake = fake(Ok(None), None);
    *fake.stored.lock().expect("no panic") = Some(terms(1));
    let channel = channels(&ChannelsConfig::default(), &fake).get(&terms(1).id()).await.expect("known");
    assert!(channel.is_in_store());
    assert_eq!(asked(&fake), 0);
}

#[tokio::test]
async fn an_unknown_id_is_remembered_for_a_while() {
    let fake = fake(Ok(None), None);
    let config = ChannelsConfig { unknown_ttl_ms: 20, ..ChannelsConfig::default() };
    let channels = channels(&config, &fake);
    let id = terms(1).id();
    assert_eq!(not_payable(channels.get(&id).await), NotPayable::Unknown);
    *fake.issued.lock().expect("no panic") = Ok(Some(issued(terms(1))));
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while channels.get(&id).await.is_err() {
        assert_eq!(asked(&fake), 1, "not asked again before its time");
        assert!(std::time::Instant::now() < deadline, "never asked again");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(asked(&fake), 2);
}

#[tokio::test]
async fn an_issuer_that_is_away_is_asked_again() {
    let fake = fake(Err(IssuerError::Unavailable { detail: "away".to_owned() }), None);
    let channels = channels(&ChannelsConfig::default(), &fake);
    let id = terms(1).id();
    assert!(matches!(channels.get(&id).await, Err(LookupError::Issuer { .. })));
    *fake.issued.lock().expect("no panic") = Ok(Some(issued(terms(1))));
    assert!(channels.get(&id).await.is_ok());
}

#[tokio::test]
async fn only_open_channels_of_the_configured_parties_are_payable() {
    let other_issuer = Terms { issuer: public(9), ..terms(1) };
    let other_payee = Terms { payee: public(9), ..terms(1) };
    let ended = IssuerChannel { status: IssuerStatus::Refunded, ..issued(terms(1)) };
    for (answer, reason) in [
        (issued(other_issuer), NotPayable::Unknown),
        (issued(other_payee), NotPayable::WrongPayee),
        (ended.clone(), NotPayable::Ended(Arc::new(ended))),
    ] {
        let id = answer.channel_id;
        let channels = channels(&ChannelsConfig::default(), &fake(Ok(Some(answer)), None));
        assert_eq!(not_payable(channels.get(&id).await), reason);
    }
}

#[tokio::test]
async fn a_channel_starts_from_what_the_issuer_has_paid() {
    let proof = Proof::Ed25519 { expires_at: 0, signature: Signature([1; 64]) };
    let latest = Latest { cumulative_amount: Amount::new(7), proof };
    let settled = IssuerChannel { settled_amount: Amount::new(7), settled: Some(latest), ..issued(terms(1)) };
    let id = settled.channel_id;
    let unproven = IssuerChannel { settled: None, ..settled.clone() };
    let known = channels(&ChannelsConfig::default(), &fake(Ok(Some(settled)), None));
    let channel = known.get(&id).await.expect("open");
    assert_eq!(channel.settled.as_ref().map(|(amount, _)| *amount), Some(Amount::new(7)));
    assert!(!channel.is_in_store());
    let odd = channels(&ChannelsConfig::default(), &fake(Ok(Some(unproven)), None));
    assert!(matches!(odd.get(&id).await, Err(LookupError::Issuer { .. })));
}

#[tokio::test]
async fn lookups_beyond_their_bounds_are_refused_and_not_kept() {
    let release = Arc::new(Notify::new());
    let fake = fake(Ok(None), Some(Arc::clone(&release)));
    let config = ChannelsConfig { issuer_lookups_in_flight_max: 1, ..ChannelsConfig::default() };
    let busy = channels(&config, &fake);
    let first = {
        let busy = Arc::clone(&busy);
        tokio::spawn(async move { busy.get(&terms(1).id()).await })
    };
    while asked(&fake) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(busy.get(&terms(2).id()).await.expect_err("one at once"), LookupError::Overloaded);
    release.notify_one();
    assert_eq!(not_payable(first.await.expect("no panic")), NotPayable::Unknown);
    release.notify_one();
    assert_eq!(not_payable(busy.get(&terms(2).id()).await), NotPayable::Unknown);

    let config = ChannelsConfig { issuer_lookups_per_s: 1, ..ChannelsConfig::default() };
    let often = channels(&config, &self::fake(Ok(None), None));
    assert_eq!(not_payable(often.get(&terms(1).id()).await), NotPayable::Unknown);
    assert_eq!(often.get(&terms(2).id()).await.expect_err("one a second"), LookupError::Overloaded);
}

#[tokio::test]
async fn after_a_recovery_a_channel_is_looked_up_anew() {
    let fake = fake(Ok(Some(issued(terms(1)))), None);
    let channels = channels(&ChannelsConfig::default(), &fake);
    let id = terms(1).id();
    let before = channels.get(&id).await.expect("open");
    before.seen_in_store();
    fake.recovery.store(7, Ordering::SeqCst);
    let after = channels.get(&id).await.expect("open");
    assert_eq!((before.recovery, after.recovery, asked(&fake)), (0, 7, 2));
    assert!(!after.is_in_store(), "Redis may have forgotten it");
    channels.get(&id).await.expect("open");
    assert_eq!(asked(&fake), 2, "and then it is known again");
}
