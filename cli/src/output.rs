//! Everything that the CLI prints: data on stdout (a table, or one JSON document a line), the rest on stderr.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use common::channel::SchemeKind;
use common::voucher::Proof;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;

/// Prints data the way that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    pub(crate) fn new(json: bool) -> Self {
        Printer { json }
    }

    /// Prints `data` as one line of JSON, or as `text` makes it readable.
    pub(crate) fn data<T: Serialize>(&self, data: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        let mut text = if self.json { serde_json::to_string(data)? } else { text(data) };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Self::write(text.as_bytes())
    }

    /// Prints a line that is data as it stands.
    pub(crate) fn line(&self, text: &[u8]) -> anyhow::Result<()> {
        Self::write(&[text, b"\n"].concat())
    }

    fn write(text: &[u8]) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text).and_then(|()| stdout.flush()) {
            // Whoever read has read enough, as in `millrace … | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.context("cannot write to stdout"),
        }
    }

    /// True where a script reads.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Says something to whoever watches. Never data: a script does not see it.
    pub(crate) fn note(&self, text: impl std::fmt::Display) {
        // Nobody may be watching: a closed stderr is no reason to stop.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// A bar on stderr that counts up to `length`; invisible where nobody watches.
    pub(crate) fn progress(&self, what: &str, length: u64) -> ProgressBar {
        let template = "  {msg:12} [{bar:32}] {human_pos}/{human_len}  {rate}";
        watched(ProgressBar::new(length), template, what)
    }

    /// A line on stderr that counts without an end.
    pub(crate) fn counter(&self, what: &str) -> ProgressBar {
        watched(ProgressBar::no_length(), "  {msg:12} {human_pos}  {rate}  {elapsed}", what)
    }
}

fn watched(bar: ProgressBar, template: &str, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            // A column that cannot be written leaves a gap in a line that is drawn anew at once.
            let _ = write!(text, "{:.0}/s", state.per_sec());
        });
    let bar = bar.with_style(style).with_message(what.to_owned());
    if io::stderr().is_terminal() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}

/// A table with a header.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// A table of names and values, without a header.
pub(crate) fn fields<K: Into<String>>(rows: impl IntoIterator<Item = (K, String)>) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    for (name, value) in rows {
        table.add_row([name.into(), value]);
    }
    table.to_string()
}

/// As [`fields`], with numbers in one column to the right.
pub(crate) fn figures<K: Into<String>>(rows: impl IntoIterator<Item = (K, String)>) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    for (name, value) in rows {
        table.add_row([name.into(), value]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// A number with its thousands apart: `18,446`.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time of so many microseconds, in the unit that fits.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10),
        _ => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
    }
}

/// `yes` or `no`.
pub(crate) fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// What an optional value holds, or a dash.
pub(crate) fn or_dash<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A channel's scheme in a few words.
pub(crate) fn scheme(scheme: &SchemeKind) -> String {
    match scheme {
        SchemeKind::Ed25519 => "ed25519".to_owned(),
        SchemeKind::Payword(of) => format!("payword, {} steps of {} each", of.length, of.unit),
        SchemeKind::Paytree(of) => format!("paytree, {} leaves of {} each", of.leaves, of.unit),
    }
}

/// What a proof says, without what proves it.
pub(crate) fn proof(proof: &Proof) -> String {
    match proof {
        Proof::Ed25519 { expires_at: 0, .. } => "a voucher".to_owned(),
        Proof::Ed25519 { expires_at, .. } => format!("a voucher until {expires_at} (Unix time)"),
        Proof::Payword(of) => format!("step {}", of.k),
        Proof::Paytree(of) => format!("leaf {}, {} siblings", of.index, of.siblings.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(u128::from(u64::MAX)), "18,446,744,073,709,551,615");
        assert_eq!(micros(999), "999 us");
        assert_eq!(micros(1_230), "1.23 ms");
        assert_eq!(micros(2_345_678), "2.34 s");
    }
}
