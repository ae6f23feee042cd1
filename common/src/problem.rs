//! Error bodies: `application/problem+json` (RFC 9457) with a stable `code`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::Latest;

/// The media type of an error body.
pub const CONTENT_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// Every error code, of relayer, issuer and a settler's console. The text of a code never changes once released.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The code as it stands in JSON, logs and metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The HTTP status that goes with the code.
            pub const fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            /// A short sentence that is the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The body or a field has not the documented form.
    Malformed = "malformed", 400, "The request does not have the documented form";
    /// More than the channel can pay.
    OverCapacity = "over_capacity", 402, "The amount is above the channel's capacity";
    /// The payer's or issuer's account cannot cover the deposit.
    InsufficientFunds = "insufficient_funds", 402, "The account does not hold enough";
    /// A signature or proof does not check.
    InvalidSignature = "invalid_signature", 403, "The signature or proof does not check";
    /// The channel pays someone else.
    WrongPayee = "wrong_payee", 403, "The channel pays someone else";
    /// No token is configured for actions of an operator.
    ActionsDisabled = "actions_disabled", 403, "Actions are turned off";
    /// The token for actions is not the configured one.
    WrongToken = "wrong_token", 403, "The token is not the configured one";
    /// No such account.
    UnknownAccount = "unknown_account", 404, "The account is not known";
    /// No such channel, not with the issuer either.
    UnknownChannel = "unknown_channel", 404, "The channel is not known";
    /// No such dead letter, or none that can be put back.
    UnknownEntry = "unknown_entry", 404, "The dead letter is not known";
    /// No such route.
    NotFound = "not_found", 404, "There is no such route";
    /// The route does not take this method.
    MethodNotAllowed = "method_not_allowed", 405, "The route does not take this method";
    /// Not above the latest amount.
    StaleAmount = "stale_amount", 409, "The amount is not above the latest";
    /// A compressed proof leaves out more than is known of the channel.
    MissingSiblings = "missing_siblings", 409, "The proof leaves out siblings that are not known";
    /// A close has begun.
    ChannelClosing = "channel_closing", 409, "The channel is closing";
    /// The channel is settled.
    ChannelClosed = "channel_closed", 409, "The channel is closed";
    /// Not given up on: there is nothing to try again.
    ChannelNotFailed = "channel_not_failed", 409, "The channel has not failed";
    /// The channel is past its time, or too near to it.
    ChannelExpired = "channel_expired", 409, "The channel has expired or is about to";
    /// Not yet past its time: the deposit cannot be taken back.
    ChannelNotExpired = "channel_not_expired", 409, "The channel has not expired yet";
    /// A newer leader has settled for this payee.
    StaleFencingToken = "stale_fencing_token", 409, "A newer settler has taken over";
    /// The commitment was used for another channel.
    CommitmentReused = "commitment_reused", 409, "Another channel was opened with this commitment";
    /// The body is over the limit.
    PayloadTooLarge = "payload_too_large", 413, "The body is over the limit";
    /// The body is not JSON by its media type.
    UnsupportedMediaType = "unsupported_media_type", 415, "The media type is not supported";
    /// More steps of a hash chain than are taken in one payment.
    StepTooLarge = "step_too_large", 422, "The payment is too many steps from the one before";
    /// The route takes WebSocket connections, and this is none.
    UpgradeRequired = "upgrade_required", 426, "The route takes WebSocket connections";
    /// Too many requests of this channel or address.
    RateLimited = "rate_limited", 429, "Too many requests";
    /// A bug. Nothing is known of the outcome.
    Internal = "internal", 500, "The server failed";
    /// Too much work in flight; nothing recorded.
    Overloaded = "overloaded", 503, "Too much work is in flight";
    /// Redis is away or refuses; nothing recorded.
    StoreUnavailable = "store_unavailable", 503, "The store is not available";
    /// The issuer is away; nothing recorded.
    IssuerUnavailable = "issuer_unavailable", 503, "The issuer is not available";
    /// Sent to Redis, no answer in time: the same voucher may be sent again.
    OutcomeUnknown = "outcome_unknown", 504, "The outcome is not known; send the same again";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// A URN that ends in the code.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// A short sentence that is the same for every occurrence of the code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What to go by in a program.
    pub code: Code,
    /// What happened here, for a person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// The field at fault, as a path such as `cumulative_amount` or `[3].signature`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// With rejections for order: the latest accepted voucher, so that a payer that lost its state can go on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latest: Option<Latest>,
    /// With `stale_fencing_token`: the highest token that the issuer has seen from this payee.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub highest_fencing_token: Option<u64>,
    /// Seconds to wait before trying again; also sent as `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_s: Option<u64>,
}

impl Problem {
    /// A body with nothing but its code.
    pub fn new(code: Code) -> Self {
        Problem {
            type_uri: format!("urn:millrace:problem:{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: None,
            field: None,
            latest: None,
            highest_fencing_token: None,
            retry_after_s: None,
        }
    }

    /// Says what happened.
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// Names the field at fault.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says when to come again.
    pub fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// `malformed`, from an error of [`crate::wire::from_json`].
    pub fn malformed(error: &crate::wire::InvalidJson) -> Self {
        let problem = Problem::new(Code::Malformed).detail(&error.expected);
        match &error.field {
            Some(field) => problem.field(field.clone()),
            None => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_texts_are_the_same_in_json_and_in_rust() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).expect("a code is JSON"), code.as_str());
        }
    }
}
