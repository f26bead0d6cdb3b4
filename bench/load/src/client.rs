//! A client that costs little: HTTP/1.1 on kept-alive connections, answers checked for their status only.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Stands in a request for a number that no other request of the run has, as wide as itself.
pub const FRESH: &[u8] = b"#fresh-number#";
/// How long connections run before anything is counted.
const WARM_UP: Duration = Duration::from_millis(200);

/// One connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

/// An answer: its status, and where its body is in the buffer.
struct Answer {
    status: u16,
    body: std::ops::Range<usize>,
}

impl Connection {
    pub async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 16 * 1024], filled: 0 })
    }

    /// Sends `request` and reads the answer: its status.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        Ok(self.answer(request).await?.status)
    }

    /// The same, with the body.
    pub async fn fetch(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>)> {
        let answer = self.answer(request).await?;
        Ok((answer.status, self.buffer[answer.body].to_vec()))
    }

    async fn answer(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.filled = 0;
        loop {
            if self.filled == self.buffer.len() {
                bail!("an answer is larger than {} bytes", self.buffer.len());
            }
            let read = self.stream.read(&mut self.buffer[self.filled..]).await?;
            if read == 0 {
                bail!("the connection was closed within an answer");
            }
            self.filled += read;
            if let Some(answer) = parse(&self.buffer[..self.filled])? {
                return Ok(answer);
            }
        }
    }
}

/// The answer, once it is complete. Every contestant says Content-Length.
fn parse(bytes: &[u8]) -> Result<Option<Answer>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let status = head.get(9..12).and_then(|text| text.parse().ok()).context("no status line")?;
    let length = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = end + 4..end + 4 + length.context("an answer without Content-Length")?;
    Ok((bytes.len() >= body.end).then_some(Answer { status, body }))
}

/// What a load found.
pub struct Outcome {
    pub requests_per_second: f64,
    pub cpu_ms_per_request: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// All requests, those of the warm-up included.
    pub requests: u64,
}

/// Where the load goes, and what it is.
pub struct Load<'a> {
    pub port: u16,
    pub pid: u32,
    pub connections: usize,
    pub duration: Duration,
    pub requests: &'a Rc<Vec<Vec<u8>>>,
    /// The status of every answer.
    pub status: u16,
}

/// What the connections of one load share.
struct Shared {
    list: Rc<Vec<Vec<u8>>>,
    counting: Cell<bool>,
    over: Cell<bool>,
    requests: Cell<u64>,
    status: u16,
    numbers: Cell<u64>,
}

impl Shared {
    /// The request, with a fresh number where it has a place for one.
    fn numbered<'a>(&self, request: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(place) = request.windows(FRESH.len()).position(|window| window == FRESH) else {
            return Cow::Borrowed(request);
        };
        self.numbers.set(self.numbers.get() + 1);
        let mut request = request.to_vec();
        let number = format!("{:0width$}", self.numbers.get(), width = FRESH.len());
        request[place..place + FRESH.len()].copy_from_slice(number.as_bytes());
        Cow::Owned(request)
    }
}

/// Runs `load`, each connection its requests one after the other; an answer of another status is an error.
pub async fn run(load: &Load<'_>) -> Result<Outcome> {
    let shared = Rc::new(Shared {
        requests: Cell::new(0),
        status: load.status,
        // Microseconds: no two runs of one process have a number in common.
        numbers: Cell::new(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64 % 10_u64.pow(13)),
        list: Rc::clone(load.requests),
        counting: Cell::new(false),
        over: Cell::new(false),
    });
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut clients = Vec::with_capacity(load.connections);
            for index in 0..load.connections {
                let connection = Connection::open(load.port).await?;
                let first = index * load.requests.len() / load.connections;
                clients.push(tokio::task::spawn_local(repeat(connection, Rc::clone(&shared), first)));
            }
            tokio::time::sleep(WARM_UP).await;
            let (cpu, started) = (crate::process::cpu_seconds(load.pid)?, Instant::now());
            shared.counting.set(true);
            tokio::time::sleep(load.duration).await;
            shared.counting.set(false);
            let (cpu, elapsed) = (crate::process::cpu_seconds(load.pid)? - cpu, started.elapsed());
            shared.over.set(true);
            let mut micros = Vec::new();
            for client in clients {
                micros.extend(client.await??);
            }
            outcome(micros, cpu, elapsed, shared.requests.get())
        })
        .await
}

async fn repeat(mut connection: Connection, shared: Rc<Shared>, first: usize) -> Result<Vec<u32>> {
    let mut micros = Vec::new();
    for request in shared.list.iter().cycle().skip(first) {
        if shared.over.get() {
            break;
        }
        let request = shared.numbered(request);
        let started = Instant::now();
        let status = connection.exchange(&request).await?;
        shared.requests.set(shared.requests.get() + 1);
        if status != shared.status {
            bail!("an answer has status {status}");
        }
        if shared.counting.get() {
            micros.push(started.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
        }
    }
    Ok(micros)
}

fn outcome(mut micros: Vec<u32>, cpu: f64, elapsed: Duration, requests: u64) -> Result<Outcome> {
    micros.sort_unstable();
    let percentile = |part: f64| {
        let index = (micros.len() as f64 * part) as usize;
        f64::from(micros.get(index).copied().unwrap_or_default()) / 1000.0
    };
    if micros.is_empty() {
        bail!("nothing was answered");
    }
    let count = micros.len() as f64;
    Ok(Outcome {
        requests_per_second: count / elapsed.as_secs_f64(),
        cpu_ms_per_request: cpu * 1000.0 / count,
        p50_ms: percentile(0.50),
        p99_ms: percentile(0.99),
        requests,
    })
}
