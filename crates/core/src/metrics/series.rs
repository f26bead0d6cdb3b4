//! One metric with all its series, of which there are only so many.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock};

use super::Metric;
use super::instrument::{Counter, Instrument, Sample};

/// The series of one metric, by the values of its `N` labels.
pub struct Family<I, const N: usize> {
    metric: &'static Metric,
    enabled: bool,
    most_series: usize,
    /// Counts the recordings that were folded into `other`.
    dropped: Counter,
    hasher: RandomState,
    series: RwLock<Table<I, N>>,
}

struct Table<I, const N: usize> {
    /// By hash of the labels, so that a look-up needs no owned key.
    series: HashMap<u64, Vec<Labelled<I, N>>>,
    len: usize,
    /// The series whose labels all say `other`: there once the table is full, or somebody asked for it.
    other: Option<I>,
}

struct Labelled<I, const N: usize> {
    labels: [Box<str>; N],
    instrument: I,
}

impl<I: Instrument, const N: usize> Family<I, N> {
    pub(super) fn new(metric: &'static Metric, enabled: bool, most_series: usize, dropped: Counter) -> Self {
        let series = RwLock::new(Table { series: HashMap::new(), len: 0, other: None });
        let family = Self { metric, enabled, most_series, dropped, hasher: RandomState::new(), series };
        if N == 0 {
            family.with(&[""; N]); // a metric without labels is there from the start, at zero
        }
        family
    }

    /// The series with these label values, in the order of the row. Hold it where the labels are known beforehand.
    ///
    /// When the family is full, the one series whose labels all say `other`.
    pub fn with(&self, labels: &[&str; N]) -> I {
        if !self.enabled {
            return I::disabled();
        }
        let hash = self.hasher.hash_one(labels);
        let table = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let known = self.known(&table, hash, labels);
        drop(table);
        known.unwrap_or_else(|| self.add(hash, labels))
    }

    /// The series, or `other` when there can be no further one.
    fn known(&self, table: &Table<I, N>, hash: u64, labels: &[&str; N]) -> Option<I> {
        if let Some(known) = table.find(hash, labels) {
            return Some(known);
        }
        let other = table.other.as_ref().filter(|_| table.len >= self.most_series)?;
        self.dropped.inc();
        Some(other.clone())
    }

    fn add(&self, hash: u64, labels: &[&str; N]) -> I {
        let mut table = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(added_meanwhile) = self.known(&table, hash, labels) {
            return added_meanwhile;
        }
        let fresh = I::new(self.metric);
        if is_other(labels) {
            table.other = Some(fresh.clone());
            return fresh;
        }
        table.len += 1;
        let labelled = Labelled { labels: labels.map(Box::from), instrument: fresh.clone() };
        table.series.entry(hash).or_default().push(labelled);
        if table.len >= self.most_series {
            table.other.get_or_insert_with(|| I::new(self.metric));
        }
        fresh
    }
}

impl<I: Instrument, const N: usize> Table<I, N> {
    fn find(&self, hash: u64, labels: &[&str; N]) -> Option<I> {
        if is_other(labels) {
            return self.other.clone();
        }
        let same =
            |held: &&Labelled<I, N>| held.labels.iter().zip(labels).all(|(held, label)| **held == **label);
        self.series.get(&hash)?.iter().find(same).map(|held| held.instrument.clone())
    }
}

fn is_other(labels: &[&str]) -> bool {
    labels.iter().all(|label| *label == "other")
}

/// A family as the formats see it.
pub(super) trait Series: Send + Sync {
    /// Its row.
    fn metric(&self) -> &'static Metric;

    /// Label values and sample of each series, sorted, `other` last.
    fn samples(&self) -> Vec<(Vec<String>, Sample)>;
}

impl<I: Instrument, const N: usize> Series for Family<I, N> {
    fn metric(&self) -> &'static Metric {
        self.metric
    }

    fn samples(&self) -> Vec<(Vec<String>, Sample)> {
        let table = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let one = |held: &Labelled<I, N>| {
            (held.labels.iter().map(ToString::to_string).collect::<Vec<_>>(), held.instrument.sample())
        };
        let mut samples: Vec<_> = table.series.values().flatten().map(one).collect();
        samples.sort_by(|(a, _), (b, _)| a.cmp(b));
        samples.extend(table.other.iter().map(|other| (vec!["other".to_owned(); N], other.sample())));
        samples
    }
}
