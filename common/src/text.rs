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
