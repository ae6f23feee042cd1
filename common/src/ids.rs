//! Keys, channel ids, hashes and signatures: raw bytes in memory, base58 wherever a person or a protocol reads them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use ed25519_dalek::{Signer, SigningKey};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::{Base58, FromText};

/// A text that is not the base58 form of a value of the expected length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected base58 of {expected_bytes} bytes{found}", found = .found_bytes.map(|n| format!(", found {n} bytes")).unwrap_or_default())]
pub struct InvalidId {
    /// Length of the raw value.
    pub expected_bytes: usize,
    /// Length found, where the text was base58 at all.
    pub found_bytes: Option<usize>,
}

impl InvalidId {
    /// Why `text` is not the base58 form of `expected_bytes` bytes.
    fn of(text: &str, expected_bytes: usize) -> Self {
        // A much longer text is not decoded: the work grows with the square of its length.
        let decoded =
            (text.len() <= expected_bytes.saturating_mul(2)).then(|| bs58::decode(text).into_vec().ok());
        let found_bytes = decoded.flatten().map(|bytes| bytes.len()).filter(|found| *found != expected_bytes);
        InvalidId { expected_bytes, found_bytes }
    }
}

macro_rules! base58_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal, $max:ident, $encode:ident, $decode:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length of the raw value in bytes.
            pub const LEN: usize = $len;

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl $name {
            /// The base58 text.
            pub fn text(&self) -> Base58<{ five8::$max }> {
                let mut characters = [0; five8::$max];
                let length = five8::$encode(&self.0, &mut characters);
                Base58::new(characters, length)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut raw = [0; $len];
                match five8::$decode(text, &mut raw) {
                    Ok(()) => Ok(Self(raw)),
                    Err(_) => Err(InvalidId::of(text, $len)),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.text())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(FromText::VISITOR)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": "^[1-9A-HJ-NP-Za-km-z]+$",
                    "minLength": $len,
                    "maxLength": five8::$max,
                    "description": concat!("base58 of ", $len, " bytes"),
                })
            }
        }
    };
}

base58_bytes!(
    /// An Ed25519 public key, not yet checked to be a point on the curve.
    PublicKey, 32, BASE58_ENCODED_32_MAX_LEN, encode_32, decode_32
);
base58_bytes!(
    /// The id of a channel: the SHA-256 of its terms (see [`crate::channel::Terms::id`]).
    ChannelId, 32, BASE58_ENCODED_32_MAX_LEN, encode_32, decode_32
);
base58_bytes!(
    /// A SHA-256 value, or the 32 bytes behind one.
    Hash, 32, BASE58_ENCODED_32_MAX_LEN, encode_32, decode_32
);
base58_bytes!(
    /// The root of the journal up to some segment (see [`crate::journal`]): whoever keeps it can tell every change before.
    JournalRoot, 32, BASE58_ENCODED_32_MAX_LEN, encode_32, decode_32
);
base58_bytes!(
    /// An Ed25519 signature, not yet checked.
    Signature, 64, BASE58_ENCODED_64_MAX_LEN, encode_64, decode_64
);

/// A channel's id with its base58 text at hand. Each payment needs the text, for a key in Redis and for its answer, and to
/// spell an id costs as much as several hashes: it is done once a channel.
#[derive(Clone, Copy)]
pub struct SpelledId {
    id: ChannelId,
    text: Base58<{ five8::BASE58_ENCODED_32_MAX_LEN }>,
}

impl SpelledId {
    /// The base58 text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl From<ChannelId> for SpelledId {
    fn from(id: ChannelId) -> Self {
        SpelledId { id, text: id.text() }
    }
}

impl Deref for SpelledId {
    type Target = ChannelId;

    fn deref(&self) -> &ChannelId {
        &self.id
    }
}

// The text says nothing that the id does not.
impl PartialEq for SpelledId {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for SpelledId {}

impl fmt::Debug for SpelledId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl Serialize for SpelledId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

impl<'de> Deserialize<'de> for SpelledId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ChannelId::deserialize(deserializer).map(SpelledId::from)
    }
}

impl PublicKey {
    /// The public half of a signing key.
    pub fn of(key: &SigningKey) -> Self {
        PublicKey(key.verifying_key().to_bytes())
    }
}

impl Signature {
    /// The signature of `message` with `key`.
    pub fn of(key: &SigningKey, message: &[u8]) -> Self {
        Signature(key.sign(message).to_bytes())
    }
}

impl ChannelId {
    /// The partition of this channel among `partitions` (a power of two): its first two bytes, big-endian, modulo P.
    pub fn partition(&self, partitions: u16) -> u16 {
        let head = u16::from_be_bytes([self.0[0], self.0[1]]);
        head.checked_rem(partitions).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base58_round_trips_and_refuses_other_lengths() {
        let id = ChannelId([7; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        let key_text = Signature([7; 64]).to_string();
        assert_eq!(key_text.parse::<ChannelId>(), Err(InvalidId { expected_bytes: 32, found_bytes: None }));
        let short = bs58::encode([1u8; 31]).into_string();
        assert_eq!(short.parse::<ChannelId>(), Err(InvalidId { expected_bytes: 32, found_bytes: Some(31) }));
        assert!("0OIl".parse::<PublicKey>().is_err(), "characters outside the alphabet");
        assert!("".parse::<PublicKey>().is_err());
    }

    #[test]
    fn a_spelled_id_reads_and_writes_as_the_id_does() {
        let id = ChannelId([7; 32]);
        let spelled = SpelledId::from(id);
        assert_eq!((spelled.text(), *spelled), (id.to_string().as_str(), id));
        let json = serde_json::to_string(&spelled).expect("JSON");
        assert_eq!(json, serde_json::to_string(&id).expect("JSON"));
        assert_eq!(serde_json::from_str::<SpelledId>(&json).expect("an id"), spelled);
    }

    #[test]
    fn partition_is_the_big_endian_head_modulo_p() {
        let mut raw = [0u8; 32];
        raw[0] = 0x12;
        raw[1] = 0x37;
        assert_eq!(ChannelId(raw).partition(16), 7);
        assert_eq!(ChannelId(raw).partition(1), 0);
        assert_eq!(ChannelId(raw).partition(0x100), 0x37);
    }
}
