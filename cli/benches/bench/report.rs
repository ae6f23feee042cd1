//! What a run found: a table for whoever watches, JSON for whoever compares, and the run before it beside both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use cli::output::table;
use common::clock::Clock;
use serde::{Deserialize, Serialize};

use crate::figure::{Figure, Findings, Target};
use crate::machine::Description;
use crate::plot;
use crate::rows::Row;
use crate::stats::{Spread, change_percent};

/// Where reports are kept, from the root of the project.
const FOLDER: &str = "docs/benchmarks";

/// The report itself, and the same for people.
const FILE: &str = "latest.json";
const PAGE: &str = "latest.md";

/// What stands above the columns of a table.
const HEADER: [&str; 8] = ["figure", "median", "least … most", "beside", "ratio", "target", "met", "change"];

/// The findings of one row, and when and of what they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// Seconds since 1970.
    measured_at_s: i64,
    /// The commit that was measured, with `-dirty` if more than that was.
    commit: String,
    machine: Description,
    #[serde(flatten)]
    findings: Findings,
}

/// Findings by the name of their row. A run of some rows leaves the others as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    rows: BTreeMap<String, Entry>,
}

impl Report {
    /// The report as last committed; empty where there is none.
    pub(crate) fn committed() -> Report {
        git(&["show", &format!("HEAD:{FOLDER}/{FILE}")])
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default()
    }

    /// The report as it lies in the folder, committed or not; empty where there is none.
    pub(crate) fn kept() -> Report {
        std::fs::read(folder().join(FILE))
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default()
    }

    /// Takes the findings of a row in, in place of older ones.
    pub(crate) fn take(&mut self, row: Row, machine: &Description, findings: Findings) {
        let commit = git(&["describe", "--always", "--dirty", "--exclude=*"]).unwrap_or_default();
        let entry = Entry {
            measured_at_s: Clock::system().now_s(),
            commit: commit.trim().to_owned(),
            machine: machine.clone(),
            findings,
        };
        self.rows.insert(row.name(), entry);
    }

    /// Writes JSON, a page and pictures into the project's documentation.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn write(&self, before: &Report) -> anyhow::Result<()> {
        let folder = folder();
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let json = serde_json::to_string_pretty(self)? + "\n";
        for (file, text) in [(FILE, json), (PAGE, self.page(before))] {
            let path = folder.join(file);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        for chart in self.rows.values().flat_map(|entry| &entry.findings.charts) {
            plot::draw(chart, &folder)?;
        }
        Ok(())
    }

    /// The figures of a row as a table, beside those of `before`, and what else there is to know of it.
    pub(crate) fn text(&self, row: Row, before: &Report) -> String {
        let name = row.name();
        let Some(entry) = self.rows.get(&name) else { return String::new() };
        let notes: String = entry.findings.notes.iter().map(|note| format!("  {note}\n")).collect();
        format!("{name}\n{}\n{notes}", table(HEADER, lines(&name, entry, before)))
    }

    /// All rows, in Markdown.
    fn page(&self, before: &Report) -> String {
        let mut page =
            "# The last run of `make bench`\n\nWritten by it; [BENCHMARKS.md](../BENCHMARKS.md) says how \
                        to read it. Columns with a change compare with the run that was committed before.\n"
                .to_owned();
        let written = |cells: [String; 8]| format!("| {} |\n", cells.join(" | "));
        for (name, entry) in &self.rows {
            let Entry { commit, machine, .. } = entry;
            page += &format!(
                "\n## {name}\n\nCommit {commit}, {}, {} cores, load {} before.\n\n",
                machine.cpu, machine.cores, machine.load_before
            );
            page += &written(HEADER.map(str::to_owned));
            page += &written(HEADER.map(|_| "---".to_owned()));
            page.extend(lines(name, entry, before).map(written));
            page.extend(entry.findings.notes.iter().map(|note| format!("\n{note}.\n")));
        }
        page
    }
}

/// A row's figures, each beside what it was before.
fn lines<'a>(
    name: &str,
    entry: &'a Entry,
    before: &'a Report,
) -> impl Iterator<Item = [String; 8]> + use<'a> {
    let old = before.rows.get(name).map_or(&[][..], |entry| &entry.findings.figures);
    entry.findings.figures.iter().map(|figure| {
        let before = old.iter().find(|old| old.name == figure.name && old.unit == figure.unit);
        line(figure, before)
    })
}

fn line(figure: &Figure, before: Option<&Figure>) -> [String; 8] {
    let (beside, ratio) = match &figure.baseline {
        Some(baseline) => (
            format!("{} {}", baseline.of, number(baseline.value)),
            format!("{:.2} ({:.2} … {:.2})", baseline.ratio.median, baseline.ratio.min, baseline.ratio.max),
        ),
        None => (String::new(), String::new()),
    };
    let target = match figure.target {
        Some(Target::AtMost(limit)) => format!("<= {limit}"),
        Some(Target::AtLeast(limit)) => format!(">= {limit}"),
        None => String::new(),
    };
    let met = match figure.is_met() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    let change = before.map(|before| change_percent(before.value.median, figure.value.median));
    [
        figure.name.clone(),
        format!("{} {}", number(figure.value.median), figure.unit),
        range(figure.value),
        beside,
        ratio,
        target,
        met.to_owned(),
        change.map(|percent| format!("{percent:+.0} %")).unwrap_or_default(),
    ]
}

fn range(spread: Spread) -> String {
    if spread.min < spread.max {
        format!("{} … {}", number(spread.min), number(spread.max))
    } else {
        String::new()
    }
}

/// Three digits and more, whatever the size.
fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..1_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FOLDER)
}

/// What git says, where there is git and a repository.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(env!("CARGO_MANIFEST_DIR")).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
}
