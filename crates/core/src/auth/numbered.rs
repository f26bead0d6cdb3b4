//! Rows of a table, numbered, and found by where they stand in memory: to look a number up costs a tenth of looking a name up.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Rows in their order, each with a number.
#[derive(Debug)]
pub(super) struct Numbered<T: ?Sized + 'static> {
    all: Vec<&'static T>,
    /// The number of each, by where it stands in memory: a look-up is one step, however many there are.
    by_address: HashMap<usize, u32, BuildHasherDefault<AddressHash>>,
}

/// Of an address, which nobody from outside chooses: a multiplication spreads those of neighbours.
#[derive(Default)]
struct AddressHash(u64);

/// 2⁶⁴ divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for AddressHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    /// Rows begin at multiples of eight, whose low bits say nothing; after the multiplication the high ones say most.
    fn write_usize(&mut self, address: usize) {
        self.0 = (self.0 ^ address as u64).wrapping_mul(SPREAD).rotate_left(26);
    }
}

impl<T: ?Sized> Default for Numbered<T> {
    fn default() -> Self {
        Self { all: Vec::new(), by_address: HashMap::default() }
    }
}

impl<T: ?Sized> Numbered<T> {
    /// Numbers the rows in their order.
    pub(super) fn new(rows: impl IntoIterator<Item = &'static T>) -> Self {
        let all: Vec<&'static T> = rows.into_iter().collect();
        let by_address = all.iter().map(|row| address(*row)).zip(0..).collect();
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
        self.by_address.get(&address(row)).map(|number| *number as usize)
    }
}

fn address<U: ?Sized>(row: &'static U) -> usize {
    std::ptr::from_ref(row).addr()
}
