//! What a person can do about a close that was given up on, or an entry that cannot be read. Pure.

use common::problem::Code;

/// What a reason means, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    /// What it means, in a sentence.
    pub(crate) means: &'static str,
    /// What to do, in a sentence.
    pub(crate) action: &'static str,
    /// Whether trying again, with nothing else changed, can lead anywhere.
    pub(crate) worth_a_retry: bool,
}

const fn advice(means: &'static str, action: &'static str, worth_a_retry: bool) -> Advice {
    Advice { means, action, worth_a_retry }
}

/// About a close that the issuer refused, by the code that its reason begins with.
pub(crate) fn about_close(reason: &str) -> Advice {
    let code = reason.split(':').next().unwrap_or_default();
    match Code::ALL.iter().find(|known| known.as_str() == code) {
        Some(Code::ChannelExpired) => advice(
            "The issuer settles nothing after a channel's expiry.",
            "Compare the issuer's clock with yours. If the expiry has truly passed, only the issuer can still pay: write \
             to it with the voucher. Then raise policy.expiry_margin_s.",
            false,
        ),
        Some(Code::ChannelClosed) => advice(
            "The issuer has closed this channel for another amount than Redis holds.",
            "Audit the channel below. Someone settled with this payee's key outside of Millrace, or Redis lost data.",
            false,
        ),
        Some(Code::InvalidSignature | Code::MissingSiblings) => advice(
            "The issuer does not take the proof of the latest payment, or the payee's signature.",
            "Check that payee_key is the payee's, and that issuer and relayer are of one version; then try again.",
            true,
        ),
        Some(Code::WrongPayee) => advice(
            "For the issuer this channel pays someone else.",
            "Check payee_key and issuer.url: they belong to another payee or another issuer. Then try again.",
            true,
        ),
        Some(Code::OverCapacity) => advice(
            "More was accepted than the issuer holds on this channel.",
            "Audit the channel below: terms or deposit differ between Redis and issuer.",
            false,
        ),
        Some(Code::UnknownChannel | Code::UnknownAccount) => advice(
            "The issuer does not know the channel or the account any more.",
            "Check issuer.url. If the issuer restored an older state, have it bring the channel back; then try again.",
            true,
        ),
        Some(Code::Internal) => advice(
            "The issuer's receipt is for another amount than the one that is pinned.",
            "Audit the channel below, and keep the log of this minute: the receipt stands in it.",
            false,
        ),
        Some(Code::Malformed | Code::PayloadTooLarge | Code::UnsupportedMediaType) => advice(
            "The issuer does not understand the request.",
            "Bring issuer and settler to versions that fit together; then try again.",
            true,
        ),
        _ => advice(
            "The issuer said no for good.",
            "Ask the issuer what it means by that. Once the cause is gone, try again: the same amount is settled.",
            true,
        ),
    }
}

/// About an entry of accepted payments that could not be read.
pub(crate) fn about_entry(reason: &str) -> Advice {
    if reason.starts_with("channel ") {
        return advice(
            "The entry names a channel that Redis does not hold, or cannot read.",
            "Audit first: the channel's keys are gone or damaged. Once they are back, put the entry back.",
            false,
        );
    }
    advice(
        "This settler cannot read the entry: another version wrote it, or something that is not Millrace.",
        "The payments count all the same: they are in the channels' states. With a settler of the version that wrote it, put \
         it back to have it journaled.",
        true,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_known_by_its_code_with_or_without_detail() {
        let expired = about_close("channel_expired");
        assert_eq!(about_close("channel_expired: a second ago"), expired);
        assert!(!expired.worth_a_retry);
        assert_ne!(about_close("channel_expired_not: x"), expired);
    }

    #[test]
    fn every_code_and_what_is_no_code_gets_something_to_do() {
        for reason in Code::ALL.iter().map(|code| code.as_str()).chain(["", "nonsense"]) {
            let advice = about_close(reason);
            assert!(advice.action.ends_with('.') && advice.means.ends_with('.'), "{reason}");
        }
        assert!(!about_entry("channel x is not known").worth_a_retry);
        assert!(about_entry("not a list of channel id and amount with proof").worth_a_retry);
    }
}
