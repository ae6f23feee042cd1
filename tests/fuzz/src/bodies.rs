//! What comes over HTTP: payments and batches from payers, requests to an issuer, answers of an issuer.

use std::fmt::Debug;
use std::sync::LazyLock;

use common::batch::{ChannelSettlement, SettlementResult, SettlementsAnswer, SettlementsRequest};
use common::channel::{CheckedTerms, Terms};
use common::problem::Problem;
use common::verify::usable_key;
use common::voucher::{Payment, Proof, VerifiedVoucher};
use common::wire::{
    self, Account, AccountRequest, CloseRequest, IssuerChannel, IssuerChannelPage, IssuerInfo, OpenRequest,
    PaymentRequest, Receipt, RefundRequest, SettlementRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use service::issuer_client::Books;

use crate::seeds;

/// More than this no batch may hold here.
const BATCH_MAX: usize = 64;

/// The seeds' channels, one a scheme.
static CHANNELS: LazyLock<[CheckedTerms; 3]> =
    LazyLock::new(|| seeds::channels().map(|terms| terms.check().expect("the seeds' terms are valid")));

pub(crate) fn payment(data: &[u8]) {
    let Ok(payment) = wire::payment_from_json(data) else { return };
    assert!(payment.cumulative_amount.is_none_or(|amount| !amount.is_zero()));
    if let Some(cumulative_amount) = payment.cumulative_amount {
        let (channel_id, proof) = (payment.channel_id, payment.proof.clone());
        reads_back(&PaymentRequest { channel_id, cumulative_amount, proof });
    }
    for channel in CHANNELS.iter() {
        let (id, scheme) = (channel.id(), channel.terms().scheme);
        // Whoever finds a proof of another amount than the seeds give has broken more than a decoder.
        if let Ok(verified) = VerifiedVoucher::verify(channel, Payment { channel_id: id, ..payment.clone() })
        {
            let stored = verified.proof().to_bytes();
            assert_eq!(Proof::from_bytes(scheme, &stored).as_ref(), Ok(verified.proof()));
            assert!(seeds::proven(scheme, verified.cumulative_amount(), verified.proof()), "{payment:?}");
        }
    }
}

pub(crate) fn batch(data: &[u8]) {
    for lines in [false, true] {
        let Some(elements) = relayer::split_batch(data, lines, BATCH_MAX) else { continue };
        assert!(elements.len() <= BATCH_MAX);
        assert!(elements.iter().map(|element| element.len()).sum::<usize>() <= data.len());
        for element in elements {
            assert!(!element.is_empty());
            payment(element);
        }
    }
}

pub(crate) fn issuer_requests(data: &[u8]) {
    if let Ok(open) = from_body::<OpenRequest>(data) {
        check_terms(open.terms);
    }
    let _ = from_body::<SettlementRequest>(data);
    // Its elements are any JSON until they are read one by one: a number there that no body has need not come back.
    if let Ok(batch) = wire::from_json::<SettlementsRequest>(data) {
        for settlement in batch.settlements {
            let Ok(settlement) = ChannelSettlement::from_value(settlement) else { continue };
            let value = serde_json::to_value(&settlement).expect("a body is JSON");
            assert_eq!(ChannelSettlement::from_value(value), Ok(settlement));
        }
    }
    let _ = from_body::<RefundRequest>(data);
    let _ = from_body::<AccountRequest>(data);
    let _ = from_body::<CloseRequest>(data);
}

pub(crate) fn issuer_answers(data: &[u8]) {
    if let Ok(channel) = from_answer::<IssuerChannel>(data) {
        check_terms(channel.terms);
    }
    if let Ok(receipt) = from_answer::<Receipt>(data) {
        check_receipt(&receipt);
    }
    if let Ok(answer) = from_answer::<SettlementsAnswer>(data) {
        for result in &answer.results {
            if let SettlementResult::Settled(receipt) = result {
                check_receipt(receipt);
            }
        }
    }
    if let Ok(page) = from_answer::<IssuerChannelPage>(data) {
        page.channels.into_iter().for_each(|channel| check_terms(channel.terms));
    }
    if let Ok(problem) = from_answer::<Problem>(data) {
        let _ = format!("{problem:?}");
    }
    let _ = from_answer::<Account>(data);
    let _ = from_answer::<IssuerInfo>(data);
    let _ = from_answer::<Books>(data);
}

fn check_receipt(receipt: &Receipt) {
    let Some(key) = usable_key(&seeds::terms().issuer) else { return };
    let is_signed = receipt.is_signed_with(&key);
    // Whoever finds a place in a batch for another receipt than was in one has broken more than a decoder.
    if receipt.inclusion.is_some() && receipt.check_inclusion(&key).is_ok() {
        assert_eq!(receipt.settled_amount.units(), 5, "a forged proof of inclusion was taken: {receipt:?}");
    }
    assert!(!is_signed || receipt.settled_amount.units() == 5, "a forged receipt was taken: {receipt:?}");
}

fn check_terms(terms: Terms) {
    let id = terms.id();
    if let Ok(checked) = terms.check() {
        assert_eq!(checked.id(), id);
        assert_eq!(checked.terms().id(), id);
    }
}

fn from_body<T: DeserializeOwned + Serialize + PartialEq + Debug>(
    data: &[u8],
) -> Result<T, wire::InvalidJson> {
    let value = wire::from_json::<T>(data)?;
    reads_back(&value);
    Ok(value)
}

/// As the client of an issuer reads an answer.
fn from_answer<T: DeserializeOwned + Serialize + PartialEq + Debug>(data: &[u8]) -> serde_json::Result<T> {
    let value = serde_json::from_slice::<T>(data)?;
    reads_back(&value);
    Ok(value)
}

fn reads_back<T: DeserializeOwned + Serialize + PartialEq + Debug>(value: &T) {
    let json = serde_json::to_vec(value).expect("a body is JSON");
    assert_eq!(&serde_json::from_slice::<T>(&json).expect("its own JSON"), value);
}
