//! Lists of channels, by status or by how their ids begin.

use common::channel::Status;
use common::wire::IssuerStatus;
use maud::{Markup, html};

use super::super::Console;
use super::super::channels::{Filter, ListError, Listed, Row};
use super::super::format::grouped;
use super::{Tab, badge, dash, link, moment};

/// What a list is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heading {
    /// Channels of one status.
    Status(Filter),
    /// Channels whose ids begin so.
    Prefix(String),
    /// What was typed begins no id.
    Nonsense(String),
}

impl Console {
    /// A page of a list, or why there is none.
    pub(crate) fn channels(&self, heading: &Heading, listed: &Result<Listed, ListError>) -> Markup {
        let now_ms = self.app.clock.now_ms();
        let filter = match heading {
            Heading::Status(filter) => Some(*filter),
            Heading::Prefix(_) | Heading::Nonsense(_) => None,
        };
        let content = html! {
            h1 { "Channels" }
            p.tabs {
                @for of in Filter::EVERY {
                    a href={ "/console/channels?status=" (of.as_str()) } aria-current=[(Some(of) == filter).then_some("true")] {
                        (of.as_str())
                    }
                }
                a href="/console/dead" { "failed" }
            }
            section.card #list data-live {
                @match heading {
                    Heading::Status(filter) => p.note { (order(*filter)) },
                    Heading::Prefix(prefix) => p.note { "Channels of this payee whose ids begin with " code { (prefix) } ", by the issuer's list." },
                    Heading::Nonsense(typed) => p.note { code { (typed) }
                        " begins no id: ids are base58, up to 44 characters, without 0, O, I and l." },
                }
                @match listed {
                    Ok(listed) => (self.list(heading, listed, now_ms)),
                    Err(error) => p.banner.bad { (error) },
                }
            }
        };
        self.page(Tab::Channels, "Channels", &content)
    }

    fn list(&self, heading: &Heading, listed: &Listed, now_ms: u64) -> Markup {
        html! {
            @if listed.rows.is_empty() {
                p.empty { @if listed.next.is_some() { "None among the " (grouped(listed.read.into())) " channels that were read for this page." }
                    @else { "None." } }
            } @else {
                div.scroll { table {
                    thead { tr {
                        th { "Channel" } th { "Status" } th.number { "Accepted" } th.number.wide { "Settled" }
                        th.number.wide { "Capacity" } th.wide { "Asset" } th { "When" }
                    } }
                    tbody { @for row in &listed.rows { (one(row, now_ms)) } }
                } }
            }
            @match (&listed.next, heading) {
                (Some(next), Heading::Status(filter)) => p.pager {
                    a href={ "/console/channels?status=" (filter.as_str()) "&at=" (next) } { "Further" }
                },
                (Some(_), _) => p.note { "There are more: give more of the id." },
                (None, _) => {},
            }
        }
    }
}

fn order(filter: Filter) -> &'static str {
    match filter {
        Filter::Open => {
            "Partition by partition, those first that the settler looks at first; as Redis has them."
        }
        Filter::Closing => "Partition by partition, those first that are tried first; as Redis has them.",
        Filter::Closed => "In the order of their ids, as the issuer lists them for this payee.",
        Filter::All => {
            "Every channel that the issuer has for this payee, in the order of their ids, also those never paid on."
        }
    }
}

fn one(row: &Row, now_ms: u64) -> Markup {
    let stored = row.stored.as_ref();
    let terms = stored.map(|channel| &channel.terms).or(row.issued.as_ref().map(|channel| &channel.terms));
    let settled = match (&row.issued, stored.and_then(|channel| channel.receipt.as_ref())) {
        (Some(issued), _) => Some(issued.settled_amount),
        (None, Some(receipt)) => Some(receipt.settled_amount),
        (None, None) => stored.map(|channel| channel.settled_before),
    };
    html! {
        tr {
            td { (link(&row.id)) }
            td { @match (stored, &row.issued) {
                (Some(channel), _) => (badge(channel.state.status)),
                (None, Some(issued)) => (of_issuer(issued.status)),
                (None, None) => span.badge.failed { "unreadable" },
            } }
            td.number { @match stored { Some(channel) => (grouped(channel.state.amount.units().into())), None => (dash()) } }
            td.number.wide { @match settled { Some(settled) => (grouped(settled.units().into())), None => (dash()) } }
            td.number.wide { @match terms { Some(terms) => (grouped(terms.capacity.units().into())), None => (dash()) } }
            td.wide { @match terms { Some(terms) => (terms.asset), None => (dash()) } }
            td { (when(row, now_ms)) }
        }
    }
}

/// What a channel's status is for the issuer, where Redis does not know the channel.
fn of_issuer(status: IssuerStatus) -> Markup {
    let word = match status {
        IssuerStatus::Open => "never paid on",
        IssuerStatus::Closed => "closed",
        IssuerStatus::Refunded => "refunded",
    };
    html! { span.badge.none { (word) } }
}

/// The time that matters for a status.
fn when(row: &Row, now_ms: u64) -> Markup {
    let Some(channel) = &row.stored else { return dash() };
    match channel.state.status {
        Status::Open => html! {
            @match channel.last_at_ms { Some(at_ms) => { "paid " (moment(at_ms, now_ms)) }, None => span.quiet { "not paid on" } }
            @if let Some(due_at_ms) = row.due_at_ms { ", " span.quiet { "looked at " (moment(due_at_ms, now_ms)) } }
        },
        Status::Closing => html! {
            @match channel.closing_at_ms { Some(at_ms) => { "closing since " (moment(at_ms, now_ms)) }, None => (dash()) }
            @if channel.attempts > 0 { ", " (channel.attempts) " attempts" }
        },
        Status::Closed | Status::Failed => match channel.closing_at_ms {
            Some(at_ms) => html! { "closing began " (moment(at_ms, now_ms)) },
            None => dash(),
        },
    }
}
