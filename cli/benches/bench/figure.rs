//! One measured figure: what it is, what it is compared with, and what it should be.

use serde::{Deserialize, Serialize};

use crate::stats::{Spread, ratio};

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
}

impl Target {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Target::AtMost(limit) => value <= limit,
            Target::AtLeast(limit) => value >= limit,
        }
    }
}

/// What a figure is compared with: measured in the same run, round by round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// What it is.
    pub(crate) of: String,
    /// Its value, in the figure's unit.
    pub(crate) value: f64,
    /// Figure to baseline, by rounds.
    pub(crate) ratio: Spread,
}

/// A measured figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What was measured. The same from run to run, so that runs can be compared.
    pub(crate) name: String,
    /// By rounds.
    pub(crate) value: Spread,
    /// Of the value.
    pub(crate) unit: String,
    /// What it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) baseline: Option<Baseline>,
    /// What the ratio to the baseline should be, or the value where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<Target>,
}

impl Figure {
    /// A figure without baseline or target.
    pub(crate) fn new(name: impl Into<String>, value: impl Into<Spread>, unit: &str) -> Figure {
        Figure { name: name.into(), value: value.into(), unit: unit.to_owned(), baseline: None, target: None }
    }

    /// The figure of several rounds beside the baseline of each: pairs of both.
    pub(crate) fn beside(name: impl Into<String>, unit: &str, of: &str, rounds: &[(f64, f64)]) -> Figure {
        let baseline = Baseline {
            of: of.to_owned(),
            value: Spread::of(rounds.iter().map(|(_, baseline)| *baseline)).median,
            ratio: Spread::of(rounds.iter().map(|(value, baseline)| ratio(*value, *baseline))),
        };
        let value = Spread::of(rounds.iter().map(|(value, _)| *value));
        Figure { baseline: Some(baseline), ..Figure::new(name, value, unit) }
    }

    /// With what it should be.
    pub(crate) fn target(self, target: Target) -> Figure {
        Figure { target: Some(target), ..self }
    }

    /// Whether it is what it should be, where it should be anything.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let judged = self.baseline.as_ref().map_or(self.value, |baseline| baseline.ratio);
        Some(self.target?.is_met_by(judged.median))
    }
}

/// A curve or several, in one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Chart {
    /// File name without its ending.
    pub(crate) file: String,
    /// What it shows.
    pub(crate) title: String,
    /// The horizontal axis, with its unit.
    pub(crate) x: String,
    /// The vertical axis, with its unit.
    pub(crate) y: String,
    /// True where the vertical axis is logarithmic.
    pub(crate) y_is_logarithmic: bool,
    /// Curves: name and points.
    pub(crate) curves: Vec<(String, Vec<(f64, f64)>)>,
}

/// What a row of the benchmarks found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// The figures, in the order in which they are shown.
    pub(crate) figures: Vec<Figure>,
    /// What a reader must know of this run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
    /// Pictures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) charts: Vec<Chart>,
}
