//! A running process takes up another configuration, or refuses it whole. Every key that is called reloadable is seen to
//! take effect here, in a real process; that every other key is refused is shown for all of them by
//! `cli/src/commands/config.rs`, and for a process here.

#[path = "reload/issuer.rs"]
mod issuer;
#[path = "reload/relayer.rs"]
mod relayer;
#[path = "reload/settler.rs"]
mod settler;

use std::collections::BTreeSet;

use cli::stack::process::{Process, Role};
use common::config::Config;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::rig::{ConfigFile, SOON};
use tests::wait_for;

/// How often a process has read its configuration again, by what came of it.
async fn reloads(process: &Process, outcome: &str) -> u64 {
    let role = process.spec().role.as_str();
    let start = format!("millrace_{role}_config_reloads_total{{outcome=\"{outcome}\"}}");
    metric(process, &start).await.expect("every outcome is shown from the start")
}

async fn metric(process: &Process, start: &str) -> Option<u64> {
    let text = reqwest::get(format!("{}/metrics", process.admin_url())).await.ok()?.text().await.ok()?;
    text.lines().find(|line| line.starts_with(start))?.rsplit(' ').next()?.parse().ok()
}

/// Sends SIGHUP and waits for this outcome.
async fn hang_up(process: &mut Process, outcome: &str) {
    let before = reloads(process, outcome).await;
    process.signal(Signal::SIGHUP).expect("it runs");
    let what = format!("a reload is {outcome}");
    wait_for(SOON, &what, || async { (reloads(process, outcome).await > before).then_some(()) }).await;
}

/// Changes keys of a running process, and notes that they are dealt with.
struct Changing<'a> {
    process: &'a mut Process,
    file: ConfigFile,
    seen: BTreeSet<String>,
}

impl<'a> Changing<'a> {
    fn new(process: &'a mut Process, file: ConfigFile) -> Self {
        Changing { process, file, seen: BTreeSet::new() }
    }

    /// Sets these keys together.
    async fn set(&mut self, keys: &[(&str, Value)]) {
        for (key, value) in keys {
            self.file.set(key, value.clone());
            self.seen.insert((*key).to_owned());
        }
        hang_up(self.process, "applied").await;
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.process.log()).unwrap_or_default()
    }

    fn count(&self, line: &str) -> usize {
        self.log().lines().filter(|logged| logged.contains(line)).count()
    }

    /// What is logged, that the file is looked at, and whether profiles are given.
    async fn what_every_service_has(&mut self) {
        const UNCHANGED: &str = "the configuration was read again: nothing has changed";
        let url = format!("{}/debug/heap", self.process.admin_url());
        let heap = async || reqwest::get(&url).await.expect("an answer").status();
        for (enabled, status) in [(true, 200), (false, 404)] {
            self.set(&[("profiling.enabled", enabled.into())]).await;
            assert_eq!(heap().await, status);
        }
        let told = self.count(UNCHANGED);
        self.set(&[("log.filter", "warn".into())]).await;
        hang_up(self.process, "unchanged").await;
        self.set(&[("log.filter", "info".into())]).await;
        assert_eq!(self.count(UNCHANGED), told, "{}", self.log());
        hang_up(self.process, "unchanged").await;
        assert_eq!(self.count(UNCHANGED), told + 1, "{}", self.log());

        self.set(&[("reload.watch_ms", 20.into())]).await;
        let changes =
            [("log.filter", json!("warn")), ("log.filter", json!("info")), ("reload.watch_ms", json!(0))];
        for (key, value) in changes {
            let before = reloads(self.process, "applied").await;
            self.file.set(key, value);
            let what = "the changed file is noticed without a signal";
            let process = &*self.process;
            wait_for(SOON, what, || async { (reloads(process, "applied").await > before).then_some(()) })
                .await;
        }
    }

    /// Every reloadable key of the service was set, and nothing else.
    fn assert_all<C: Config>(&self) {
        let reloadable = C::RELOADABLE.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(self.seen, reloadable, "each reloadable key is seen to take effect");
    }
}

/// A file that cannot be taken up changes nothing, whatever else it says; then it can.
async fn refuses_as_a_whole(
    process: &mut Process,
    mut file: ConfigFile,
    [fixed, reloadable]: [(&str, Value); 2],
) {
    let role: Role = process.spec().role;
    let hash = format!("millrace_{}_config_hash ", role.as_str());
    let before = metric(process, &hash).await;
    hang_up(process, "unchanged").await;
    file.set(fixed.0, fixed.1.clone()).set(reloadable.0, reloadable.1.clone());
    hang_up(process, "refused").await;
    let log = std::fs::read_to_string(process.log()).unwrap_or_default();
    let line =
        log.lines().rfind(|line| line.contains("the new configuration is refused: all stays as it was"));
    let line = line.unwrap_or_else(|| panic!("it says so: {log}"));
    assert!(line.contains(&format!("{} can only be changed by a restart", fixed.0)), "{line}");
    assert!(!line.contains(&format!("{},", reloadable.0)), "what could be changed is not at fault: {line}");
    file.unset(fixed.0).set("no_such_key", 1);
    hang_up(process, "invalid").await;
    assert_eq!(metric(process, &hash).await, before, "nothing has changed so far");
    file.unset("no_such_key");
    hang_up(process, "applied").await;
    assert_ne!(metric(process, &hash).await, before);
    let log = std::fs::read_to_string(process.log()).unwrap_or_default();
    let line = log.lines().rfind(|line| line.contains("the configuration has changed")).expect("a line");
    assert!(line.contains(reloadable.0) && line.ends_with(&reloadable.1.to_string()), "{line}");
}
