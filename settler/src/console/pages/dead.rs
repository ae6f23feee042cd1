//! What was given up on: closes that the issuer refused for good, and entries that could not be read.

use common::store::listing::{About, Letter};
use maud::{Markup, html};

use super::super::Console;
use super::super::advice::{Advice, about_close, about_entry};
use super::super::channels::DeadCursor;
use super::{Tab, link, moment};

impl Console {
    /// A page of dead letters.
    pub(crate) fn dead(&self, letters: &[Letter], next: Option<DeadCursor>, now_ms: u64) -> Markup {
        let content = html! {
            h1 { "Given up on" }
            p.note { "The newest first. Nothing here is lost: vouchers and entries are kept until a person has dealt with them. A "
                "close that is tried again leaves this list, and comes back if the issuer refuses it again." }
            section.card #dead data-live {
                (table(letters, now_ms, self.guard.is_enabled()))
                @if let Some(next) = next { p.pager { a href={ "/console/dead?at=" (next) } { "Older" } } }
            }
        };
        self.page(Tab::Dead, "Given up on", &content)
    }
}

/// Each letter with its reason, and what to do.
pub(super) fn table(letters: &[Letter], now_ms: u64, may_act: bool) -> Markup {
    html! {
        @if letters.is_empty() {
            p.empty { "Nothing was given up on." }
        } @else {
            ul.letters { @for letter in letters { li { (one(letter, now_ms, may_act)) } } }
        }
    }
}

fn one(letter: &Letter, now_ms: u64, may_act: bool) -> Markup {
    let at = moment(letter.entry.ms, now_ms);
    match &letter.about {
        About::Close(id) => html! {
            div.what { span.badge.failed { "close" } " of " (link(id)) " " span.quiet { (at) } }
            (reason(&letter.reason, &about_close(&letter.reason)))
            p.actions {
                a href={ "/console/channels/" (id) } { "Look at the channel" }
                @if may_act { a.button href={ "/console/channels/" (id) "/retry" } { "Try again…" } }
            }
        },
        About::Entry(original) => html! {
            div.what { span.badge.failed { "entry" } " " code { (original) } " of partition "
                (format!("{:02}", letter.partition)) " " span.quiet { (at) } }
            (reason(&letter.reason, &about_entry(&letter.reason)))
            @if may_act {
                p.actions {
                    a.button href={ "/console/dead/" (letter.partition) "/" (letter.entry) "/requeue" } { "Put back…" }
                }
            }
        },
        About::Unknown => html! {
            div.what { span.badge.failed { "unknown" } " in partition " (format!("{:02}", letter.partition)) " "
                span.quiet { (at) } }
            p { "No version of Millrace wrote this. See " code { "millrace inspect dead" } "." }
        },
    }
}

/// A reason, what it means and what to do.
pub(super) fn reason(reason: &str, advice: &Advice) -> Markup {
    html! {
        p.reason { code { (reason) } }
        p { (advice.means) " " b { "What to do: " } (advice.action) }
        @if !advice.worth_a_retry { p.quiet { "Trying again alone will not help." } }
    }
}
