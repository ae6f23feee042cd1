//! The audit: what it looks at, how far it is, what it found.

use maud::{Markup, html};
use service::audit::{Kind, Report};

use super::super::Console;
use super::super::audit::{Run, State, VIOLATIONS_KEPT};
use super::super::format::{grouped, span};
use super::{Tab, full_moment, link};

impl Console {
    /// The audit under way, or the last one, and a button for the next.
    pub(crate) fn audit(&self) -> Markup {
        let (run, now_ms) = (self.audits.latest(), self.app.clock.now_ms());
        let running = run.as_ref().is_some_and(|run| run.state == State::Running);
        let channels_max = self.app.config.console.audit_channels_max;
        let content = html! {
            h1 { "Audit" }
            p.note { "Every channel that the issuer has for this payee, and every channel that has not ended in Redis: what was \
                accepted against what was paid, each voucher's and receipt's signature checked anew, and the issuer's books added \
                up. It changes nothing, looks at " (grouped(channels_max.into())) " channels at most, "
                (grouped(self.app.config.console.walk_channels_per_s.into())) " a second. " code { "millrace audit" }
                " looks at all of them, and holds ledgers and the journal against them too." }
            section.card #audit data-live {
                @match &run {
                    Some(run) => (result(run, channels_max, now_ms)),
                    None => p.empty { "None was run since this process started." },
                }
            }
            @if !running { form method="post" action="/console/audit" { button.button { "Audit now" } } }
        };
        self.page(Tab::Audit, "Audit", &content)
    }
}

fn result(run: &Run, channels_max: u32, now_ms: u64) -> Markup {
    let report = &run.report;
    html! {
        @match &run.state {
            State::Running => div.banner {
                p { b { "Running: " } (grouped(report.channels.into())) " channels so far." }
                progress max=(channels_max) aria-label="An audit is running" {}
            },
            State::Failed { reason } => p.banner.bad role="status" { b { "Broke off: " } (reason) ". Half an audit is none." },
            State::Finished { took_ms } if run.violations == 0 && report.drift == 0 => p.banner.good role="status" {
                b { "Clean: " } "nothing is missing, nothing is paid twice. " (grouped(report.channels.into())) " channels in "
                (span(*took_ms)) "."
            },
            State::Finished { took_ms } => p.banner.bad role="status" {
                b { (grouped(run.violations.into())) " violations " } "on " (grouped(report.channels.into())) " channels in "
                (span(*took_ms)) "."
            },
            State::Limited { took_ms } => p.banner.bad role="status" {
                b { "Not all: " } "the first " (grouped(report.channels.into())) " channels by id, in " (span(*took_ms)) ", with "
                (grouped(run.violations.into())) " violations. " code { "millrace audit" } " looks at the rest."
            },
        }
        p.note { "Began " (full_moment(run.began_at_ms, now_ms)) }
        dl.money {
            div { dt { "Channels" } dd { (grouped(report.channels.into())) } }
            div { dt { "Closed" } dd { (grouped(report.closed.into())) } }
            div { dt { "To be settled" } dd { (grouped(report.pending_amount)) } }
            div { dt { "Accepted" } dd { (grouped(report.accepted)) } }
            div { dt { "Paid" } dd { (grouped(report.settled)) } }
            div { dt { "Drift" } dd { (grouped(report.drift)) } }
        }
        @if !report.violations.is_empty() {
            (violations(report))
            @if run.violations > u64::try_from(VIOLATIONS_KEPT).unwrap_or(u64::MAX) {
                p.note { "These are the first " (VIOLATIONS_KEPT) "." }
            }
        }
    }
}

/// What is wrong, line by line.
pub(super) fn violations(report: &Report) -> Markup {
    html! {
        ul.violations {
            @for violation in &report.violations {
                li { code { (word(violation.kind)) } " "
                    @if let Some(id) = &violation.channel_id { (link(id)) " " }
                    (violation.detail) }
            }
        }
    }
}

/// A kind as it stands in JSON.
fn word(kind: Kind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
