//! Before something is done: what will happen, and the token that it takes. After: what stood against it.

use common::problem::{Code, Problem};
use maud::{Markup, html};

use super::super::Console;
use super::super::actions::Action;
use super::{Tab, link};

impl Console {
    /// The page that asks whether it is meant.
    pub(crate) fn confirm(&self, action: Action, refused: Option<&Problem>) -> Markup {
        let (title, button) = match action {
            Action::Close { .. } => ("Close this channel?", "Close the channel"),
            Action::Retry { .. } => ("Try this close again?", "Try again"),
            Action::Requeue { .. } => ("Put this entry back?", "Put it back"),
        };
        let content = html! {
            h1 { (title) }
            @if let Some(problem) = refused {
                p.banner.bad role="alert" {
                    b { code { (problem.code) } " " (problem.title) ". " }
                    @if let Some(detail) = &problem.detail { (detail) ". " }
                    @if let Some(seconds) = problem.retry_after_s { "Again in " (seconds) " s." }
                }
            }
            section.card {
                (explained(action))
                @if self.guard.is_enabled() {
                    form.act method="post" {
                        label for="token" { "Token" }
                        input #token type="password" name="token" required autocomplete="off" spellcheck="false" autofocus;
                        label for="name" { "Your name, for the log" }
                        input #name type="text" name="name" maxlength="64" autocomplete="nickname";
                        p.actions {
                            button.button.primary { (button) }
                            a href=(back(action)) { "Leave it" }
                        }
                    }
                } @else {
                    p.banner.bad { b { code { (Code::ActionsDisabled) } " " } "console.actions_token is not set: this console only shows." }
                }
            }
        };
        self.page(tab(action), title, &content)
    }
}

/// Where to go from an action, done or not.
pub(crate) fn back(action: Action) -> String {
    match action {
        Action::Close { channel_id } | Action::Retry { channel_id } => {
            format!("/console/channels/{channel_id}")
        }
        Action::Requeue { .. } => "/console/dead".to_owned(),
    }
}

fn tab(action: Action) -> Tab {
    match action {
        Action::Close { .. } => Tab::Channels,
        Action::Retry { .. } | Action::Requeue { .. } => Tab::Dead,
    }
}

fn explained(action: Action) -> Markup {
    match action {
        Action::Close { channel_id } => html! {
            p { "Channel " (link(&channel_id)) " takes no more payments, its latest voucher goes to the issuer, and what is left of the \
                deposit goes back to the payer. This cannot be undone; the payer can open another channel." }
        },
        Action::Retry { channel_id } => html! {
            p { "The close of " (link(&channel_id)) " goes to the issuer once more, for the voucher that was pinned when it began: no \
                amount changes. If the issuer refuses again, it comes back to the list with the new reason." }
        },
        Action::Requeue { partition, entry } => html! {
            p { "Entry " code { (entry) } " of partition " (format!("{partition:02}")) " goes back into its stream and is read once more. Its \
                payments are in the channels' states already: no money moves. If it cannot be read again, it comes back to the list." }
        },
    }
}
