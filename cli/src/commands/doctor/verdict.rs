//! From what was found to a verdict. Pure.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use common::store::read::{LeaseInfo, PartitionInfo};
use serde::Serialize;

use crate::output::micros;
use common::store::diagnose::ClockReading;

/// Clocks further apart than this are worth a word, in ms.
const SKEW_WARN_MS: u64 = 500;

/// Clocks further apart than this close channels at the wrong time, in ms.
const SKEW_FAIL_MS: u64 = 30_000;

/// An entry that waits longer than this says that nobody reads, in ms.
const LAG_FAIL_MS: u64 = 60_000;

/// An entry that waits longer than this says that the settler falls behind, in ms.
const LAG_WARN_MS: u64 = 5_000;

/// A round trip longer than this limits what a channel can pay, in us.
const ROUND_TRIP_WARN_US: u64 = 5_000;

/// How it stands with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        })
    }
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) check: String,
    pub(super) verdict: Verdict,
    pub(super) found: String,
    pub(super) todo: Option<String>,
}

impl Check {
    pub(super) fn ok(check: &str, found: impl Into<String>) -> Self {
        Check { check: check.to_owned(), verdict: Verdict::Ok, found: found.into(), todo: None }
    }

    pub(super) fn warn(check: &str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Check { verdict: Verdict::Warn, todo: Some(todo.into()), ..Check::ok(check, found) }
    }

    pub(super) fn fail(check: &str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Check { verdict: Verdict::Fail, todo: Some(todo.into()), ..Check::ok(check, found) }
    }
}

/// Room in memory: Redis refuses writes when it is full, and every channel stays until it is archived.
pub(super) fn memory(used: u64, max: u64, machine: u64) -> Check {
    const CHECK: &str = "memory";
    let mib = |bytes: u64| bytes / 1_048_576;
    let limit = if max == 0 { machine } else { max };
    let percent = used.saturating_mul(100).checked_div(limit).unwrap_or(0);
    let found = format!("{} of {} MiB used ({percent} %)", mib(used), mib(limit));
    let more = "give it more memory (about 1 KiB a channel), or raise maxmemory";
    match percent {
        90.. => Check::fail(CHECK, found, more),
        75.. => Check::warn(CHECK, found, more),
        _ if max == 0 => {
            let todo =
                "set maxmemory below what the machine has: without it, Redis is killed when memory runs out";
            Check::warn(CHECK, format!("{found}, no maxmemory"), todo)
        }
        _ => Check::ok(CHECK, found),
    }
}

/// Whether the append-only file is being written.
pub(super) fn append_only_file(info: &HashMap<String, String>) -> Check {
    const CHECK: &str = "append-only file";
    let is = |name: &str, value: &str| info.get(name).is_some_and(|found| found == value);
    if !is("aof_enabled", "1") {
        return Check::ok(CHECK, "off");
    }
    if !is("aof_last_write_status", "ok") {
        return Check::fail(CHECK, "the last write failed", "look at the disk of the server, and at its log");
    }
    if !is("aof_last_bgrewrite_status", "ok") {
        return Check::warn(
            CHECK,
            "the last rewrite failed",
            "it grows without bound: look at the server's log",
        );
    }
    Check::ok(CHECK, "written, and rewritten when it grows")
}

/// Redis' clock decides on stream entries, this machine's on expiry.
pub(super) fn clock(check: &str, reading: ClockReading) -> Check {
    let ClockReading { skew_ms, uncertainty_ms } = reading;
    let found = format!("{skew_ms:+} ms from this machine (within {uncertainty_ms} ms)");
    skew(check, skew_ms.unsigned_abs().saturating_sub(uncertainty_ms), found)
}

/// As [`clock`], of a reading in whole seconds.
pub(super) fn coarse_clock(check: &str, theirs_s: i64, ours_s: i64) -> Check {
    let apart_s = theirs_s.saturating_sub(ours_s);
    let found = format!("{apart_s:+} s from this machine (within 2 s)");
    skew(check, apart_s.unsigned_abs().saturating_sub(2).saturating_mul(1_000), found)
}

fn skew(check: &str, at_least_ms: u64, found: String) -> Check {
    let todo = "run a time daemon on both machines: expiry goes by the clock";
    match at_least_ms {
        SKEW_FAIL_MS.. => Check::fail(check, found, todo),
        SKEW_WARN_MS.. => Check::warn(check, found, todo),
        _ => Check::ok(check, found),
    }
}

pub(super) fn round_trip(round_trip: Duration) -> Check {
    let us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    match us {
        ROUND_TRIP_WARN_US.. => {
            Check::warn("round trip", micros(us), "run relayers near Redis: every payment waits for one")
        }
        _ => Check::ok("round trip", micros(us)),
    }
}

/// How far the settler is behind.
pub(super) struct Lag {
    entries: u64,
    oldest_ms: u64,
    due: u64,
}

impl Lag {
    pub(super) fn of(partitions: &[PartitionInfo], now_ms: u64) -> Lag {
        let oldest_at_ms = partitions.iter().filter_map(|info| info.oldest_at_ms).min();
        Lag {
            entries: partitions.iter().map(|info| info.entries).sum(),
            oldest_ms: oldest_at_ms.map_or(0, |at| now_ms.saturating_sub(at)),
            due: partitions.iter().map(|info| info.due).sum(),
        }
    }

    pub(super) fn check(&self) -> Check {
        const CHECK: &str = "settler lag";
        let found = format!(
            "{} entries to be read, the oldest {} s old; {} channels to be settled in time",
            self.entries,
            self.oldest_ms / 1_000,
            self.due
        );
        match self.oldest_ms {
            LAG_FAIL_MS.. => Check::fail(CHECK, found, "nobody reads accepted payments: start a settler"),
            LAG_WARN_MS.. => {
                Check::warn(CHECK, found, "the settler falls behind: see its log and its metrics")
            }
            _ => Check::ok(CHECK, found),
        }
    }
}

pub(super) fn dead_letters(partitions: &[PartitionInfo]) -> Check {
    match partitions.iter().map(|info| info.dead).sum::<u64>() {
        0 => Check::ok("dead letters", "none"),
        dead => {
            Check::fail("dead letters", dead.to_string(), "see `millrace inspect dead`: money waits there")
        }
    }
}

pub(super) fn lease(lease: &LeaseInfo, lag: &Lag) -> Check {
    const CHECK: &str = "leader";
    match (&lease.holder, lease.expires_in_ms) {
        (Some(holder), Some(ms)) => {
            Check::ok(CHECK, format!("{holder}, token {}, lease ends in {ms} ms", lease.token))
        }
        (Some(holder), None) => Check::fail(
            CHECK,
            format!("{holder}, with a lease that never ends"),
            "no version of Millrace writes that: delete the lease key, and find out who wrote it",
        ),
        (None, _) if lag.entries > 0 || lag.due > 0 => {
            Check::fail(CHECK, "none, and there is work", "start a settler")
        }
        (None, _) => Check::warn(CHECK, "none", "start a settler before payments come"),
    }
}

/// Reads an HTTP date (RFC 9110, IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`) as seconds since 1970.
pub(super) fn http_date(text: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut parts = text.split_once(", ")?.1.split(' ');
    let day: i64 = parts.next()?.parse().ok()?;
    let month = i64::try_from(MONTHS.find(parts.next()?)? / 3).ok()? + 1;
    let year: i64 = parts.next()?.parse().ok()?;
    let mut time = parts.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // Days since 1970 of a date in the Gregorian calendar, counted in years that begin in March, so that the leap day
    // is the last of its year (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let years = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (years.div_euclid(400), years.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(entries: u64, oldest_at_ms: Option<u64>, due: u64, dead: u64) -> PartitionInfo {
        PartitionInfo { partition: 0, seq: 1, entries, unacknowledged: 0, oldest_at_ms, due, fence: 1, dead }
    }

    #[test]
    fn memory_is_judged_by_what_is_left() {
        let mib = |n: u64| n * 1_048_576;
        assert_eq!(memory(mib(10), mib(100), mib(1_000)).verdict, Verdict::Ok);
        assert_eq!(memory(mib(80), mib(100), mib(1_000)).verdict, Verdict::Warn);
        assert_eq!(memory(mib(95), mib(100), mib(1_000)).verdict, Verdict::Fail);
        assert_eq!(memory(mib(10), 0, mib(100)).verdict, Verdict::Warn, "no maxmemory");
    }

    #[test]
    fn clocks_are_judged_by_what_is_certain() {
        let reading = |skew_ms, uncertainty_ms| clock("c", ClockReading { skew_ms, uncertainty_ms }).verdict;
        assert_eq!(reading(-400, 1), Verdict::Ok);
        assert_eq!(reading(900, 500), Verdict::Ok, "a slow answer proves nothing");
        assert_eq!(reading(-900, 1), Verdict::Warn);
        assert_eq!(reading(31_000, 1), Verdict::Fail);
        assert_eq!(coarse_clock("c", 102, 100).verdict, Verdict::Ok);
        assert_eq!(coarse_clock("c", 200, 100).verdict, Verdict::Fail);
    }

    #[test]
    fn work_without_a_leader_is_a_failure() {
        let none = LeaseInfo { holder: None, expires_in_ms: None, token: 3 };
        let held = LeaseInfo { holder: Some("a".to_owned()), expires_in_ms: Some(9), token: 3 };
        let idle = Lag::of(&[partition(0, None, 0, 0)], 100_000);
        let busy = Lag::of(&[partition(1, Some(90_000), 0, 0), partition(1, Some(99_000), 0, 0)], 100_000);
        assert_eq!(lease(&none, &idle).verdict, Verdict::Warn);
        assert_eq!(lease(&none, &busy).verdict, Verdict::Fail);
        assert_eq!(lease(&held, &busy).verdict, Verdict::Ok);
        assert_eq!((idle.check().verdict, busy.check().verdict), (Verdict::Ok, Verdict::Warn));
        assert_eq!(Lag::of(&[partition(1, Some(0), 0, 0)], 100_000).check().verdict, Verdict::Fail);
        assert_eq!(dead_letters(&[partition(0, None, 0, 2)]).verdict, Verdict::Fail);
    }

    #[test]
    fn http_dates_are_read() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        assert_eq!(http_date("yesterday"), None);
    }
}
