//! `docs/OPERATIONS.md` says what to do about everything that is given up, and names commands and keys that there are.

use std::path::{Path, PathBuf};
use std::process::Command;

use common::config::Config;
use common::problem::Code;
use tests::binaries;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/OPERATIONS.md")).expect("the page")
}

fn section<'a>(page: &'a str, title: &str) -> &'a str {
    let (_, rest) =
        page.split_once(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("a section {title}"));
    rest.split("\n## ").next().unwrap_or(rest)
}

/// What stands between backquotes in the first cells of a section's tables.
fn first_cells(section: &str) -> Vec<&str> {
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// Whether a close can end as `failed` with this code: the issuer's final no, and the one that the settler itself gives.
fn may_fail_a_close(code: Code) -> bool {
    let tried_again = matches!(
        code,
        // Of the route, or of the moment: see issuer_client.rs. The token is lifted: see closer.rs.
        Code::NotFound | Code::MethodNotAllowed | Code::RateLimited | Code::StaleFencingToken
    );
    let of_the_console = matches!(
        code,
        Code::ActionsDisabled | Code::WrongToken | Code::UnknownEntry | Code::ChannelNotFailed
    );
    let of_an_issuer = (400..500).contains(&code.status()) && !of_the_console;
    code == Code::Internal || (of_an_issuer && !tried_again)
}

#[test]
fn every_reason_to_fail_says_what_to_do() {
    let page = page();
    let rows = first_cells(section(&page, "What was given up"));
    for code in Code::ALL {
        let named = rows.contains(&code.as_str());
        assert_eq!(named, may_fail_a_close(*code), "{code} in the table of what was given up");
    }
}

#[test]
fn every_reason_for_a_dead_entry_says_what_to_do() {
    let page = page();
    let rows = first_cells(section(&page, "What was given up"));
    let read = |file: &str| std::fs::read_to_string(root().join(file)).expect(file);
    let (stream, consumer) = (read("common/src/store/stream.rs"), read("settler/src/consumer.rs"));
    for (reason, code, form) in [
        (
            "not a list of channel id and amount with proof",
            &stream,
            "\"not a list of channel id and amount with proof\"",
        ),
        ("the entry was removed from the stream", &stream, "\"the entry was removed from the stream\""),
        ("channel … is not known", &consumer, "\"channel {id} is not known\""),
        ("channel … cannot be read", &consumer, "\"channel {id} cannot be read: "),
    ] {
        assert!(rows.contains(&reason), "{reason}");
        assert!(code.contains(form), "{form} is what the code says");
    }
    let reasons = consumer.matches("=> format!(\"channel {id}").count()
        + consumer.matches("format!(\"channel {id} cannot").count();
    assert_eq!(reasons, 2, "another reason in consumer.rs needs a row");
}

#[test]
fn the_reloadable_keys_are_those_of_the_page() {
    let page = page();
    let section = section(&page, "Configure and reload");
    let row = |service: &str| {
        let line = section.lines().find(|line| line.starts_with(&format!("| {service} | `")));
        let cells = line.unwrap_or_else(|| panic!("a row for {service}")).split('`').skip(1).step_by(2);
        cells.map(str::to_owned).collect::<Vec<_>>()
    };
    fn check<C: Config>(row: &[String]) {
        let fits = |pattern: &String, key: &str| match pattern.strip_suffix('*') {
            Some(start) => key.starts_with(start),
            None => key == pattern,
        };
        for key in C::RELOADABLE {
            assert!(row.iter().any(|pattern| fits(pattern, key)), "{key} is missing");
        }
        for (key, _) in common::config::keys::<C>() {
            let named = row.iter().any(|pattern| fits(pattern, &key));
            assert_eq!(named, C::RELOADABLE.contains(&key.as_str()), "{key}");
        }
    }
    check::<relayer::Config>(&row("relayer"));
    check::<settler::Config>(&row("settler"));
    check::<issuer::Config>(&row("issuer"));
}

#[test]
fn every_subcommand_on_the_page_exists() {
    let page = page();
    let mut seen = 0;
    // A command ends with its line, or with what is no word of it.
    for (_, rest) in page.match_indices("millrace ").map(|(at, _)| page.split_at(at)) {
        let words = rest.split_whitespace().skip(1);
        let path: Vec<&str> = words
            .take_while(|word| {
                word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
            })
            .take(2)
            .collect();
        if path.is_empty() {
            continue;
        }
        let help = |args: &[&str]| {
            let run = Command::new(binaries::path("millrace")).args(args).arg("--help").output();
            run.expect("the program runs").status.success()
        };
        // The second word may be an argument, or the sentence may go on.
        assert!(help(&path[..1]), "millrace {}", path.join(" "));
        seen += 1;
    }
    assert!(seen > 15, "the page names commands: {seen}");
}
