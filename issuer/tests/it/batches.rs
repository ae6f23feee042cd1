//! Settlements that come together: one transaction, one signed tree, and each stands or falls alone.

use common::batch::{ChannelSettlement, SettlementResult, SettlementsAnswer};
use common::ids::{ChannelId, Hash};
use common::merkle::Tree;
use common::problem::{Code, Problem};
use common::verify::{UsableKey, usable_key};
use common::wire::{IssuerStatus, Receipt};
use serde_json::{Value, json};

use super::BACKEND;
use crate::harness::{Bank, Party, Settlement, issuer_key};

const ROUTE: &str = "/v1/settlements";

async fn bank_with_parties() -> (Bank, Party, Party) {
    let bank = Bank::start(BACKEND).await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    (bank, payer, payee)
}

fn key() -> UsableKey {
    usable_key(&issuer_key()).expect("an honest key")
}

fn of(settlement: Settlement, payer: &Party, payee: &Party) -> ChannelSettlement {
    ChannelSettlement { channel_id: settlement.channel_id, request: settlement.signed(payer, payee) }
}

fn body(settlements: &[ChannelSettlement]) -> Vec<u8> {
    serde_json::to_vec(&json!({ "settlements": settlements })).expect("JSON")
}

/// What became of each, with the text of its result.
async fn settle(bank: &Bank, settlements: &[ChannelSettlement]) -> Vec<(SettlementResult, String)> {
    let (status, answer) = bank.post(ROUTE, body(settlements)).await;
    let text = String::from_utf8(answer).expect("text");
    assert_eq!(status, 200, "{text}");
    let answer: SettlementsAnswer = serde_json::from_str(&text).expect("the documented answer");
    assert_eq!(answer.results.len(), settlements.len());
    let mut rest = text.as_str();
    let mut texts = Vec::new();
    // Each result's own bytes, in order: nothing but brackets and commas is left over.
    for result in answer.results {
        let start =
            rest.find("{\"channel_id\"").into_iter().chain(rest.find("{\"type\"")).min().expect("one");
        let mut values = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<Value>();
        values.next().expect("a value").expect("JSON");
        let end = start + values.byte_offset();
        texts.push((result, rest[start..end].to_owned()));
        rest = &rest[end..];
    }
    assert_eq!(rest, "]}");
    texts
}

fn receipt(result: &SettlementResult) -> &Receipt {
    match result {
        SettlementResult::Settled(receipt) => receipt,
        SettlementResult::Refused(problem) => panic!("refused: {problem:?}"),
    }
}

fn problem(result: &SettlementResult) -> &Problem {
    match result {
        SettlementResult::Refused(problem) => problem,
        SettlementResult::Settled(receipt) => panic!("settled: {receipt:?}"),
    }
}

async fn channels(bank: &Bank, payer: &Party, payee: &Party, count: usize) -> Vec<ChannelId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(bank.channel(payer, payee, 20).await);
    }
    ids
}

#[tokio::test]
async fn each_settlement_of_a_batch_is_answered_as_it_would_have_been_alone() {
    let (bank, payer, payee) = bank_with_parties().await;
    let ids = channels(&bank, &payer, &payee, 6).await;
    let (_, repeated) = bank.settle_raw(&ids[1], &Settlement::of(ids[1], 4).signed(&payer, &payee)).await;
    let stranger = Party::new(9);
    let batch = [
        of(Settlement::of(ids[0], 5).close(), &payer, &payee),
        of(Settlement::of(ids[1], 4), &payer, &payee),
        of(Settlement::of(ids[2], 21), &payer, &payee),
        of(Settlement::of(ids[3], 6), &payer, &stranger),
        of(Settlement::of(ChannelId([9; 32]), 6), &payer, &payee),
        of(Settlement::of(ids[4], 7), &payer, &payee),
        of(Settlement::of(ids[5], 8), &stranger, &payee),
    ];
    let results = settle(&bank, &batch).await;
    assert_eq!(results[1].1.as_bytes(), repeated, "the first receipt, byte for byte");
    for (i, code) in [
        (2, Code::OverCapacity),
        (3, Code::InvalidSignature),
        (4, Code::UnknownChannel),
        (6, Code::InvalidSignature),
    ] {
        let problem = problem(&results[i].0);
        assert_eq!((problem.code, problem.status), (code, code.status()), "settlement {i}");
        let (status, alone) = bank.settle_raw(&batch[i].channel_id, &batch[i].request).await;
        assert_eq!((status, alone.as_slice()), (code.status(), results[i].1.as_bytes()), "settlement {i}");
    }
    // Only what was newly settled is in the batch.
    for (i, place) in [(0, 0), (5, 1)] {
        let receipt = receipt(&results[i].0);
        let inclusion = receipt.inclusion.as_ref().expect("every new receipt has its place");
        assert_eq!((inclusion.size, inclusion.index), (2, place));
        assert_eq!(receipt.check_inclusion(&key()), Ok(()));
        assert!(receipt.is_signed_by(&issuer_key()));
    }
    assert_eq!(bank.usd(&payee).await, (1_000 + 5 + 4 + 7, 0));
    assert_eq!(bank.read(&ids[0]).await.status, IssuerStatus::Closed);
    bank.assert_balanced().await;
}

#[tokio::test]
async fn a_batch_is_one_tree_of_its_receipts_in_order_signed_once() {
    let (bank, payer, payee) = bank_with_parties().await;
    for size in [1, 2, 3, 7] {
        let ids = channels(&bank, &payer, &payee, size).await;
        let batch: Vec<_> = ids.iter().map(|id| of(Settlement::of(*id, 3), &payer, &payee)).collect();
        let results = settle(&bank, &batch).await;
        let receipts: Vec<&Receipt> = results.iter().map(|(result, _)| receipt(result)).collect();
        let root = Tree::of(receipts.iter().map(|receipt| receipt.message())).root();
        for (i, receipt) in (0u64..).zip(&receipts) {
            let inclusion = receipt.inclusion.as_ref().expect("every new receipt has its place");
            assert_eq!((inclusion.root, inclusion.size, inclusion.index), (root, size as u64, i));
            assert_eq!(receipt.check_inclusion(&key()), Ok(()));
            assert_eq!(receipt.settled_at_ms, receipts[0].settled_at_ms, "one time for all");
        }
        for (id, receipt) in ids.iter().zip(receipts) {
            assert_eq!(bank.read(id).await.receipt.as_ref(), Some(receipt), "the channel keeps the same");
        }
    }
}

#[tokio::test]
async fn a_repeat_is_the_same_bytes_by_either_route_and_in_any_later_batch() {
    let (bank, payer, payee) = bank_with_parties().await;
    let ids = channels(&bank, &payer, &payee, 3).await;
    let batch: Vec<_> = ids.iter().map(|id| of(Settlement::of(*id, 3).close(), &payer, &payee)).collect();
    let alone = bank.settle_raw(&ids[0], &batch[0].request).await.1;
    let receipt_alone: Receipt = serde_json::from_slice(&alone).expect("a receipt");
    let place = receipt_alone.inclusion.as_ref().expect("alone it is a batch of one");
    assert_eq!((place.size, place.index, place.siblings.as_slice()), (1, 0, [].as_slice()));
    assert_eq!(receipt_alone.check_inclusion(&key()), Ok(()));

    let first = settle(&bank, &batch).await;
    assert_eq!(first[0].1.as_bytes(), alone);
    assert_eq!(receipt(&first[1].0).inclusion.as_ref().expect("new").size, 2);
    for _ in 0..2 {
        let mut again = batch.clone();
        again.reverse();
        let mut again = settle(&bank, &again).await;
        again.reverse();
        assert_eq!(again, first);
    }
    for (settlement, (_, text)) in batch.iter().zip(&first) {
        let (status, body) = bank.settle_raw(&settlement.channel_id, &settlement.request).await;
        assert_eq!((status, body.as_slice()), (200, text.as_bytes()));
    }
    assert_eq!(bank.usd(&payee).await, (1_009, 0));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn one_channel_several_times_in_a_batch_is_settled_in_order_and_repeats_within_it_are_one() {
    let (bank, payer, payee) = bank_with_parties().await;
    let id = bank.channel(&payer, &payee, 20).await;
    let (five, nine) = (Settlement::of(id, 5), Settlement::of(id, 9).close());
    let batch = [five, five, nine, five, nine, Settlement::of(id, 10).close()];
    let results = settle(&bank, &batch.map(|settlement| of(settlement, &payer, &payee))).await;
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[3], "a closed channel still answers what it settled");
    assert_eq!(results[2], results[4]);
    assert_eq!(problem(&results[5].0).code, Code::ChannelClosed);
    for (i, place) in [(0, 0), (2, 1)] {
        let receipt = receipt(&results[i].0);
        assert_eq!(receipt.check_inclusion(&key()), Ok(()));
        let inclusion = receipt.inclusion.as_ref().expect("new");
        assert_eq!((inclusion.size, inclusion.index), (2, place));
    }
    assert_eq!(bank.read(&id).await.receipt.as_ref(), Some(receipt(&results[2].0)), "the latest");
    assert_eq!(bank.usd(&payee).await, (1_009, 0));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn a_refusal_keeps_the_token_of_the_payee_and_a_stale_one_is_told_the_highest() {
    let (bank, payer, payee) = bank_with_parties().await;
    let ids = channels(&bank, &payer, &payee, 3).await;
    let stranger = Party::new(9);
    let batch = [
        // Refused, but signed by the payee: the token has been seen.
        of(Settlement::of(ids[0], 21).token(7), &payer, &payee),
        // Not signed by the payee: it leaves nothing behind.
        of(Settlement::of(ids[1], 5).token(900), &payer, &stranger),
        of(Settlement::of(ids[2], 5).token(6), &payer, &payee),
    ];
    let results = settle(&bank, &batch).await;
    let codes: Vec<Code> = results.iter().map(|(result, _)| problem(result).code).collect();
    assert_eq!(codes, [Code::OverCapacity, Code::InvalidSignature, Code::StaleFencingToken]);
    assert_eq!(problem(&results[2].0).highest_fencing_token, Some(7));
    let account = bank.client.account(&payee.key()).await.expect("an account");
    assert_eq!(account.highest_fencing_token, 7);
    assert_eq!(bank.usd(&payee).await, (1_000, 0));
}

#[tokio::test]
async fn what_is_malformed_in_one_settlement_is_said_in_its_place_by_field() {
    let (bank, payer, payee) = bank_with_parties().await;
    let ids = channels(&bank, &payer, &payee, 2).await;
    let good = serde_json::to_value(of(Settlement::of(ids[0], 5), &payer, &payee)).expect("JSON");
    let spoiled = |field: &str, with: Value| {
        let mut value = good.clone();
        value[field] = with;
        value
    };
    let mut nameless = good.clone();
    nameless.as_object_mut().expect("an object").remove("channel_id");
    let batch = [
        (spoiled("cumulative_amount", json!("05")), Some("cumulative_amount")),
        (spoiled("channel_id", json!("0OIl")), Some("channel_id")),
        (spoiled("fencing_token", json!(-1)), Some("fencing_token")),
        (spoiled("cumulative_amount", json!("0")), Some("signature")),
        (spoiled("unknown", json!(1)), Some("unknown")),
        (nameless, None),
        (json!([]), None),
        (good.clone(), None),
    ];
    let values: Vec<&Value> = batch.iter().map(|(value, _)| value).collect();
    let (status, answer) = bank.post(ROUTE, json!({ "settlements": values }).to_string()).await;
    assert_eq!(status, 200);
    let answer: SettlementsAnswer = serde_json::from_slice(&answer).expect("the documented answer");
    let (last, spoiled) = answer.results.split_last().expect("eight results");
    for (result, (value, field)) in spoiled.iter().zip(&batch) {
        let problem = problem(result);
        assert_eq!((problem.code, problem.field.as_deref()), (Code::Malformed, *field), "{value}");
    }
    assert_eq!(receipt(last).check_inclusion(&key()), Ok(()));
    assert_eq!(bank.usd(&payee).await, (1_005, 0));
}

#[tokio::test]
async fn batches_are_bounded_and_a_refused_one_settles_nothing() {
    let bank = Bank::start_with(BACKEND, |config| {
        config.development.enabled = true;
        config.development.starting_balance = common::amount::Amount::new(1_000);
        config.limits.settlements_batch_max = 3;
        config.http.body_max_bytes = 4_000;
    })
    .await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    let ids = channels(&bank, &payer, &payee, 4).await;
    let batch: Vec<_> = ids.iter().map(|id| of(Settlement::of(*id, 3), &payer, &payee)).collect();
    for (body, code, field) in [
        (body(&[]), Code::Malformed, Some("settlements")),
        (body(&batch), Code::PayloadTooLarge, Some("settlements")),
        (b"{\"settlements\":[],\"more\":1}".to_vec(), Code::Malformed, None),
        (b"{\"settlements\":{}}".to_vec(), Code::Malformed, Some("settlements")),
        (vec![b' '; 4_001], Code::PayloadTooLarge, None),
    ] {
        let (status, answer) = bank.post(ROUTE, body).await;
        let problem: Problem = serde_json::from_slice(&answer).expect("a problem");
        assert_eq!((status, problem.code), (code.status(), code));
        if let Some(field) = field {
            assert_eq!(problem.field.as_deref(), Some(field));
        }
    }
    assert_eq!(bank.usd(&payee).await, (1_000, 0));
    assert_eq!(settle(&bank, &batch[..3]).await.len(), 3);
    assert_eq!(bank.usd(&payee).await, (1_009, 0));
}

#[tokio::test]
async fn a_receipt_of_before_there_were_batches_is_repeated_as_it_was() {
    let (bank, payer, payee) = bank_with_parties().await;
    let id = bank.channel(&payer, &payee, 20).await;
    let request = Settlement::of(id, 5).close().signed(&payer, &payee);
    let receipt = bank.client.settle(&id, &request).await.expect("settled");
    let old = serde_json::to_string(&Receipt { inclusion: None, ..receipt }).expect("JSON");
    assert!(!old.contains("inclusion"));
    for table in ["settlements", "channels"] {
        bank.database.execute(&format!("UPDATE {table} SET receipt = '{old}'")).await;
    }
    assert_eq!(bank.settle_raw(&id, &request).await, (200, old.clone().into_bytes()));
    let batch = [ChannelSettlement { channel_id: id, request }];
    assert_eq!(settle(&bank, &batch).await[0].1, old);
    let read = bank.read(&id).await.receipt.expect("closed");
    assert!(read.inclusion.is_none() && read.is_signed_by(&issuer_key()));
}

#[tokio::test]
async fn a_batch_is_one_transaction() {
    let (bank, payer, payee) = bank_with_parties().await;
    let ids = channels(&bank, &payer, &payee, 5).await;
    // The second of five.
    bank.database.fail_on_settlement_of(&ids[1].0).await;
    let batch: Vec<_> = ids.iter().map(|id| of(Settlement::of(*id, 3), &payer, &payee)).collect();
    assert_eq!(bank.post(ROUTE, body(&batch)).await.0, 500);
    assert_eq!(bank.usd(&payee).await, (1_000, 0), "not even the first, which was settled before it");
    bank.database.fail_no_more().await;
    let sizes: Vec<u64> = settle(&bank, &batch)
        .await
        .iter()
        .map(|(result, _)| receipt(result).inclusion.as_ref().expect("new").size)
        .collect();
    assert_eq!(sizes, [5; 5], "nothing of the first attempt was kept");
    bank.assert_balanced().await;
}

#[tokio::test]
async fn metrics_count_each_settlement_and_each_request() {
    let (bank, payer, payee) = bank_with_parties().await;
    let ids = channels(&bank, &payer, &payee, 3).await;
    let batch = [
        of(Settlement::of(ids[0], 3), &payer, &payee),
        of(Settlement::of(ids[1], 3), &payer, &payee),
        of(Settlement::of(ids[2], 21), &payer, &payee),
    ];
    settle(&bank, &batch).await;
    let (_, text) = bank.get(&format!("{}/metrics", bank.admin_url)).await;
    let counted = |operation: &str, outcome: &str| {
        let labels = format!("{{operation=\"{operation}\",outcome=\"{outcome}\"}}");
        let line = format!("millrace_issuer_operations_total{labels} ");
        text.lines().find_map(|found| found.strip_prefix(&line)).map(str::to_owned)
    };
    assert_eq!(counted("settle", "ok").as_deref(), Some("2"));
    assert_eq!(counted("settle", "over_capacity").as_deref(), Some("1"));
    assert_eq!(counted("settle_all", "ok").as_deref(), Some("1"));
}

#[test]
fn a_hash_is_written_as_ids_are() {
    let text = serde_json::to_value(Hash([7; 32])).expect("JSON");
    assert_eq!(text, json!(ChannelId([7; 32])));
}
