//! Alert rules: they are valid, each fires when it should and not before, and each has its page in the runbook.

use std::path::Path;
use std::process::{Command, Output};

use super::{read, root};

const RULES: &str = "tilt/prometheus/alerts.yaml";
const TESTS: &str = "tilt/prometheus/alerts.test.yaml";

/// Runs Prometheus' own tool.
///
/// # Panics
/// It is not installed: what cannot be tried is not shown to work.
fn promtool(args: &[&str], dir: &Path) -> Output {
    Command::new("promtool")
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap_or_else(|error| panic!("promtool: {error}; tests/install-deps.sh installs it"))
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Every alert: its name and the lines of its rule.
fn alerts(rules: &str) -> Vec<(&str, Vec<&str>)> {
    let mut alerts: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in rules.lines() {
        if let Some(name) = line.trim_start().strip_prefix("- alert: ") {
            alerts.push((name, Vec::new()));
        } else if let Some((_, lines)) = alerts.last_mut() {
            lines.push(line.trim());
        }
    }
    alerts
}

#[test]
fn rules_are_valid_and_fire_as_their_tests_say() {
    let dir = root().join("tilt/prometheus");
    for args in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let output = promtool(&args, &dir);
        assert!(output.status.success(), "promtool {args:?}: {}", said(&output));
    }
}

#[test]
fn a_rule_that_never_fires_or_always_does_is_caught() {
    let rules = read(RULES);
    let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
    std::fs::write(dir.path().join("alerts.test.yaml"), read(TESTS)).expect("writable");
    let alerts = alerts(&rules);
    for broken in ["expr: vector(0) > 1", "expr: vector(1)"] {
        let replaced = |line: &str| match line.trim_start().strip_prefix("expr: ") {
            Some(_) => format!("        {broken}\n"),
            None => format!("{line}\n"),
        };
        let text: String = rules.lines().map(replaced).collect();
        assert_eq!(text.matches(broken).count(), alerts.len());
        std::fs::write(dir.path().join("alerts.yaml"), text).expect("writable");
        let output = promtool(&["test", "rules", "alerts.test.yaml"], dir.path());
        assert!(!output.status.success());
        let said = said(&output);
        for (name, _) in &alerts {
            assert!(
                said.contains(&format!("alertname: {name},")),
                "{name} with {broken} passes its test: {said}"
            );
        }
    }
}

#[test]
fn every_alert_has_its_severity_and_its_page_in_the_runbook() {
    let (rules, page) = (read(RULES), read("docs/OPERATIONS.md"));
    let section =
        page.split("\n## ").find_map(|section| section.strip_prefix("Alerts\n")).expect("the section");
    let alerts = alerts(&rules);
    let headings: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let names: Vec<&str> = alerts.iter().map(|(name, _)| *name).collect();
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(sorted(&headings), sorted(&names), "headings of docs/OPERATIONS.md, and alerts");
    assert!(names.len() >= 15);
    for (name, lines) in &alerts {
        let runbook = format!("runbook: docs/OPERATIONS.md#{}", name.to_lowercase());
        assert!(lines.contains(&runbook.as_str()), "{name}: {runbook}");
        let severities = ["labels: {severity: critical}", "labels: {severity: warning}"];
        assert!(lines.iter().any(|line| severities.contains(line)), "{name} has a severity");
        assert!(lines.iter().any(|line| line.starts_with("summary: ")), "{name} has a summary");
        let part =
            section.split(&format!("### {name}\n")).nth(1).and_then(|rest| rest.split("\n### ").next());
        for word in ["**Means**", "**Look at**", "**Do**"] {
            assert!(part.is_some_and(|part| part.contains(word)), "{name} says what it {word}");
        }
    }
    // Links within the page lead somewhere.
    let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
    let anchors: Vec<String> = headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect();
    for link in section.split("](#").skip(1) {
        let anchor = link.split(')').next().expect("closed");
        assert!(anchors.iter().any(|heading| heading == anchor), "no heading #{anchor}");
    }
}

/// What a link to a heading is called: its words in small letters, with hyphens between them.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn panels_that_the_runbook_names_exist() {
    let page = read("docs/OPERATIONS.md");
    let section =
        page.split("\n## ").find_map(|section| section.strip_prefix("Alerts\n")).expect("the section");
    let dashboards = super::dashboards::all();
    let titles: Vec<&str> =
        dashboards.iter().flat_map(|(_, page)| page.panels()).map(|panel| panel.title).collect();
    let words = section.replace("**", "");
    // The first lines speak of severities and dashboards.
    let (_, pages) = words.split_once("### ").expect("an alert");
    let named: Vec<&str> = pages.split('*').skip(1).step_by(2).collect();
    assert!(named.len() > 10, "{named:?}");
    for title in named {
        assert!(titles.contains(&title), "no panel is called {title}");
    }
}
