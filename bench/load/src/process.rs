//! What a process has used, from `/proc`, and a Redis of our own.

use std::fs;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::report::median;

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

/// A running redis-server; dropping it kills it.
pub struct Redis {
    pub port: u16,
    _child: Child,
}

impl Redis {
    /// Starts one on a free port; it accepts connections when this returns.
    pub async fn start() -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("redis-server cannot be run: script/bootstrap tests installs it")?;
        for _ in 0..1000 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(Self { port, _child: child });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("redis-server does not come up");
    }
}

/// How long the Redis at `port` takes to answer, in milliseconds: the median.
pub async fn round_trip_to_redis(port: u16) -> Result<f64> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.set_nodelay(true)?;
    let mut milliseconds = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        connection.write_all(b"PING\r\n").await?;
        connection.read_exact(&mut [0; 7]).await?;
        milliseconds.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(&milliseconds))
}
