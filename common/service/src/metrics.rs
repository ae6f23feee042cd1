//! Metrics that are read when they are scraped: all that one reading gives appears in one scrape, so that figures that
//! belong together cannot contradict one another there.

use std::collections::HashMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Registry, Result};

/// What kind of figure a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises while the process runs.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// A metric: its name, and what is said of it.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// As it is scraped.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What kind of figure it holds.
    pub kind: Kind,
    /// The name of its label, if it has one.
    pub label: Option<&'static str>,
}

/// The figures of one family: the value of its label (none needed without one) and the figure. The values of labels are
/// part of the program, so nothing that comes from outside can become one. Prometheus keeps figures as doubles: up to
/// 2^53 they are scraped exactly, above that rounded to 53 binary digits.
pub type Figures = Vec<(&'static str, u128)>;

/// Registers families that one call of `read` gives all figures of, in the order of `families`. Figures of one reading
/// stand in one scrape; of two scrapes each has a reading of its own.
///
/// # Errors
/// A name is taken, or is none.
pub fn register_read_at_scrape(
    registry: &Registry,
    families: &'static [Family],
    read: impl Fn() -> Vec<Figures> + Send + Sync + 'static,
) -> Result<()> {
    let desc = |family: &Family| {
        let labels = family.label.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(family.name.to_owned(), family.help.to_owned(), labels, HashMap::new())
    };
    let descs = families.iter().map(desc).collect::<Result<Vec<Desc>>>()?;
    registry.register(Box::new(ReadAtScrape { families, descs, read }))
}

struct ReadAtScrape<R> {
    families: &'static [Family],
    descs: Vec<Desc>,
    read: R,
}

impl<R: Fn() -> Vec<Figures> + Send + Sync> Collector for ReadAtScrape<R> {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families.iter().zip((self.read)()).map(|(family, figures)| family.of(figures)).collect()
    }
}

impl Family {
    fn of(&self, figures: Figures) -> MetricFamily {
        let metrics = figures.into_iter().map(|(label, figure)| self.metric(label, figure)).collect();
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(match self.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
        });
        family.set_metric(metrics);
        family
    }

    fn metric(&self, label: &'static str, figure: u128) -> Metric {
        let figure = figure as f64;
        let mut metric = Metric::default();
        if let Some(name) = self.label {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(label.to_owned());
            metric.set_label(vec![pair]);
        }
        match self.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(figure);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(figure);
                metric.set_gauge(gauge);
            }
        }
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;
    use std::sync::atomic::{AtomicU64, Ordering};

    const FAMILIES: &[Family] = &[
        Family { name: "taken_total", help: "Taken.", kind: Kind::Counter, label: Some("how") },
        Family { name: "waiting", help: "Waiting.", kind: Kind::Gauge, label: None },
    ];

    #[test]
    fn one_reading_gives_all_figures_of_a_scrape() {
        let registry = Registry::new();
        let readings = AtomicU64::new(0);
        register_read_at_scrape(&registry, FAMILIES, move || {
            let reading = u128::from(readings.fetch_add(1, Ordering::Relaxed) + 1);
            vec![vec![("well", reading), ("badly", 0)], vec![("", reading)]]
        })
        .expect("new names");
        for reading in 1..3 {
            let text = TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
            for line in [
                "# TYPE taken_total counter".to_owned(),
                format!("taken_total{{how=\"well\"}} {reading}"),
                "taken_total{how=\"badly\"} 0".to_owned(),
                "# TYPE waiting gauge".to_owned(),
                format!("waiting {reading}"),
            ] {
                assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
            }
        }
    }

    #[test]
    fn a_name_is_registered_once() {
        let registry = Registry::new();
        register_read_at_scrape(&registry, FAMILIES, Vec::new).expect("new names");
        assert!(register_read_at_scrape(&registry, FAMILIES, Vec::new).is_err());
    }
}
