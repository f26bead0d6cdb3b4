//! What a process has used, from `/proc`.

use std::fs;

use anyhow::{Context as _, Result};

/// The kernel's unit for times in `/proc`: the same on every architecture of interest.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of CPU that process `pid` has used, in user and kernel mode.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold blanks.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    let used = ticks(11).zip(ticks(12)).context("/proc/…/stat is not understood")?;
    Ok((used.0 + used.1) / TICKS_PER_SECOND)
}

/// Resident memory of process `pid`, in MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    Ok(kib.context("/proc/…/status is not understood")? / 1024.0)
}
