//! The process's allocator: the system's, which tells nothing of itself, or with the feature `jemalloc` that one, which does.

use erp_core::metrics::AskAllocator;

#[cfg(not(feature = "jemalloc"))]
pub(crate) const ASK: Option<AskAllocator> = None;

#[cfg(feature = "jemalloc")]
pub(crate) const ASK: Option<AskAllocator> = Some(jemalloc::ask);

#[cfg(feature = "jemalloc")]
mod jemalloc {
    use erp_core::metrics::Allocated;
    use tikv_jemalloc_ctl::{epoch, stats};
    use tikv_jemallocator::Jemalloc;

    #[global_allocator]
    static ALLOCATOR: Jemalloc = Jemalloc;

    /// What it holds; its numbers stand still between two calls.
    pub(super) fn ask() -> Option<Allocated> {
        epoch::advance().ok()?;
        let [allocated, resident] = [stats::allocated::read().ok()?, stats::resident::read().ok()?];
        Some(Allocated { allocated: allocated as u64, resident: resident as u64 })
    }
}
