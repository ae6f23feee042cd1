//! `docs/LOGGING.md` has every line that a service can log at `info` and above, at its level, and no other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Macros that log what people see unless told otherwise.
const LEVELS: [&str; 3] = ["info", "warn", "error"];

/// What logs them.
const SOURCES: [(&str, &str); 5] = [
    ("relayer", "relayer/src"),
    ("settler", "settler/src"),
    ("issuer", "issuer/src"),
    ("all", "common/src"),
    ("all", "common/service/src"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The arguments of a macro that was just opened, up to its closing bracket.
fn arguments(text: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    panic!("a macro that does not end: {text}");
}

/// The last text among the arguments: the message, with what stands in its place written as `…`.
fn message(arguments: &str) -> String {
    let texts: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
    let last = texts.last().unwrap_or_else(|| panic!("a line without a message: {arguments}"));
    let mut message = String::new();
    let mut rest = *last;
    while let Some((before, after)) = rest.split_once('{') {
        message.push_str(before);
        message.push('…');
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    message + rest
}

/// What the code of a service logs: level and message.
fn logged(code: &str) -> Vec<(String, String)> {
    // Unit tests close a file.
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    for level in LEVELS {
        for after in code.split(&format!("{level}!(")).skip(1) {
            found.push((level.to_owned(), message(arguments(after))));
        }
    }
    found
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "tests" {
            found.extend(files(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
    found
}

/// Service, level and message of every line that there is.
fn in_the_code() -> BTreeSet<(String, String, String)> {
    let mut lines = BTreeSet::new();
    for (service, dir) in SOURCES {
        for file in files(&root().join(dir)) {
            let code = std::fs::read_to_string(&file).expect("a text");
            for (level, message) in logged(&code) {
                lines.insert((service.to_owned(), level, message));
            }
        }
    }
    lines
}

/// The same of the page: rows `| level | service | `message` | …`.
fn on_the_page(page: &str) -> BTreeSet<(String, String, String)> {
    let mut lines = BTreeSet::new();
    for row in page.lines().filter_map(|line| line.strip_prefix("| ")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [level, service, message, fields, rest @ ..] = cells.as_slice() else { continue };
        if LEVELS.contains(level) {
            assert!(!fields.is_empty() && !rest.is_empty(), "fields, and what to do: {row}");
            let message = message.trim_matches('`').to_owned();
            assert!(lines.insert(((*service).to_owned(), (*level).to_owned(), message)), "twice: {row}");
        }
    }
    lines
}

#[test]
fn every_line_is_on_the_page_and_the_page_has_no_other() {
    let page = std::fs::read_to_string(root().join("docs/LOGGING.md")).expect("the page");
    let (code, page) = (in_the_code(), on_the_page(&page));
    assert!(code.len() > 60, "the look into the code finds them: {}", code.len());
    let missing: Vec<_> = code.difference(&page).collect();
    let invented: Vec<_> = page.difference(&code).collect();
    assert!(missing.is_empty(), "not in docs/LOGGING.md: {missing:#?}");
    assert!(invented.is_empty(), "in docs/LOGGING.md, and nowhere else: {invented:#?}");
}

#[test]
fn a_line_that_is_on_no_page_would_be_found() {
    let code = r#"
        tracing::warn!(%error, "a \"new\" line ({reason})", reason = f(1));
        info!("{doing} failed, trying again");
        #[cfg(test)]
mod tests {
    error!("of a test");
}"#;
    let found = logged(&code.replace("\\\"new\\\"", "new"));
    let expected = [("info", "… failed, trying again"), ("warn", "a new line (…)")];
    assert_eq!(found, expected.map(|(level, message)| (level.to_owned(), message.to_owned())));
    let page = "| level | x | y |\n|---|---|---|\n| warn | relayer | `a new line (…)` | `error` | nothing |";
    let rows = on_the_page(page);
    assert!(rows.contains(&("relayer".to_owned(), "warn".to_owned(), "a new line (…)".to_owned())));
}
