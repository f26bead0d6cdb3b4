//! Clients that ask without pause, and a record of every answer.

use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::http::{Answer, Client};

/// What the clients do: twelve read, four write, two look at the probes.
const CLIENTS: [(Kind, usize); 4] = [(Kind::Read, 12), (Kind::Write, 4), (Kind::Live, 1), (Kind::Ready, 1)];

/// How long a client waits between an answer and its next request.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Live,
    Ready,
}

/// One request and what became of it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) kind: Kind,
    pub(super) begin: Instant,
    pub(super) end: Instant,
    /// The status, or why there was none.
    pub(super) status: Result<u16, String>,
    pub(super) retry_after: bool,
}

impl Seen {
    pub(super) fn took(&self) -> Duration {
        self.end - self.begin
    }

    pub(super) fn is(&self, status: u16) -> bool {
        self.status == Ok(status)
    }

    pub(super) fn succeeded(&self) -> bool {
        self.is(200) || self.is(201)
    }
}

/// The running clients; dropping it stops them.
pub(super) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    seen: Mutex<Vec<Seen>>,
    created: Mutex<Vec<String>>,
}

impl Load {
    pub(super) fn start(client: &Client) -> Self {
        Self::start_again(client, 0)
    }

    /// The same once more: what it creates is called otherwise than that of an earlier `run`.
    pub(super) fn start_again(client: &Client, run: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for (kind, count) in CLIENTS {
            for number in 0..count {
                let (client, shared) = (client.clone(), Arc::clone(&shared));
                threads.push(thread::spawn(move || shared.ask(&client, kind, [run, number])));
            }
        }
        Self { shared, threads }
    }

    /// All that was seen since the last call.
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap())
    }

    /// Whether for the last second every answer was a success.
    pub(super) fn is_well(&self, since: Instant) -> bool {
        let Some(second) = Instant::now().checked_sub(Duration::from_secs(1)) else { return false };
        let seen = self.shared.seen.lock().unwrap();
        let mut recent = seen.iter().filter(|seen| seen.end > second).peekable();
        second > since && recent.peek().is_some() && recent.all(Seen::succeeded)
    }

    /// The SKUs whose creation was acknowledged.
    pub(super) fn created(&self) -> Vec<String> {
        self.shared.created.lock().unwrap().clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn ask(&self, client: &Client, kind: Kind, [run, number]: [usize; 2]) {
        let mut count = 0;
        while !self.stop.load(Ordering::Relaxed) {
            count += 1;
            let sku = format!("LOAD-{run}-{number}-{count}");
            let begin = Instant::now();
            let answer = match kind {
                Kind::Read => client.get("/api/v1/items?limit=10"),
                Kind::Write => client.create_item(&sku),
                Kind::Live => client.get("/livez"),
                Kind::Ready => client.get("/readyz"),
            };
            if kind == Kind::Write && answer.as_ref().is_ok_and(|answer| answer.status == 201) {
                self.created.lock().unwrap().push(sku);
            }
            self.note(kind, begin, answer);
            thread::sleep(PAUSE);
        }
    }

    fn note(&self, kind: Kind, begin: Instant, answer: io::Result<Answer>) {
        let retry_after = answer.as_ref().is_ok_and(|answer| answer.header("retry-after").is_some());
        let status = answer.map(|answer| answer.status).map_err(|error| error.to_string());
        self.seen.lock().unwrap().push(Seen { kind, begin, end: Instant::now(), status, retry_after });
    }
}

/// Counts by kind and status, for a failed test.
pub(super) fn summary(seen: &[Seen]) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for seen in seen {
        let key = format!("{:?} {:?}", seen.kind, seen.status);
        match counts.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += 1,
            None => counts.push((key, 1)),
        }
    }
    counts.iter().fold(String::new(), |mut text, (key, count)| {
        let _ = write!(text, "{key}: {count}; ");
        text
    })
}
