//! Amounts of money: `u64` atomic units. Never a float, never unchecked arithmetic.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::FromText;

/// An amount in atomic units. Its text form is the canonical decimal: no sign, no leading zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Amount(u64);

/// A text that is not a canonical decimal in the range of `u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a decimal string of atomic units, without sign or leading zeros, at most 18446744073709551615"
)]
pub struct InvalidAmount;

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);
    /// The most that can be expressed.
    pub const MAX: Amount = Amount(u64::MAX);

    /// An amount of `units` atomic units.
    pub const fn new(units: u64) -> Self {
        Amount(units)
    }

    /// The number of atomic units.
    pub const fn units(self) -> u64 {
        self.0
    }

    /// True for nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` past the range.
    pub fn checked_add(self, other: Amount) -> Option<Amount> {
        self.0.checked_add(other.0).map(Amount)
    }

    /// The difference, or `None` below zero.
    pub fn checked_sub(self, other: Amount) -> Option<Amount> {
        self.0.checked_sub(other.0).map(Amount)
    }

    /// The form that Lua compares: 20 digits, zero-padded, so that the order of texts is the order of amounts.
    /// (Lua numbers are doubles: they cannot tell 2^53 from 2^53 + 1.)
    pub fn to_lua(self) -> String {
        format!("{:020}", self.0)
    }

    /// [`Amount::to_lua`], in no memory of its own.
    pub(crate) fn lua_digits(self) -> [u8; 20] {
        let (mut digits, mut text) = ([b'0'; 20], itoa::Buffer::new());
        let text = text.format(self.0).as_bytes();
        // No amount has more digits than there is room.
        if let Some(last) = digits.len().checked_sub(text.len()).and_then(|zeros| digits.get_mut(zeros..)) {
            last.copy_from_slice(text);
        }
        digits
    }

    /// Reads the 20-digit form back.
    pub fn from_lua(text: &[u8]) -> Result<Amount, InvalidAmount> {
        if text.len() != 20 || !text.iter().all(u8::is_ascii_digit) {
            return Err(InvalidAmount);
        }
        std::str::from_utf8(text).ok().and_then(|digits| digits.parse().ok()).map(Amount).ok_or(InvalidAmount)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Amount({})", self.0)
    }
}

impl FromStr for Amount {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        let canonical = match digits {
            [] => false,
            [b'0', _, ..] => false,
            _ => digits.iter().all(u8::is_ascii_digit),
        };
        if !canonical {
            return Err(InvalidAmount);
        }
        text.parse().map(Amount).map_err(|_| InvalidAmount)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(itoa::Buffer::new().format(self.0))
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(FromText::VISITOR)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(0|[1-9][0-9]{0,19})$",
            "maxLength": 20,
            "description": "atomic units as a canonical decimal string, at most 18446744073709551615",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_decimal_string_is_an_amount() {
        for text in ["0", "1", "9007199254740993", "18446744073709551615"] {
            assert_eq!(text.parse::<Amount>().map(|a| a.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x1",
            "18446744073709551616",
            "99999999999999999999",
            "١",
        ] {
            assert_eq!(text.parse::<Amount>(), Err(InvalidAmount), "{text:?}");
        }
        assert!(serde_json::from_str::<Amount>("5").is_err(), "a JSON number is refused");
        assert!(serde_json::from_str::<Amount>("5.0").is_err());
    }

    proptest! {
        #[test]
        fn lua_form_keeps_the_order(a in any::<u64>(), b in any::<u64>()) {
            let (a, b) = (Amount::new(a), Amount::new(b));
            prop_assert_eq!(a.to_lua().cmp(&b.to_lua()), a.cmp(&b));
            prop_assert_eq!(Amount::from_lua(a.to_lua().as_bytes()), Ok(a));
        }

        #[test]
        fn both_writers_of_a_form_agree(a in any::<u64>(), few in 0u64..1_000) {
            for a in [a, few, 0, u64::MAX].map(Amount::new) {
                prop_assert_eq!(a.lua_digits().to_vec(), a.to_lua().into_bytes());
                prop_assert_eq!(serde_json::to_string(&a).ok(), Some(format!("\"{a}\"")));
            }
        }
    }
}
