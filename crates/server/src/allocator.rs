//! The process's allocator: the system's, which tells nothing of itself, or with the feature `jemalloc` that one, which does.

use erp_core::metrics::Allocated;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(not(feature = "jemalloc"))]
pub(crate) fn ask() -> Option<Allocated> {
    None
}

/// What it holds; its numbers stand still between two calls.
#[cfg(feature = "jemalloc")]
pub(crate) fn ask() -> Option<Allocated> {
    use tikv_jemalloc_ctl::{epoch, stats};

    epoch::advance().ok()?;
    let [allocated, resident] = [stats::allocated::read().ok()?, stats::resident::read().ok()?];
    Some(Allocated { allocated: allocated as u64, resident: resident as u64 })
}
