//! The pages, one file each, and what stands around all of them. They are readable without JavaScript; parts marked with
//! `data-live` are brought up to date by `script.js`, which fetches the same page again.

pub(crate) mod act;
pub(crate) mod audit;
pub(crate) mod channel;
pub(crate) mod channels;
pub(crate) mod dead;
pub(crate) mod overview;

use common::channel::Status;
use common::ids::ChannelId;
use maud::{DOCTYPE, Markup, html};

use super::Console;
use super::format::{relative, short, time};

/// Which page is open, for the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tab {
    Overview,
    Channels,
    Dead,
    Audit,
}

const TABS: [(Tab, &str, &str); 4] = [
    (Tab::Overview, "/console", "Overview"),
    (Tab::Channels, "/console/channels", "Channels"),
    (Tab::Dead, "/console/dead", "Given up on"),
    (Tab::Audit, "/console/audit", "Audit"),
];

impl Console {
    /// A whole page around `content`.
    pub(crate) fn page(&self, tab: Tab, title: &str, content: &Markup) -> Markup {
        let now_ms = self.app.clock.now_ms();
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · Millrace" }
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href="/console/style.css";
                    script src="/console/script.js" defer {}
                }
                body data-refresh-ms=(self.app.config.console.refresh_ms) {
                    a.skip href="#main" { "To the content" }
                    header {
                        a.brand href="/console" { "Millrace" span { "settler" } }
                        nav aria-label="Pages" {
                            @for (of, path, name) in TABS {
                                a href=(path) aria-current=[(of == tab).then_some("page")] { (name) }
                            }
                        }
                        form.search action="/console/channels" role="search" {
                            input type="search" name="q" aria-label="Channel id, or how it begins"
                                placeholder="channel id, or how it begins" maxlength="64" autocomplete="off" spellcheck="false";
                            button { "Find" }
                        }
                    }
                    main #main {
                        @if let Some(reason) = self.readiness.reason() {
                            p.banner.bad role="alert" { b { "This settler is not ready: " } (reason) }
                        }
                        (content)
                    }
                    footer {
                        p #freshness { "As of " time { (time(now_ms)) } " UTC. " noscript { a href="" { "Reload" } " for new figures." } }
                        p { "Process " code { (self.app.process.get(..8).unwrap_or_default()) } ", "
                            @if self.app.post.lease().is_some() { "leading" } @else { "standing by" }
                            ". " @if !self.guard.is_enabled() { "Actions are turned off: console.actions_token is not set." } }
                    }
                }
            }
        }
    }
}

/// A status as a badge: a word, and a colour that says the same.
fn badge(status: Status) -> Markup {
    html! { span class={ "badge " (status.as_str()) } { (status.as_str()) } }
}

/// A link to a channel's page.
fn link(id: &ChannelId) -> Markup {
    html! { a.id href={ "/console/channels/" (id) } title=(id) { (short(id)) } }
}

/// A time, and how far it is from now.
fn moment(at_ms: u64, now_ms: u64) -> Markup {
    html! { time title={ (time(at_ms)) " UTC" } { (relative(at_ms, now_ms)) } }
}

/// A time in full, with how far it is from now.
fn full_moment(at_ms: u64, now_ms: u64) -> Markup {
    html! { time { (time(at_ms)) " UTC" } " " span.quiet { (relative(at_ms, now_ms)) } }
}

/// What stands where a value is not known.
fn dash() -> Markup {
    html! { span.quiet { "–" } }
}
