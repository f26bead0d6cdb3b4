//! Metrics by name: the table's, and others that register themselves with their first value.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use super::instrument::{Counter, FloatCounter, Gauge, Histogram, Instrument};
use super::series::{MOST_LABELS, Rooms, Series, Shape, Store};
use super::table::{DURATION_MS, DURATION_SECONDS};
use super::{Kind, Labels, Metric, Metrics};
use crate::shared::TenantId;

/// Most names beside those of the table.
const MOST_NAMES: usize = 500;
const MOST_BYTES: usize = 128;
/// Endings by which a gauge's or histogram's lines would pass for another metric's.
const RESERVED: &[&str] = &["_total", "_count", "_sum", "_bucket"];

impl Metrics {
    /// Adds `increment` to a counter; `_total` is appended to a name without it.
    ///
    /// Here and below: a name without a row in the table registers itself with its first value, which settles its
    /// labels; an invalid name, another kind and an unknown label are refused, and counted in
    /// `metrics_series_dropped_total`. A look-up by name costs more than a held handle, so hot paths deserve a row.
    pub fn counter(&self, name: &str, increment: u64, labels: Labels<'_>) {
        let base = name.strip_suffix("_total").unwrap_or(name);
        let shape = || shape::<Counter>(format!("{base}_total"), labels, "Counted by name".to_owned(), &[]);
        self.record(base, labels, shape, |counter: &Counter| counter.add(increment));
    }

    /// Sets a gauge. `unit` is noted in the help text; empty when it has none.
    pub fn gauge(&self, name: &str, value: f64, unit: &str, labels: Labels<'_>) {
        let shape =
            || shape::<Gauge>(name.to_owned(), labels, "Set by name".to_owned() + &in_unit(unit), &[]);
        self.record(name, labels, shape, |gauge: &Gauge| gauge.set(value));
    }

    /// Counts a value by size. Without `buckets`, which only its first call settles, they suit milliseconds, or seconds
    /// when the name ends in `_seconds`.
    pub fn histogram(&self, name: &str, value: f64, buckets: &[f64], labels: Labels<'_>) {
        let usual = if name.ends_with("_seconds") { DURATION_SECONDS } else { DURATION_MS };
        let bounds = if buckets.is_empty() { usual } else { buckets };
        let shape = || shape::<Histogram>(name.to_owned(), labels, "Observed by name".to_owned(), bounds);
        self.record(name, labels, shape, |histogram: &Histogram| histogram.observe(value));
    }

    /// Adds `value` to the business's figure `name`, exported as the gauge `business_<name>`: the sum since the start,
    /// a gauge because a refund takes away. `unit` and `tenant` are left out of its labels when there is none.
    pub fn business(&self, name: &str, value: f64, category: &str, unit: &str, tenant: Option<TenantId>) {
        let tenant = self.tenant_label(tenant);
        let labels = &[("category", category), ("unit", unit), ("tenant", tenant.as_str())];
        let name = format!("business_{name}");
        let help = || "Sum of a figure of the business since the start".to_owned();
        let shape = || shape::<Gauge>(name.clone(), labels, help(), &[]);
        self.record(&name, labels, shape, |gauge: &Gauge| gauge.add(value));
    }

    fn record<I: Instrument>(
        &self,
        base: &str,
        labels: Labels<'_>,
        shape: impl FnOnce() -> Shape,
        value: impl FnOnce(&I),
    ) {
        if !self.is_enabled() {
            return;
        }
        match self.0.registry.series(base, labels, shape) {
            Ok(series) => value(&series),
            Err(why) => {
                self.metrics_series_dropped_total.with(&[]).inc();
                tracing::debug!(metric = base, why, "Metric refused");
            }
        }
    }
}

fn shape<I: Instrument>(name: String, labels: Labels<'_>, help: String, bounds: &[f64]) -> Shape {
    let labels = labels.iter().map(|(name, _)| (*name).to_owned().into()).collect();
    Shape { name: name.into(), kind: I::KIND, labels, bounds: bounds.into(), help: help + "." }
}

fn in_unit(unit: &str) -> String {
    if unit.is_empty() { String::new() } else { format!(", in {unit}") }
}

/// Every metric by its name without `_total`: OpenMetrics calls a counter's family that.
pub(super) struct Registry {
    families: RwLock<HashMap<Box<str>, AnyFamily>>,
    /// Those that tables declare, in the order of the reference.
    declared: Vec<Arc<dyn Series>>,
    rooms: Rooms,
    dropped: Counter,
}

/// A family of whichever kind.
#[derive(Clone)]
pub enum AnyFamily {
    /// Of counters.
    Counter(Arc<Store<Counter>>),
    /// Of counters that need not be whole.
    FloatCounter(Arc<Store<FloatCounter>>),
    /// Of gauges.
    Gauge(Arc<Store<Gauge>>),
    /// Of histograms.
    Histogram(Arc<Store<Histogram>>),
}

impl AnyFamily {
    pub(super) fn series(&self) -> Arc<dyn Series> {
        match self {
            Self::Counter(family) => Arc::clone(family) as _,
            Self::FloatCounter(family) => Arc::clone(family) as _,
            Self::Gauge(family) => Arc::clone(family) as _,
            Self::Histogram(family) => Arc::clone(family) as _,
        }
    }
}

impl Registry {
    /// Knows the families that tables declare. `rooms` is shared by all that register later.
    pub(super) fn new(declared: Vec<AnyFamily>, rooms: Rooms, dropped: Counter) -> Self {
        let series = declared.iter().map(AnyFamily::series).collect();
        let named = |family: AnyFamily| (base_of(&family.series().shape().name).into(), family);
        let families = declared.into_iter().map(named).collect();
        Self { declared: series, families: RwLock::new(families), rooms, dropped }
    }

    /// Every family: those of tables in their order, then those that registered themselves, by name.
    pub(super) fn all(&self) -> Vec<Arc<dyn Series>> {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let is_declared = |family: &Arc<dyn Series>| {
            self.declared.iter().any(|declared| declared.shape().name == family.shape().name)
        };
        let mut undeclared: Vec<_> =
            families.values().map(AnyFamily::series).filter(|family| !is_declared(family)).collect();
        undeclared.sort_by(|a, b| a.shape().name.cmp(&b.shape().name));
        self.declared.iter().cloned().chain(undeclared).collect()
    }

    fn series<I: Instrument>(
        &self,
        base: &str,
        labels: Labels<'_>,
        shape: impl FnOnce() -> Shape,
    ) -> Result<I, &'static str> {
        let mut short = [("", ""); MOST_LABELS];
        let short = short.get_mut(..labels.len()).ok_or("too many labels")?;
        for (short, (name, value)) in short.iter_mut().zip(labels) {
            *short = (name, &value[..value.floor_char_boundary(MOST_BYTES)]);
        }
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let known = families.get(base).map(|family| I::pick(family).ok_or("another kind has this name"));
        let found = known.transpose()?.map(|family| family.named(short));
        drop(families);
        let found = match found {
            Some(found) => found,
            None => self.register::<I>(base, shape())?.named(short),
        };
        found.ok_or("unknown label")
    }

    fn register<I: Instrument>(&self, base: &str, shape: Shape) -> Result<Arc<Store<I>>, &'static str> {
        check(base, &shape)?;
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        if families.len() >= self.declared.len() + MOST_NAMES && !families.contains_key(base) {
            return Err("too many names");
        }
        let fresh = || I::wrap(Arc::new(Store::new(shape, true, self.rooms.clone(), self.dropped.clone())));
        let family = families.entry(base.into()).or_insert_with(fresh);
        I::pick(family).cloned().ok_or("another kind has this name")
    }
}

/// A metric's name without `_total`.
fn base_of(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
}

/// What is wrong with the rows of tables: a name, a label or buckets that Prometheus would not take, or two rows that
/// claim one name.
pub(super) fn check_rows(rows: impl Iterator<Item = &'static Metric>) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for row in rows {
        let name = row.name;
        check(base_of(name), &row.into()).map_err(|why| format!("{name} is not right: {why}"))?;
        if !names.insert(base_of(name)) {
            return Err(format!("{name} is declared twice"));
        }
    }
    Ok(())
}

/// Whether Prometheus takes the names, and nothing in them has a meaning of its own.
fn check(base: &str, shape: &Shape) -> Result<(), &'static str> {
    let word = |name: &str, colon: bool| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colon && byte == b':');
        (1..=MOST_BYTES).contains(&name.len())
            && !name.as_bytes()[0].is_ascii_digit()
            && name.bytes().all(plain)
    };
    let passes_for_another =
        shape.kind != Kind::Counter && RESERVED.iter().any(|end| shape.name.ends_with(end));
    if !word(base, true) || passes_for_another {
        return Err("invalid name");
    }
    let reserved = |label: &str| label.starts_with("__") || matches!(label, "le" | "quantile");
    let twice = |at: usize| shape.labels[..at].contains(&shape.labels[at]);
    let bad = |(at, label): (usize, &std::borrow::Cow<'_, str>)| {
        !word(label, false) || reserved(label) || twice(at)
    };
    if shape.labels.len() > MOST_LABELS || shape.labels.iter().enumerate().any(bad) {
        return Err("invalid label");
    }
    let bounds_rise =
        shape.bounds.is_sorted_by(|a, b| a < b) && shape.bounds.iter().all(|bound| bound.is_finite());
    if bounds_rise { Ok(()) } else { Err("buckets do not rise") }
}
