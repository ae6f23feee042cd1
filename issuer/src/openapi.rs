//! What the description of the public listener says of each route. `router` holds it together with the handlers.

use common::batch::{SettlementResult, SettlementsAnswer, SettlementsRequest};
use common::ids::{ChannelId, PublicKey};
use common::problem::Code;
use common::wire::{
    Account, AccountRequest, IssuerChannel, IssuerChannelPage, IssuerInfo, OpenRequest, Receipt,
    RefundRequest, SettlementRequest,
};
use service::issuer_client::{AssetBooks, Books, ChannelQuery};
use service::openapi::{About, Media, Operation, examples};

/// What holds for all routes.
pub(crate) const ABOUT: About = About {
    title: "Millrace reference issuer",
    description: "Keeps accounts, opens channels against locked deposits, and redeems vouchers. Another issuer implements \
        the same routes.\n\n\
        Amounts are atomic units as canonical decimal strings; keys, ids, hashes and signatures are base58; times are \
        Unix time in seconds, or in milliseconds where the name ends in `_ms`. Fields that a request has and the \
        description has not are refused; answers may gain fields.\n\n\
        Whatever is not done is answered by a problem (RFC 9457) with a stable `code`: a route that does not exist by \
        `not_found` (404), a method that a route does not take by `method_not_allowed` (405, with `Allow`). Every request \
        may be repeated. What is refused with 4xx is refused for good; with 503 nothing was done, and `Retry-After` says \
        when to come again; after 500 and 504 repeat it and go by the answer. The media type of a body is not looked at. \
        What is no HTTP at all is answered by 400 or 431 without a body.",
    tags: &[
        (ACCOUNTS, "Who this is, and who has an account."),
        (CHANNELS, "Opening, reading, and taking back what an expired channel still holds."),
        (SETTLEMENTS, "Redeeming payments: the settler's routes."),
        (ITSELF, "This description."),
    ],
};

const ACCOUNTS: &str = "accounts";
const CHANNELS: &str = "channels";
const SETTLEMENTS: &str = "settlements";
const ITSELF: &str = "description";

/// What any work on the ledger may come to.
const LEDGER: [Code; 2] = [Code::Overloaded, Code::StoreUnavailable];

/// Of any route with a body.
const BODY: [Code; 2] = [Code::Malformed, Code::PayloadTooLarge];

pub(crate) fn info() -> Operation {
    Operation::new("info", ACCOUNTS, "Says who this issuer is")
        .answers(
            200,
            "The key that signs receipts and stands in every channel id.",
            [Media::json::<IssuerInfo>().example("in development mode", examples::info())],
        )
        .curl("curl \"$ISSUER/v1/issuer\"")
}

pub(crate) fn register() -> Operation {
    Operation::new("register", ACCOUNTS, "Registers a key")
        .about("Registering a known key again changes nothing. In development mode a new account holds play money.")
        .takes([Media::json::<AccountRequest>()
            .example("the payer", AccountRequest { public_key: examples::payer_key() })])
        .answers(200, "The account.", [account_body()])
        .codes(&LEDGER)
        .codes(&BODY)
        .curl("curl --json \"{\\\"public_key\\\":\\\"$PAYER\\\"}\" \"$ISSUER/v1/accounts\"")
}

pub(crate) fn account() -> Operation {
    Operation::new("account", ACCOUNTS, "Reads an account")
        .parameter::<PublicKey>("key", "The account's key.", examples::payer_key())
        .answers(200, "The account.", [account_body()])
        .codes(&LEDGER)
        .codes(&[Code::Malformed, Code::UnknownAccount])
        .curl("curl \"$ISSUER/v1/accounts/$PAYER\"")
}

fn account_body() -> Media {
    Media::json::<Account>().example("of a payer", examples::account())
}

pub(crate) fn open() -> Operation {
    let channel = || Media::json::<IssuerChannel>().example("opened", examples::issuer_channel());
    Operation::new("open", CHANNELS, "Opens a channel")
        .about(
            "Signed by the payer (the message `open`), whose deposit is locked. The channel's id follows from the terms. \
             Payer and payee need accounts; how long a channel may live is the issuer's to say \
             (`limits.channel_lifetime_min_s`, `limits.channel_lifetime_max_s`).",
        )
        .takes([Media::json::<OpenRequest>().example("by the payer", examples::open())])
        .answers(201, "Opened.", [channel()])
        .answers(200, "Opened before, by the same request; as it stands now.", [channel()])
        .codes(&LEDGER)
        .codes(&BODY)
        .codes(&[
            Code::InsufficientFunds,
            Code::InvalidSignature,
            Code::UnknownAccount,
            Code::CommitmentReused,
        ])
        .curl("millrace channel open --key payer.key --capacity 1000 --payee \"$PAYEE\"")
}

pub(crate) fn channel() -> Operation {
    of_channel(Operation::new("channel", CHANNELS, "Reads a channel"))
        .answers(
            200,
            "The channel.",
            [Media::json::<IssuerChannel>().example("opened", examples::issuer_channel())],
        )
        .codes(&LEDGER)
        .codes(&[Code::Malformed, Code::UnknownChannel])
        .curl("curl \"$ISSUER/v1/channels/$CHANNEL\"")
}

pub(crate) fn channels() -> Operation {
    let page =
        IssuerChannelPage { channels: vec![examples::issuer_channel()], next: Some(examples::channel_id()) };
    Operation::new("channels", CHANNELS, "Lists channels")
        .about("A page of channels in the order of their ids. `next` of one page is `after` of the next.")
        .query::<ChannelQuery>()
        .answers(200, "A page.", [Media::json::<IssuerChannelPage>().example("not the last", page)])
        .codes(&LEDGER)
        .codes(&[Code::Malformed])
        .curl("curl \"$ISSUER/v1/channels?payer=$PAYER&limit=10\"")
}

pub(crate) fn refund() -> Operation {
    let request = examples::refund();
    of_channel(Operation::new("refund", CHANNELS, "Takes back what an expired channel still holds"))
        .about(
            "Signed by the payer (the message `refund`), after the channel's `expires_at`: no deposit is locked by a payee \
             that vanished. Asking again answers the same.",
        )
        .takes([Media::json::<RefundRequest>().example("by the payer", &request)])
        .answers(
            200,
            "The channel, refunded.",
            [Media::json::<IssuerChannel>().example("refunded", examples::refunded_channel())],
        )
        .codes(&LEDGER)
        .codes(&BODY)
        .codes(&[
            Code::InvalidSignature,
            Code::UnknownChannel,
            Code::ChannelClosed,
            Code::ChannelNotExpired,
        ])
        .curl(format!(
            "# With another channel's signature it is refused: invalid_signature\n\
             curl --json '{{\"signature\":\"{}\"}}' \\\n  \"$ISSUER/v1/channels/$CHANNEL/refund\"",
            request.signature
        ))
}

pub(crate) fn settle() -> Operation {
    let request = examples::settlement();
    let shown = serde_json::to_string(&request).unwrap_or_default();
    of_channel(Operation::new("settle", SETTLEMENTS, "Redeems a payment"))
        .about(
            "Signed by the payee (the message `settle`). The proof stands in the body as in a payment; none at all only where \
             a channel that was never paid from is closed with amount 0. `close: true` also ends the channel and gives the \
             rest back. A repeat gets the first receipt, byte for byte. A `fencing_token` below the highest that was seen \
             from this payee is refused, and `highest_fencing_token` says what that is.",
        )
        .takes([Media::json::<SettlementRequest>().example("of a voucher", &request)])
        .answers(
            200,
            "Settled, now or before.",
            [Media::json::<Receipt>().example("closed", examples::receipt())],
        )
        .codes(&LEDGER)
        .codes(&BODY)
        .codes(&[
            Code::OverCapacity,
            Code::InvalidSignature,
            Code::UnknownChannel,
            Code::StaleAmount,
            Code::ChannelClosed,
            Code::ChannelExpired,
            Code::StaleFencingToken,
        ])
        .curl(format!(
            "# What another than the payee has signed is refused: invalid_signature\n\
             curl --json '{shown}' \\\n  \"$ISSUER/v1/channels/$CHANNEL/settlements\""
        ))
}

pub(crate) fn settle_all() -> Operation {
    let request = SettlementsRequest {
        settlements: serde_json::to_value(examples::settlement_in_batch()).into_iter().collect(),
    };
    let answer = SettlementsAnswer {
        results: vec![
            SettlementResult::Settled(examples::receipt()),
            SettlementResult::Refused(examples::problem(Code::StaleFencingToken)),
        ],
    };
    let shown = serde_json::to_string(&request).unwrap_or_default();
    Operation::new("settle_all", SETTLEMENTS, "Redeems payments of several channels together")
        .about(
            "1 to `limits.settlements_batch_max` settlements, each with the channel's id in `channel_id` and else as it \
             would come alone, in one transaction. Each stands or falls alone: the answer has a result for each, in order, \
             a receipt or the problem that it would have got alone. New receipts name their place (`inclusion`) in the \
             batch, to whose root the issuer commits.",
        )
        .takes([Media::json::<SettlementsRequest>().example("one", &request)])
        .answers(
            200,
            "A result for each settlement, in order.",
            [Media::json::<SettlementsAnswer>().example("of two", answer)],
        )
        .codes(&LEDGER)
        .codes(&BODY)
        .curl(format!(
            "# Only the payee can: what others have signed is refused, each in its place\n\
             curl --json '{shown}' \\\n  \"$ISSUER/v1/settlements\""
        ))
}

pub(crate) fn books() -> Operation {
    let units = common::amount::Amount::new;
    let usd = AssetBooks {
        asset: "usd".to_owned(),
        issued: units(2_000_000_000),
        held: units(1_999_999_000),
        locked: units(1_000),
    };
    let books = Books { balanced: true, fault: None, accounts: 4, postings: 6, assets: vec![usd] };
    Operation::new("books", SETTLEMENTS, "Adds the books up anew")
        .about("Every balance from its postings, and every asset: issued = held + locked. Work for the database.")
        .answers(200, "What was found.", [Media::json::<Books>().example("balanced", books)])
        .codes(&LEDGER)
        .curl("curl \"$ISSUER/v1/books\"")
}

pub(crate) fn itself() -> Operation {
    Operation::itself(ITSELF).curl("curl \"$ISSUER/openapi.json\"")
}

fn of_channel(operation: Operation) -> Operation {
    operation.parameter::<ChannelId>("id", "The channel.", examples::channel_id())
}
