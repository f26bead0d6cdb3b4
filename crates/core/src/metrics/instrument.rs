//! What values are recorded into: handles on atomics that can be held and cloned.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Kind;
use super::registry::AnyFamily;
use super::series::Store;

/// What a family is made of.
pub trait Instrument: Clone + Send + Sync + 'static {
    /// What Prometheus calls it.
    const KIND: Kind;

    /// A fresh one at zero. `bounds` are a histogram's.
    fn new(bounds: &Arc<[f64]>) -> Self;

    /// One that records nothing.
    fn disabled() -> Self;

    /// What was recorded so far.
    fn sample(&self) -> Recorded;

    /// Forgets of which kind the family is.
    fn wrap(family: Arc<Store<Self>>) -> AnyFamily;

    /// The family, if it is of this kind.
    fn pick(family: &AnyFamily) -> Option<&Arc<Store<Self>>>;
}

/// The parts of [`Instrument`] that only name the kind.
macro_rules! kind {
    ($kind:ident, $variant:ident) => {
        const KIND: Kind = Kind::$kind;

        fn wrap(family: Arc<Store<Self>>) -> AnyFamily {
            AnyFamily::$variant(family)
        }

        fn pick(family: &AnyFamily) -> Option<&Arc<Store<Self>>> {
            if let AnyFamily::$variant(family) = family { Some(family) } else { None }
        }
    };
}

/// What an instrument has recorded.
#[derive(Debug, Clone, PartialEq)]
pub enum Recorded {
    /// A counter's total.
    Count(u64),
    /// A gauge's value.
    Value(f64),
    /// For each bucket, `+Inf` last, the values in it alone; and the sum of all values.
    Buckets(Vec<u64>, f64),
}

/// A number that only grows.
#[derive(Debug, Clone)]
pub struct Counter(Option<Arc<AtomicU64>>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        if let Some(total) = &self.0 {
            total.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Takes over a total that is counted elsewhere, unless it is behind.
    pub fn catch_up(&self, total: u64) {
        if let Some(own) = &self.0 {
            own.fetch_max(total, Ordering::Relaxed);
        }
    }

    /// The total so far.
    pub fn get(&self) -> u64 {
        self.0.as_ref().map_or(0, |total| total.load(Ordering::Relaxed))
    }
}

impl Instrument for Counter {
    kind!(Counter, Counter);

    fn new(_: &Arc<[f64]>) -> Self {
        Self(Some(Arc::default()))
    }

    fn disabled() -> Self {
        Self(None)
    }

    fn sample(&self) -> Recorded {
        Recorded::Count(self.get())
    }
}

/// A number that only grows and need not be whole, such as seconds of work.
#[derive(Debug, Clone)]
pub struct FloatCounter(Option<Arc<AtomicU64>>);

impl FloatCounter {
    /// Adds `amount`, unless it is negative or not a number.
    pub fn add(&self, amount: f64) {
        if let Some(bits) = self.0.as_ref().filter(|_| amount > 0.0) {
            add_float(bits, amount);
        }
    }

    /// Takes over a total that is counted elsewhere, unless it is behind.
    pub fn catch_up(&self, total: f64) {
        if let Some(bits) = self.0.as_ref().filter(|_| total >= 0.0) {
            bits.fetch_max(total.to_bits(), Ordering::Relaxed); // bits of floats that are not negative sort like them
        }
    }

    /// The total so far.
    pub fn get(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |bits| f64::from_bits(bits.load(Ordering::Relaxed)))
    }
}

impl Instrument for FloatCounter {
    kind!(Counter, FloatCounter);

    fn new(_: &Arc<[f64]>) -> Self {
        Self(Some(Arc::default()))
    }

    fn disabled() -> Self {
        Self(None)
    }

    fn sample(&self) -> Recorded {
        Recorded::Value(self.get())
    }
}

/// A number that goes up and down.
#[derive(Debug, Clone)]
pub struct Gauge(Option<Arc<AtomicU64>>);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        if let Some(bits) = &self.0 {
            bits.store(value.to_bits(), Ordering::Relaxed);
        }
    }

    /// Adds `difference`, which may be negative.
    pub fn add(&self, difference: f64) {
        if let Some(bits) = &self.0 {
            add_float(bits, difference);
        }
    }

    /// The value.
    pub fn get(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |bits| f64::from_bits(bits.load(Ordering::Relaxed)))
    }
}

impl Instrument for Gauge {
    kind!(Gauge, Gauge);

    fn new(_: &Arc<[f64]>) -> Self {
        Self(Some(Arc::default()))
    }

    fn disabled() -> Self {
        Self(None)
    }

    fn sample(&self) -> Recorded {
        Recorded::Value(self.get())
    }
}

/// Counts values by size.
#[derive(Debug, Clone)]
pub struct Histogram(Option<Arc<Buckets>>);

#[derive(Debug)]
struct Buckets {
    bounds: Arc<[f64]>,
    /// One more than the bounds: the last is `+Inf`.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Records a time, for a histogram of seconds.
    pub fn observe_time(&self, time: std::time::Duration) {
        self.observe(time.as_secs_f64());
    }

    /// Counts `value` in the first bucket whose bound is not less. What is not a number is not counted.
    pub fn observe(&self, value: f64) {
        let Some(buckets) = self.0.as_ref().filter(|_| !value.is_nan()) else { return };
        let bucket = buckets.bounds.partition_point(|bound| *bound < value);
        buckets.counts[bucket].fetch_add(1, Ordering::Relaxed);
        add_float(&buckets.sum, value);
    }
}

impl Instrument for Histogram {
    kind!(Histogram, Histogram);

    fn new(bounds: &Arc<[f64]>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Some(Arc::new(Buckets { bounds: Arc::clone(bounds), counts, sum: AtomicU64::new(0) })))
    }

    fn disabled() -> Self {
        Self(None)
    }

    fn sample(&self) -> Recorded {
        let Some(buckets) = &self.0 else { return Recorded::Buckets(Vec::new(), 0.0) };
        let counts = buckets.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Recorded::Buckets(counts, f64::from_bits(buckets.sum.load(Ordering::Relaxed)))
    }
}

fn add_float(bits: &AtomicU64, difference: f64) {
    let add = |old: u64| (f64::from_bits(old) + difference).to_bits();
    let mut old = bits.load(Ordering::Relaxed);
    while let Err(newer) = bits.compare_exchange_weak(old, add(old), Ordering::Relaxed, Ordering::Relaxed) {
        old = newer;
    }
}
