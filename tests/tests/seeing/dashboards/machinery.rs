//! How relayers, settlers, Redis and issuer do.

use super::{Dashboard, Row, graph, stat};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "millrace-machinery",
        title: "Millrace: machinery",
        description: "How relayers, settlers, Redis and issuer do.",
        rows: vec![
            at_a_glance(),
            relayers(),
            redis(),
            leadership(),
            issuer_as_settlers_see_it(),
            the_reference_issuer(),
            journal_s_store(),
            configuration(),
        ],
    }
}

fn at_a_glance() -> Row {
    Row {
        title: "At a glance",
        panels: vec![
            stat(
                "Processes ready",
                "Relayers that take payments, settlers that may lead, issuers.",
                "sum(millrace_ready)",
            ),
            stat(
                "Not ready",
                "Processes that say in /readyz what is missing.",
                "count(millrace_ready) - sum(millrace_ready)",
            )
            .bad_from(1),
            stat("Leaders", "Settlers that lead: one.", "sum(millrace_settler_leader)").good_from(1),
            stat("Fencing token", "Rises at every change of leader.", "max(millrace_settler_fencing_token)"),
            stat(
                "Payments per second",
                "Received by all relayers.",
                "sum(rate(millrace_relayer_payments_received_total[$__rate_interval]))",
            )
            .in_unit("reqps"),
            stat(
                "Redis memory",
                "Percent of maxmemory; 0 without one.",
                "max(millrace_relayer_redis_memory_percent)",
            )
            .bad_from(80)
            .in_unit("percent"),
        ],
    }
}

fn relayers() -> Row {
    Row { title: "Relayers", panels: vec![
        graph("In flight", "Payments being handled, by relayer.", &[("millrace_relayer_payments_in_flight", "{{instance}}")]),
        graph("Time by stage, p99", "Parse, terms, verify, store, receipt; store includes waiting for a call.", &[("histogram_quantile(0.99, sum by (le, stage) (rate(millrace_relayer_payment_seconds_bucket[$__rate_interval])))", "{{stage}}")]).in_unit("s"),
        graph("Time by stage, p50", "The same, of the payment in the middle.", &[("histogram_quantile(0.5, sum by (le, stage) (rate(millrace_relayer_payment_seconds_bucket[$__rate_interval])))", "{{stage}}")]).in_unit("s"),
        graph("Vouchers in a call", "How many payments share one call to Redis.", &[("sum(rate(millrace_relayer_call_vouchers_sum[$__rate_interval])) / sum(rate(millrace_relayer_call_vouchers_count[$__rate_interval]))", "mean"), ("histogram_quantile(0.99, sum by (le) (rate(millrace_relayer_call_vouchers_bucket[$__rate_interval])))", "p99")]),
        graph("Cache of terms", "Share of look-ups that memory answers.", &[(r#"sum(rate(millrace_relayer_channel_cache_total{result="hit"}[$__rate_interval])) / sum(rate(millrace_relayer_channel_cache_total[$__rate_interval]))"#, "hits")]).in_unit("percentunit"),
        graph("Channels asked of the issuer", "Per second, by what came of it.", &[("sum by (outcome) (rate(millrace_relayer_issuer_lookups_total[$__rate_interval]))", "{{outcome}}")]).in_unit("reqps"),
    ] }
}

fn redis() -> Row {
    Row { title: "Redis", panels: vec![
        graph("Calls that failed", "Per second, of relayers by kind, and of the leader.", &[("sum by (kind) (rate(millrace_relayer_store_errors_total[$__rate_interval]))", "relayers: {{kind}}"), ("sum(rate(millrace_settler_store_errors_total[$__rate_interval]))", "leader")]).in_unit("reqps"),
        graph("Connections lost", "Per minute; each is made anew.", &[("sum by (instance) (rate(millrace_relayer_redis_connections_lost_total[$__rate_interval])) * 60", "{{instance}}"), ("sum by (instance) (rate(millrace_settler_redis_connections_lost_total[$__rate_interval])) * 60", "{{instance}}")]),
        graph("Streams", "Entries unread or not acknowledged. With a journal they stay until it has them.", &[("max(millrace_settler_stream_entries)", "in the streams"), ("max(millrace_settler_unacknowledged_entries)", "of these read")]),
        graph("Age of the oldest entry", "How far the leader, or its journal, is behind.", &[("max(millrace_settler_stream_oldest_ms)", "oldest")]).in_unit("ms"),
        graph("Read by the leader", "Per second.", &[("sum(rate(millrace_settler_entries_total[$__rate_interval]))", "entries"), ("sum(rate(millrace_settler_payments_total[$__rate_interval]))", "payments")]).in_unit("reqps"),
        graph("Time to enter a page", "From reading a page of entries to having it in the books.", &[("histogram_quantile(0.99, sum by (le) (rate(millrace_settler_page_seconds_bucket[$__rate_interval])))", "p99")]).in_unit("s"),
    ] }
}

fn leadership() -> Row {
    Row {
        title: "Leadership",
        panels: vec![
            graph("Leader", "1 for the settler that leads.", &[("millrace_settler_leader", "{{instance}}")])
                .stacked(),
            graph(
                "Left of the lease",
                "Milliseconds left when it was last renewed: near two thirds of lease.ttl_ms.",
                &[("max(millrace_settler_lease_margin_ms)", "left")],
            )
            .in_unit("ms"),
            graph(
                "Changes",
                "Terms begun, ends of leadership by reason, and renewals that failed, each in five minutes.",
                &[
                    ("sum(increase(millrace_settler_terms_total[5m]))", "begun"),
                    (
                        "sum by (reason) (increase(millrace_settler_step_downs_total[5m]))",
                        "ended: {{reason}}",
                    ),
                    (
                        r#"sum by (outcome) (increase(millrace_settler_lease_renewals_total{outcome!="renewed"}[5m]))"#,
                        "renewal: {{outcome}}",
                    ),
                ],
            ),
        ],
    }
}

fn issuer_as_settlers_see_it() -> Row {
    Row { title: "Issuer, as settlers see it", panels: vec![
        graph("Time to settle, p99", "Until the issuer has answered, by outcome.", &[("histogram_quantile(0.99, sum by (le, outcome) (rate(millrace_settler_issuer_seconds_bucket[$__rate_interval])))", "{{outcome}}")]).in_unit("s"),
        graph("Requests to settle", "Per second, by what became of the request.", &[("sum by (outcome) (rate(millrace_settler_issuer_requests_total[$__rate_interval]))", "{{outcome}}")]).in_unit("reqps"),
        graph("Settlements in a request", "How many closes share a request.", &[("sum(rate(millrace_settler_settlements_per_request_sum[$__rate_interval])) / sum(rate(millrace_settler_settlements_per_request_count[$__rate_interval]))", "mean")]),
    ] }
}

fn the_reference_issuer() -> Row {
    Row { title: "The reference issuer", panels: vec![
        graph("Operations", "Per second, by outcome: ok, or the code of the error.", &[("sum by (operation, outcome) (rate(millrace_issuer_operations_total[$__rate_interval])) > 0", "{{operation}}: {{outcome}}")]).in_unit("reqps").width(12),
        graph("Time of an operation, p99", "From request to answer.", &[("histogram_quantile(0.99, sum by (le, operation) (rate(millrace_issuer_operation_seconds_bucket[$__rate_interval])))", "{{operation}}")]).in_unit("s").width(12),
    ] }
}

fn configuration() -> Row {
    Row {
        title: "Configuration",
        panels: vec![
            graph(
                "Configurations in effect",
                "How many different ones processes of a service run with: more than one while a change is rolled out.",
                &[
                    (r#"count(count_values("hash", millrace_relayer_config_hash))"#, "relayers"),
                    (r#"count(count_values("hash", millrace_settler_config_hash))"#, "settlers"),
                    (r#"count(count_values("hash", millrace_issuer_config_hash))"#, "issuers"),
                ],
            ),
            graph(
                "In effect for",
                "Since a process was started, or last took up a change.",
                &[
                    ("time() - min(millrace_relayer_config_since_seconds)", "relayers"),
                    ("time() - min(millrace_settler_config_since_seconds)", "settlers"),
                    ("time() - min(millrace_issuer_config_since_seconds)", "issuers"),
                ],
            )
            .in_unit("s"),
            graph(
                "Reloads",
                "In five minutes, by outcome: refused takes a restart.",
                &[
                    (
                        "sum by (outcome) (increase(millrace_relayer_config_reloads_total[5m]))",
                        "relayers: {{outcome}}",
                    ),
                    (
                        "sum by (outcome) (increase(millrace_settler_config_reloads_total[5m]))",
                        "settlers: {{outcome}}",
                    ),
                    (
                        "sum by (outcome) (increase(millrace_issuer_config_reloads_total[5m]))",
                        "issuers: {{outcome}}",
                    ),
                ],
            ),
        ],
    }
}

fn journal_s_store() -> Row {
    Row { title: "Journal's store", panels: vec![
        graph("Time to store a segment, p99", "One put into the journal's store.", &[("histogram_quantile(0.99, sum by (le) (rate(millrace_settler_journal_put_seconds_bucket[$__rate_interval])))", "p99")]).in_unit("s"),
        graph("Bytes", "Waiting in memory before compression, and stored per second after it.", &[("sum(millrace_settler_journal_waiting_bytes)", "waiting"), ("sum(rate(millrace_settler_journal_bytes_total[$__rate_interval]))", "stored per second")]).in_unit("bytes"),
        graph("Segments removed", "After their retention, in an hour.", &[("sum(increase(millrace_settler_journal_removed_total[1h]))", "removed")]),
    ] }
}
