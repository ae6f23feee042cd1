//! `millrace journal` on the journal of a real settler, whole and tampered with.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::journal::segment;
use serde_json::Value;
use tests::binaries;
use tests::payer::Channel;

use super::kept::Kept;

/// A journal of three segments at least, and the channel that was closed.
async fn journal() -> (Kept, Channel) {
    let mut kept = Kept::start().await;
    kept.settler().await;
    let (one, two) = (kept.rig.channel(1_000).await, kept.rig.channel(1_000).await);
    // An entry each, which one segment holds whole.
    kept.pay_at_once(&one, [1, 2]).await;
    kept.nothing_waits().await;
    kept.pay_at_once(&two, [4, 9]).await;
    kept.nothing_waits().await;
    kept.pay(&one, [7]).await;
    one.close(kept.rig.relayer(0)).await.expect("an answer").body.expect("noted");
    kept.rig.closed(&one, 7).await;
    kept.all_is_kept_once().await;
    (kept, one)
}

fn millrace(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binaries::path("millrace"));
    command.args(args).arg("--url").arg(dir).env_remove("MILLRACE_ISSUER_KEY");
    command.output().expect("millrace runs")
}

fn json(output: &Output) -> Value {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn journal_is_listed_shown_and_exported() {
    let (kept, one) = journal().await;
    let dir = kept.dir();
    let listed = json(&millrace(&dir, &["journal", "list", "--json"]));
    let segments = listed["segments"].as_array().expect("a list");
    assert!(segments.len() >= 3, "{listed}");
    assert_eq!(segments[0]["number"], 1);
    assert!(lines(&millrace(&dir, &["journal", "list", "--last", "1"])).len() > 2, "a table");

    let shown = lines(&millrace(&dir, &["journal", "show", "--segment", "1"]));
    let kinds: Vec<Value> =
        shown.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["kind"].clone()).collect();
    assert_eq!((&kinds[0], kinds.last()), (&Value::from("header"), Some(&Value::from("footer"))));
    let id = one.id().to_string();
    let shown = json(&millrace(&dir, &["journal", "show", "--channel", &id, "--json"]));
    let of_kind = |kind: &str| {
        let records = shown["records"].as_array().expect("a list").iter();
        records.filter(|found| found["record"]["kind"] == kind).count()
    };
    assert_eq!((of_kind("payment"), of_kind("settlement")), (3, 1));

    let ndjson = lines(&millrace(&dir, &["journal", "export"]));
    assert_eq!(ndjson.iter().filter(|line| line.contains(r#""kind":"payment""#)).count(), 5);
    let csv = lines(&millrace(&dir, &["journal", "export", "--format", "csv", "--channel", &id]));
    assert!(csv[0].starts_with("kind,segment,partition,entry,at,channel_id,cumulative_amount"), "{csv:?}");
    assert_eq!(csv.len(), 1 + 3 + 1, "a head, three payments, a settlement: {csv:?}");
    let none = lines(&millrace(&dir, &["journal", "export", "--format", "csv", "--to", "2020-01-01"]));
    assert_eq!(none.len(), 1, "{none:?}");
    let all = lines(&millrace(&dir, &["journal", "export", "--format", "csv", "--from", "2020-01-01"]));
    assert_eq!(all.len(), 1 + 5 + 1);
}

#[tokio::test]
async fn verify_vouches_for_a_whole_journal_with_its_root() {
    let (kept, _) = journal().await;
    let issuer = kept.rig.issuer.public_key().to_string();
    let output = millrace(&kept.dir(), &["journal", "verify", "--json", "--issuer", &issuer]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = json(&output);
    assert_eq!((&found["payments"], &found["proofs"]), (&5.into(), &5.into()));
    assert_eq!((&found["settlements"], &found["receipts"]), (&1.into(), &1.into()));
    let root = found["root"].as_str().expect("a root").to_owned();
    let again = millrace(&kept.dir(), &["verify", "journal", "--issuer", &issuer, "--expect-root", &root]);
    assert!(again.status.success(), "the other name, with the root pinned");
    let another = kept.rig.payee().to_string();
    let output = millrace(&kept.dir(), &["journal", "verify", "--issuer", &another]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("did not sign the receipt"), "{told}");
}

/// The journal's segments, in a copy that can be spoilt.
struct Copy {
    dir: tempfile::TempDir,
    root: String,
}

impl Copy {
    fn of(kept: &Kept) -> Copy {
        let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
        let folder = Path::new("segments").join("0".repeat(17));
        std::fs::create_dir_all(dir.path().join(&folder)).expect("writable");
        for entry in std::fs::read_dir(kept.dir().join(&folder)).expect("a journal") {
            let from = entry.expect("an entry").path();
            let to = dir.path().join(&folder).join(from.file_name().expect("a file"));
            std::fs::copy(from, to).expect("writable");
        }
        let root = json(&millrace(dir.path(), &["journal", "verify", "--json"]))["root"].clone();
        Copy { dir, root: root.as_str().expect("a root").to_owned() }
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.dir.path().join(format!("segments/00000000000000000/{number:020}.ndjson.zst"))
    }

    fn last(&self) -> u64 {
        (1..).take_while(|number| self.segment(*number).exists()).last().expect("a segment")
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.segment(number)).expect("there");
        change(&mut bytes);
        std::fs::write(self.segment(number), bytes).expect("writable");
    }

    /// Asserts that verify fails, and says this.
    fn assert_found(&self, words: &[&str]) {
        let output = millrace(self.dir.path(), &["journal", "verify", "--expect-root", &self.root]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(words.iter().all(|word| told.contains(word)), "{words:?} is not in {told}");
    }
}

#[tokio::test]
async fn verify_names_every_kind_of_tampering_with_its_place() {
    let (kept, _) = journal().await;
    let flipped = Copy::of(&kept);
    flipped.change(2, |bytes| bytes[30] ^= 4);
    flipped.assert_found(&["segment 2", "not those that were written"]);

    let deleted = Copy::of(&kept);
    std::fs::remove_file(deleted.segment(2)).expect("there");
    deleted.assert_found(&["segment 3, line 1", "segment 2 is missing"]);

    let cut_off = Copy::of(&kept);
    std::fs::remove_file(cut_off.segment(cut_off.last())).expect("there");
    cut_off.assert_found(&["does the journal have the root"]);

    let reordered = Copy::of(&kept);
    let aside = reordered.dir.path().join("aside");
    std::fs::rename(reordered.segment(1), &aside).expect("there");
    std::fs::rename(reordered.segment(2), reordered.segment(1)).expect("there");
    std::fs::rename(aside, reordered.segment(2)).expect("there");
    reordered.assert_found(&["segment 1, line 1: the header is that of segment 2"]);

    let edited = Copy::of(&kept);
    edited
        .change(2, |bytes| *bytes = edit(bytes, r#""cumulative_amount":"9""#, r#""cumulative_amount":"5""#));
    edited.assert_found(&["segment 2, line 4: 5 on channel", "the records have the root"]);

    let truncated = Copy::of(&kept);
    truncated.change(1, |bytes| bytes.truncate(bytes.len() / 2));
    truncated.assert_found(&["segment 1"]);
    let emptied = Copy::of(&kept);
    emptied.change(1, Vec::clear);
    emptied.assert_found(&["segment 1"]);
}

/// Edits the text of a segment and compresses it anew, with every checksum right.
fn edit(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut lines = segment::Lines::new(2, bytes).expect("a segment");
    let mut text = Vec::new();
    while let Some((_, line)) = lines.next_line().expect("lines") {
        text.extend(line);
        text.push(b'\n');
    }
    let text = String::from_utf8(text).expect("a text");
    assert!(text.contains(from));
    let mut compressor = zstd::bulk::Compressor::new(3).expect("memory");
    compressor.include_checksum(true).expect("known");
    segment::seal(compressor.compress(text.replacen(from, to, 1).as_bytes()).expect("memory"))
}
