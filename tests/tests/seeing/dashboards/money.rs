//! What was accepted, what became of it, and what is in danger.

use super::{Dashboard, Row, graph, stat};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "millrace-money",
        title: "Millrace: money",
        description: "What was accepted, what became of it, and what is in danger. Amounts are atomic units of all assets together.",
        rows: vec![is_all_of_it_there(), what_became_of_what_was_accepted(), payments(), closes(), journal()],
    }
}

fn is_all_of_it_there() -> Row {
    Row { title: "Is all of it there?", panels: vec![
        stat("At risk of expiry", "Units of closes that have not ended although their channel is near its expiry. See MillraceMoneyAtRisk.", "max(millrace_settler_at_risk_units)").bad_from(1),
        stat("Dead", "Units on channels that the issuer will not settle. A person must look: MillraceDeadLetters.", r#"max(millrace_settler_money_units{state="dead"})"#).bad_from(1),
        stat("Dead letters", "Entries and closes that wait for a person: millrace inspect dead.", "max(millrace_settler_dead_letters)").bad_from(1),
        stat("Money out of balance", "Accepted less settled, unsettled and dead, at whichever settler it is furthest from nothing. Anything but 0 is a fault.", r#"max(abs(sum by (instance) (millrace_settler_money_units{state="accepted"}) - sum by (instance) (millrace_settler_money_units{state!="accepted"})))"#).bad_from(1),
        stat("Payments out of balance", "Received less ended and in flight, at whichever relayer it is furthest from nothing. Anything but 0 is a fault.", "max(abs(sum by (instance) (millrace_relayer_payments_received_total) - sum by (instance) (millrace_relayer_payments_total) - sum by (instance) (millrace_relayer_payments_in_flight)))").bad_from(1),
        stat("Redis lost data", "1 if any process knows that Redis went back. Everything stands still: MillraceDataLost.", "max(millrace_relayer_redis_lost_data) + max(millrace_settler_redis_lost_data)").bad_from(1),
    ] }
}

fn what_became_of_what_was_accepted() -> Row {
    Row { title: "What became of what was accepted", panels: vec![
        stat("Accepted", "Since the books were begun, as far as the leader has read.", r#"max(millrace_settler_money_units{state="accepted"})"#).width(8),
        stat("Settled", "Paid by the issuer.", r#"max(millrace_settler_money_units{state="settled"})"#).width(8),
        stat("Unsettled", "On channels that are open or closing: what the payee is owed.", r#"max(millrace_settler_money_units{state="unsettled"})"#).width(8),
        graph("Owed", "Unsettled units, and those of them that are at risk.", &[(r#"max(millrace_settler_money_units{state="unsettled"})"#, "unsettled"), ("max(millrace_settler_at_risk_units)", "at risk"), (r#"max(millrace_settler_money_units{state="dead"})"#, "dead")]).width(12),
        graph("Earned per second", "What came in and what was paid out. Over a while both must be the same.", &[(r#"sum(deriv(millrace_settler_money_units{state="accepted"}[$__rate_interval]) and on (instance) millrace_settler_leader == 1)"#, "accepted"), ("sum(rate(millrace_settler_settled_units_total[$__rate_interval]))", "settled"), ("sum(rate(millrace_settler_refunded_units_total[$__rate_interval]))", "given back to payers")]).width(12),
    ] }
}

fn payments() -> Row {
    Row { title: "Payments", panels: vec![
        graph("Payments by outcome", "Per second, over all relayers. Rejected is all that was refused or given up on before anything was recorded.", &[(r#"sum(rate(millrace_relayer_payments_total{outcome="accepted"}[$__rate_interval]))"#, "accepted"), (r#"sum(rate(millrace_relayer_payments_total{outcome="duplicate"}[$__rate_interval]))"#, "duplicate"), (r#"sum(rate(millrace_relayer_payments_total{outcome="outcome_unknown"}[$__rate_interval]))"#, "unknown"), (r#"sum(rate(millrace_relayer_payments_total{outcome!~"accepted|duplicate|outcome_unknown"}[$__rate_interval]))"#, "rejected")]).stacked().in_unit("reqps").width(12),
        graph("Rejections by code", "Per second. The ten most frequent: the codes are those of the answers.", &[(r#"topk(10, sum by (outcome) (rate(millrace_relayer_payments_total{outcome!~"accepted|duplicate"}[$__rate_interval])))"#, "{{outcome}}")]).in_unit("reqps").width(12),
    ] }
}

fn closes() -> Row {
    Row {
        title: "Closes",
        panels: vec![
            graph(
                "Closes by outcome",
                "Per minute. Retry: no final answer of the issuer. Failed: it refused for good.",
                &[(
                    "sum by (outcome) (rate(millrace_settler_closes_total[$__rate_interval])) * 60",
                    "{{outcome}}",
                )],
            ),
            graph(
                "Closes by reason",
                "Per minute: which rule of the policy closed a channel.",
                &[(
                    r#"sum by (reason) (rate(millrace_settler_closes_total{outcome="closed"}[$__rate_interval])) * 60"#,
                    "{{reason}}",
                )],
            ),
            graph(
                "Channels to be settled",
                "Channels that wait for their time, and closes under way.",
                &[
                    ("max(millrace_settler_due_channels)", "waiting"),
                    ("sum(millrace_settler_closes_in_flight)", "closing now"),
                ],
            ),
        ],
    }
}

fn journal() -> Row {
    Row {
        title: "Journal",
        panels: vec![
            graph(
                "Behind",
                "Age of the oldest payment that is in Redis and not in the journal yet.",
                &[("max(millrace_settler_journal_lag_ms)", "behind")],
            )
            .in_unit("ms"),
            graph(
                "Stored",
                "Records and segments per second.",
                &[
                    ("sum(rate(millrace_settler_journal_records_total[$__rate_interval]))", "records"),
                    ("sum(rate(millrace_settler_journal_segments_total[$__rate_interval]))", "segments"),
                ],
            ),
            graph(
                "Failures",
                "Calls that the journal's store failed, per minute.",
                &[("sum(rate(millrace_settler_journal_failures_total[$__rate_interval])) * 60", "failures")],
            ),
        ],
    }
}
