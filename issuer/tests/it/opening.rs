//! Accounts and openings.

use common::amount::Amount;
use common::channel::Terms;
use common::ids::{ChannelId, PublicKey, Signature};
use common::problem::Code;
use common::wire::{IssuerStatus, OpenRequest};
use futures::future::join_all;
use service::issuer_client::ChannelQuery;

use super::BACKEND;
use crate::harness::{Bank, Party, code_of, fault_of, issuer_key};

#[tokio::test]
async fn the_issuer_says_who_it_is() {
    let bank = Bank::start(BACKEND).await;
    let info = bank.client.info().await.expect("info");
    assert_eq!((info.public_key, info.development), (issuer_key(), true));
}

#[tokio::test]
async fn accounts_start_with_money_in_development_only_and_never_twice() {
    let bank = Bank::start_with(BACKEND, |_| ()).await;
    let early = bank.party(1).await;
    assert!(bank.client.account(&early.key()).await.expect("an account").balances.is_empty());
    let bank = bank
        .restart_with(|config| {
            config.development.enabled = true;
            config.development.starting_balance = Amount::new(7);
        })
        .await;
    bank.party(1).await;
    assert_eq!(bank.usd(&early).await, (0, 0), "registered before: nothing to start with");
    let late = bank.party(2).await;
    join_all((0..10).map(|_| bank.party(2))).await;
    assert_eq!(bank.usd(&late).await, (7, 0));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn no_more_than_two_to_the_64_less_one_is_ever_issued() {
    let bank = Bank::start_with(BACKEND, |config| {
        config.development.enabled = true;
        config.development.starting_balance = Amount::MAX;
    })
    .await;
    let first = bank.party(1).await;
    let second = bank.client.register(&Party::new(2).key()).await;
    assert_eq!(code_of(second), Some(Code::InsufficientFunds));
    assert_eq!(bank.usd(&first).await, (u64::MAX, 0));
    assert_eq!(code_of(bank.client.account(&Party::new(2).key()).await), Some(Code::UnknownAccount));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn keys_of_small_order_and_unknown_accounts_are_refused() {
    let bank = Bank::start(BACKEND).await;
    let mut identity = [0; 32];
    identity[0] = 1;
    for weak in [identity, [0; 32]] {
        let (code, field) = fault_of(bank.client.register(&PublicKey(weak)).await);
        assert_eq!((code, field.as_deref()), (Code::Malformed, Some("public_key")));
    }
    assert_eq!(code_of(bank.client.account(&Party::new(9).key()).await), Some(Code::UnknownAccount));
}

#[tokio::test]
async fn an_opening_locks_the_deposit_and_its_replay_gives_the_one_channel() {
    let bank = Bank::start(BACKEND).await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    let opening = payer.opening(bank.terms(&payer, &payee, 400));
    let body = serde_json::to_vec(&opening).expect("JSON");
    let answers = join_all((0..10).map(|_| bank.post("/v1/channels", body.clone()))).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1, "opened once");
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 9, "found after that");
    assert!(answers.iter().all(|(_, body)| *body == answers[0].1));
    assert_eq!(bank.usd(&payer).await, (600, 400));
    let channel = bank.read(&opening.terms.id()).await;
    assert_eq!((channel.status, channel.terms), (IssuerStatus::Open, opening.terms.clone()));
    // Even once its expiry is too near for a new one.
    bank.clock.advance(std::time::Duration::from_secs(3_599));
    assert_eq!(bank.client.open(&opening).await.expect("found").channel_id, channel.channel_id);
    bank.assert_balanced().await;
}

#[tokio::test]
async fn ten_channels_at_once_never_lock_more_than_the_balance() {
    let bank = Bank::start(BACKEND).await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    let openings: Vec<_> = (0..10).map(|_| payer.opening(bank.terms(&payer, &payee, 300))).collect();
    let results = join_all(openings.iter().map(|opening| bank.client.open(opening))).await;
    let codes: Vec<_> = results.into_iter().map(code_of).collect();
    assert_eq!(codes.iter().filter(|code| code.is_none()).count(), 3);
    assert_eq!(codes.iter().filter(|code| **code == Some(Code::InsufficientFunds)).count(), 7);
    assert_eq!(bank.usd(&payer).await, (100, 900));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn openings_that_cannot_be_are_refused_by_field_and_lock_nothing() {
    let bank = Bank::start_with(BACKEND, |config| {
        config.development.enabled = true;
        config.development.starting_balance = Amount::new(1_000);
        config.limits.channel_lifetime_max_s = 10_000;
    })
    .await;
    let (payer, payee, stranger) = (bank.party(1).await, bank.party(2).await, Party::new(3));
    let now_s = bank.clock.now_s();
    type Spoil<'a> = Box<dyn Fn(&mut Terms) + 'a>;
    let cases: [(&str, Code, Spoil<'_>); 9] = [
        ("terms.issuer", Code::Malformed, Box::new(|t| t.issuer = stranger.key())),
        ("terms.capacity", Code::Malformed, Box::new(|t| t.capacity = Amount::ZERO)),
        ("terms.asset", Code::Malformed, Box::new(|t| t.asset = "a b".to_owned())),
        ("terms.payer_authorizer", Code::Malformed, Box::new(|t| t.payer_authorizer = PublicKey([0; 32]))),
        ("terms.expires_at", Code::Malformed, Box::new(|t| t.expires_at = now_s + 59)),
        ("terms.expires_at", Code::Malformed, Box::new(|t| t.expires_at = now_s + 10_001)),
        ("terms.expires_at", Code::Malformed, Box::new(|t| t.expires_at = i64::MAX)),
        ("terms.payee", Code::UnknownAccount, Box::new(|t| t.payee = stranger.key())),
        ("", Code::InsufficientFunds, Box::new(|t| t.asset = "eur".to_owned())),
    ];
    for (field, code, spoil) in cases {
        let mut terms = bank.terms(&payer, &payee, 10);
        spoil(&mut terms);
        let (found, at) = fault_of(bank.client.open(&payer.opening(terms)).await);
        assert_eq!((found, at.as_deref().unwrap_or_default()), (code, field));
    }
    let unregistered = stranger.opening(bank.terms(&stranger, &payee, 10));
    let (code, field) = fault_of(bank.client.open(&unregistered).await);
    assert_eq!((code, field.as_deref()), (Code::UnknownAccount, Some("terms.payer")));

    let terms = bank.terms(&payer, &payee, 10);
    let forged = stranger.opening(terms.clone());
    assert_eq!(code_of(bank.client.open(&forged).await), Some(Code::InvalidSignature));
    let zero = OpenRequest { terms: terms.clone(), signature: Signature([0; 64]) };
    assert_eq!(code_of(bank.client.open(&zero).await), Some(Code::InvalidSignature));
    let other_channel = payer.opening(bank.terms(&payer, &payee, 10)).signature;
    let moved = OpenRequest { terms: terms.clone(), signature: other_channel };
    assert_eq!(code_of(bank.client.open(&moved).await), Some(Code::InvalidSignature));

    assert_eq!(bank.usd(&payer).await, (1_000, 0));
    for expires_at in [now_s + 60, now_s + 10_000] {
        let opening = payer.opening(Terms { expires_at, ..terms.clone() });
        assert_eq!(code_of(bank.client.open(&opening).await), None, "the bounds themselves are fine");
    }
}

#[tokio::test]
async fn channels_are_listed_in_pages_by_party() {
    let bank = Bank::start(BACKEND).await;
    let (payer, payee, other) = (bank.party(1).await, bank.party(2).await, bank.party(3).await);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(bank.channel(&payer, &payee, 1).await);
    }
    bank.channel(&other, &payee, 1).await;
    ids.sort();
    let mut query = ChannelQuery { payer: Some(payer.key()), limit: Some(2), ..ChannelQuery::default() };
    let mut listed: Vec<ChannelId> = Vec::new();
    let mut pages = 0;
    loop {
        let page = bank.client.channels(&query).await.expect("a page");
        listed.extend(page.channels.iter().map(|channel| channel.channel_id));
        pages += 1;
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!((listed, pages), (ids, 3));
    let count =
        async |query: ChannelQuery| bank.client.channels(&query).await.expect("a page").channels.len();
    assert_eq!(count(ChannelQuery::default()).await, 6);
    assert_eq!(count(ChannelQuery { payee: Some(payee.key()), ..Default::default() }).await, 6);
    assert_eq!(
        count(ChannelQuery { payer: Some(other.key()), payee: Some(payee.key()), ..Default::default() })
            .await,
        1
    );
    assert_eq!(count(ChannelQuery { payee: Some(other.key()), ..Default::default() }).await, 0);
    for limit in [0, 1_001] {
        let refused = bank.client.channels(&ChannelQuery { limit: Some(limit), ..Default::default() }).await;
        assert_eq!(fault_of(refused), (Code::Malformed, Some("limit".to_owned())));
    }
}
