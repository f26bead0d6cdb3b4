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
    series: HashMap<u64, Vec<([Box<str>; N], I)>>,
    len: usize,
    other: Option<I>,
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
        let known = table.find(hash, labels);
        drop(table);
        known.unwrap_or_else(|| self.add(hash, labels))
    }

    fn add(&self, hash: u64, labels: &[&str; N]) -> I {
        let mut table = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(added_meanwhile) = table.find(hash, labels) {
            return added_meanwhile;
        }
        if table.len >= self.most_series {
            self.dropped.inc();
            return table.other.get_or_insert_with(|| I::new(self.metric)).clone();
        }
        let fresh = I::new(self.metric);
        table.len += 1;
        table.series.entry(hash).or_default().push((labels.map(Box::from), fresh.clone()));
        fresh
    }
}

impl<I: Instrument, const N: usize> Table<I, N> {
    fn find(&self, hash: u64, labels: &[&str; N]) -> Option<I> {
        let same = |held: &[Box<str>; N]| held.iter().zip(labels).all(|(held, label)| **held == **label);
        self.series.get(&hash)?.iter().find(|(held, _)| same(held)).map(|(_, instrument)| instrument.clone())
    }
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
        let one = |(labels, instrument): &([Box<str>; N], I)| {
            (labels.iter().map(ToString::to_string).collect::<Vec<_>>(), instrument.sample())
        };
        let mut samples: Vec<_> = table.series.values().flatten().map(one).collect();
        samples.sort_by(|(a, _), (b, _)| a.cmp(b));
        samples.extend(table.other.iter().map(|other| (vec!["other".to_owned(); N], other.sample())));
        samples
    }
}
