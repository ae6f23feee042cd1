//! The table of codes as the design has it, the check of an answer against it, and the list of what is shown.

use std::collections::BTreeSet;

use common::problem::Problem;
use common::wire::PaymentAnswer;
use tests::http::Reply;
use tests::payer::Channel;
use tests::rig::Rig;
use tests::stream::Stream;

/// A row of the table: code, status, whether the latest voucher comes with it, whether it says when to come again.
type Row = (&'static str, u16, bool, bool);

/// Design, section 5. `latest` comes with rejections for order, and where a proof leads to nothing that is known; what
/// came before any payment has none.
const TABLE: [Row; 17] = [
    ("malformed", 400, false, false),
    ("over_capacity", 402, false, false),
    ("invalid_signature", 403, false, false),
    ("wrong_payee", 403, false, false),
    ("unknown_channel", 404, false, false),
    ("stale_amount", 409, true, false),
    ("missing_siblings", 409, true, false),
    ("channel_closing", 409, true, false),
    ("channel_closed", 409, true, false),
    ("channel_expired", 409, false, false),
    ("payload_too_large", 413, false, false),
    ("step_too_large", 422, true, false),
    ("rate_limited", 429, false, true),
    ("overloaded", 503, false, true),
    ("store_unavailable", 503, false, true),
    ("issuer_unavailable", 503, false, true),
    ("outcome_unknown", 504, false, false),
];

/// An answer that was checked against its row of the table. Only [`refused`] makes one.
pub(super) struct Shown {
    code: &'static str,
    /// The body.
    pub(super) problem: Problem,
}

/// Checks a refusal against the row of `code`.
pub(super) fn refused(code: &str, reply: &Reply) -> Shown {
    let row = TABLE.iter().find(|(name, ..)| *name == code);
    let &(code, status, has_latest, has_retry_after) = row.expect("the table has the code");
    let problem = reply.problem();
    assert_eq!((problem.code.as_str(), reply.status), (code, status), "{reply:?}");
    assert_eq!(problem.latest.is_some(), has_latest, "{reply:?}");
    let seconds = reply.retry_after.as_deref().map(|text| text.parse::<u64>().expect("seconds"));
    assert_eq!(seconds.is_some_and(|seconds| seconds >= 1), has_retry_after, "{reply:?}");
    assert_eq!(seconds.is_some(), has_retry_after, "{reply:?}");
    Shown { code, problem }
}

/// Has `code` be the answer to a payment, over a stream as well as alone, and Redis hold the same before and after.
pub(super) async fn refused_without_a_trace(rig: &Rig, code: &str, body: impl Into<Vec<u8>>) -> Shown {
    let (before, body) = (rig.dump().await, body.into());
    let reply = rig.present(0, body.clone()).await;
    let shown = refused(code, &reply);
    // How large a message may be is a limit of its own.
    if code != "payload_too_large" {
        let mut stream = Stream::open(rig.relayer(0)).await;
        stream.send(body).await.expect("an open connection");
        assert_eq!(stream.answer().await, reply.body, "the answer over a stream is that of the single route");
    }
    assert_eq!(rig.dump().await, before, "{code} was answered, and something was written");
    shown
}

/// A channel that has paid `amount` on the first relayer: Redis knows it.
pub(super) async fn paid(rig: &Rig, amount: u64) -> Channel {
    let channel = rig.channel(1_000).await;
    rig.pay(0, &channel, amount).await.success::<PaymentAnswer>();
    channel
}

/// The body of a payment.
pub(super) fn json(voucher: &common::wire::PaymentRequest) -> Vec<u8> {
    serde_json::to_vec(voucher).expect("a voucher is JSON")
}

/// One test a line, each of which must have met the code that it stands under.
macro_rules! shows {
    ($($code:literal: $($module:ident :: $test:ident),+;)+) => {
        const SHOWN: &[&str] = &[$($code),+];
        $($(
            #[tokio::test]
            async fn $test() {
                let shown = super::$module::$test().await;
                assert_eq!(shown.code, $code, "the list says what the test shows");
            }
        )+)+
    };
}

shows! {
    "malformed": voucher::a_body_without_the_documented_form_is_malformed;
    "over_capacity": voucher::more_than_the_capacity_is_over_capacity;
    "invalid_signature": voucher::a_signature_that_does_not_check_is_invalid;
    "wrong_payee": channel::a_channel_for_someone_else_has_the_wrong_payee;
    "unknown_channel": channel::a_channel_that_the_issuer_does_not_know_is_unknown;
    "stale_amount": order::an_amount_not_above_the_latest_is_stale;
    "missing_siblings": proof::a_leaf_without_siblings_that_are_not_known_lacks_them;
    "step_too_large": proof::a_step_further_than_the_bound_is_too_large;
    "channel_closing":
        order::a_channel_whose_settlement_is_under_way_is_closing,
        order::a_channel_whose_settlement_was_refused_for_good_takes_nothing_more;
    "channel_closed":
        order::a_settled_channel_is_closed,
        order::a_channel_that_ended_before_redis_knew_it_is_closed;
    "channel_expired": order::a_channel_too_near_to_its_end_has_expired;
    "payload_too_large": voucher::a_body_over_the_limit_is_too_large;
    "rate_limited":
        bounds::a_channel_that_pays_too_often_is_rate_limited,
        bounds::an_address_that_asks_too_often_is_rate_limited;
    "overloaded":
        bounds::more_payments_in_flight_than_the_limit_are_overload,
        bounds::more_lookups_than_the_limit_are_overload;
    "store_unavailable":
        stores::without_redis_the_store_is_unavailable,
        stores::a_redis_out_of_memory_is_unavailable,
        stores::a_redis_that_refuses_a_write_is_unavailable;
    "issuer_unavailable":
        stores::without_an_answer_of_the_issuer_a_first_payment_is_refused,
        stores::an_issuer_that_hangs_is_unavailable;
    "outcome_unknown":
        stores::a_reply_that_is_lost_leaves_the_outcome_unknown_and_the_resend_is_a_duplicate,
        stores::a_reply_that_does_not_come_in_time_leaves_the_outcome_unknown;
}

#[test]
fn every_code_of_the_table_is_shown() {
    let table: BTreeSet<&str> = TABLE.iter().map(|(code, ..)| *code).collect();
    let shown: BTreeSet<&str> = SHOWN.iter().copied().collect();
    assert_eq!(shown, table);
    for (code, status, ..) in TABLE {
        let known = common::problem::Code::ALL.iter().find(|known| known.as_str() == code);
        assert_eq!(known.map(|known| known.status()), Some(status), "{code}");
    }
}
