//! The house rules that a compiler does not see: where things live, and how long a file may get.

use std::path::{Path, PathBuf};

/// A file this long asks to be two.
const FILE_LINES_MAX: usize = 450;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every Rust file of the workspace, as a path from the root, with its text.
fn rust_files() -> Vec<(String, String)> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    for part in ["common", "relayer", "settler", "issuer", "cli", "tests"] {
        walk(&root().join(part), &mut paths);
    }
    assert!(paths.len() > 50, "the walk must find the workspace");
    paths
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            (name, std::fs::read_to_string(&path).expect("a text"))
        })
        .collect()
}

fn dependencies(manifest: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(manifest)).expect("a manifest");
    text.lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn assert_none(offenders: &[String], rule: &str) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn files_stay_short_enough_to_read() {
    let long: Vec<String> = rust_files()
        .iter()
        // Unit tests close a file and are read on their own.
        .map(|(name, text)| (name, text.lines().take_while(|line| *line != "#[cfg(test)]").count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert_none(&long, "a file this long asks to be two");
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let silent: Vec<String> = rust_files()
        .iter()
        // The unit tests of a module are for that module.
        .filter(|(name, _)| !name.ends_with("/tests.rs"))
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(name, _)| name.clone())
        .collect();
    assert_none(&silent, "no //! at the top");
}

#[test]
fn modules_are_files_named_after_them() {
    let old_style: Vec<String> =
        rust_files().into_iter().map(|(name, _)| name).filter(|name| name.ends_with("/mod.rs")).collect();
    assert_none(&old_style, "foo.rs beside foo/, not foo/mod.rs");
}

#[test]
fn services_know_common_and_not_each_other() {
    let services = ["relayer", "settler", "issuer"];
    for service in services {
        let names = dependencies(&format!("{service}/Cargo.toml"));
        assert!(names.contains(&"common".to_owned()));
        for other in services.iter().filter(|other| **other != service) {
            assert!(!names.contains(&(*other).to_owned()), "{service} depends on {other}");
        }
        assert!(!names.contains(&"cli".to_owned()), "{service} depends on cli");
    }
    for name in dependencies("common/Cargo.toml") {
        assert!(
            !["axum", "hyper", "reqwest", "service"].contains(&name.as_str()),
            "common speaks no HTTP: {name}"
        );
    }
}

#[test]
fn only_the_store_names_redis_clients() {
    let strangers: Vec<String> = rust_files()
        .iter()
        .filter(|(name, _)| !name.starts_with("common/src/store") && !name.starts_with("tests/"))
        .filter(|(_, text)| text.contains("fred::"))
        .map(|(name, _)| name.clone())
        .collect();
    assert_none(&strangers, "only common/src/store talks to Redis");
}

#[test]
fn only_the_edges_name_axum() {
    let allowed = ["router.rs", "handlers.rs", "error.rs", "status.rs", "lib.rs"];
    let strangers: Vec<String> = rust_files()
        .iter()
        .filter(|(name, _)| ["relayer/src", "settler/src"].iter().any(|dir| name.starts_with(dir)))
        .filter(|(name, _)| !allowed.iter().any(|file| name.ends_with(file)) && !name.contains("/handlers/"))
        .filter(|(_, text)| text.contains("axum::"))
        .map(|(name, _)| name.clone())
        .collect();
    assert_none(&strangers, "only router, handlers and error name axum");
}

/// Ways to a route that no description knows of.
fn hidden_routes(code: &str) -> Vec<&'static str> {
    let ways = ["Router::new", ".route(", ".route_service(", ".merge(", ".nest(", "axum::routing"];
    ways.into_iter().filter(|way| code.contains(way)).collect()
}

#[test]
fn public_routes_are_registered_with_their_description() {
    let hidden: Vec<String> = rust_files()
        .iter()
        .filter(|(name, _)| ["relayer/src", "issuer/src"].iter().any(|dir| name.starts_with(dir)))
        .flat_map(|(name, text)| hidden_routes(text).into_iter().map(move |way| format!("{name}: {way}")))
        .collect();
    assert_none(&hidden, "only service::openapi::Routes makes public routes");
    let broken = "routes().into_router(|router| router.route(\"/v1/more\", axum::routing::get(more)))";
    assert_eq!(hidden_routes(broken), [".route(", "axum::routing"], "one that is only routed is noticed");
}

#[test]
fn nothing_is_left_for_later() {
    let marks =
        [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME"), concat!("XX", "X")];
    let unfinished: Vec<String> = rust_files()
        .iter()
        .filter(|(_, text)| marks.iter().any(|mark| text.contains(mark)))
        .map(|(name, _)| name.clone())
        .collect();
    assert_none(&unfinished, "unfinished work");
}

#[test]
fn no_test_sleeps_to_synchronise() {
    // The one place that pauses is the loop that waits for a condition.
    let sleeping: Vec<String> = rust_files()
        .iter()
        .filter(|(name, _)| name.starts_with("tests/tests/"))
        .filter(|(_, text)| {
            text.contains(concat!("time::", "sleep(")) || text.contains(concat!("thread::", "sleep"))
        })
        .map(|(name, _)| name.clone())
        .collect();
    assert_none(&sleeping, "wait for a condition with a deadline (tests::wait_until)");
}

#[test]
fn every_function_that_the_docs_name_exists() {
    let text = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the architecture page");
    let mut named = 0;
    // Between backquotes: `path/file.rs::function`, `path/file.rs`, `path/file.lua`.
    for word in text.split('`').skip(1).step_by(2).filter(|word| word.contains('/') && !word.contains(' ')) {
        let (file, function) = word.split_once("::").map_or((word, None), |(file, f)| (file, Some(f)));
        if !file.ends_with(".rs") && !file.ends_with(".lua") {
            continue;
        }
        let code =
            std::fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("there is no {file}"));
        if let Some(function) = function {
            assert!(code.contains(&format!("fn {function}")), "{file} has no function {function}");
        }
        named += 1;
    }
    assert!(named > 30, "the page names what it speaks of: {named}");
}

#[test]
fn every_metric_in_the_docs_exists() {
    let code: String = rust_files().into_iter().map(|(_, text)| text).collect();
    for doc in ["README.md", "docs/ARCHITECTURE.md"] {
        let text = std::fs::read_to_string(root().join(doc)).expect(doc);
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            let is_metric = ["millrace_relayer_", "millrace_settler_", "millrace_issuer_"]
                .iter()
                .any(|prefix| word.starts_with(prefix) && word.len() > prefix.len());
            assert!(
                !is_metric || code.contains(&format!("\"{word}\"")),
                "{doc} names {word}, which no code makes"
            );
        }
    }
}

#[test]
fn every_log_line_in_the_docs_is_one_that_a_service_writes() {
    let text = std::fs::read_to_string(root().join("docs/TROUBLESHOOTING.md")).expect("the page");
    let services: String = rust_files()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("tests/"))
        .map(|(_, text)| text)
        .collect();
    let first_cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    // A line has blanks; what has none is a code or a key. One with an ellipsis is a library's.
    let lines: Vec<&str> = first_cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|line| line.contains(' ') && !line.contains('…'))
        .collect();
    assert!(lines.len() > 15, "the page names lines: {lines:?}");
    let unknown: Vec<String> = lines
        .into_iter()
        .filter(|line| !services.contains(&format!("\"{line}\"")))
        .map(str::to_owned)
        .collect();
    assert_none(&unknown, "docs/TROUBLESHOOTING.md names what no service writes");
}
