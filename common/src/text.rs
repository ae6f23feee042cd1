//! Values that JSON writes as texts: to and from without a copy of the text.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;

use serde::de::Visitor;

/// The base58 text of up to `MAX` characters, kept on the stack: ids are written several times a payment.
#[derive(Clone, Copy)]
pub struct Base58<const MAX: usize> {
    characters: [u8; MAX],
    length: u8,
}

impl<const MAX: usize> Base58<MAX> {
    pub(crate) fn new(characters: [u8; MAX], length: u8) -> Self {
        Base58 { characters, length }
    }
}

impl<const MAX: usize> Deref for Base58<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        // Every character of the alphabet is ASCII.
        self.characters
            .get(..usize::from(self.length))
            .and_then(|text| str::from_utf8(text).ok())
            .unwrap_or_default()
    }
}

/// Bytes that JSON writes as lower-case hexadecimal: of any length, in linear time, and what compresses best.
pub mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    const DIGITS: &[u8; 16] = b"0123456789abcdef";

    /// The text.
    pub fn encode(bytes: &[u8]) -> String {
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
        bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
    }

    /// What [`encode`] wrote; `None` for anything else.
    pub fn decode(text: &str) -> Option<Vec<u8>> {
        let value = |digit: u8| DIGITS.iter().position(|d| *d == digit).and_then(|at| u8::try_from(at).ok());
        let (pairs, rest) = text.as_bytes().as_chunks();
        rest.is_empty().then_some(())?;
        pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect()
    }

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        decode(&text).ok_or_else(|| serde::de::Error::custom("expected lower-case hexadecimal"))
    }
}

/// Reads a text by its `FromStr`, without a copy of it.
pub(crate) struct FromText<T>(PhantomData<T>);

impl<T> FromText<T> {
    pub(crate) const VISITOR: Self = FromText(PhantomData);
}

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}
