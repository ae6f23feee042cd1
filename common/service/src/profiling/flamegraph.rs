//! Samples of stacks as a picture: a box is a function, as wide as its share of the samples, below whoever called it.
//! Hovering over one shows its whole name and its share. The one library that draws these is under a licence that
//! programs of this project are not to carry.

use std::collections::BTreeMap;
use std::fmt::Write as _;

const WIDTH_PX: u64 = 1_200;
const ROW_PX: u64 = 17;
/// Where the first row begins, below the title.
const TOP_PX: u64 = 30;
/// A letter of the font below, rounded up, so that no name leaves its box.
const LETTER_PX: u64 = 7;
/// Positions are in hundredths of a pixel.
const HUNDREDTHS: u64 = 100;
/// In hundredths of a pixel: what is narrower cannot be seen, and is most of the picture's bytes.
const NARROWEST: u64 = 30;

/// Stacks, put together by their callers.
#[derive(Debug, Default)]
pub(super) struct Graph {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    samples: u64,
    called: BTreeMap<String, Node>,
}

impl Graph {
    /// Adds a stack, outermost function first, that was seen this many times.
    pub(super) fn add(&mut self, stack: impl Iterator<Item = String>, samples: u64) {
        self.root.samples = self.root.samples.saturating_add(samples);
        let mut at = &mut self.root;
        for name in stack {
            at = at.called.entry(name).or_default();
            at.samples = at.samples.saturating_add(samples);
        }
    }

    /// The picture, with a line above it.
    pub(super) fn svg(&self, title: &str) -> String {
        let total = self.root.samples;
        let (mut boxes, mut depth) = (String::new(), 0);
        // Each with where it begins, in samples, and in which row. No recursion: stacks can be deep.
        let mut left = vec![(&self.root, "all", 0, 0)];
        while let Some((node, name, from, row)) = left.pop() {
            let width = hundredths(node.samples, total);
            if width < NARROWEST {
                continue;
            }
            depth = depth.max(row + 1);
            let share = format!("{}, {} samples, {}%", name, node.samples, percent(node.samples, total));
            write_box(&mut boxes, name, &share, hundredths(from, total), width, row);
            let mut start = from;
            for (name, called) in &node.called {
                left.push((called, name, start, row + 1));
                start = start.saturating_add(called.samples);
            }
        }
        if total == 0 {
            boxes.push_str("<text x=\"4\" y=\"42\">No samples: the process used no CPU time.</text>\n");
        }
        let height = TOP_PX + ROW_PX * (depth + 1);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH_PX}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH_PX} {height}\" font-family=\"monospace\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"4\" y=\"18\" font-size=\"14\">{}, {total} samples</text>\n{boxes}</svg>\n",
            escaped(title)
        )
    }
}

fn write_box(to: &mut String, name: &str, share: &str, x: u64, width: u64, row: u64) {
    let y = TOP_PX + ROW_PX * row;
    let letters = usize::try_from(width / HUNDREDTHS / LETTER_PX).unwrap_or(0);
    let label = match name.char_indices().nth(letters) {
        _ if letters < 3 => String::new(),
        None => escaped(name),
        Some(_) => format!("{}…", escaped(&name.chars().take(letters - 1).collect::<String>())),
    };
    // Writing to a text cannot fail.
    let _ = writeln!(
        to,
        "<g><title>{}</title><rect x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"#fff\" \
         stroke-width=\"0.5\"/><text x=\"{}\" y=\"{}\">{label}</text></g>",
        escaped(share),
        px(x),
        px(width),
        ROW_PX - 1,
        colour(name),
        px(x + 3 * HUNDREDTHS),
        y + 12,
    );
}

/// `samples` of `total` as a part of the width.
fn hundredths(samples: u64, total: u64) -> u64 {
    // Samples of five minutes on a thousand cores are below 2^32.
    samples.saturating_mul(WIDTH_PX * HUNDREDTHS).checked_div(total).unwrap_or(0)
}

fn percent(samples: u64, total: u64) -> String {
    let tenths = samples.saturating_mul(1_000).checked_div(total).unwrap_or(0);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn px(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / HUNDREDTHS, hundredths % HUNDREDTHS)
}

/// A warm colour, the same for a name wherever it stands.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(5_381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    format!("rgb({},{},{})", 205 + hash % 50, 120 + (hash >> 8) % 100, 60 + (hash >> 16) % 60)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(stacks: &[(&[&str], u64)]) -> String {
        let mut graph = Graph::default();
        for (stack, samples) in stacks {
            graph.add(stack.iter().map(|name| (*name).to_owned()), *samples);
        }
        graph.svg("of a test")
    }

    fn box_of<'a>(svg: &'a str, name: &str) -> &'a str {
        let start = format!("<g><title>{name},");
        svg.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{name} in {svg}"))
    }

    #[test]
    fn a_function_is_as_wide_as_its_share_and_below_its_caller() {
        let svg = graph(&[(&["main", "pay"], 3), (&["main", "wait"], 1)]);
        let main = box_of(&svg, "main");
        assert!(main.contains("4 samples, 100.0%") && main.contains("x=\"0.00\" y=\"47\" width=\"1200.00\""));
        let pay = box_of(&svg, "pay");
        assert!(
            pay.contains("3 samples, 75.0%") && pay.contains("x=\"0.00\" y=\"64\" width=\"900.00\""),
            "{pay}"
        );
        let wait = box_of(&svg, "wait");
        assert!(wait.contains("25.0%") && wait.contains("x=\"900.00\" y=\"64\" width=\"300.00\""), "{wait}");
    }

    #[test]
    fn names_are_text_and_never_markup_and_stay_within_their_boxes() {
        let long = "core::ops::function::FnOnce<&'a T>::call_once".repeat(9);
        let svg = graph(&[(&["<a & b>"], 1), (&[&long], 1)]);
        assert!(svg.contains("&lt;a &amp; b&gt;") && !svg.contains("<a &"), "{svg}");
        let label = svg.rsplit_once('…').map(|(before, _)| before.rsplit_once('>').map(|(_, label)| label));
        let plain =
            label.flatten().map(|it| it.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"));
        assert!(plain.as_ref().is_some_and(|plain| (80..600 / 7).contains(&plain.len())), "{plain:?}");
    }

    #[test]
    fn what_cannot_be_seen_is_left_out_and_nothing_at_all_is_said_so() {
        let svg = graph(&[(&["wide"], 1_000_000), (&["narrow"], 1)]);
        assert!(svg.contains("wide") && !svg.contains("narrow"));
        let nothing = graph(&[]);
        assert!(nothing.contains("No samples") && nothing.ends_with("</svg>\n"), "{nothing}");
    }
}
