//! Clients that ask as fast as they are answered, until nobody answers.

use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::task::JoinSet;

use super::client::{Ask, LoopbackClient, ServerAddress};

/// How many ask at a time: light, since the server shares the machine with them.
const CLIENTS: usize = 8;
/// Readiness must follow the signal within a second (S-02).
const SOON: Duration = Duration::from_secs(1);

/// What the clients saw.
#[derive(Default)]
pub(super) struct LoadCounts {
    /// Requests answered to the last byte.
    pub(super) answered: u64,
    /// Answers of 500 and above, but for readiness.
    pub(super) failed: u64,
    /// Requests that were sent and got no answer, or a part of one.
    pub(super) cut: u64,
    /// How long each answer took.
    pub(super) durations: Vec<Duration>,
}

pub(super) struct Load(JoinSet<LoadCounts>);

impl Load {
    pub(super) fn start(place: &ServerAddress) -> Self {
        let mut clients = JoinSet::new();
        for index in 0..CLIENTS {
            let path = if index % 2 == 0 { "/ping" } else { "/readyz" };
            clients.spawn(ask_until_refused(place.clone(), path));
        }
        Self(clients)
    }

    /// Waits for the clients, which end when nobody accepts them any more.
    pub(super) async fn finish(self) -> LoadCounts {
        let mut total = LoadCounts::default();
        for counts in self.0.join_all().await {
            total.answered += counts.answered;
            total.failed += counts.failed;
            total.cut += counts.cut;
            total.durations.extend(counts.durations);
        }
        total.durations.sort_unstable();
        total
    }
}

async fn ask_until_refused(place: ServerAddress, path: &str) -> LoadCounts {
    let mut counts = LoadCounts::default();
    while let Ok(mut client) = LoopbackClient::connect(&place).await {
        loop {
            let started = Instant::now();
            match client.get(path, None).await {
                Ask::Answered { status, last } => {
                    counts.answered += 1;
                    counts.durations.push(started.elapsed());
                    counts.failed += u64::from(status.is_server_error() && path != "/readyz");
                    if last {
                        break;
                    }
                }
                Ask::Unanswered | Ask::Cut => {
                    counts.cut += 1;
                    break;
                }
            }
        }
    }
    counts
}

/// How long after `since` readiness says 503 to a new connection; `None` when it does not within a second.
pub(super) async fn until_unready(place: &ServerAddress, since: Instant) -> Option<Duration> {
    while since.elapsed() < SOON {
        let mut client = LoopbackClient::connect(place).await.ok()?;
        if let Ask::Answered { status: StatusCode::SERVICE_UNAVAILABLE, .. } =
            client.get("/readyz", None).await
        {
            return Some(since.elapsed());
        }
    }
    None
}
