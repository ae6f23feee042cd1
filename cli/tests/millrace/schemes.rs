//! Payers of the schemes that commit at opening: their state file, and what they go on from after crashes and lies.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use cli::ledger;
use cli::stack::StackSummary;
use common::amount::Amount;
use common::channel::{CheckedTerms, Terms};
use common::client::state::StateFile;
use common::ids::ChannelId;
use common::voucher::{Payment, VerifiedVoucher};
use serde_json::Value;

use super::relayer::{Front, Payments};
use super::{Dev, millrace, stderr, stdout_json};

/// A payer at a stack.
struct Payer<'a> {
    dir: &'a Path,
    stack: StackSummary,
}

impl<'a> Payer<'a> {
    fn register(dir: &'a Path, dev: &Dev) -> Payer<'a> {
        let payer = Payer { dir, stack: dev.summary.clone() };
        payer.ok(&["keys", "new", "payer.key"]);
        payer.ok(&["account", "register", "--key", "payer.key"]);
        payer
    }

    fn go(&self, args: &[&str]) -> Output {
        millrace(self.dir, args)
            .env("MILLRACE_ISSUER_URL", &self.stack.issuer_url)
            .env("MILLRACE_RELAYER_URL", &self.stack.relayers[0].url)
            .env("MILLRACE_REDIS_URL", &self.stack.redis_url)
            .env("MILLRACE_PAYEE", self.stack.payee.to_string())
            .output()
            .expect("millrace runs")
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.go(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Fails with one line that says all of this.
    fn fails(&self, args: &[&str], says: &[&str]) {
        let output = self.go(args);
        let line = stderr(&output);
        assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{args:?}: {line}");
        for word in says {
            assert!(line.contains(word), "{args:?} does not say {word:?}: {line}");
        }
    }

    /// Opens a channel of this scheme, with its state in a file named after it.
    fn open(&self, scheme: &str, more: &[&str]) -> (String, String) {
        let file = format!("{scheme}.state");
        let args = ["channel", "open", "--key", "payer.key", "--scheme", scheme, "--state", &file];
        (self.ok(&[&args[..], more].concat()), file)
    }

    fn shown(&self, file: &str) -> u64 {
        StateFile::open(&self.dir.join(file)).expect("a state file").0.state().shown.units()
    }

    fn latest(&self, channel: &str) -> Value {
        let shown = self.ok(&["channel", "show", channel, "--json"]);
        serde_json::from_str::<Value>(&shown).expect("JSON")["latest"].clone()
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn stack_payers_of_a_chain_keep_to_what_they_have_shown() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let dev = Dev::start(dir.path());
    let payer = Payer::register(dir.path(), &dev);
    let (channel, file) = payer.open("payword", &["--capacity", "30000", "--unit", "5"]);
    let path = dir.path().join(&file);
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    // Opening again, after a lost answer, is the same opening; another is refused, and the file stays as it is.
    let before = std::fs::read(&path).expect("there");
    assert_eq!(payer.open("payword", &["--capacity", "30000"]).0, channel);
    let open = ["channel", "open", "--key", "payer.key", "--state", &file];
    payer.fails(
        &[&open[..], &["--scheme", "payword", "--capacity", "1"]].concat(),
        &["other terms", &channel],
    );
    payer.fails(&[&open[..], &["--scheme", "paytree", "--capacity", "30000"]].concat(), &["other terms"]);
    assert_eq!(std::fs::read(&path).expect("there"), before);

    let pay = |more: &[&str]| payer.ok(&[&["pay", &channel, "--state", &file], more].concat());
    assert_eq!(pay(&["--add", "5"]), "accepted: 5 in total");
    std::fs::copy(&path, dir.path().join("old.state")).expect("writable");
    let fails = |more: &[&str], says: &[&str]| {
        payer.fails(&[&["pay", &channel, "--state", &file], more].concat(), says);
    };
    fails(&["--amount", "12"], &["12 in total", "multiple of the channel's unit, 5"]);
    fails(&["--amount", "30005"], &["at most 6000 units"]);
    fails(&["--amount", "10", "--complete"], &["--complete is of paytree"]);
    payer.fails(&["pay", &channel, "--key", "payer.key", "--add", "5"], &["payword", "--state"]);
    assert_eq!(payer.shown(&file), 5, "nothing of this was shown");

    // Further than a relayer hashes for one payment: several, none further from the one before than that.
    let paid = pay(&["--amount", "25000"]);
    assert_eq!(lines(&paid).len(), 5, "{paid}");
    assert!(paid.ends_with("accepted: 25000 in total"), "{paid}");
    assert_eq!(pay(&["--amount", "25000"]), "duplicate: 25000 in total");

    // An old copy does not know what was shown since, and takes the relayer's word for nothing.
    let old = ["pay", &channel, "--state", "old.state", "--add", "5"];
    payer.fails(&old, &["names 25000", "no more than 5 was ever shown"]);

    let front = Front::start(&payer.stack.relayers[1].url);
    let through = |amount: [&'static str; 2]| ["--relayer-url", &front.url, amount[0], amount[1]];
    front.turn(Payments::Vanish);
    fails(&through(["--add", "10"]), &["25010"]);
    assert_eq!(payer.shown(&file), 25_010, "noted before it was sent");
    front.turn(Payments::AreTaken);
    fails(&through(["--amount", "25050"]), &["25050"]);
    assert_eq!(payer.latest(&channel)["cumulative_amount"], "25050", "recorded, and the payer was not told");
    front.turn(Payments::AreTakenOnce);
    let paid = pay(&through(["--add", "5"]));
    assert_eq!(paid, "duplicate: 25055 in total", "on top of what was recorded, and repeated once");

    let closed = payer.ok(&["channel", "close", &channel, "--key", "payer.key", "--wait", "--json"]);
    let closed: Value = serde_json::from_str(&closed).expect("JSON");
    assert_eq!(closed["receipt"]["settled_amount"], "25055");
}

#[test]
fn stack_payers_of_a_tree_show_what_the_relayer_cannot_know() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let dev = Dev::start(dir.path());
    let payer = Payer::register(dir.path(), &dev);
    let (channel, file) = payer.open("paytree", &["--capacity", "1000", "--leaves", "1024"]);
    let pay = |more: &[&str]| payer.ok(&[&["pay", &channel, "--state", &file], more].concat());
    let siblings = |text: &str| {
        let payment: Value = serde_json::from_str(text).expect("a payment");
        payment["proof"]["paytree"]["siblings"].as_array().expect("a list").len()
    };
    assert_eq!(siblings(&pay(&["--amount", "6", "--print"])), 10, "nothing is known yet");
    assert_eq!(payer.shown(&file), 6, "what is printed is shown");
    assert_eq!(pay(&["--amount", "6"]), "accepted: 6 in total");
    let (small, plain) = (pay(&["--add", "1", "--print"]), pay(&["--add", "1", "--print", "--complete"]));
    assert_eq!((siblings(&small), siblings(&plain)), (0, 10));
    assert!(small.len() * 3 < plain.len(), "{} of {}", small.len(), plain.len());
    assert_eq!(lines(&pay(&["--add", "1", "--count", "20", "--transport", "stream"])).len(), 20);
    assert_eq!(pay(&["--amount", "700"]), "accepted: 700 in total", "at one go, however far");
    assert_eq!(pay(&["--amount", "700", "--complete"]), "duplicate: 700 in total");
    let printed = pay(&["--add", "2", "--count", "3", "--print"]);
    assert_eq!(lines(&printed).len(), 3);

    // A file pays from its own channel, by its own seed.
    let open = ["channel", "open", "--key", "payer.key", "--scheme", "paytree", "--capacity", "1000"];
    let other = payer.ok(&[&open[..], &["--state", "other.state"]].concat());
    payer.ok(&["pay", &other, "--state", "other.state", "--amount", "9"]);
    payer.fails(&["pay", &other, "--state", &file, "--add", "1"], &["of another channel"]);
    let mut spoiled: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("other.state")).expect("there")).expect("JSON");
    spoiled["seed"] = ChannelId([1; 32]).to_string().into();
    std::fs::write(dir.path().join("spoiled.state"), spoiled.to_string()).expect("writable");
    payer
        .fails(&["pay", &other, "--state", "spoiled.state", "--add", "1"], &["does not grow from this seed"]);

    // An opening that came to nothing is repeated from its file, whatever was in its way.
    payer.ok(&["keys", "new", "late.key"]);
    let open = ["channel", "open", "--key", "late.key", "--scheme", "payword", "--capacity", "9"];
    let open = [&open[..], &["--state", "late.state"]].concat();
    payer.fails(&open, &["unknown_account", "late.state is kept"]);
    let kept = StateFile::open(&dir.path().join("late.state")).expect("a state file").0.state().channel_id;
    payer.ok(&["account", "register", "--key", "late.key"]);
    assert_eq!(payer.ok(&open), kept.to_string());

    // A relayer that names a payment of another tree, though one that was paid there.
    let front = Front::start(&payer.stack.relayers[0].url);
    let before = payer.shown(&file);
    let mut told: Value =
        serde_json::from_str(&payer.ok(&["channel", "show", &channel, "--json"])).expect("JSON");
    told["latest"] = payer.latest(&other);
    front.lie(told.to_string());
    let pay_liar = ["pay", &channel, "--state", &file, "--add", "1", "--relayer-url", &front.url];
    payer.fails(&pay_liar, &["names 9", "does not grow from this state file", "do not pay there"]);
    assert_eq!(payer.shown(&file), before, "a liar gets to see nothing");

    let shown = payer.ok(&["inspect", "channel", &channel]);
    assert!(
        shown.contains("paytree, 1024 leaves of 1 each") && shown.contains("leaf 700, 10 siblings"),
        "{shown}"
    );
    payer.ok(&["channel", "close", &channel, "--key", "payer.key", "--wait"]);
    payer.ok(&["audit"]);
}

#[test]
fn stack_a_load_in_all_schemes_writes_down_what_holds_from_the_terms_alone() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let dev = Dev::start(dir.path());
    let payer = Payer::register(dir.path(), &dev);
    let relayers =
        payer.stack.relayers.iter().map(|relayer| relayer.url.clone()).collect::<Vec<_>>().join(",");
    let load = |more: &[&str]| {
        let args = ["load", "--scheme", "ed25519,payword,paytree", "--payers", "6", "--step", "3", "--json"];
        let rest =
            ["--units", "500", "--ledger", "ledger.ndjson", "--dir", "payers", "--relayer-url", &relayers];
        let output = payer.go(&[&args[..], &rest, more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout_json(&output)
    };
    assert_eq!(load(&["--payments", "300"])["acknowledged"], 300);
    let more = load(&["--payments", "60", "--transport", "stream", "--close"]);
    assert_eq!((&more["acknowledged"], &more["outcomes"]["accepted"]), (&60.into(), &60.into()));

    let terms = |id: &str| -> CheckedTerms {
        let shown = payer.ok(&["channel", "show", id, "--from", "issuer", "--json"]);
        let terms = serde_json::from_str::<Value>(&shown).expect("JSON")["terms"].clone();
        serde_json::from_value::<Terms>(terms).expect("terms").check().expect("terms of a channel")
    };
    let mut known = BTreeMap::<ChannelId, CheckedTerms>::new();
    let mut highest = BTreeMap::<ChannelId, (Amount, u32)>::new();
    ledger::read(&dir.path().join("ledger.ndjson"), |entry| {
        if !entry.outcome.is_acknowledged() {
            return;
        }
        let terms = known.entry(entry.channel_id).or_insert_with_key(|id| terms(&id.to_string()));
        let cumulative_amount = Some(entry.cumulative_amount);
        let payment = Payment { channel_id: entry.channel_id, cumulative_amount, proof: entry.proof };
        VerifiedVoucher::verify(terms, payment).expect("what `millrace recover` would take back");
        let (amount, payments) = highest.entry(entry.channel_id).or_default();
        (*amount, *payments) = ((*amount).max(entry.cumulative_amount), *payments + 1);
    })
    .expect("a ledger");
    assert_eq!(highest.len(), 6, "the second load went on with the channels of the first: {highest:?}");
    let total: u64 = highest.values().map(|(amount, _)| amount.units()).sum();
    assert_eq!(total, 360 * 3);
    payer.ok(&["audit", "--ledger", "ledger.ndjson"]);
}
