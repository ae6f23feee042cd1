//! `millrace inspect keys`.

use std::collections::BTreeMap;

use common::store::Store;
use serde::Serialize;

use crate::output::{Printer, table};
use common::store::diagnose::Probe;

/// Keys that one SCAN looks at.
const SCAN_COUNT: u32 = 1_000;

/// Keys of one kind in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Family {
    /// A partition's number, `settler`, or nothing.
    place: String,
    /// The word after the place.
    kind: String,
    keys: u64,
    sample: String,
}

#[derive(Serialize)]
struct Families {
    families: Vec<Family>,
    /// Keys of this prefix that were seen; a key may come twice.
    keys: u64,
    next: Option<String>,
}

pub(super) async fn families(
    probe: &Probe,
    store: &Store,
    after: &str,
    limit: u32,
    per_partition: bool,
    printer: &Printer,
) -> anyhow::Result<()> {
    let mut seen = Families { families: Vec::new(), keys: 0, next: Some(after.to_owned()) };
    let mut tally = BTreeMap::<(String, String), Family>::new();
    let mut looked_at = 0u32;
    while let Some(cursor) = seen.next.take() {
        let count = SCAN_COUNT.min(limit);
        let (keys, next) = probe.scan(&cursor, count).await?;
        for key in keys {
            let Some((place, kind)) = place_and_kind(&key, store.keys().prefix()) else { continue };
            seen.keys += 1;
            let new = Family { place: place.clone(), kind: kind.clone(), keys: 0, sample: key };
            tally.entry((place, kind)).or_insert(new).keys += 1;
        }
        looked_at = looked_at.saturating_add(count);
        seen.next = next;
        if looked_at >= limit {
            break;
        }
    }
    seen.families = tally.into_values().collect();
    printer.data(&seen, |seen| text(seen, per_partition))?;
    if let Some(next) = &seen.next {
        printer.note(format_args!("next page: --after {next}"));
    }
    Ok(())
}

/// A row a kind; with `per_partition`, a row a kind and partition, as the JSON has it.
fn text(seen: &Families, per_partition: bool) -> String {
    let rows: Vec<[String; 4]> = if per_partition {
        let row = |family: &Family| {
            [family.kind.clone(), family.place.clone(), family.keys.to_string(), family.sample.clone()]
        };
        seen.families.iter().map(row).collect()
    } else {
        let mut kinds = BTreeMap::<&str, (u64, u64, &str)>::new();
        for family in &seen.families {
            let (places, keys, _) = kinds.entry(&family.kind).or_insert((0, 0, &family.sample));
            *places += 1;
            *keys += family.keys;
        }
        let row = |(kind, (places, keys, sample)): (&str, (u64, u64, &str))| {
            [kind.to_owned(), places.to_string(), keys.to_string(), sample.to_owned()]
        };
        kinds.into_iter().map(row).collect()
    };
    let header = ["kind", if per_partition { "partition" } else { "partitions" }, "keys", "sample"];
    format!("{}\n{} keys", table(header, rows), seen.keys)
}

/// Takes `{mr:07}:state:…` apart into `07` and `state`, and `mr:meta` into nothing and `meta`.
fn place_and_kind(key: &str, prefix: &str) -> Option<(String, String)> {
    let kind = |rest: &str| rest.split(':').next().unwrap_or_default().to_owned();
    match key.strip_prefix('{') {
        Some(tagged) => {
            let (place, rest) = tagged.strip_prefix(prefix)?.strip_prefix(':')?.split_once("}:")?;
            Some((place.to_owned(), kind(rest)))
        }
        None => Some((String::new(), kind(key.strip_prefix(prefix)?.strip_prefix(':')?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fall_into_kinds_and_strangers_into_none() {
        let parts = |key| place_and_kind(key, "mr");
        assert_eq!(parts("{mr:07}:state:abc"), Some(("07".to_owned(), "state".to_owned())));
        assert_eq!(parts("{mr:settler}:lease"), Some(("settler".to_owned(), "lease".to_owned())));
        assert_eq!(parts("mr:meta"), Some((String::new(), "meta".to_owned())));
        for stranger in ["mr2:meta", "{mr2:07}:state:abc", "xmr:meta", "{mr:07"] {
            assert_eq!(parts(stranger), None, "{stranger}");
        }
    }
}
