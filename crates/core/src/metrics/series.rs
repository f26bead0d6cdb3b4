//! One metric with all its series, of which there are only so many.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use super::instrument::{Counter, Instrument, Recorded};
use super::registry::AnyFamily;
use super::{Kind, Metric};

/// Most labels of one metric, so that a look-up can put them in order without an allocation.
pub(super) const MOST_LABELS: usize = 8;
/// What labels say where there is no room for what they would have said.
pub(super) const OTHER: &str = "other";

/// The series of one metric of the table, by the values of its `N` labels.
pub struct Family<I, const N: usize>(pub(super) Arc<Store<I>>);

impl<I: Instrument, const N: usize> Family<I, N> {
    pub(super) fn new(metric: &'static Metric, enabled: bool, rooms: Rooms, dropped: Counter) -> Self {
        let family = Self(Arc::new(Store::new(metric.into(), enabled, rooms, dropped)));
        if N == 0 && metric.from_start {
            family.with(&[""; N]);
        }
        family
    }

    /// Forgets the kind and the number of labels.
    pub fn any(&self) -> AnyFamily {
        I::wrap(Arc::clone(&self.0))
    }

    /// The series with these label values, in the order of the row. Hold it where the labels are known beforehand.
    ///
    /// An empty value leaves its label out. Where there is no room for a further series, its tenant is `other`, and
    /// when that does not help all its labels are.
    pub fn with(&self, labels: &[&str; N]) -> I {
        self.0.with(labels)
    }
}

/// What is known of a metric before a value is recorded.
pub(super) struct Shape {
    /// As exported: a counter ends in `_total`.
    pub(super) name: Cow<'static, str>,
    pub(super) kind: Kind,
    pub(super) labels: Vec<Cow<'static, str>>,
    /// Upper bounds of a histogram's buckets, ascending, without `+Inf`.
    pub(super) bounds: Arc<[f64]>,
    pub(super) help: String,
}

impl From<&'static Metric> for Shape {
    fn from(metric: &'static Metric) -> Self {
        Self {
            name: metric.name.into(),
            kind: metric.kind,
            labels: metric.labels.iter().map(|label| Cow::Borrowed(*label)).collect(),
            bounds: metric.buckets.into(),
            help: metric.help(),
        }
    }
}

/// The series of one metric, by label values.
pub struct Store<I> {
    shape: Shape,
    /// Which label is the tenant's.
    tenant: Option<usize>,
    enabled: bool,
    rooms: Rooms,
    /// Counts the recordings that were folded into `other`.
    dropped: Counter,
    hasher: SipHasher13,
    series: RwLock<SeriesTable<I>>,
}

struct SeriesTable<I> {
    /// By hash of the labels, so that a look-up needs no owned key.
    series: HashMap<u64, Vec<Labelled<I>>, BuildHasherDefault<AsItIs>>,
    /// The series whose labels all say `other`: there once it was needed. Also the only one of a metric without labels.
    other: Option<I>,
}

/// For keys that are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

struct Labelled<I> {
    labels: Box<[Box<str>]>,
    instrument: I,
}

impl<I: Instrument> Store<I> {
    pub(super) fn new(shape: Shape, enabled: bool, rooms: Rooms, dropped: Counter) -> Self {
        let tenant = shape.labels.iter().position(|label| label == "tenant");
        let keys = RandomState::new();
        let hasher = SipHasher13::new_with_keys(keys.hash_one(0), keys.hash_one(1));
        let series = RwLock::new(SeriesTable { series: HashMap::default(), other: None });
        Self { shape, tenant, enabled, rooms, dropped, hasher, series }
    }

    /// The series with these values, in the order of the labels.
    pub(super) fn with(&self, labels: &[&str]) -> I {
        if !self.enabled {
            return I::disabled();
        }
        if let Some(series) = self.find_or_add(labels) {
            return series;
        }
        self.dropped.inc();
        let mut shared = [""; MOST_LABELS];
        let shared = &mut shared[..labels.len()];
        shared.copy_from_slice(labels);
        if let Some(tenant) = self.tenant_of(labels) {
            shared[tenant] = OTHER;
            if let Some(series) = self.find_or_add(shared) {
                return series;
            }
        }
        shared.fill(OTHER);
        self.find_or_add(shared).unwrap_or_else(I::disabled)
    }

    /// The series with these labels, in any order; `None` when the metric has no label of that name.
    pub(super) fn named(&self, labels: &[(&str, &str)]) -> Option<I> {
        let mut values = [""; MOST_LABELS];
        for (name, value) in labels {
            values[self.shape.labels.iter().position(|label| label == name)?] = value;
        }
        Some(self.with(&values[..self.shape.labels.len()]))
    }

    /// The series, made if there is room for it.
    fn find_or_add(&self, labels: &[&str]) -> Option<I> {
        let hash = self.hash(labels);
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner).find(hash, labels);
        known.or_else(|| self.add(hash, labels))
    }

    /// Labels that others choose cannot be made to meet. One call of the hasher for all takes half the time.
    fn hash(&self, labels: &[&str]) -> u64 {
        let mut all = SmallVec::<[u8; 128]>::new();
        for label in labels {
            all.extend_from_slice(label.as_bytes());
            all.push(0xff); // in no text
        }
        self.hasher.hash(&all)
    }

    fn add(&self, hash: u64, labels: &[&str]) -> Option<I> {
        let room = if self.tenant_of(labels).is_some() { &self.rooms.tenants } else { &self.rooms.plain };
        if room.is_full() && !is_other(labels) {
            return None; // without the lock: this is the busy path once the room is full
        }
        let mut table = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(added_meanwhile) = table.find(hash, labels) {
            return Some(added_meanwhile);
        }
        let fresh = I::new(&self.shape.bounds);
        if is_other(labels) {
            return Some(table.other.insert(fresh).clone());
        }
        if !room.take() {
            return None;
        }
        let labels = labels.iter().map(|label| Box::from(*label)).collect();
        table.series.entry(hash).or_default().push(Labelled { labels, instrument: fresh.clone() });
        Some(fresh)
    }

    /// Where the tenant stands, if these labels name a single one.
    fn tenant_of(&self, labels: &[&str]) -> Option<usize> {
        self.tenant.filter(|at| !matches!(labels[*at], "" | OTHER))
    }
}

impl<I: Instrument> SeriesTable<I> {
    fn find(&self, hash: u64, labels: &[&str]) -> Option<I> {
        if is_other(labels) {
            return self.other.clone();
        }
        let same =
            |held: &&Labelled<I>| held.labels.iter().zip(labels).all(|(held, label)| **held == **label);
        self.series.get(&hash)?.iter().find(same).map(|held| held.instrument.clone())
    }
}

fn is_other(labels: &[&str]) -> bool {
    labels.iter().all(|label| *label == OTHER)
}

/// How many further series there may be: of no single tenant, and of single tenants. Clones share the count.
#[derive(Clone)]
pub(super) struct Rooms {
    plain: Room,
    tenants: Room,
}

impl Rooms {
    pub(super) fn new(plain: usize, tenants: usize) -> Self {
        Self { plain: Room::new(plain), tenants: Room::new(tenants) }
    }
}

#[derive(Clone)]
struct Room(Arc<AtomicUsize>);

impl Room {
    fn new(series: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(series)))
    }

    fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn give_back(&self, series: usize) {
        self.0.fetch_add(series, Ordering::Relaxed);
    }
}

/// A family as the formats see it.
pub(super) trait Series: Send + Sync {
    fn shape(&self) -> &Shape;

    /// Label values and sample of each series, sorted, `other` last.
    fn samples(&self) -> Vec<(Vec<String>, Recorded)>;

    /// Drops the series of this tenant.
    fn forget_tenant(&self, tenant: &str);
}

impl<I: Instrument> Series for Store<I> {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn samples(&self) -> Vec<(Vec<String>, Recorded)> {
        let table = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let one = |held: &Labelled<I>| {
            (held.labels.iter().map(ToString::to_string).collect::<Vec<_>>(), held.instrument.sample())
        };
        let mut samples: Vec<_> = table.series.values().flatten().map(one).collect();
        samples.sort_by(|(a, _), (b, _)| a.cmp(b));
        let others = vec![OTHER.to_owned(); self.shape.labels.len()];
        samples.extend(table.other.iter().map(|other| (others.clone(), other.sample())));
        samples
    }

    fn forget_tenant(&self, tenant: &str) {
        let Some(at) = self.tenant else { return };
        let mut table = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let mut gone = 0;
        table.series.retain(|_, held| {
            gone += held.extract_if(.., |held| *held.labels[at] == *tenant).count();
            !held.is_empty()
        });
        self.rooms.tenants.give_back(gone);
    }
}
