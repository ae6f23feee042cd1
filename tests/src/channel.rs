//! Channels and vouchers without an issuer, for tests that talk to the store directly.

use common::amount::Amount;
use common::channel::{CheckedTerms, SchemeKind, Terms};
use common::client::Purse;
use common::ids::{ChannelId, PublicKey, Signature};
use common::message;
use common::store::{Store, StoreError};
use common::voucher::{Payment, Proof, VerifiedVoucher};
use ed25519_dalek::SigningKey;

/// Far enough in the future for every test: 2100-01-01, Unix time in seconds.
pub const FAR_FUTURE_S: i64 = 4_102_444_800;

/// A channel of fresh keys, unknown to any issuer.
#[derive(Debug)]
pub struct TestChannel {
    terms: CheckedTerms,
    authorizer: SigningKey,
    purse: Option<Purse>,
}

impl TestChannel {
    /// A channel that can pay up to `capacity` atomic units.
    pub fn new(capacity: u64) -> Self {
        Self::in_scheme(SchemeKind::Ed25519, capacity)
    }

    /// A channel whose payments are taken from `purse`.
    pub fn paid_from(purse: Purse, capacity: u64) -> Self {
        TestChannel { purse: Some(purse.clone()), ..Self::in_scheme(purse.scheme(), capacity) }
    }

    /// A channel in another payment scheme, which cannot pay.
    pub fn in_scheme(scheme: SchemeKind, capacity: u64) -> Self {
        let key = || SigningKey::from_bytes(&rand::random());
        let authorizer = key();
        let terms = Terms {
            issuer: PublicKey::of(&key()),
            payer: PublicKey::of(&authorizer),
            payer_authorizer: PublicKey::of(&authorizer),
            payee: PublicKey::of(&key()),
            asset: "usd".to_owned(),
            capacity: Amount::new(capacity),
            expires_at: FAR_FUTURE_S,
            salt: rand::random(),
            scheme,
        };
        TestChannel { terms: terms.check().expect("fresh keys make usable terms"), authorizer, purse: None }
    }

    /// A channel in the given partition of `store`.
    pub fn in_partition(store: &Store, partition: u16, capacity: u64) -> Self {
        loop {
            let channel = Self::new(capacity);
            if store.partition_of(&channel.id()) == partition {
                return channel;
            }
        }
    }

    /// The channel's id.
    pub fn id(&self) -> ChannelId {
        self.terms.id()
    }

    /// The channel's terms.
    pub fn terms(&self) -> &CheckedTerms {
        &self.terms
    }

    /// A payment of `amount` in total, verified: a signed voucher, or what the channel's purse has for it.
    pub fn voucher(&self, amount: u64) -> VerifiedVoucher {
        let Some(purse) = &self.purse else { return self.voucher_until(amount, 0) };
        let payment = purse.payment(self.id(), Amount::new(amount)).expect("an amount that can be paid");
        VerifiedVoucher::verify(&self.terms, payment.into()).expect("taken from the purse of the channel")
    }

    /// A voucher for `amount` that expires at `expires_at` (Unix time in seconds), signed and verified.
    pub fn voucher_until(&self, amount: u64, expires_at: i64) -> VerifiedVoucher {
        let cumulative_amount = Amount::new(amount);
        let message = message::voucher(&self.id(), cumulative_amount, expires_at);
        let signature = Signature::of(&self.authorizer, &message);
        let proof = Proof::Ed25519 { expires_at, signature };
        let payment = Payment { channel_id: self.id(), cumulative_amount: Some(cumulative_amount), proof };
        VerifiedVoucher::verify(&self.terms, payment).expect("signed by the payer authorizer")
    }

    /// Makes the channel known to Redis.
    ///
    /// # Errors
    /// As [`Store::register_channel`].
    pub async fn register(&self, store: &Store) -> Result<(), StoreError> {
        self.register_due_at(store, FAR_FUTURE_S.unsigned_abs() * 1_000).await
    }

    /// Makes the channel known to Redis, due at `due_at_ms`.
    ///
    /// # Errors
    /// As [`Store::register_channel`].
    pub async fn register_due_at(&self, store: &Store, due_at_ms: u64) -> Result<(), StoreError> {
        store.register_channel(&self.terms, None, due_at_ms).await
    }
}
