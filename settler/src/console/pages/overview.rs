//! The first page: is all well, who leads, what is unsettled, what lags.

use maud::{Markup, html};

use super::super::Console;
use super::super::format::{grouped, relative, short_holder, span};
use super::super::plot::plot;
use super::super::snapshot::Snapshot;
use super::{Tab, dash, dead, full_moment, moment};

impl Console {
    /// The overview, with the plot of one asset.
    pub(crate) fn overview(&self, snapshot: &Snapshot, asset: Option<&str>) -> Markup {
        let assets: Vec<&str> = snapshot
            .sums()
            .map(|(_, sums)| sums.assets.iter().map(|(asset, _)| asset.as_str()).collect())
            .unwrap_or_default();
        let asset = asset.or_else(|| assets.first().copied()).unwrap_or("usd");
        let content = html! {
            h1 { "Overview" }
            div #verdict data-live { (self.verdict(snapshot)) }
            div.tiles #tiles data-live { (self.tiles(snapshot, asset)) }
            section.card #unsettled data-live {
                div.heading {
                    h2 { "Unsettled money" }
                    @if assets.len() > 1 {
                        p.tabs {
                            @for name in &assets {
                                a href={ "/console?asset=" (name) } aria-current=[(*name == asset).then_some("true")] { (name) }
                            }
                        }
                    }
                }
                p.note {
                    "Recorded and not yet paid by the issuer, in atomic units of " b { (asset) } ". "
                    (self.provenance(snapshot))
                }
                (plot(&snapshot.history, asset))
            }
            section.card #dead data-live {
                div.heading { h2 { "Given up on" } a href="/console/dead" { "All" } }
                (dead::table(&snapshot.dead, snapshot.at_ms, self.guard.is_enabled()))
            }
            section.card #partitions data-live { h2 { "Partitions" } (self.partitions(snapshot)) }
        };
        self.page(Tab::Overview, "Overview", &content)
    }

    /// What needs a person, or that nothing does.
    fn verdict(&self, snapshot: &Snapshot) -> Markup {
        let lag_ms = self.app.config.console.lag_warning_s.saturating_mul(1_000);
        let oldest_ms = snapshot.oldest_at_ms().map(|at_ms| snapshot.at_ms.saturating_sub(at_ms));
        let late_ms = oldest_ms.filter(|age_ms| *age_ms >= lag_ms);
        let dead = snapshot.sum(|partition| partition.dead);
        let no_leader = snapshot.lease.holder.is_none();
        if !no_leader && dead == 0 && late_ms.is_none() {
            return html! { p.banner.good { "Nothing needs you: a settler leads, nothing lags, nothing was given up on." } };
        }
        html! {
            div.banner.bad {
                ul {
                    @if no_leader {
                        li { b { "Nobody leads. " } "Payments go on and nothing is settled. " code { "/readyz" }
                            " of each settler says why it does not." }
                    }
                    @if dead > 0 {
                        li { b { (grouped(dead.into())) " given up on. " } "Each waits for a person: "
                            a href="/console/dead" { "reasons and what to do" } "." }
                    }
                    @if let Some(late_ms) = late_ms {
                        li { b { "Payments wait to be put into the books, " (span(late_ms)) " by now. " }
                            "Nothing is lost; see the partitions below, and the journal if one is kept." }
                    }
                }
            }
        }
    }

    fn tiles(&self, snapshot: &Snapshot, asset: &str) -> Markup {
        let now_ms = snapshot.at_ms;
        let sums = snapshot.sums();
        let unsettled = sums.and_then(|(_, sums)| sums.assets.iter().find(|(name, _)| name == asset));
        html! {
            div.tile {
                h2 { "Leader" }
                @match &snapshot.lease.holder {
                    Some(holder) => {
                        p.figure.word title=(holder) { (short_holder(holder)) }
                        p.note {
                            @if self.app.process == holder.split(':').next().unwrap_or_default() { "this process, " }
                            @if let Some(since_ms) = snapshot.led_since_ms() { "since " (full_moment(since_ms, now_ms)) ", " }
                            "token " (snapshot.lease.token)
                        }
                    }
                    None => { p.figure.word.alarm { "nobody" } p.note { "token " (snapshot.lease.token) } }
                }
            }
            div.tile {
                h2 { "Unsettled " (asset) }
                p.figure { (unsettled.map_or_else(|| "–".to_owned(), |(_, of)| grouped(of.total()))) }
                p.note {
                    @match sums {
                        Some((at_ms, sums)) => {
                            (grouped(sums.open.into())) " open, " (grouped(sums.closing.into())) " closing, "
                            (grouped(sums.failed.into())) " failed; summed up " (relative(at_ms, now_ms))
                        }
                        None => "not summed up yet",
                    }
                }
            }
            div.tile {
                h2 { "Not ended" }
                p.figure { (grouped(snapshot.sum(|partition| partition.due).into())) }
                p.note { "channels open or closing, counted now" }
            }
            div.tile {
                h2 { "Waiting" }
                p.figure { (grouped(snapshot.sum(|partition| partition.entries).into())) }
                p.note {
                    "entries of payments, "
                    @match snapshot.oldest_at_ms() {
                        Some(at_ms) => { "the oldest " (relative(at_ms, now_ms)) }
                        None => "none waits",
                    }
                }
            }
        }
    }

    /// How the sums came about: whoever reads them should know what they are worth.
    fn provenance(&self, snapshot: &Snapshot) -> Markup {
        html! {
            @if let Some((at_ms, sums)) = snapshot.sums() {
                "The leader reads every channel that has not ended; the last walk took " (span(sums.took_ms))
                " and ended " (relative(at_ms, snapshot.at_ms)) ", so sums are of no one moment. "
                @if sums.assets_left_out > 0 { (grouped(sums.assets_left_out.into())) " further assets are not kept. " }
                "A dashed line is a change of leader."
            }
        }
    }

    fn partitions(&self, snapshot: &Snapshot) -> Markup {
        let lag_ms = self.app.config.console.lag_warning_s.saturating_mul(1_000);
        html! {
            div.scroll { table.dense {
                thead { tr {
                    th { "Partition" } th.number { "Waiting" } th.number.wide { "Unacknowledged" } th.number { "Oldest" }
                    th.number { "Not ended" } th.number.wide { "Fence" } th.number { "Given up" }
                } }
                tbody {
                    @for partition in &snapshot.partitions {
                        @let late = partition.oldest_at_ms.is_some_and(|at_ms| snapshot.at_ms.saturating_sub(at_ms) >= lag_ms);
                        tr.late[late] {
                            th scope="row" { (format!("{:02}", partition.partition)) }
                            td.number { (grouped(partition.entries.into())) }
                            td.number.wide { (grouped(partition.unacknowledged.into())) }
                            td.number { @match partition.oldest_at_ms {
                                Some(at_ms) => (moment(at_ms, snapshot.at_ms)),
                                None => (dash()),
                            } }
                            td.number { (grouped(partition.due.into())) }
                            td.number.wide { (partition.fence) }
                            td.number { @if partition.dead > 0 { b.alarm { (grouped(partition.dead.into())) } } @else { "0" } }
                        }
                    }
                }
            } }
            p.note { "Waiting: entries in the stream, read or not. With a journal they wait until their segment is stored." }
        }
    }
}
