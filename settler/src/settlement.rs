//! The request that redeems a voucher, and what its answer is worth. Pure but for the dice of the backoff.

use std::time::Duration;

use common::amount::Amount;
use common::channel::SchemeKind;
use common::ids::{ChannelId, PublicKey, Signature};
use common::message;
use common::store::settle::Pinned;
use common::voucher::Proof;
use common::wire::{IssuerChannel, IssuerStatus, Receipt, SettlementRequest};
use ed25519_dalek::SigningKey;

use crate::config::ClosesConfig;
use crate::issuer_key::IssuerKey;

/// The payee: the only one who can settle its channels.
pub struct Payee {
    key: SigningKey,
    public: PublicKey,
}

impl std::fmt::Debug for Payee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payee").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Payee {
    /// The payee behind a signing key.
    pub fn new(key: SigningKey) -> Payee {
        let public = PublicKey::of(&key);
        Payee { key, public }
    }

    /// Its public key, as it stands in channel terms.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

/// The payee under all its keys.
#[derive(Debug)]
pub struct Payees {
    /// The first is the one that new channels are opened to. Never empty.
    all: Vec<Payee>,
}

impl Payees {
    /// The payee under the key that new channels are opened to, and under further ones.
    pub fn new(current: Payee, further: Vec<Payee>) -> Payees {
        let mut all = vec![current];
        for payee in further {
            if all.iter().all(|known| known.public != payee.public) {
                all.push(payee);
            }
        }
        Payees { all }
    }

    /// Whoever a channel pays, if that is one of these.
    pub fn of(&self, public: &PublicKey) -> Option<&Payee> {
        self.all.iter().find(|payee| payee.public == *public)
    }

    /// The public key that new channels are opened to.
    pub fn current(&self) -> PublicKey {
        // There is a first one: see `new`.
        self.all.first().map_or(PublicKey([0; 32]), |payee| payee.public)
    }

    /// The public keys, the one that new channels are opened to first.
    pub fn public(&self) -> Vec<PublicKey> {
        self.all.iter().map(|payee| payee.public).collect()
    }
}

/// A pinned voucher, decoded: what there is to settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redeemable {
    /// The amount, cumulative.
    pub amount: Amount,
    /// What proves it; `None` for a channel that was never paid from.
    pub proof: Option<Proof>,
}

/// Decodes a pinned voucher. `None` where an amount has no proof of the channel's scheme behind it.
pub fn decode(scheme: SchemeKind, pinned: &Pinned) -> Option<Redeemable> {
    if pinned.amount.is_zero() {
        return Some(Redeemable { amount: Amount::ZERO, proof: None });
    }
    let proof = Proof::from_bytes(scheme, &pinned.proof).ok()?;
    Some(Redeemable { amount: pinned.amount, proof: Some(proof) })
}

/// The request that settles `redeemable` and ends the channel, signed by the payee for this fencing token alone.
pub fn request(
    payee: &Payee,
    id: &ChannelId,
    redeemable: &Redeemable,
    fencing_token: u64,
) -> SettlementRequest {
    let message = message::settle(id, redeemable.amount, true, fencing_token);
    let payee_signature = Signature::of(&payee.key, &message);
    let unsigned =
        SettlementRequest::unsigned(redeemable.amount, redeemable.proof.clone(), true, fencing_token);
    SettlementRequest { payee_signature, ..unsigned }
}

/// True if `receipt` is the issuer's word that the channel has ended with exactly `amount` paid: signed, and where it
/// names its place in a batch, truly there. The one place that says what a receipt is worth.
pub fn proves_close(receipt: &Receipt, issuer: &IssuerKey, id: &ChannelId, amount: Amount) -> bool {
    receipt.closed
        && receipt.channel_id == *id
        && receipt.settled_amount == amount
        && issuer.signed(receipt)
        && issuer.includes(receipt)
}

/// The receipt by which the issuer has closed this channel for exactly `amount` already, if it has.
pub fn earlier_receipt(channel: IssuerChannel, issuer: &IssuerKey, amount: Amount) -> Option<Receipt> {
    let id = channel.channel_id;
    let closed = channel.status == IssuerStatus::Closed && channel.settled_amount == amount;
    channel.receipt.filter(|receipt| closed && proves_close(receipt, issuer, &id, amount))
}

/// How long to wait after this many attempts without a final answer: anything between the least delay and twice that
/// for each attempt, up to the longest, so that attempts spread out. Never more than half of what is left until the
/// channel expires: a backoff must not cost the money that it waits for.
pub fn retry_delay(closes: &ClosesConfig, attempts: u64, until_expiry: Duration) -> Duration {
    let doubled = u32::try_from(attempts.saturating_add(1))
        .ok()
        .and_then(|attempts| 2u64.checked_pow(attempts))
        .unwrap_or(u64::MAX);
    let half = u64::try_from(until_expiry.as_millis()).unwrap_or(u64::MAX) / 2;
    // An expired channel is retried at the full pace of the others: there is no hurry any more.
    let longest = if half == 0 { closes.retry_delay_max_ms } else { closes.retry_delay_max_ms.min(half) };
    let least = closes.retry_delay_min_ms;
    let most = least.saturating_mul(doubled).min(longest).max(least);
    Duration::from_millis(rand::random_range(least..=most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::channel::Status;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn public(seed: u8) -> PublicKey {
        PublicKey::of(&key(seed))
    }

    const ID: ChannelId = ChannelId([9; 32]);

    fn pinned(amount: u64, proof: Vec<u8>) -> Pinned {
        Pinned { status: Status::Closing, amount: Amount::new(amount), proof }
    }

    fn receipt(amount: u64, closed: bool, signer: u8) -> Receipt {
        let settled_amount = Amount::new(amount);
        let message = message::receipt(&ID, settled_amount, Amount::new(1), closed, 7);
        Receipt {
            channel_id: ID,
            settled_amount,
            refunded_amount: Amount::new(1),
            closed,
            settled_at_ms: 7,
            signature: Signature::of(&key(signer), &message),
            inclusion: None,
        }
    }

    fn issuer() -> IssuerKey {
        IssuerKey::new(common::verify::usable_key(&public(1)).expect("an honest key"))
    }

    #[test]
    fn the_payee_signs_channel_amount_close_and_token() {
        let payee = Payee::new(key(3));
        let proof = Proof::Ed25519 { expires_at: 77, signature: Signature([5; 64]) };
        let redeemable =
            decode(SchemeKind::Ed25519, &pinned(9_007_199_254_740_993, proof.to_bytes())).expect("a proof");
        let request = request(&payee, &ID, &redeemable, 12);
        let bytes = [
            b"millrace:settle:1".as_slice(),
            &[9; 32],
            &9_007_199_254_740_993u64.to_le_bytes(),
            &[1],
            &12u64.to_le_bytes(),
        ]
        .concat();
        let signature = ed25519_dalek::Signature::from_bytes(request.payee_signature.as_bytes());
        assert!(key(3).verifying_key().verify_strict(&bytes, &signature).is_ok());
        assert_eq!((request.close, request.fencing_token, request.expires_at), (true, 12, Some(77)));
        assert_eq!(request.signature, Some(Signature([5; 64])));
        assert_eq!(request.cumulative_amount.to_string(), "9007199254740993");
    }

    #[test]
    fn a_channel_never_paid_from_is_closed_without_a_voucher() {
        let redeemable = decode(SchemeKind::Ed25519, &pinned(0, Vec::new())).expect("nothing to prove");
        let request = request(&Payee::new(key(3)), &ID, &redeemable, 1);
        assert_eq!((request.cumulative_amount, request.signature), (Amount::ZERO, None));
        assert!(!serde_json::to_string(&request).expect("JSON").contains("\"signature\""));
    }

    #[test]
    fn an_amount_without_a_readable_proof_cannot_be_settled() {
        assert_eq!(decode(SchemeKind::Ed25519, &pinned(1, Vec::new())), None);
        assert_eq!(decode(SchemeKind::Ed25519, &pinned(1, vec![0; 71])), None);
    }

    #[test]
    fn only_the_issuers_receipt_for_exactly_this_close_counts() {
        let counts = |receipt: &Receipt| proves_close(receipt, &issuer(), &ID, Amount::new(5));
        assert!(counts(&receipt(5, true, 1)));
        assert!(!counts(&receipt(4, true, 1)), "another amount");
        assert!(!counts(&receipt(5, false, 1)), "not closed");
        assert!(!counts(&receipt(5, true, 2)), "another signer");
        assert!(!counts(&Receipt { channel_id: ChannelId([8; 32]), ..receipt(5, true, 1) }));
        assert!(!counts(&Receipt { refunded_amount: Amount::ZERO, ..receipt(5, true, 1) }), "changed");
    }

    #[test]
    fn a_receipt_that_names_a_batch_counts_only_if_it_is_in_it_and_the_issuer_signed_it() {
        let issuer = issuer();
        let counts = |receipt: &Receipt| proves_close(receipt, &issuer, &ID, Amount::new(5));
        let mut batch = [receipt(4, true, 1), receipt(5, true, 1), receipt(6, true, 1)];
        common::batch::commit(&mut batch, &key(1));
        assert!(counts(&batch[1]));
        let mut elsewhere = batch[1].clone();
        elsewhere.inclusion = batch[0].inclusion.clone();
        assert!(
            !counts(&elsewhere),
            "another's place, although its batch has just been seen to be the issuer's"
        );
        let mut resized = batch[1].clone();
        resized.inclusion.as_mut().expect("committed").size = 4;
        assert!(!counts(&resized), "the same path in a larger tree, which was not signed");
        common::batch::commit(&mut batch, &key(2));
        assert!(!counts(&batch[1]), "another signer of the batch");
    }

    #[test]
    fn an_earlier_close_counts_only_for_the_pinned_amount() {
        let terms = common::channel::Terms { capacity: Amount::new(6), ..common::testing::terms(0) };
        let channel = IssuerChannel {
            channel_id: ID,
            terms,
            status: IssuerStatus::Closed,
            settled_amount: Amount::new(5),
            refunded_amount: Amount::new(1),
            settled: None,
            receipt: Some(receipt(5, true, 1)),
            opened_at_ms: 0,
        };
        let found = |channel: IssuerChannel, amount| earlier_receipt(channel, &issuer(), Amount::new(amount));
        assert!(found(channel.clone(), 5).is_some());
        assert!(found(channel.clone(), 6).is_none());
        assert!(found(IssuerChannel { status: IssuerStatus::Refunded, ..channel.clone() }, 5).is_none());
        assert!(found(IssuerChannel { receipt: None, ..channel.clone() }, 5).is_none());
        assert!(found(IssuerChannel { receipt: Some(receipt(5, true, 2)), ..channel }, 5).is_none());
    }

    #[test]
    fn delays_grow_with_attempts_between_their_bounds() {
        let closes =
            ClosesConfig { retry_delay_min_ms: 200, retry_delay_max_ms: 60_000, ..Default::default() };
        let year = Duration::from_secs(31_536_000);
        let most = |attempts| {
            (0..2_000).map(|_| retry_delay(&closes, attempts, year).as_millis()).max().unwrap_or_default()
        };
        for attempts in [0, 1, 5, 63, 64, u64::MAX] {
            for _ in 0..200 {
                let delay = retry_delay(&closes, attempts, year).as_millis();
                assert!((200..=60_000).contains(&delay), "{delay} after {attempts}");
            }
        }
        assert!(most(0) <= 400);
        assert!((401..=800).contains(&most(1)), "jitter reaches past the delays of the attempt before");
        assert!(most(u64::MAX) > 30_000);
    }

    #[test]
    fn no_delay_runs_past_the_expiry() {
        let closes = ClosesConfig::default();
        for _ in 0..200 {
            assert!(retry_delay(&closes, 20, Duration::from_secs(10)) <= Duration::from_secs(5));
        }
        let least = Duration::from_millis(closes.retry_delay_min_ms);
        assert_eq!(retry_delay(&closes, 20, Duration::from_millis(10)), least, "but it is never a storm");
        assert!(retry_delay(&closes, 0, Duration::ZERO) >= least);
    }
}
