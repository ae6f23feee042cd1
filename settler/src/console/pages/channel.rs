//! One channel: how it stands, its life, its terms, and Redis against issuer at a click.

use common::channel::Status;
use common::ids::ChannelId;
use common::store::listing::Marks;
use common::store::read::StoredChannel;
use common::wire::IssuerStatus;
use maud::{Markup, html};
use service::audit::{ChannelFacts, Report};

use super::super::Console;
use super::super::advice::about_close;
use super::super::channels::ListError;
use super::super::format::{grouped, time, time_of_s};
use super::{Tab, audit, badge, dead, full_moment};

/// What is known of one channel.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) stored: StoredChannel,
    pub(crate) marks: Marks,
    /// When the settler looks at it, in ms since 1970.
    pub(crate) due_at_ms: Option<u64>,
}

/// What became of the question to the issuer, where it was asked.
pub(crate) type Checked = Option<Result<(ChannelFacts, Report), ListError>>;

impl Console {
    /// A channel's page. `done` names what a person has just done to it.
    pub(crate) fn channel(
        &self,
        id: &ChannelId,
        known: Option<&Known>,
        checked: &Checked,
        done: Option<&str>,
    ) -> Markup {
        let now_ms = self.app.clock.now_ms();
        let content = html! {
            h1.id { (id) }
            @match done {
                Some("close") => p.banner.good role="status" { "The close was asked for: the leader closes the channel next." },
                Some("retry") => p.banner.good role="status" { "The close is tried again, for the same amount as before." },
                _ => {},
            }
            @match known {
                Some(known) => (self.known(id, known, now_ms)),
                None => section.card { p { "Redis does not know this channel: nobody has paid on it here. The issuer may: audit it below." } },
            }
            section.card #audit {
                div.heading { h2 { "Redis against issuer" } a.button href={ "?audit=now#audit" } { "Audit now" } }
                @match checked {
                    None => p.note { "Asks the issuer how the channel stands and checks voucher, receipt and sums. It changes nothing." },
                    Some(Err(error)) => p.banner.bad { (error) },
                    Some(Ok((facts, report))) => (verdict(facts, report)),
                }
            }
        };
        self.page(Tab::Channels, &format!("Channel {id}"), &content)
    }

    fn known(&self, id: &ChannelId, known: &Known, now_ms: u64) -> Markup {
        let channel = &known.stored;
        let (status, terms) = (channel.state.status, &channel.terms);
        html! {
            section.card #state data-live {
                div.heading {
                    p { (badge(status)) }
                    p.actions { (self.actions(id, status)) }
                }
                @if status == Status::Failed {
                    @let why = channel.last_error.as_deref().unwrap_or_default();
                    div.banner.bad { (dead::reason(why, &about_close(why))) }
                }
                (money(channel))
                h2 { "Life" }
                (life(known, now_ms))
            }
            section.card {
                h2 { "Terms" }
                dl.terms {
                    dt { "Payer" } dd { code { (terms.payer) } }
                    @if terms.payer_authorizer != terms.payer { dt { "Payer authorizer" } dd { code { (terms.payer_authorizer) } } }
                    dt { "Payee" } dd { code { (terms.payee) } }
                    dt { "Issuer" } dd { code { (terms.issuer) } }
                    dt { "Asset" } dd { (terms.asset) }
                    dt { "Expires" } dd { (time_of_s(terms.expires_at)) " UTC" }
                    dt { "Scheme" } dd { (terms.scheme.name()) }
                    dt { "Partition" } dd { (format!("{:02}", self.app.store.partition_of(id))) }
                }
            }
        }
    }

    fn actions(&self, id: &ChannelId, status: Status) -> Markup {
        let action = match status {
            Status::Open => Some(("close", "Close…")),
            Status::Failed => Some(("retry", "Try again…")),
            Status::Closing | Status::Closed => None,
        };
        html! {
            @match action {
                Some((path, name)) if self.guard.is_enabled() => {
                    a.button href={ "/console/channels/" (id) "/" (path) } { (name) }
                }
                _ => {},
            }
        }
    }
}

/// The sums, and how much of the capacity is used.
fn money(channel: &StoredChannel) -> Markup {
    let (amount, capacity) = (channel.state.amount, channel.state.capacity);
    let settled = channel.receipt.as_ref().map_or(channel.settled_before, |receipt| receipt.settled_amount);
    let unsettled = amount.checked_sub(settled).unwrap_or_default();
    html! {
        dl.money {
            div { dt { "Accepted" } dd { (grouped(amount.units().into())) } }
            div { dt { "Settled" } dd { (grouped(settled.units().into())) } }
            div { dt { "Unsettled" } dd { (grouped(unsettled.units().into())) } }
            div { dt { "Capacity" } dd { (grouped(capacity.units().into())) " " span.quiet { (channel.terms.asset) } } }
        }
        @let percent = u128::from(amount.units()).saturating_mul(100).checked_div(capacity.units().into()).unwrap_or(0);
        progress max="100" value=(percent) aria-label="Capacity used" { (percent) " %" }
    }
}

/// What happened when, in the order in which it happens.
fn life(known: &Known, now_ms: u64) -> Markup {
    let (channel, marks) = (&known.stored, &known.marks);
    let ended = matches!(channel.state.status, Status::Closed | Status::Failed);
    let by = marks.close_requested_by.as_deref();
    let events: [(&str, Option<u64>, Markup); 7] = [
        ("First unsettled payment", channel.first_at_ms, html! {}),
        ("Latest payment read", channel.last_at_ms, html! {}),
        (
            "Close asked for",
            channel.close_requested_at_ms,
            html! { @if let Some(by) = by { "by the " (by) } },
        ),
        (
            "Close began",
            channel.closing_at_ms,
            html! {
                @if let Some(reason) = &channel.closing_reason { "because of " code { (reason) } }
                @if channel.attempts > 0 { ", " (channel.attempts) " attempts without a final answer" }
            },
        ),
        ("Given up on", marks.failed_at_ms, html! {}),
        ("Tried again by a person", marks.retried_at_ms, html! {}),
        (
            "Closed",
            marks.closed_at_ms,
            html! {
                @if let Some(receipt) = &channel.receipt {
                    (grouped(receipt.settled_amount.units().into())) " to the payee, "
                    (grouped(receipt.refunded_amount.units().into())) " back to the payer"
                }
            },
        ),
    ];
    html! {
        ol.life {
            @for (what, at_ms, more) in &events {
                @if let Some(at_ms) = at_ms {
                    li { b { (what) } " " (full_moment(*at_ms, now_ms)) " " (more) }
                }
            }
            @if let (Some(due_at_ms), false) = (known.due_at_ms, ended) {
                li.next { b { "The settler looks at it" } " " (full_moment(due_at_ms, now_ms)) }
            }
        }
        @if let (Some(error), Status::Closing) = (&channel.last_error, channel.state.status) {
            p { "The last attempt ended in " code { (error) } ". Attempts go on by themselves." }
        }
    }
}

fn verdict(facts: &ChannelFacts, report: &Report) -> Markup {
    html! {
        @if report.is_clean() {
            p.banner.good role="status" { "Clean: what Redis and the issuer hold fits together." }
        } @else {
            div.banner.bad role="status" { (audit::violations(report)) }
        }
        @match &facts.issued {
            Some(issued) => dl.money {
                div { dt { "At the issuer" } dd { (at_issuer(issued.status)) } }
                div { dt { "Paid" } dd { (grouped(issued.settled.units().into())) } }
                div { dt { "Given back" } dd { (grouped(issued.refunded.units().into())) } }
                @if let Some(receipt) = &issued.receipt {
                    div { dt { "Receipt" } dd { (u64::try_from(receipt.settled_at_ms).map_or_else(|_| receipt.settled_at_ms.to_string(), time)) " UTC, "
                        @if issued.receipt_signed { "signature holds" } @else { "signature does not hold" } } }
                }
            },
            None => p { "The issuer does not know this channel." },
        }
    }
}

/// A status at the issuer, which knows no closing.
const fn at_issuer(status: IssuerStatus) -> &'static str {
    match status {
        IssuerStatus::Open => "open",
        IssuerStatus::Closed => "closed",
        IssuerStatus::Refunded => "refunded",
    }
}
