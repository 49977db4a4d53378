//! The report: what was measured, as medians and spread over the runs, with ratios per run.

mod appendix;
mod charts;
mod html;
mod markdown;
mod table;
mod targets;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::scenario::Measurement;

pub use targets::compared;
pub use versions::Note;

/// One line of a results file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A run begins: everything up to the next one belongs to it.
    Run(Note),
    /// A figure of that run.
    Measurement(Measurement),
}

/// Median and extremes of one figure over the runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// How many there are.
    pub runs: usize,
}

/// What is measured of whom: scenario, level, server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The scenario.
    pub scenario: String,
    /// The number of writers, where it matters.
    pub level: Option<usize>,
    /// The server.
    pub peer: String,
}

/// Everything that a results file says.
#[derive(Default)]
pub struct Results {
    notes: Vec<Note>,
    /// By what, and by run and repetition.
    measurements: BTreeMap<Key, BTreeMap<(usize, usize), Measurement>>,
}

impl Results {
    /// Reads a results file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut results = Self::default();
        for (number, line) in text.lines().enumerate() {
            let record = serde_json::from_str(line)
                .with_context(|| format!("{}, line {}", path.display(), number + 1))?;
            results.add(record);
        }
        Ok(results)
    }

    /// Takes one record more.
    pub fn add(&mut self, record: Record) {
        match record {
            Record::Run(note) => self.notes.push(note),
            Record::Measurement(measurement) => {
                let key = Key {
                    scenario: measurement.scenario.clone(),
                    level: measurement.level,
                    peer: measurement.peer.clone(),
                };
                let run = (self.notes.len(), measurement.repetition);
                self.measurements.entry(key).or_default().insert(run, measurement);
            }
        }
    }

    /// A figure over the runs.
    pub fn spread(&self, key: &Key, figure: &str) -> Option<Spread> {
        spread(
            self.measurements
                .get(key)?
                .values()
                .filter_map(|measurement| measurement.values.get(figure).copied()),
        )
    }

    /// A figure as a ratio to that of another server in the same run, over the runs.
    pub fn ratio(&self, key: &Key, figure: &str, against: &str) -> Option<Spread> {
        let base = self.measurements.get(&Key { peer: against.to_owned(), ..key.clone() })?;
        spread(self.measurements.get(key)?.iter().filter_map(|(run, measurement)| {
            let base = base.get(run)?.values.get(figure).filter(|base| **base > 0.0)?;
            Some(measurement.values.get(figure)? / base)
        }))
    }

    /// The highest number of writers that all of these servers were measured at.
    fn highest_level(&self, scenario: &str, peers: &[&str]) -> Option<usize> {
        let levels = |peer: &str| -> BTreeSet<usize> {
            let keys = self.measurements.keys().filter(|key| key.scenario == scenario && key.peer == peer);
            keys.filter_map(|key| key.level).collect()
        };
        let (first, rest) = peers.split_first()?;
        let common = rest.iter().fold(levels(first), |common, peer| &common & &levels(peer));
        common.last().copied()
    }

    fn peers(&self, scenario: &str, level: Option<usize>) -> impl Iterator<Item = &Key> {
        self.measurements.keys().filter(move |key| key.scenario == scenario && key.level == level)
    }

    fn faults(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, runs) in &self.measurements {
            for ((run, repetition), measurement) in runs {
                for fault in &measurement.faults {
                    let level = key.level.map(|level| format!(", {level} writers")).unwrap_or_default();
                    lines.push(format!(
                        "{} {}{level}, run {run}.{repetition}: {fault}",
                        key.scenario, key.peer
                    ));
                }
            }
        }
        lines
    }

    fn measured(&self) -> usize {
        self.measurements.values().map(BTreeMap::len).sum()
    }

    /// Writes `report.md` and `report.html` into a folder, with the texts of its `appendix` at the end.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        let tables = table::all(self);
        let targets = targets::table(self);
        let texts = appendix::read(folder)?;
        fs::write(folder.join("report.md"), markdown::render(self, &targets, &tables, &texts)?)?;
        fs::write(folder.join("report.html"), html::render(self, &targets, &tables, &texts)?)?;
        Ok(())
    }
}

fn spread(figures: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut figures: Vec<f64> = figures.filter(|figure| figure.is_finite()).collect();
    figures.sort_by(f64::total_cmp);
    let (&min, &max) = (figures.first()?, figures.last()?);
    let runs = figures.len();
    let median = f64::midpoint(figures[(runs - 1) / 2], figures[runs / 2]);
    Some(Spread { median, min, max, runs })
}

/// A figure with about three digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 1_000_000.0 => format!("{:.2} M", value / 1e6),
        large if large >= 1000.0 => format!("{:.1} k", value / 1e3),
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        large if large >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl Spread {
    /// The median, and the extremes where there is more than one run.
    pub fn text(&self) -> String {
        if self.runs == 1 || short(self.min) == short(self.max) {
            return short(self.median);
        }
        format!("{} ({} – {})", short(self.median), short(self.min), short(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(peer: &str, repetition: usize, cost: f64) -> Record {
        Record::Measurement(Measurement {
            scenario: "rooms".to_owned(),
            level: None,
            peer: peer.to_owned(),
            repetition,
            values: BTreeMap::from([("cpu_us_per_update".to_owned(), cost)]),
            faults: Vec::new(),
        })
    }

    #[test]
    fn ratios_are_taken_within_a_run_and_then_their_median() {
        let mut results = Results::default();
        for (repetition, (ours, base)) in [(10.0, 10.0), (30.0, 10.0), (40.0, 20.0)].into_iter().enumerate() {
            results.add(measurement("fidibus-memory", repetition, ours));
            results.add(measurement("relay-tokio", repetition, base));
        }
        results.add(measurement("fidibus-memory", 9, 1000.0));
        let key = Key { scenario: "rooms".to_owned(), level: None, peer: "fidibus-memory".to_owned() };
        let ratio = results.ratio(&key, "cpu_us_per_update", "relay-tokio").expect("three runs in common");
        assert_eq!(ratio, Spread { median: 2.0, min: 1.0, max: 3.0, runs: 3 });
        assert_eq!(results.ratio(&key, "cpu_us_per_update", "hocuspocus"), None);
    }
}
