//! What the kernel knows of this process, read from `/proc` when somebody asks. Where there is none, nothing is set.

use std::fs;

use super::{Gauge, Metrics};

/// Clock ticks a second in `/proc`: Linux has fixed it for programs, whatever the kernel's own clock does.
const TICKS: f64 = 100.0;

/// What an allocator holds, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Allocated {
    /// What the program has asked for and not given back.
    pub allocated: u64,
    /// What is taken of the machine's memory for it.
    pub resident: u64,
}

/// Asks the process's allocator, which only the binary that has chosen it knows.
pub type AskAllocator = fn() -> Option<Allocated>;

impl Metrics {
    /// Brings the `allocator_*` metrics up to date.
    pub fn observe_allocator(&self, held: Allocated) {
        self.allocator_allocated_bytes.with(&[]).set(held.allocated as f64);
        self.allocator_resident_bytes.with(&[]).set(held.resident as f64);
    }

    /// Brings the `process_*` metrics up to date.
    pub fn observe_process(&self) {
        if !self.is_enabled() {
            return;
        }
        self.observe_stat();
        self.observe_status();
        self.observe_files();
        let read = |file: &str, key: &str| number_after(&fs::read_to_string(file).ok()?, key);
        let bytes = |key| read("/proc/self/io", key).map_or(0, |bytes| bytes as u64);
        self.process_disk_read_bytes_total.with(&[]).catch_up(bytes("read_bytes:"));
        self.process_disk_written_bytes_total.with(&[]).catch_up(bytes("write_bytes:"));
    }

    fn observe_stat(&self) {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field is the program's name in brackets, which may hold anything; the rest is numbers.
        let Some((_, rest)) = stat.rsplit_once(')') else { return };
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbered from 1 in the manual page, from 3 here.
        let seconds = |number: usize| Some(fields.get(number - 3)?.parse::<f64>().ok()? / TICKS);
        if let (Some(user), Some(system)) = (seconds(14), seconds(15)) {
            self.process_cpu_seconds_total.with(&[]).catch_up(user + system);
        }
        let start = self.process_start_time_seconds.with(&[]);
        if start.get() == 0.0
            && let Some(since_boot) = seconds(22)
            && let Some(boot) = number_after(&fs::read_to_string("/proc/stat").unwrap_or_default(), "btime")
        {
            start.set(boot + since_boot);
        }
    }

    fn observe_status(&self) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kibibytes = |key, gauge: &Gauge| {
            if let Some(kibibytes) = number_after(&status, key) {
                gauge.set(kibibytes * 1024.0);
            }
        };
        kibibytes("VmRSS:", &self.process_resident_memory_bytes.with(&[]));
        kibibytes("RssAnon:", &self.process_resident_anonymous_bytes.with(&[]));
        kibibytes("VmHWM:", &self.process_resident_memory_peak_bytes.with(&[]));
        if let Some(threads) = number_after(&status, "Threads:") {
            self.process_threads.with(&[]).set(threads);
        }
    }

    fn observe_files(&self) {
        let (open, most) = open_files();
        for (files, gauge) in [(open, &self.process_open_fds), (most, &self.process_max_fds)] {
            if let Some(files) = files {
                gauge.with(&[]).set(files as f64);
            }
        }
    }
}

/// How many files this process has open, and how many it may; `None` where the system does not say or set it.
pub(crate) fn open_files() -> (Option<usize>, Option<usize>) {
    // Without the folder that is being read.
    let open = fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1));
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    (open, number_after(&limits, "Max open files").map(|most| most as usize))
}

/// The number behind `key`, at the beginning of a line.
fn number_after(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}
