//! What the description of the public listener says of each route. `router` holds it together with the handlers.

use common::ids::ChannelId;
use common::problem::Code;
use common::wire::{
    BatchResult, CloseAnswer, CloseRequest, Outcome, PaymentAnswer, PaymentRequest, RelayerChannel,
};
use service::openapi::operation::{array_of, array_of_any};
use service::openapi::{About, Media, Operation, examples};

/// What holds for all routes.
pub(crate) const ABOUT: About = About {
    title: "Millrace relayer",
    description: "Takes payments, checks them, and has Redis record them. Any number of relayers answer alike.\n\n\
        Amounts are atomic units as canonical decimal strings; keys, ids, hashes and signatures are base58; times are \
        Unix time in seconds, or in milliseconds where the name ends in `_ms`. Fields that a request has and the \
        description has not are refused; answers may gain fields.\n\n\
        Whatever is not taken is answered by a problem (RFC 9457) with a stable `code`: a route that does not exist by \
        `not_found` (404), a method that a route does not take by `method_not_allowed` (405, with `Allow`). With 429 and \
        503 nothing was recorded, and `Retry-After` says when to come again; with `outcome_unknown` (504) send the same \
        again, it cannot be charged twice. Limits are the operator's: `config.relayer.yaml` names them with their \
        defaults. What is no HTTP at all is answered by 400 or 431 without a body.",
    tags: &[
        (PAYMENTS, "Presenting payments: one alone, several together, or as many as come over a connection."),
        (CHANNELS, "Where a channel stands, and asking for its end."),
        (ITSELF, "This description."),
    ],
};

const PAYMENTS: &str = "payments";
const CHANNELS: &str = "channels";
const ITSELF: &str = "description";

/// Not taken for now, nothing recorded.
const LATER: [Code; 4] =
    [Code::RateLimited, Code::Overloaded, Code::StoreUnavailable, Code::IssuerUnavailable];

pub(crate) fn payment() -> Operation {
    let mut body = Media::json::<PaymentRequest>().example("a voucher", examples::voucher());
    for (name, payment) in [("payword", examples::payword()), ("paytree", examples::paytree())] {
        body = body.example(name, payment);
    }
    let answer = Media::json::<PaymentAnswer>()
        .example("accepted", examples::answer(Outcome::Accepted))
        .example("with a receipt", examples::taken())
        .example("duplicate", examples::answer(Outcome::Duplicate));
    Operation::new("pay", PAYMENTS, "Presents one payment")
        .about(
            "The payment says how much is owed on the channel in total so far. `ed25519` channels pay by vouchers, whose \
             fields stand in the body itself; the others show a `proof` under the scheme's name (docs/SCHEMES.md). The \
             latest payment sent again is a `duplicate`. `receipt` is there where `receipts.enabled` is set.\n\n\
             Refusals for order carry the `latest` payment, from which a payer that lost its state goes on. The media \
             type of the body is not looked at.",
        )
        .takes([body])
        .answers(200, "Recorded, now or before.", [answer])
        .codes(&LATER)
        .codes(&[
            Code::Malformed,
            Code::OverCapacity,
            Code::InvalidSignature,
            Code::WrongPayee,
            Code::UnknownChannel,
            Code::StaleAmount,
            Code::MissingSiblings,
            Code::ChannelClosing,
            Code::ChannelClosed,
            Code::ChannelExpired,
            Code::PayloadTooLarge,
            Code::StepTooLarge,
        ])
        .curl(
            "millrace pay \"$CHANNEL\" --key payer.key --amount 5 --print | curl --json @- \"$RELAYER/v1/payments\"",
        )
}

pub(crate) fn batch() -> Operation {
    let refused = BatchResult::Refused(examples::problem(Code::StaleAmount));
    let results = [BatchResult::Taken(examples::answer(Outcome::Accepted)), refused];
    let lines: String = results
        .iter()
        .filter_map(|result| serde_json::to_string(result).ok())
        .fold(String::new(), |text, line| format!("{text}{line}\n"));
    let payment = examples::voucher();
    let line = serde_json::to_string(&payment).map(|line| format!("{line}\n{line}\n")).unwrap_or_default();
    Operation::new("pay_batch", PAYMENTS, "Presents several payments together")
        .about(
            "A JSON array, or one payment a line (`application/x-ndjson`), of at most `batch_max` payments (1024 where \
             nothing else is configured); without either media type the first character decides. The answer has a result for each, in order and in the same form: what `POST \
             /v1/payments` would have answered, a problem included. One that is malformed fails alone; payments of one \
             channel are taken in the order given.",
        )
        .takes([
            Media::json_of(array_of_any::<PaymentRequest>).example("two", [&payment, &payment]),
            Media::lines::<PaymentRequest>().example("two", line),
        ])
        .answers(
            200,
            "A result for each payment, in order.",
            [
                Media::json_of(array_of::<BatchResult>).example("two", &results),
                Media::lines::<BatchResult>().example("two", lines),
            ],
        )
        .codes(&[Code::Malformed, Code::PayloadTooLarge, Code::RateLimited, Code::Overloaded])
        .curl(
            "for amount in 6 7; do millrace pay \"$CHANNEL\" --key payer.key --amount $amount --print; done |\n  \
             curl -H 'Content-Type: application/x-ndjson' --data-binary @- \"$RELAYER/v1/payments/batch\"",
        )
}

pub(crate) fn stream() -> Operation {
    Operation::new("pay_stream", PAYMENTS, "Opens a connection for payments")
        .about(
            "A WebSocket connection (RFC 6455, version 13, no subprotocol). Each message, text or binary, is the body of a \
             payment; each is answered by a text message, what `POST /v1/payments` would have answered, in the order of \
             the payments. A client that does not read its answers is not read from either (`stream.in_flight_max`). The \
             relayer pings after `stream.ping_interval_ms` of quiet; it closes with 1001 when it goes away and what has \
             come is answered, with 1009 on a message above `stream.message_max_bytes`.",
        )
        .answers(101, "The connection is open.", [])
        .with_header("Connection", "upgrade")
        .with_header("Upgrade", "websocket")
        .codes(&[Code::UpgradeRequired, Code::RateLimited])
        .curl("millrace pay \"$CHANNEL\" --key payer.key --add 1 --count 3 --transport stream")
}

pub(crate) fn channel() -> Operation {
    of_channel(Operation::new("channel", CHANNELS, "Reads where a channel stands"))
        .about(
            "Terms, status and the latest accepted payment, as Redis has them; of a channel that was not paid on here yet, \
             as the issuer has it. `status` is `open`, `closing`, `closed` or `failed` (the issuer refused for good: a \
             person has to look at it).",
        )
        .answers(
            200,
            "The channel.",
            [Media::json::<RelayerChannel>().example("paid from", examples::relayer_channel())],
        )
        .codes(&LATER)
        .codes(&[Code::Malformed, Code::WrongPayee, Code::UnknownChannel])
        .curl("curl \"$RELAYER/v1/channels/$CHANNEL\"")
}

pub(crate) fn close() -> Operation {
    of_channel(Operation::new("close", CHANNELS, "Asks for a close"))
        .about(
            "Signed by payer or payee (the message `close_request`). The settler closes the channel next, for its latest \
             payment; asking again changes nothing.",
        )
        .takes([Media::json::<CloseRequest>().example("by the payer", examples::close())])
        .answers(
            202,
            "Noted; the settler will close the channel.",
            [Media::json::<CloseAnswer>().example("noted", examples::close_noted())],
        )
        .codes(&LATER)
        .codes(&[
            Code::Malformed,
            Code::InvalidSignature,
            Code::WrongPayee,
            Code::UnknownChannel,
            Code::ChannelClosed,
            Code::ChannelExpired,
            Code::PayloadTooLarge,
        ])
        .curl("millrace channel close \"$CHANNEL\" --key payer.key --wait")
}

pub(crate) fn itself() -> Operation {
    Operation::itself(ITSELF).codes(&[Code::RateLimited]).curl("curl \"$RELAYER/openapi.json\"")
}

fn of_channel(operation: Operation) -> Operation {
    operation.parameter::<ChannelId>("id", "The channel.", examples::channel_id())
}
