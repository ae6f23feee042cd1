//! A channel: its terms, the id that follows from them, and the one table of how its status may change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::amount::Amount;
use crate::ids::{ChannelId, PublicKey, SpelledId};
pub use crate::scheme::SchemeKind;
use crate::verify::{UsableKey, usable_key};

/// Longest asset name, in bytes.
pub const ASSET_MAX_BYTES: usize = 64;

/// What payer, payee and issuer agreed on when the channel was opened. Never changes; the channel id commits to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The issuer that keeps the deposit and signs receipts.
    pub issuer: PublicKey,
    /// Owner of the deposit.
    pub payer: PublicKey,
    /// The key that signs vouchers; may equal the payer.
    pub payer_authorizer: PublicKey,
    /// The seller.
    pub payee: PublicKey,
    /// Name of the unit that amounts count, 1 to 64 bytes of visible ASCII.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[!-~]+$"))]
    pub asset: String,
    /// The deposit, in atomic units: the most that the channel can ever pay.
    pub capacity: Amount,
    /// Unix time in seconds after which nothing is settled and the payer may take the rest back.
    #[schemars(range(min = 1))]
    pub expires_at: i64,
    /// Chosen by the payer, so that equal terms can open different channels.
    #[serde(with = "decimal")]
    #[schemars(with = "Amount")]
    pub salt: u64,
    /// How payments prove their amount.
    pub scheme: SchemeKind,
}

/// Terms that no channel can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}")]
pub struct InvalidTerms {
    /// The field at fault.
    pub field: &'static str,
    /// What it should hold.
    pub expected: &'static str,
}

impl Terms {
    /// The channel id: SHA-256 over `"millrace:channel:1"` and every term, in DESIGN's order.
    pub fn id(&self) -> ChannelId {
        let asset_len = u16::try_from(self.asset.len()).unwrap_or(u16::MAX);
        let mut hash = Sha256::new();
        hash.update(b"millrace:channel:1");
        for key in [&self.issuer, &self.payer, &self.payer_authorizer, &self.payee] {
            hash.update(key.as_bytes());
        }
        hash.update(asset_len.to_le_bytes());
        hash.update(self.asset.as_bytes());
        hash.update(self.capacity.units().to_le_bytes());
        hash.update(self.expires_at.to_le_bytes());
        hash.update(self.salt.to_le_bytes());
        let mut scheme = Vec::new();
        self.scheme.write_to(&mut scheme);
        hash.update(scheme);
        ChannelId(hash.finalize().into())
    }

    /// Checks that the terms can be those of a channel, and decodes the key that its payments are checked with.
    pub fn check(self) -> Result<CheckedTerms, InvalidTerms> {
        let invalid = |field, expected| InvalidTerms { field, expected };
        for (field, key) in [("issuer", &self.issuer), ("payer", &self.payer), ("payee", &self.payee)] {
            usable_key(key).ok_or(invalid(field, USABLE_KEY))?;
        }
        let authorizer = usable_key(&self.payer_authorizer).ok_or(invalid("payer_authorizer", USABLE_KEY))?;
        if self.asset.is_empty()
            || self.asset.len() > ASSET_MAX_BYTES
            || !self.asset.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(invalid("asset", "1 to 64 bytes of visible ASCII"));
        }
        if self.capacity.is_zero() {
            return Err(invalid("capacity", "more than 0"));
        }
        if self.expires_at <= 0 {
            return Err(invalid("expires_at", "a Unix time in seconds, more than 0"));
        }
        self.scheme.check()?;
        Ok(CheckedTerms { id: self.id().into(), terms: self, authorizer })
    }
}

const USABLE_KEY: &str = "an Ed25519 public key that is not of small order";

/// Terms that passed [`Terms::check`], with the id and the decoded key at hand: decoding costs as much as a third of a
/// signature check, so it is done once a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedTerms {
    id: SpelledId,
    terms: Terms,
    authorizer: UsableKey,
}

impl CheckedTerms {
    /// The channel id that the terms commit to.
    pub fn id(&self) -> ChannelId {
        *self.id
    }

    /// [`CheckedTerms::id`], with its text.
    pub fn spelled_id(&self) -> &SpelledId {
        &self.id
    }

    /// The terms.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The decoded key of the payer authorizer.
    pub fn authorizer(&self) -> &UsableKey {
        &self.authorizer
    }
}

/// Where a channel stands in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Takes payments.
    Open,
    /// Its latest voucher is pinned and on its way to the issuer.
    Closing,
    /// Settled; the receipt is kept.
    Closed,
    /// The issuer refused the settlement for good. Kept and listed until a person looks at it, who may have it tried again.
    Failed,
}

/// What can happen to a channel's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The settler pins the latest voucher.
    BeginClose,
    /// No final answer yet: try again later.
    RetryClose,
    /// The issuer's receipt is here.
    FinishClose,
    /// The issuer refused for good.
    FailClose,
    /// A person has a failed close tried again, for the same pinned voucher.
    RetryFailed,
}

impl Status {
    /// Every status, in the order of a channel's life.
    pub const ALL: [Status; 4] = [Status::Open, Status::Closing, Status::Closed, Status::Failed];

    /// The transition table. `None`: that cannot happen from here.
    pub const fn on(self, event: Event) -> Option<Status> {
        match (self, event) {
            // A leader that died after its begin_close is followed by one that begins again: same pinned voucher.
            (Status::Open | Status::Closing, Event::BeginClose)
            | (Status::Closing, Event::RetryClose)
            | (Status::Failed, Event::RetryFailed) => Some(Status::Closing),
            (Status::Closing, Event::FinishClose) => Some(Status::Closed),
            (Status::Closing, Event::FailClose) => Some(Status::Failed),
            _ => None,
        }
    }

    /// As it stands in JSON, and where a person reads it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::Closing => "closing",
            Status::Closed => "closed",
            Status::Failed => "failed",
        }
    }

    /// The status letter at the head of the hot state in Redis.
    pub const fn letter(self) -> u8 {
        match self {
            Status::Open => b'O',
            Status::Closing => b'C',
            Status::Closed => b'X',
            Status::Failed => b'F',
        }
    }

    /// Reads a status letter.
    pub fn from_letter(letter: u8) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.letter() == letter)
    }
}

/// A `u64` as a canonical decimal string: JSON numbers pass through doubles in too many clients.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::amount::Amount;

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        Amount::deserialize(deserializer).map(Amount::units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> PublicKey {
        PublicKey::of(&ed25519_dalek::SigningKey::from_bytes(&[seed; 32]))
    }

    fn terms() -> Terms {
        Terms {
            issuer: key(1),
            payer: key(2),
            payer_authorizer: key(3),
            payee: key(4),
            asset: "usd".to_owned(),
            capacity: Amount::new(1_000),
            expires_at: 4_102_444_800,
            salt: 9_007_199_254_740_993,
            scheme: SchemeKind::Ed25519,
        }
    }

    #[test]
    fn channel_id_is_the_hash_of_the_documented_bytes() {
        let t = terms();
        let mut bytes = b"millrace:channel:1".to_vec();
        for k in [t.issuer, t.payer, t.payer_authorizer, t.payee] {
            bytes.extend(k.0);
        }
        bytes.extend([3, 0]);
        bytes.extend(b"usd");
        bytes.extend(1_000u64.to_le_bytes());
        bytes.extend(4_102_444_800i64.to_le_bytes());
        bytes.extend(9_007_199_254_740_993u64.to_le_bytes());
        bytes.push(0);
        assert_eq!(t.id().0, <[u8; 32]>::from(Sha256::digest(&bytes)));
    }

    #[test]
    fn salt_survives_json_above_two_to_the_53() {
        let json = serde_json::to_string(&terms()).expect("terms are JSON");
        assert!(json.contains("\"9007199254740993\""), "{json}");
        assert_eq!(serde_json::from_str::<Terms>(&json).expect("round trip"), terms());
    }

    #[test]
    fn terms_that_no_channel_can_have_are_refused_by_field() {
        // The identity element: a key of small order.
        let mut weak = [0u8; 32];
        weak[0] = 1;
        type Spoil = fn(&mut Terms, PublicKey);
        let cases: [(&str, Spoil); 7] = [
            ("payer", |t, weak| t.payer = weak),
            ("payee", |t, weak| t.payee = weak),
            ("payer_authorizer", |t, weak| t.payer_authorizer = weak),
            ("asset", |t, _| t.asset = String::new()),
            ("asset", |t, _| t.asset = "a b".to_owned()),
            ("capacity", |t, _| t.capacity = Amount::ZERO),
            ("expires_at", |t, _| t.expires_at = 0),
        ];
        for (field, spoil) in cases {
            let mut t = terms();
            spoil(&mut t, PublicKey(weak));
            assert_eq!(t.check().expect_err(field).field, field);
        }
        assert!(terms().check().is_ok());
    }

    #[test]
    fn only_the_designed_transitions_exist() {
        use Event::*;
        let allowed = [
            (Status::Open, BeginClose, Status::Closing),
            (Status::Closing, BeginClose, Status::Closing),
            (Status::Closing, RetryClose, Status::Closing),
            (Status::Closing, FinishClose, Status::Closed),
            (Status::Closing, FailClose, Status::Failed),
            (Status::Failed, RetryFailed, Status::Closing),
        ];
        for from in Status::ALL {
            for event in [BeginClose, RetryClose, FinishClose, FailClose, RetryFailed] {
                let expected =
                    allowed.iter().find(|(f, e, _)| (*f, *e) == (from, event)).map(|(_, _, to)| *to);
                assert_eq!(from.on(event), expected, "{from:?} on {event:?}");
            }
            assert_eq!(Status::from_letter(from.letter()), Some(from));
        }
    }
}
