//! Settlements.

use std::time::Duration;

use common::amount::Amount;
use common::channel::Terms;
use common::ids::{ChannelId, Signature};
use common::problem::{Code, Problem};
use common::wire::{IssuerStatus, Receipt};
use futures::future::join_all;

use super::BACKEND;
use crate::harness::{Bank, LIFETIME_S, Party, Settlement, fault_of, issuer_key, problem_of};

async fn bank_with_parties() -> (Bank, Party, Party) {
    let bank = Bank::start(BACKEND).await;
    let (payer, payee) = (bank.party(1).await, bank.party(2).await);
    (bank, payer, payee)
}

#[tokio::test]
async fn a_partial_settlement_then_a_close_pays_the_rest_only() {
    let (bank, payer, payee) = bank_with_parties().await;
    let id = bank.channel(&payer, &payee, 500).await;
    let partial = Settlement::of(id, 200).signed(&payer, &payee);
    let receipt = bank.client.settle(&id, &partial).await.expect("settled");
    assert_eq!(
        (receipt.settled_amount.units(), receipt.refunded_amount.units(), receipt.closed),
        (200, 0, false)
    );
    assert_eq!((bank.usd(&payer).await, bank.usd(&payee).await), ((500, 300), (1_200, 0)));

    bank.clock.advance(Duration::from_millis(1_234));
    let close = Settlement::of(id, 350).close().signed(&payer, &payee);
    let last = bank.client.settle(&id, &close).await.expect("closed");
    assert_eq!((last.settled_amount.units(), last.refunded_amount.units(), last.closed), (350, 150, true));
    assert_eq!(last.settled_at_ms - receipt.settled_at_ms, 1_234);
    assert_eq!((bank.usd(&payer).await, bank.usd(&payee).await), ((650, 0), (1_350, 0)));

    let channel = bank.read(&id).await;
    assert_eq!((channel.status, channel.settled_amount.units()), (IssuerStatus::Closed, 350));
    assert_eq!(channel.settled.map(|latest| Some(latest.proof)), close.proof().ok());
    assert_eq!(channel.receipt, Some(last.clone()));
    assert!(last.is_signed_by(&issuer_key()) && !last.is_signed_by(&payee.key()));
    assert!(!Receipt { settled_amount: Amount::new(351), ..last }.is_signed_by(&issuer_key()));

    // What was settled before the close is still answered; anything else is not.
    assert_eq!(bank.client.settle(&id, &partial).await.expect("the first receipt"), receipt);
    let more = Settlement::of(id, 400).signed(&payer, &payee);
    assert_eq!(bank.refusal(&id, &more).await, Some(Code::ChannelClosed));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn twenty_identical_settlements_at_once_pay_once_and_answer_the_same_bytes() {
    let (bank, payer, payee) = bank_with_parties().await;
    let id = bank.channel(&payer, &payee, 500).await;
    for settlement in [Settlement::of(id, 200), Settlement::of(id, 300).close()] {
        let request = settlement.signed(&payer, &payee);
        let answers = join_all((0..20).map(|_| bank.settle_raw(&id, &request))).await;
        assert!(answers.iter().all(|answer| *answer == answers[0] && answer.0 == 200), "{answers:?}");
    }
    assert_eq!((bank.usd(&payer).await, bank.usd(&payee).await), ((700, 0), (1_300, 0)));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn forty_settlements_at_once_credit_one_payee_exactly_forty_times() {
    let (bank, payer, payee) = bank_with_parties().await;
    let ids: Vec<ChannelId> = join_all((0..40).map(|_| bank.channel(&payer, &payee, 20))).await;
    let requests: Vec<_> =
        ids.iter().map(|id| (*id, Settlement::of(*id, 7).close().signed(&payer, &payee))).collect();
    let results = join_all(requests.iter().map(|(id, request)| bank.client.settle(id, request))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!((bank.usd(&payer).await, bank.usd(&payee).await), ((1_000 - 280, 0), (1_280, 0)));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn rising_settlements_of_one_channel_at_once_pay_no_unit_twice() {
    let (bank, payer, payee) = bank_with_parties().await;
    let id = bank.channel(&payer, &payee, 500).await;
    let requests: Vec<_> =
        (1..=30).map(|step| Settlement::of(id, step * 10).signed(&payer, &payee)).collect();
    let codes = join_all(requests.iter().map(|request| bank.refusal(&id, request))).await;
    assert!(codes.iter().all(|code| matches!(code, None | Some(Code::StaleAmount))), "{codes:?}");
    assert_eq!((bank.usd(&payer).await, bank.usd(&payee).await), ((500, 200), (1_300, 0)));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn a_settlement_under_a_lower_token_is_refused_with_the_highest() {
    let (bank, payer, payee) = bank_with_parties().await;
    let (first, second) = (bank.channel(&payer, &payee, 100).await, bank.channel(&payer, &payee, 100).await);
    let old = Settlement::of(first, 10).token(5).signed(&payer, &payee);
    bank.client.settle(&first, &old).await.expect("settled");

    // A new leader settles another channel of the same payee; the token is above what an i64 holds.
    let token = u64::MAX - 1;
    let new = Settlement::of(second, 10).token(token).signed(&payer, &payee);
    bank.client.settle(&second, &new).await.expect("settled");
    assert_eq!(bank.client.account(&payee.key()).await.expect("an account").highest_fencing_token, token);

    // The old leader is told, for new settlements and for a repeat of its own.
    for request in [old, Settlement::of(first, 20).token(token - 1).signed(&payer, &payee)] {
        let problem = problem_of(bank.client.settle(&first, &request).await);
        assert_eq!((problem.code, problem.highest_fencing_token), (Code::StaleFencingToken, Some(token)));
    }
    assert_eq!(bank.usd(&payee).await, (1_020, 0));

    // The new leader repeats what the old one settled and gets the old one's receipt.
    let repeat = Settlement::of(first, 10).token(token).signed(&payer, &payee);
    assert_eq!(bank.client.settle(&first, &repeat).await.expect("a receipt").settled_amount.units(), 10);
    assert_eq!(bank.usd(&payee).await, (1_020, 0));

    // Another payee's tokens are its own.
    let other = bank.party(3).await;
    let third = bank.channel(&payer, &other, 100).await;
    assert_eq!(bank.refusal(&third, &Settlement::of(third, 1).signed(&payer, &other)).await, None);
    bank.assert_balanced().await;
}

#[tokio::test]
async fn a_refused_settlement_still_counts_as_a_sighting_of_its_token_if_the_payee_signed_it() {
    let (bank, payer, payee) = bank_with_parties().await;
    let id = bank.channel(&payer, &payee, 100).await;
    let over = Settlement::of(id, 101).token(9).signed(&payer, &payee);
    assert_eq!(bank.refusal(&id, &over).await, Some(Code::OverCapacity));
    assert_eq!(bank.client.account(&payee.key()).await.expect("an account").highest_fencing_token, 9);
    let below = Settlement::of(id, 10).token(8).signed(&payer, &payee);
    assert_eq!(bank.refusal(&id, &below).await, Some(Code::StaleFencingToken));
    let forged = Settlement::of(id, 10).token(99).signed(&payer, &payer);
    assert_eq!(bank.refusal(&id, &forged).await, Some(Code::InvalidSignature));
    assert_eq!(bank.client.account(&payee.key()).await.expect("an account").highest_fencing_token, 9);
}

#[tokio::test]
async fn lower_amounts_are_refused_with_the_latest_and_equal_ones_are_not_paid_again() {
    let (bank, payer, payee) = bank_with_parties().await;
    let id = bank.channel(&payer, &payee, 500).await;
    let request = Settlement::of(id, 200).signed(&payer, &payee);
    bank.client.settle(&id, &request).await.expect("settled");
    for settlement in
        [Settlement::of(id, 199), Settlement::of(id, 199).close(), Settlement::of(id, 0).close()]
    {
        let problem = problem_of(bank.client.settle(&id, &settlement.signed(&payer, &payee)).await);
        let latest = problem.latest.expect("the latest voucher");
        assert_eq!((problem.code, latest.cumulative_amount.units()), (Code::StaleAmount, 200));
        assert_eq!(request.proof(), Ok(Some(latest.proof)));
    }
    bank.client.settle(&id, &request).await.expect("a repeat");
    assert_eq!(bank.usd(&payee).await, (1_200, 0));
    let close = Settlement::of(id, 200).close().signed(&payer, &payee);
    let receipt = bank.client.settle(&id, &close).await.expect("the same amount closes");
    assert_eq!(receipt.refunded_amount.units(), 300);
    assert_eq!((bank.usd(&payer).await, bank.usd(&payee).await), ((800, 0), (1_200, 0)));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn an_unused_channel_closes_without_a_voucher_and_pays_nothing() {
    let (bank, payer, payee) = bank_with_parties().await;
    let id = bank.channel(&payer, &payee, 500).await;
    let close = Settlement::of(id, 0).close().signed(&payer, &payee);
    let first = bank.settle_raw(&id, &close).await;
    assert_eq!(first, bank.settle_raw(&id, &close).await);
    let receipt: Receipt = serde_json::from_slice(&first.1).expect("a receipt");
    assert_eq!((receipt.settled_amount.units(), receipt.refunded_amount.units()), (0, 500));
    assert_eq!((bank.usd(&payer).await, bank.usd(&payee).await), ((1_000, 0), (1_000, 0)));
    assert_eq!(bank.read(&id).await.settled, None);
    bank.assert_balanced().await;
}

#[tokio::test]
async fn settlements_of_the_wrong_shape_are_refused_by_field() {
    let (bank, payer, payee) = bank_with_parties().await;
    let id = bank.channel(&payer, &payee, 500).await;
    let unsigned = |settlement: Settlement| {
        let mut request = settlement.signed(&payer, &payee);
        request.signature = None;
        request
    };
    let mut superfluous = Settlement::of(id, 0).close().signed(&payer, &payee);
    superfluous.signature = Some(Signature([1; 64]));
    let mut expiring = unsigned(Settlement::of(id, 0).close());
    expiring.expires_at = Some(9);
    let before_the_channel = bank.clock.now_s() + LIFETIME_S - 1;
    for (field, request) in [
        ("signature", unsigned(Settlement::of(id, 5))),
        ("signature", superfluous),
        ("cumulative_amount", unsigned(Settlement::of(id, 0))),
        ("expires_at", expiring),
        ("expires_at", Settlement::of(id, 5).voucher_until(-1).signed(&payer, &payee)),
        ("expires_at", Settlement::of(id, 5).voucher_until(before_the_channel).signed(&payer, &payee)),
    ] {
        let (code, at) = fault_of(bank.client.settle(&id, &request).await);
        assert_eq!((code, at.as_deref()), (Code::Malformed, Some(field)));
    }
    assert_eq!(bank.usd(&payee).await, (1_000, 0));
    let nowhere = ChannelId([9; 32]);
    let request = Settlement::of(nowhere, 5).signed(&payer, &payee);
    assert_eq!(bank.refusal(&nowhere, &request).await, Some(Code::UnknownChannel));
    let until_then = Settlement::of(id, 5).voucher_until(before_the_channel + 1).signed(&payer, &payee);
    assert_eq!(bank.refusal(&id, &until_then).await, None);
}

#[tokio::test]
async fn forged_settlements_are_refused_and_pay_nothing() {
    let (bank, payer, payee) = bank_with_parties().await;
    let (id, other) = (bank.channel(&payer, &payee, 100).await, bank.channel(&payer, &payee, 100).await);
    let stranger = Party::new(7);
    let good = Settlement::of(id, 50).signed(&payer, &payee);
    let voucher_by_stranger = Settlement::of(id, 50).signed(&stranger, &payee);
    let settled_by_stranger = Settlement::of(id, 50).signed(&payer, &stranger);
    let mut raised = good.clone();
    raised.cumulative_amount = Amount::new(60);
    let mut raised_by_payee = Settlement::of(id, 60).signed(&payer, &payee);
    raised_by_payee.signature = good.signature;
    let mut closing = good.clone();
    closing.close = true;
    let mut under_a_new_token = good.clone();
    under_a_new_token.fencing_token = 2;
    let mut of_another_channel = good.clone();
    of_another_channel.signature = Settlement::of(other, 50).signed(&payer, &payee).signature;
    let mut longer_lived = good.clone();
    longer_lived.expires_at = Some(i64::MAX);
    for request in [
        voucher_by_stranger,
        settled_by_stranger,
        raised,
        raised_by_payee,
        closing,
        under_a_new_token,
        of_another_channel,
        longer_lived,
    ] {
        assert_eq!(bank.refusal(&id, &request).await, Some(Code::InvalidSignature), "{request:?}");
    }
    assert_eq!((bank.usd(&payer).await, bank.usd(&payee).await), ((800, 200), (1_000, 0)));
    assert_eq!(bank.refusal(&id, &good).await, None);
    bank.assert_balanced().await;
}

#[tokio::test]
async fn vouchers_are_checked_against_the_authorizer_not_the_payer() {
    let (bank, payer, payee) = bank_with_parties().await;
    let authorizer = Party::new(8);
    let terms = Terms { payer_authorizer: authorizer.key(), ..bank.terms(&payer, &payee, 100) };
    let id = bank.client.open(&payer.opening(terms)).await.expect("opened").channel_id;
    let by_payer = Settlement::of(id, 50).signed(&payer, &payee);
    assert_eq!(bank.refusal(&id, &by_payer).await, Some(Code::InvalidSignature));
    assert_eq!(bank.refusal(&id, &Settlement::of(id, 50).signed(&authorizer, &payee)).await, None);
}

#[tokio::test]
async fn nothing_is_settled_over_capacity_or_after_expiry() {
    let (bank, payer, payee) = bank_with_parties().await;
    let id = bank.channel(&payer, &payee, 100).await;
    for settlement in [Settlement::of(id, 101), Settlement::of(id, u64::MAX).close()] {
        let code = bank.refusal(&id, &settlement.signed(&payer, &payee)).await;
        assert_eq!(code, Some(Code::OverCapacity));
    }
    let settled = Settlement::of(id, 40).signed(&payer, &payee);
    let stale_voucher = Settlement::of(id, 50).voucher_until(bank.clock.now_s() - 1).signed(&payer, &payee);
    assert_eq!(bank.refusal(&id, &stale_voucher).await, Some(Code::ChannelExpired));

    bank.clock.advance(Duration::from_secs(LIFETIME_S.unsigned_abs()));
    let at_the_last_second = bank.settle_raw(&id, &settled).await;
    assert_eq!(at_the_last_second.0, 200);
    bank.clock.advance(Duration::from_secs(1));
    for settlement in [Settlement::of(id, 50), Settlement::of(id, 50).close(), Settlement::of(id, 40).close()]
    {
        let code = bank.refusal(&id, &settlement.signed(&payer, &payee)).await;
        assert_eq!(code, Some(Code::ChannelExpired));
    }
    assert_eq!(bank.settle_raw(&id, &settled).await, at_the_last_second, "a repeat is not a settlement");
    assert_eq!(bank.usd(&payee).await, (1_040, 0));
    bank.assert_balanced().await;
}

#[tokio::test]
async fn amounts_that_doubles_or_signed_integers_cannot_hold_are_exact() {
    for amount in [1u64 << 53, (1 << 53) + 1, (1 << 63) + 1, u64::MAX - 1, u64::MAX] {
        // All the money there is belongs to one payer: it registers while accounts start with that much.
        let bank = Bank::start_with(BACKEND, |config| {
            config.development.enabled = true;
            config.development.starting_balance = Amount::MAX;
        })
        .await;
        let payer = bank.party(1).await;
        let bank = bank.restart_with(|config| config.development.enabled = false).await;
        let payee = bank.party(2).await;
        let id = bank.channel(&payer, &payee, u64::MAX).await;
        assert_eq!(bank.usd(&payer).await, (0, u64::MAX));
        let below = bank.client.settle(&id, &Settlement::of(id, amount - 1).signed(&payer, &payee)).await;
        assert_eq!(below.expect("settled").settled_amount.units(), amount - 1);
        let (status, body) =
            bank.settle_raw(&id, &Settlement::of(id, amount).close().signed(&payer, &payee)).await;
        let text = String::from_utf8(body).expect("text");
        assert_eq!(status, 200, "{text}");
        assert!(text.contains(&format!("\"settled_amount\":\"{amount}\"")), "{text}");
        assert!(text.contains(&format!("\"refunded_amount\":\"{}\"", u64::MAX - amount)), "{text}");
        assert_eq!((bank.usd(&payer).await, bank.usd(&payee).await), ((u64::MAX - amount, 0), (amount, 0)));
        bank.assert_balanced().await;
    }
}

#[tokio::test]
async fn amounts_in_any_other_form_are_malformed() {
    let (bank, payer, payee) = bank_with_parties().await;
    let id = bank.channel(&payer, &payee, 100).await;
    let good = serde_json::to_value(Settlement::of(id, 5).signed(&payer, &payee)).expect("JSON");
    for amount in ["5", "5.0", "\"05\"", "\"+5\"", "\"5e0\"", "\"18446744073709551616\"", "null"] {
        let mut body = good.clone();
        body["cumulative_amount"] = serde_json::from_str(amount).expect("JSON");
        let (status, answer) = bank.post(&format!("/v1/channels/{id}/settlements"), body.to_string()).await;
        let problem: Problem = serde_json::from_slice(&answer).expect("a problem");
        assert_eq!((status, problem.code), (400, Code::Malformed), "{amount}");
        assert_eq!(problem.field.as_deref(), Some("cumulative_amount"));
    }
    assert_eq!(bank.usd(&payee).await, (1_000, 0));
}
