//! Rows of a table, numbered, and found by where they stand in memory: a search among numbers is a tenth of one among names.

/// Rows in their order, each with a number.
#[derive(Debug)]
pub(super) struct Numbered<T: ?Sized + 'static> {
    all: Vec<&'static T>,
    /// Where each stands in memory, in order, and its number.
    by_address: Vec<(usize, usize)>,
}

impl<T: ?Sized> Default for Numbered<T> {
    fn default() -> Self {
        Self { all: Vec::new(), by_address: Vec::new() }
    }
}

impl<T: ?Sized> Numbered<T> {
    /// Numbers the rows in their order.
    pub(super) fn new(rows: impl IntoIterator<Item = &'static T>) -> Self {
        let all: Vec<&'static T> = rows.into_iter().collect();
        let mut by_address: Vec<_> = all.iter().map(|row| address(*row)).zip(0..).collect();
        by_address.sort_unstable();
        Self { all, by_address }
    }

    /// All of them, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'static T> {
        self.all.iter().copied()
    }

    /// The row of this number.
    pub(super) fn get(&self, number: usize) -> Option<&'static T> {
        self.all.get(number).copied()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The number of a row, which may be given as what it is or as the table has it.
    pub(super) fn number<U: ?Sized>(&self, row: &'static U) -> Option<usize> {
        let found = self.by_address.binary_search_by_key(&address(row), |(address, _)| *address).ok()?;
        self.by_address.get(found).map(|(_, number)| *number)
    }
}

fn address<U: ?Sized>(row: &'static U) -> usize {
    std::ptr::from_ref(row).addr()
}
