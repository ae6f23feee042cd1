//! One channel's life, for the examples of descriptions: every value is made the way a real one is, by keys that anybody
//! may know, so that signatures check and what is refused is refused for the reason given.

use common::amount::Amount;
use common::batch::{self, ChannelSettlement};
use common::channel::{SchemeKind, Status, Terms};
use common::client::Purse;
use common::ids::{ChannelId, Hash, PublicKey, Signature};
use common::message;
use common::problem::{Code, Problem};
use common::voucher::Proof;
use common::wire::{
    Account, Balance, CloseAnswer, CloseRequest, IssuerChannel, IssuerInfo, IssuerStatus, KeyCertificate,
    Latest, OpenRequest, Outcome, Party, PaymentAnswer, PaymentReceipt, PaymentRequest, Receipt,
    RefundRequest, RelayerChannel, SettlementRequest,
};
use ed25519_dalek::SigningKey;

/// Some moment of 2026, in ms since 1970.
const NOW_MS: i64 = 1_790_000_000_000;

/// The payee's settlements so far were made under this fencing token.
const FENCING_TOKEN: u64 = 7;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn issuer() -> SigningKey {
    key(1)
}

fn payer() -> SigningKey {
    key(2)
}

fn payee() -> SigningKey {
    key(3)
}

fn amount(units: u64) -> Amount {
    Amount::new(units)
}

/// What was agreed on: 1,000 usd, until 2100, paid by vouchers.
pub fn terms() -> Terms {
    terms_in(SchemeKind::Ed25519)
}

fn terms_in(scheme: SchemeKind) -> Terms {
    let payer = PublicKey::of(&payer());
    Terms {
        issuer: PublicKey::of(&issuer()),
        payer,
        payer_authorizer: payer,
        payee: PublicKey::of(&payee()),
        asset: "usd".to_owned(),
        capacity: amount(1_000),
        expires_at: 4_102_444_800,
        salt: 1,
        scheme,
    }
}

/// The channel.
pub fn channel_id() -> ChannelId {
    terms().id()
}

/// The payer's key.
pub fn payer_key() -> PublicKey {
    PublicKey::of(&payer())
}

/// A payment of 5, all in all.
pub fn voucher() -> PaymentRequest {
    voucher_of(5)
}

fn voucher_of(units: u64) -> PaymentRequest {
    let message = message::voucher(&channel_id(), amount(units), 0);
    let proof = Proof::Ed25519 { expires_at: 0, signature: Signature::of(&payer(), &message) };
    PaymentRequest { channel_id: channel_id(), cumulative_amount: amount(units), proof }
}

/// A payment of 5 on a channel of the scheme `payword`. `None` would be a seed from which no chain grows.
pub fn payword() -> Option<PaymentRequest> {
    of_purse(&Purse::payword(Hash([8; 32]), amount(1), 16).ok()?)
}

/// A payment of 5 on a channel of the scheme `paytree`.
pub fn paytree() -> Option<PaymentRequest> {
    of_purse(&Purse::paytree(Hash([9; 32]), amount(1), 16).ok()?)
}

fn of_purse(purse: &Purse) -> Option<PaymentRequest> {
    purse.payment(terms_in(purse.scheme()).id(), amount(5)).ok()
}

/// The answer to [`voucher`], by a relayer that gives receipts.
pub fn taken() -> PaymentAnswer {
    let certified = key(4);
    let public = PublicKey::of(&certified);
    let expires_at = terms().expires_at;
    let certificate = KeyCertificate {
        key: public,
        expires_at,
        signature: Signature::of(&payee(), &message::receipt_key(&public, expires_at)),
    };
    let receipt = PaymentReceipt {
        accepted_at_ms: NOW_MS,
        signed_by: public,
        certificate: Some(certificate),
        signature: Signature::of(&certified, &message::payment_receipt(&channel_id(), amount(5), NOW_MS)),
    };
    PaymentAnswer { receipt: Some(Box::new(receipt)), ..answer(Outcome::Accepted) }
}

/// The answer to [`voucher`].
pub fn answer(outcome: Outcome) -> PaymentAnswer {
    PaymentAnswer { channel_id: channel_id().into(), cumulative_amount: amount(5), outcome, receipt: None }
}

fn latest() -> Latest {
    let PaymentRequest { cumulative_amount, proof, .. } = voucher();
    Latest { cumulative_amount, proof }
}

/// The channel as a relayer shows it once [`voucher`] was taken.
pub fn relayer_channel() -> RelayerChannel {
    RelayerChannel {
        channel_id: channel_id(),
        terms: terms(),
        status: Status::Open,
        capacity: terms().capacity,
        latest: Some(latest()),
        close_requested: false,
        receipt: None,
    }
}

/// A request by the payer to close it.
pub fn close() -> CloseRequest {
    let signature = Signature::of(&payer(), &message::close_request(&channel_id()));
    CloseRequest { requested_by: Party::Payer, signature }
}

/// The answer to [`close`].
pub fn close_noted() -> CloseAnswer {
    CloseAnswer { channel_id: channel_id(), status: Status::Open }
}

/// Who the issuer is.
pub fn info() -> IssuerInfo {
    IssuerInfo { public_key: PublicKey::of(&issuer()), development: true }
}

/// The payer's account, with the channel open.
pub fn account() -> Account {
    let balance = Balance { asset: "usd".to_owned(), available: amount(999_999_000), locked: amount(1_000) };
    Account { public_key: payer_key(), balances: vec![balance], highest_fencing_token: 0 }
}

/// The opening.
pub fn open() -> OpenRequest {
    OpenRequest { terms: terms(), signature: Signature::of(&payer(), &message::open(&channel_id())) }
}

/// The channel at the issuer, just opened.
pub fn issuer_channel() -> IssuerChannel {
    IssuerChannel {
        channel_id: channel_id(),
        terms: terms(),
        status: IssuerStatus::Open,
        settled_amount: Amount::ZERO,
        refunded_amount: Amount::ZERO,
        settled: None,
        receipt: None,
        opened_at_ms: NOW_MS,
    }
}

/// The channel at the issuer, expired and taken back.
pub fn refunded_channel() -> IssuerChannel {
    IssuerChannel { status: IssuerStatus::Refunded, refunded_amount: amount(1_000), ..issuer_channel() }
}

/// The payer's request for what an expired channel still holds.
pub fn refund() -> RefundRequest {
    RefundRequest { signature: Signature::of(&payer(), &message::refund(&channel_id())) }
}

/// The payee's request to settle [`voucher`] and close the channel.
pub fn settlement() -> SettlementRequest {
    let voucher = voucher();
    let mut request =
        SettlementRequest::unsigned(voucher.cumulative_amount, Some(voucher.proof), true, FENCING_TOKEN);
    let message = message::settle(&channel_id(), request.cumulative_amount, request.close, FENCING_TOKEN);
    request.payee_signature = Signature::of(&payee(), &message);
    request
}

/// [`settlement`] as one of a batch.
pub fn settlement_in_batch() -> ChannelSettlement {
    ChannelSettlement { channel_id: channel_id(), request: settlement() }
}

/// The answer to [`settlement`].
pub fn receipt() -> Receipt {
    let mut receipt = Receipt {
        channel_id: channel_id(),
        settled_amount: amount(5),
        refunded_amount: amount(995),
        closed: true,
        settled_at_ms: NOW_MS,
        signature: Signature([0; 64]),
        inclusion: None,
    };
    receipt.signature = Signature::of(&issuer(), &receipt.message());
    let mut alone = [receipt];
    batch::commit(&mut alone, &issuer());
    let [receipt] = alone;
    receipt
}

/// A problem as it comes with this code.
pub fn problem(code: Code) -> Problem {
    let mut problem = Problem::new(code);
    match code {
        Code::Malformed => {
            return problem.field("signature").detail("expected base58 of 64 bytes, found 3 bytes");
        }
        Code::StaleAmount | Code::MissingSiblings | Code::StepTooLarge | Code::ChannelClosed => {
            problem.latest = Some(latest());
        }
        Code::StaleFencingToken => problem.highest_fencing_token = Some(FENCING_TOKEN),
        _ => {}
    }
    if matches!(code.status(), 429 | 503) { problem.retry_after_s(1) } else { problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::verify::usable_key;
    use common::voucher::{Payment, VerifiedVoucher};

    #[test]
    fn what_is_shown_would_be_taken() {
        for payment in [Some(voucher()), payword(), paytree()] {
            let payment = payment.expect("it grows from its seed");
            let scheme = match &payment.proof {
                Proof::Ed25519 { .. } => SchemeKind::Ed25519,
                Proof::Payword(_) => Purse::payword(Hash([8; 32]), amount(1), 16).expect("16 steps").scheme(),
                Proof::Paytree(_) => {
                    Purse::paytree(Hash([9; 32]), amount(1), 16).expect("16 leaves").scheme()
                }
            };
            let terms = terms_in(scheme).check().expect("usable terms");
            VerifiedVoucher::verify(&terms, Payment::from(payment)).expect("it holds");
        }
        let receipt = receipt();
        assert!(receipt.is_signed_by(&PublicKey::of(&issuer())));
        let key = usable_key(&PublicKey::of(&issuer())).expect("an honest key");
        assert!(receipt.inclusion.is_some() && receipt.check_inclusion(&key).is_ok());
        let given = taken().receipt.expect("a receipt");
        assert_eq!(given.check(&PublicKey::of(&payee()), &channel_id(), amount(5)), Ok(()));
    }
}
