//! The process's allocator: the system's, which tells nothing of itself, or with the feature `jemalloc` that one, which does.

use erp_core::metrics::Allocated;
#[cfg(all(target_env = "gnu", not(feature = "jemalloc")))]
pub(crate) use glibc::settle;

/// Other allocators give back by themselves.
#[cfg(not(all(target_env = "gnu", not(feature = "jemalloc"))))]
pub(crate) fn settle() {}

#[cfg(all(target_env = "gnu", not(feature = "jemalloc")))]
mod glibc {
    use std::ffi::OsString;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    /// How glibc's allocator gives back what a burst of requests has taken: blocks of 128 KiB and more go straight back to
    /// the system, and so does what is free at the end of a heap (mallopt(3)). Unless this is said, the first large block
    /// that is freed raises the size from which they do, up to 32 MiB, and hundreds of megabytes stay with a process that is
    /// idle.
    ///
    /// What is free between blocks in use stays, 15 to 20 MiB after a burst: only malloc_trim(3) gives it back, which takes
    /// unsafe. Fewer arenas, lower thresholds and no caches of threads were measured, and change little.
    const GIVES_BACK: [(&str, &str); 2] =
        [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "131072")];

    /// Begins the program anew, as the same process, with an allocator that gives back: it reads its settings before the
    /// first line of ours. Returns where that is not to be had, and where the operator has set any of them.
    pub(crate) fn settle() {
        #[allow(clippy::disallowed_methods, reason = "these are the C library's, and no settings of ours")]
        let is_set = |(name, _): &(&str, &str)| std::env::var_os(name).is_some();
        if GIVES_BACK.iter().any(is_set) {
            return;
        }
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| OsString::from("erp-backend"));
        if let Ok(program) = std::env::current_exe() {
            // What comes back is a failure: then it goes on as it is.
            let _ = Command::new(program).arg0(name).args(arguments).envs(GIVES_BACK).exec();
        }
    }
}

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
