//! What is counted of tenants: declared once, by the module that knows what it is.

/// Something of which tenants use more or less: a row of [`Module::meters`](crate::module::Module::meters). A plan can have a quota
/// for it.
#[derive(Debug)]
pub struct Meter {
    /// `module.word`; the core's own begin with `core`.
    pub name: &'static str,
    /// What is counted, in a sentence.
    pub about: &'static str,
    /// What one of them is called, in the plural: `items`.
    pub unit: &'static str,
    /// How it is counted.
    pub counting: Counting,
}

/// How a [`Meter`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// The rows of this table, in the transaction that adds or removes one: exactly, and never beyond the quota. The table's
    /// migration says so: `select app.metered('public.items', 'catalog.items');`.
    Rows(&'static str),
    /// The bytes of the tenant's files, of which the store itself keeps count: `files.quota_exceeded` tells of its quota.
    Bytes,
    /// What happens, gathered by each process and added every five seconds: its quota is of a day, and what happens within five
    /// seconds can go beyond it.
    Happenings,
    /// The same, without a quota: for the bill alone.
    Unlimited,
}

impl Meter {
    /// Counts the rows of a table.
    pub const fn rows(
        name: &'static str,
        table: &'static str,
        unit: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, about, unit, counting: Counting::Rows(table) }
    }

    /// Counts what happens, with a quota of a day.
    pub const fn happenings(name: &'static str, unit: &'static str, about: &'static str) -> Self {
        Self { name, about, unit, counting: Counting::Happenings }
    }

    /// Counts what happens, for the bill alone.
    pub const fn unlimited(name: &'static str, unit: &'static str, about: &'static str) -> Self {
        Self { name, about, unit, counting: Counting::Unlimited }
    }

    /// Whether it says how much there is, and not how much has happened.
    pub const fn is_total(&self) -> bool {
        matches!(self.counting, Counting::Rows(_) | Counting::Bytes)
    }

    /// Whether a plan can have a quota for it.
    pub const fn has_quota(&self) -> bool {
        !matches!(self.counting, Counting::Unlimited)
    }

    /// The table whose rows it counts.
    pub const fn table(&self) -> Option<&'static str> {
        match self.counting {
            Counting::Rows(table) => Some(table),
            _ => None,
        }
    }
}
