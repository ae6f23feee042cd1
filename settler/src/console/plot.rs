//! What was unsettled over time, as an SVG that the server draws: three areas, one upon the other. Colours come from the
//! style sheet; words and numbers stand around it in HTML, so that they keep their size when it is stretched. Pure.

use common::store::history::{Sample, Unsettled};
use maud::{Markup, html};

use super::format::{grouped, second_of_day, time, time_of_day};

/// The drawing's own units.
const WIDTH: u128 = 1_000;
const HEIGHT: u128 = 300;

/// Points of a line: a screen does not show more.
const POINTS_MAX: usize = 240;

/// Rows of the table below.
const ROWS: usize = 24;

const HOUR_MS: u64 = 3_600_000;

const DAY_MS: u64 = 86_400_000;

/// A time in ms since 1970, and what was unsettled then.
type Point = (u64, Unsettled);

/// What the samples say of one asset: nothing of it counts as none.
fn points(history: &[(u64, Sample)], asset: &str) -> Vec<Point> {
    let point = |(at_ms, sample): &(u64, Sample)| {
        let sums = sample.sums.as_ref()?;
        let found = sums.assets.iter().find(|(name, _)| name == asset);
        Some((*at_ms, found.map(|(_, unsettled)| unsettled.clone()).unwrap_or_default()))
    };
    history.iter().filter_map(point).collect()
}

/// As many points as a screen shows: of each group the highest, so that no peak is lost.
fn thinned(points: Vec<Point>) -> Vec<Point> {
    let group = points.len().div_ceil(POINTS_MAX).max(1);
    points.chunks(group).filter_map(|group| group.iter().max_by_key(|(_, of)| of.total()).cloned()).collect()
}

/// Times at which another leader took over.
fn changes(history: &[(u64, Sample)]) -> Vec<u64> {
    let pairs = history.windows(2).filter_map(|pair| match pair {
        [(_, before), (at_ms, after)] if before.holder != after.holder => Some(*at_ms),
        _ => None,
    });
    pairs.collect()
}

/// A round number no lower: one digit and zeros, so that half of it is round as well.
fn ceiling(value: u128) -> u128 {
    let mut step = 1u128;
    loop {
        for digit in [1, 2, 3, 4, 5, 6, 8] {
            let round = step.saturating_mul(digit);
            if round >= value || round == u128::MAX {
                return round;
            }
        }
        step = step.saturating_mul(10);
    }
}

/// Where things are drawn.
struct Scale {
    from_ms: u64,
    until_ms: u64,
    top: u128,
}

impl Scale {
    fn x(&self, at_ms: u64) -> u128 {
        let along = u128::from(at_ms.clamp(self.from_ms, self.until_ms).saturating_sub(self.from_ms));
        let all = u128::from(self.until_ms.saturating_sub(self.from_ms)).max(1);
        along.saturating_mul(WIDTH).checked_div(all).unwrap_or(0)
    }

    fn y(&self, value: u128) -> u128 {
        // Sums are below 2^64 channels of 2^64 units: only one that is not could lose digits here.
        let up = value.checked_mul(HEIGHT).map_or_else(
            || value.checked_div(self.top.checked_div(HEIGHT).unwrap_or(1)),
            |scaled| scaled.checked_div(self.top),
        );
        HEIGHT.saturating_sub(up.unwrap_or(0).min(HEIGHT))
    }

    /// The outline of what lies between two lines.
    fn area(&self, points: &[Point], lower: fn(&Unsettled) -> u128, upper: fn(&Unsettled) -> u128) -> String {
        let corner = |(at_ms, of): &Point, line: fn(&Unsettled) -> u128| {
            format!("{} {}", self.x(*at_ms), self.y(line(of)))
        };
        let there = points.iter().map(|point| corner(point, upper));
        let back = points.iter().rev().map(|point| corner(point, lower));
        format!("M{}Z", there.chain(back).collect::<Vec<_>>().join("L"))
    }
}

fn nothing(_: &Unsettled) -> u128 {
    0
}

fn failed(of: &Unsettled) -> u128 {
    of.failed
}

fn with_closing(of: &Unsettled) -> u128 {
    of.failed.saturating_add(of.closing)
}

/// The plot of one asset, with its legend and its numbers.
pub(crate) fn plot(history: &[(u64, Sample)], asset: &str) -> Markup {
    let all = points(history, asset);
    let (Some((from_ms, _)), Some((until_ms, latest))) = (all.first(), all.last()) else {
        return html! { p.empty { "Nothing was summed up yet: the first walk over the channels is under way, or nobody leads." } };
    };
    let (from_ms, until_ms, latest) = (*from_ms, *until_ms, latest.clone());
    let table = numbers(&all);
    let mut points = thinned(all);
    if let [only] = points.as_slice() {
        // One point is no line: it is drawn as one across.
        points = vec![only.clone(), only.clone()];
    }
    let top = ceiling(points.iter().map(|(_, of)| of.total()).max().unwrap_or(0).max(1));
    let scale = Scale { from_ms, until_ms: until_ms.max(from_ms.saturating_add(1)), top };
    if let (2, Some(last)) = (points.len(), points.last_mut()) {
        last.0 = scale.until_ms;
    }
    let layers = [
        ("failed", scale.area(&points, nothing, failed)),
        ("closing", scale.area(&points, failed, with_closing)),
        ("open", scale.area(&points, with_closing, Unsettled::total)),
    ];
    let label = |ms: u64| match until_ms.saturating_sub(from_ms) {
        ..HOUR_MS => second_of_day(ms),
        HOUR_MS..DAY_MS => time_of_day(ms),
        _ => time(ms),
    };
    html! {
        ul.legend {
            @for (name, sum) in [("open", latest.open), ("closing", latest.closing), ("failed", latest.failed)] {
                li { span class={ "key " (name) } {} (name) " " b { (grouped(sum)) } }
            }
        }
        div.plot {
            div.y aria-hidden="true" { span { (grouped(top)) } span { (grouped(top / 2)) } span { "0" } }
            svg viewBox="0 0 1000 300" preserveAspectRatio="none" role="img"
                aria-label={ "Unsettled " (asset) " over time, at last " (grouped(latest.total())) } {
                @for y in [0, 150, 300] {
                    line.grid x1="0" y1=(y) x2="1000" y2=(y) {}
                }
                @for (name, outline) in &layers {
                    path class={ "area " (name) } d=(outline) {}
                }
                @for at_ms in changes(history) {
                    @let x = scale.x(at_ms);
                    line.change x1=(x) y1="0" x2=(x) y2="300" { title { "another leader, " (time(at_ms)) } }
                }
            }
            div.x aria-hidden="true" {
                span { (label(from_ms)) }
                span { (label(from_ms.midpoint(until_ms))) }
                span { (label(until_ms)) }
            }
        }
        (table)
    }
}

/// The newest samples as numbers, for whoever does not see the drawing, or wants to copy them.
fn numbers(points: &[Point]) -> Markup {
    html! {
        details #numbers {
            summary { "As numbers" }
            div.scroll { table {
                thead { tr { th { "UTC" } th.number { "open" } th.number { "closing" } th.number { "failed" } th.number { "all" } } }
                tbody {
                    @for (at_ms, of) in points.iter().rev().take(ROWS) {
                        tr {
                            td { (time(*at_ms)) }
                            @for sum in [of.open, of.closing, of.failed, of.total()] {
                                td.number { (grouped(sum)) }
                            }
                        }
                    }
                }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::store::history::Sums;

    fn sample(holder: &str, open: Option<u128>) -> Sample {
        let unsettled = |open| Unsettled { open, closing: 2, failed: 1 };
        let sums =
            open.map(|open| Sums { assets: vec![("usd".to_owned(), unsettled(open))], ..Sums::default() });
        Sample { holder: holder.to_owned(), token: 1, since_ms: 0, sums }
    }

    #[test]
    fn areas_lie_upon_each_other_and_end_at_the_ceiling() {
        let history = [(0, sample("a:1", Some(7))), (1_000, sample("a:1", Some(97)))];
        let drawn = plot(&history, "usd").into_string();
        // 1 of 100 is three of three hundred, from the bottom; of 10, thirty.
        assert!(drawn.contains("M0 297L1000 297L1000 300L0 300Z"), "failed, at the bottom: {drawn}");
        assert!(drawn.contains("M0 270L1000 0L1000 291L0 291Z"), "open, upon closing and failed: {drawn}");
        assert!(!drawn.contains("class=\"change\""), "one leader");
    }

    #[test]
    fn a_change_of_leader_is_marked_and_a_sample_without_sums_is_no_point() {
        let history =
            [(0, sample("a:1", Some(7))), (500, sample("b:1", None)), (1_000, sample("b:1", Some(7)))];
        assert_eq!(points(&history, "usd").len(), 2);
        assert_eq!(changes(&history), [500]);
        assert!(plot(&history, "usd").into_string().contains(r#"x1="500" y1="0" x2="500""#));
        assert!(plot(&[], "usd").into_string().contains("Nothing was summed up"));
    }

    #[test]
    fn no_peak_is_lost_where_points_are_left_out() {
        let mut all: Vec<Point> = (0..1_000).map(|at| (at, Unsettled::default())).collect();
        all[777].1.open = 5;
        let thinned = thinned(all);
        assert!(thinned.len() <= POINTS_MAX);
        assert_eq!(thinned.iter().map(|(_, of)| of.open).max(), Some(5));
    }

    #[test]
    fn axes_end_at_round_numbers_however_large() {
        for (value, round) in [(1, 1), (3, 3), (99, 100), (101, 200), (2_250, 3_000), (801, 1_000)] {
            assert_eq!(ceiling(value), round);
        }
        assert_eq!(ceiling(u128::MAX), u128::MAX);
        let history = [(0, sample("a:1", Some(u128::MAX - 3)))];
        assert!(plot(&history, "usd").into_string().contains("L1000 0"), "nothing overflows");
    }
}
