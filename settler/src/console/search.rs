//! Which channel ids begin with a text. Ids are listed by the issuer in the order of their bytes, and base58 writes a
//! number: the ids whose text is so long and begins so are those between two numbers. Pure.

use common::ids::ChannelId;

/// Longest base58 text of 32 bytes.
const TEXT_MAX: usize = 44;

/// Shortest base58 text of 32 bytes: all zero.
const TEXT_MIN: usize = 32;

/// The alphabet's digit for nothing, and the one for most.
const ZERO: char = '1';
const MOST: char = 'z';

/// What was typed into the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One channel.
    Id(ChannelId),
    /// Those whose ids begin so.
    Prefix(String),
    /// Nothing that an id begins with.
    Nonsense,
}

/// Makes sense of what was typed.
pub(crate) fn parse(typed: &str) -> Wanted {
    let typed = typed.trim();
    if let Ok(id) = typed.parse() {
        return Wanted::Id(id);
    }
    let is_base58 = bs58::decode(typed).into_vec().is_ok();
    if typed.is_empty() || typed.len() >= TEXT_MAX || !is_base58 {
        return Wanted::Nonsense;
    }
    Wanted::Prefix(typed.to_owned())
}

/// The first and the last id between which those lie whose text begins with `prefix`, for each length of a text, the
/// longest first: nine of ten ids have it. Others may lie between them too.
pub(crate) fn ranges(prefix: &str) -> Vec<(ChannelId, ChannelId)> {
    let lengths = (TEXT_MIN.max(prefix.len())..=TEXT_MAX).rev();
    lengths
        .filter_map(|length| {
            let filled = |with: char| {
                let filler = std::iter::repeat_n(with, length.saturating_sub(prefix.len()));
                number(&prefix.chars().chain(filler).collect::<String>())
            };
            // What begins above all ids has none; what ends above them ends with the last.
            Some((filled(ZERO)?, filled(MOST).unwrap_or(ChannelId([u8::MAX; 32]))))
        })
        .collect()
}

/// The id before, where there is one.
pub(crate) fn before(id: &ChannelId) -> Option<ChannelId> {
    let mut bytes = id.0;
    for byte in bytes.iter_mut().rev() {
        if *byte > 0 {
            *byte = byte.saturating_sub(1);
            return Some(ChannelId(bytes));
        }
        *byte = u8::MAX;
    }
    None
}

/// A base58 text as a number of 32 bytes; `None` if it is larger.
fn number(text: &str) -> Option<ChannelId> {
    let bytes = bs58::decode(text).into_vec().ok()?;
    let digits: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut id = [0; 32];
    let from = id.len().checked_sub(digits.len())?;
    id.get_mut(from..)?.copy_from_slice(&digits);
    Some(ChannelId(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_typed_is_an_id_a_prefix_or_nonsense() {
        let id = ChannelId([7; 32]);
        assert_eq!(parse(&format!(" {id} ")), Wanted::Id(id));
        assert_eq!(parse("9A1"), Wanted::Prefix("9A1".to_owned()));
        for nonsense in ["", " ", "0", "l", "9A1-", "é", &"z".repeat(45)] {
            assert_eq!(parse(nonsense), Wanted::Nonsense, "{nonsense}");
        }
    }

    #[test]
    fn the_id_before_the_first_is_none() {
        assert_eq!(before(&ChannelId([0; 32])), None);
        let mut id = [0; 32];
        id[30] = 1;
        let mut expected = [0; 32];
        expected[31] = 255;
        assert_eq!(before(&ChannelId(id)), Some(ChannelId(expected)));
    }

    proptest! {
        #[test]
        fn an_id_lies_in_a_range_of_each_of_its_prefixes(
            mut bytes: [u8; 32], zeros in 0usize..33, length in 1usize..44
        ) {
            bytes[..zeros].fill(0);
            let id = ChannelId(bytes);
            let text = id.to_string();
            let prefix = text.get(..length.min(text.len())).unwrap_or_default();
            prop_assert!(ranges(prefix).iter().any(|(first, last)| *first <= id && id <= *last), "{prefix} of {text}");
        }

        #[test]
        fn ranges_hold_little_besides(bytes: [u8; 32]) {
            // With four characters, the range of the longest texts holds nothing else.
            let text = ChannelId(bytes).to_string();
            let prefix = &text[..4];
            prop_assume!(text.len() == 44 && !prefix.starts_with('1'));
            let (first, last) = ranges(prefix)[0];
            prop_assert!(first.to_string().starts_with(prefix));
            prop_assert!(last == ChannelId([255; 32]) || last.to_string().starts_with(prefix));
        }
    }
}
