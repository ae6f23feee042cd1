//! What relayers and settlers say of themselves in `/metrics`, held against itself and against Redis.
//!
//! Two identities hold in every scrape, whatever is going on: of payments, at a relayer, and of money, at a settler. And
//! what the leader shows of money lies between what Redis held before and after it was scraped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use common::channel::Status;
use common::store::Store;
use common::store::books::Books;
use serde::Serialize;

use super::{Kind, Violation};

/// How long the leader may take to show what Redis holds: some times as long as it leaves between two looks.
const SHOWN_WITHIN: Duration = Duration::from_secs(15);

/// Between two scrapes while that is waited for.
const SCRAPE_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How long a scrape may take.
const SCRAPE_WITHIN: Duration = Duration::from_secs(5);

/// Keys looked at by one SCAN.
const SCAN_COUNT: u32 = 1_000;

/// From here on Prometheus rounds: 2^53.
const EXACT_BELOW: u128 = 1 << 53;

const RECEIVED: &str = "millrace_relayer_payments_received_total";
const ENDED: &str = "millrace_relayer_payments_total";
const IN_FLIGHT: &str = "millrace_relayer_payments_in_flight";
const LEADER: &str = "millrace_settler_leader";
const MONEY: &str = "millrace_settler_money_units";

/// The series of one scrape: name with labels, as it stands there, and value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrape(BTreeMap<String, u128>);

impl Scrape {
    /// Reads the text of a scrape. Figures that are no whole numbers (sums of seconds) are left out: nothing here is about
    /// them.
    pub fn parse(text: &str) -> Scrape {
        let series = text.lines().filter(|line| !line.starts_with('#'));
        Scrape(
            series
                .filter_map(|line| line.rsplit_once(' '))
                .filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?)))
                .collect(),
        )
    }

    /// The value of a series.
    pub fn get(&self, series: &str) -> Option<u128> {
        self.0.get(series).copied()
    }

    /// Every series of a metric: what stands between its braces, and its value.
    pub fn all_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, u128)> {
        self.0.iter().filter_map(move |(series, value)| {
            let labels = series.strip_prefix(name)?.strip_prefix('{')?.strip_suffix('}')?;
            Some((labels, *value))
        })
    }

    fn money(&self, state: &str) -> Option<u128> {
        self.get(&format!("{MONEY}{{state=\"{state}\"}}"))
    }
}

/// An identity, as one scrape shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Who was scraped.
    pub url: String,
    /// `payments` or `money`.
    pub of: &'static str,
    /// What must be equal to the sum of the parts.
    #[serde(serialize_with = "super::decimal")]
    pub whole: u128,
    /// The parts, by name.
    #[serde(serialize_with = "decimals")]
    pub parts: Vec<(&'static str, u128)>,
    /// Whether it holds.
    pub holds: bool,
}

fn decimals<S: serde::Serializer>(parts: &[(&'static str, u128)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(parts.iter().map(|(name, sum)| (name, sum.to_string())))
}

/// Every identity that a scrape must show: none if it is of neither a relayer nor a settler.
pub fn identities(url: &str, scrape: &Scrape) -> Vec<Identity> {
    let payments = scrape.get(RECEIVED).map(|received| {
        let (mut accepted, mut duplicate, mut unknown, mut rejected) = (0, 0, 0, 0u128);
        for (label, count) in scrape.all_of(ENDED) {
            match label {
                "outcome=\"accepted\"" => accepted = count,
                "outcome=\"duplicate\"" => duplicate = count,
                "outcome=\"outcome_unknown\"" => unknown = count,
                _ => rejected = rejected.saturating_add(count),
            }
        }
        let in_flight = scrape.get(IN_FLIGHT).unwrap_or_default();
        let parts = [
            ("accepted", accepted),
            ("duplicate", duplicate),
            ("rejected", rejected),
            ("unknown", unknown),
            ("in_flight", in_flight),
        ];
        identity(url, "payments", received, &parts)
    });
    let money = scrape.money("accepted").map(|accepted| {
        let parts =
            ["settled", "unsettled", "dead"].map(|state| (state, scrape.money(state).unwrap_or_default()));
        identity(url, "money", accepted, &parts)
    });
    payments.into_iter().chain(money).collect()
}

fn identity(url: &str, of: &'static str, whole: u128, parts: &[(&'static str, u128)]) -> Identity {
    let sum = parts.iter().fold(0, |sum: u128, (_, part)| sum.saturating_add(*part));
    Identity {
        url: url.to_owned(),
        of,
        whole,
        parts: parts.to_vec(),
        holds: whole.abs_diff(sum) <= rounding(whole.max(sum)),
    }
}

/// By how much figures of this size may be off: each of four is rounded to 53 binary digits.
fn rounding(size: u128) -> u128 {
    if size < EXACT_BELOW { 0 } else { size / EXACT_BELOW * 4 + 4 }
}

/// What came of holding metrics against each other and against Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Every identity of every scrape.
    pub identities: Vec<Identity>,
    /// The books in Redis, last.
    pub books: Books,
}

/// Scrapes every address, and holds what is there against itself, and the leader's money against Redis.
///
/// # Errors
/// Someone does not answer, or is neither a relayer nor a settler: half a check is none.
pub async fn check(urls: &[String], store: &Store, violations: &mut Vec<Violation>) -> anyhow::Result<Found> {
    let mut wrong = |kind, detail| violations.push(Violation { kind, channel_id: None, detail });
    let mut found = Found::default();
    let client = reqwest::Client::builder().timeout(SCRAPE_WITHIN).build()?;
    check_books(store, &mut wrong).await?;
    let mut leaders = 0;
    for url in urls {
        let before = books(store).await?;
        let deadline = Instant::now() + SHOWN_WITHIN;
        let of_others = found.identities.len();
        let (scrape, after) = loop {
            let scrape = scrape(&client, url).await?;
            let shown = identities(url, &scrape);
            ensure!(!shown.is_empty(), "{url} is neither a relayer's nor a settler's admin listener");
            let broken = shown.iter().any(|identity| !identity.holds);
            found.identities.extend(shown);
            let late = scrape.get(LEADER) == Some(1) && !is_shown(&scrape, &before);
            if broken || !late || Instant::now() >= deadline {
                break (scrape, books(store).await?);
            }
            found.identities.truncate(of_others);
            tokio::time::sleep(SCRAPE_AGAIN_AFTER).await;
        };
        if scrape.get(LEADER) == Some(1) {
            leaders += 1;
            for detail in differences(&scrape, &before, &after) {
                wrong(Kind::MetricsDiffer, format!("{url}: {detail}"));
            }
        }
        found.books = after;
    }
    for identity in found.identities.iter().filter(|identity| !identity.holds) {
        let parts: Vec<String> = identity.parts.iter().map(|(name, sum)| format!("{name} {sum}")).collect();
        let detail =
            format!("{}: {} {} is not {}", identity.url, identity.of, identity.whole, parts.join(" + "));
        wrong(Kind::IdentityBroken, detail);
    }
    if leaders > 1 {
        wrong(Kind::MetricsDiffer, format!("{leaders} settlers show that they lead"));
    }
    Ok(found)
}

async fn scrape(client: &reqwest::Client, url: &str) -> anyhow::Result<Scrape> {
    let address = format!("{}/metrics", url.trim_end_matches('/').trim_end_matches("/metrics"));
    let answer = async { client.get(&address).send().await?.error_for_status()?.text().await };
    Ok(Scrape::parse(&answer.await.with_context(|| format!("cannot scrape {address}"))?))
}

async fn books(store: &Store) -> anyhow::Result<Books> {
    let mut sum = Books::default();
    for partition in 0..store.partitions() {
        sum = sum.and(store.books(partition).await?);
    }
    Ok(sum)
}

/// The figures of money that only rise, with their names.
fn rising(books: &Books) -> [(&'static str, u128); 3] {
    [("accepted", books.accepted), ("settled", books.settled), ("dead", books.dead)]
}

/// Whether a leader shows all that Redis held at some time.
fn is_shown(scrape: &Scrape, before: &Books) -> bool {
    rising(before).iter().all(|(state, sum)| scrape.money(state).unwrap_or_default() + rounding(*sum) >= *sum)
}

/// What a leader shows that Redis held neither before it was scraped nor at any time until after.
fn differences(scrape: &Scrape, before: &Books, after: &Books) -> Vec<String> {
    let bounds = rising(before).into_iter().zip(rising(after));
    bounds
        .filter_map(|((state, least), (_, most))| {
            let shown = scrape.money(state).unwrap_or_default();
            let (least, most) = (least.saturating_sub(rounding(least)), most.saturating_add(rounding(most)));
            (!(least..=most).contains(&shown))
                .then(|| format!("{state} {shown}, but Redis held {least} before and {most} after"))
        })
        .collect()
}

/// Holds the books of each partition against itself and against the channels in it. Payments may go on: each sum that
/// only rises must lie between what it was before the channels were read and what it was after.
async fn check_books(store: &Store, wrong: &mut impl FnMut(Kind, String)) -> anyhow::Result<()> {
    for partition in 0..store.partitions() {
        let before = store.books(partition).await?;
        let counted = count(store, partition).await?;
        let after = store.books(partition).await?;
        if !after.balance() {
            let Books { accepted, unsettled, settled, dead } = after;
            let parts = format!("settled {settled} + unsettled {unsettled} + dead {dead}");
            wrong(
                Kind::IdentityBroken,
                format!("books of partition {partition}: accepted {accepted} is not {parts}"),
            );
        }
        for (((name, least), (_, most)), (_, counted)) in
            rising(&before).into_iter().zip(rising(&after)).zip(rising(&counted))
        {
            if !(least..=most).contains(&counted) {
                let detail = format!(
                    "books of partition {partition}: {name} {least} to {most}, but its channels come to {counted}"
                );
                wrong(Kind::MetricsDiffer, detail);
            }
        }
    }
    Ok(())
}

/// What the channels of a partition come to, one by one.
async fn count(store: &Store, partition: u16) -> anyhow::Result<Books> {
    let mut channels = BTreeMap::new();
    let mut cursor = None;
    loop {
        let (ids, next) = store.channel_page(partition, cursor.as_deref(), SCAN_COUNT).await?;
        for id in ids {
            // A page may name a channel that another has named.
            if let Some(booked) = store.booked(&id).await? {
                channels.insert(id, booked);
            }
        }
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(channels.into_values().fold(Books::default(), |sum, booked| {
        let units = u128::from(booked.units);
        let one = match booked.status {
            Status::Open | Status::Closing => Books { unsettled: units, ..Books::default() },
            Status::Closed => Books { settled: units, ..Books::default() },
            Status::Failed => Books { dead: units, ..Books::default() },
        };
        sum.and(Books { accepted: units, ..one })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAYER: &str = "\
# HELP millrace_relayer_payments_total Payments.
# TYPE millrace_relayer_payments_total counter
millrace_relayer_payments_total{outcome=\"accepted\"} 5
millrace_relayer_payments_total{outcome=\"duplicate\"} 2
millrace_relayer_payments_total{outcome=\"malformed\"} 1
millrace_relayer_payments_total{outcome=\"stale_amount\"} 3
millrace_relayer_payments_total{outcome=\"outcome_unknown\"} 1
millrace_relayer_payments_in_flight 4
millrace_relayer_payments_received_total 16
millrace_relayer_payment_seconds_sum{stage=\"store\"} 0.25
";

    fn money(accepted: u128, settled: u128, unsettled: u128, dead: u128) -> Scrape {
        let states = [("accepted", accepted), ("settled", settled), ("unsettled", unsettled), ("dead", dead)];
        let lines = states.map(|(state, sum)| format!("{MONEY}{{state=\"{state}\"}} {sum}\n"));
        Scrape::parse(&lines.concat())
    }

    fn holds(scrape: &Scrape) -> Vec<bool> {
        identities("x", scrape).into_iter().map(|identity| identity.holds).collect()
    }

    #[test]
    fn payments_must_all_be_somewhere() {
        let shown = identities("x", &Scrape::parse(RELAYER));
        let parts =
            vec![("accepted", 5), ("duplicate", 2), ("rejected", 4), ("unknown", 1), ("in_flight", 4)];
        let whole = Identity { url: "x".to_owned(), of: "payments", whole: 16, parts, holds: true };
        assert_eq!(shown, [whole]);
        for broken in ["total{outcome=\"accepted\"} 4", "in_flight 5", "received_total 15"] {
            let (name, _) = broken.rsplit_once(' ').expect("a value");
            let line = RELAYER.lines().find(|line| line.contains(&format!("{name} "))).expect("a line");
            let (start, _) = line.split_once(name).expect("its name");
            let text = RELAYER.replace(line, &format!("{start}{broken}"));
            assert_eq!(holds(&Scrape::parse(&text)), [false], "{broken}");
        }
    }

    #[test]
    fn money_must_all_be_somewhere() {
        assert_eq!(holds(&money(10, 5, 3, 2)), [true]);
        assert_eq!(holds(&money(10, 5, 3, 1)), [false]);
        let much = u128::from(u64::MAX);
        assert_eq!(holds(&money(much * 3, much, much, much + 1)), [true], "as near as Prometheus can say");
        assert_eq!(holds(&money(much * 3, much, much, 0)), [false]);
    }

    #[test]
    fn what_a_leader_shows_lies_between_two_readings_of_redis() {
        let books = |accepted, settled| Books { accepted, settled, unsettled: accepted - settled, dead: 0 };
        let (before, after) = (books(10, 4), books(20, 4));
        assert_eq!(differences(&money(15, 4, 11, 0), &before, &after), Vec::<String>::new());
        assert_eq!(differences(&money(21, 4, 17, 0), &before, &after).len(), 1, "more than there was");
        assert!(!is_shown(&money(9, 4, 5, 0), &before) && is_shown(&money(10, 4, 6, 0), &before));
        assert_eq!(differences(&money(15, 5, 10, 0), &before, &after).len(), 1, "settled what was not");
    }

    #[test]
    fn what_is_of_nobody_shows_no_identity() {
        assert_eq!(identities("x", &Scrape::parse("up 1\n")), []);
    }
}
