//! `docs/METRICS.md` names every metric that running processes show, as they show it, and nothing else does not exist.

use std::collections::{BTreeMap, BTreeSet};

use tests::rig::{Rig, RigOptions};

use super::{dashboards, read, root, text_of};

/// Type and names of labels.
type Shape = (String, BTreeSet<String>);

/// What processes show: each metric by its name.
fn shown(text: &str) -> BTreeMap<String, Shape> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut metrics: BTreeMap<String, Shape> =
        types.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), BTreeSet::new()))).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, labels)) = line.split_once('{') else { continue };
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
        let name = of_histogram.filter(|name| metrics.contains_key(*name)).unwrap_or(series);
        let labels =
            labels.rsplit_once('}').expect("closed").0.split(',').filter_map(|label| label.split_once('='));
        let labels = labels.map(|(name, _)| name.to_owned()).filter(|name| name != "le");
        metrics.get_mut(name).unwrap_or_else(|| panic!("{line} has no type")).1.extend(labels);
    }
    metrics
}

/// What the page says: every row of its tables that names a metric.
fn documented() -> BTreeMap<String, Shape> {
    let text = read("docs/METRICS.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `millrace_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").flat_map(|cell| cell.split(" |")).map(str::trim).collect();
        let [name, kind, labels, ..] = cells.as_slice() else { panic!("{row}") };
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (format!("millrace_{}", name.trim_end_matches('`')), ((*kind).to_owned(), labels))
    })
    .collect()
}

/// Every word of a text that is the name of a metric, or of a series of a histogram.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let prefixes = ["millrace_relayer_", "millrace_settler_", "millrace_issuer_"];
    let is_metric = |word: &&str| {
        *word == "millrace_ready"
            || prefixes.iter().any(|prefix| word.starts_with(prefix) && word.len() > prefix.len())
    };
    words.filter(is_metric).collect()
}

#[tokio::test]
async fn every_metric_is_documented_as_it_is_shown_and_none_that_is_not() {
    let rig = Rig::start(RigOptions { settlers: 1, ..RigOptions::default() }).await;
    let mut all = BTreeMap::new();
    for admin in [rig.relayers[0].admin_url(), rig.settlers[0].admin_url(), &rig.issuer.admin_url()] {
        all.extend(shown(&text_of(admin).await));
    }
    // The rig's issuer runs in this process, and has no file that it could read again.
    let of_relayers: Vec<_> =
        all.range("millrace_relayer_config_".to_owned()..).map(|(k, v)| (k.clone(), v.clone())).collect();
    for (name, shape) in
        of_relayers.into_iter().filter(|(name, _)| name.starts_with("millrace_relayer_config_"))
    {
        all.insert(name.replace("_relayer_", "_issuer_"), shape);
    }
    let documented = documented();
    let names = |metrics: &BTreeMap<String, Shape>| metrics.keys().cloned().collect::<Vec<String>>();
    assert_eq!(names(&documented), names(&all), "in docs/METRICS.md, and shown");
    for (name, shape) in &all {
        assert_eq!(&documented[name], shape, "{name}");
    }
    assert!(all.len() > 40);
}

/// The files that name metrics, but for source code.
fn files() -> Vec<String> {
    let mut files = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    for dir in ["docs", "tilt", "tilt/prometheus", "tilt/grafana/dashboards", "k8s"] {
        // Not every folder need be there.
        let Ok(entries) = std::fs::read_dir(root().join(dir)) else { continue };
        for entry in entries {
            let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
            if [".md", ".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end)) {
                files.push(format!("{dir}/{name}"));
            }
        }
    }
    files
}

#[test]
fn every_metric_that_is_named_anywhere_exists() {
    let documented = documented();
    let mut seen = 0;
    for file in files() {
        let text = read(&file);
        for word in named(&text) {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
            let is_histogram = of_histogram
                .and_then(|name| documented.get(name))
                .is_some_and(|(kind, _)| kind == "histogram");
            assert!(
                documented.contains_key(word) || is_histogram,
                "{file} names {word}, which does not exist"
            );
            seen += 1;
        }
    }
    assert!(seen > 100, "names were found: {seen}");
}

#[test]
fn every_metric_is_in_a_dashboard_or_an_alert() {
    let alerts = read("tilt/prometheus/alerts.yaml");
    let expressions: String = dashboards::all()
        .iter()
        .flat_map(|(_, dashboard)| dashboard.panels())
        .flat_map(|panel| &panel.targets)
        .map(|(expression, _)| format!("{expression}\n"))
        .collect();
    let text = format!("{alerts}\n{expressions}");
    let shown: BTreeSet<String> = named(&text)
        .into_iter()
        .flat_map(|word| {
            ["", "_bucket", "_sum", "_count"].map(|end| word.strip_suffix(end).unwrap_or(word).to_owned())
        })
        .collect();
    let unseen: Vec<String> = documented().into_keys().filter(|name| !shown.contains(name)).collect();
    assert_eq!(
        unseen,
        ["millrace_settler_dead_letters_total"],
        "shown nowhere, but for one that a gauge shows better"
    );
}
