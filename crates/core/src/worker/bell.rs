//! The doorbell between processes: NOTIFY after the commit, from a connection that no request uses, at most twenty times a
//! second; and LISTEN. Both are hints. Where a pooler keeps LISTEN from working, jobs are found a second later.

use std::sync::Arc;
use std::time::Duration;

use erp_postgres::{Channel, Event, Notifications};
use uuid::Uuid;

use super::{News, WorkerState};
use crate::db::Lane;
use crate::error::Result;
use crate::lifecycle::Stop;

const RING: &str = "select pg_notify('erp_jobs', ring) from unnest($1::text[]) ring";
const CHANNEL: Option<Channel> = Channel::new("erp_jobs");
/// The time between two notifications of a process.
const PAUSE: Duration = Duration::from_millis(50);
/// Lines in one notification, which holds 8000 bytes.
const LINES: usize = 40;
/// How many notifications wait to be read.
const CAPACITY: usize = 1000;
/// How long a ring of our own may take to come back, before it is believed that LISTEN does not work here.
const ECHO: Duration = Duration::from_secs(5);
/// How long to wait before listening again after the connection was lost.
const AGAIN: Duration = Duration::from_secs(5);

/// Takes rings of this process to its own worker and to the others, and theirs to this one, until the stop.
pub(super) async fn answer(shared: &Arc<WorkerState>, stop: &Stop) {
    let own = async {
        loop {
            let lanes = shared.app.db.doorbell().rung().await;
            let _ = shared.news.send(News::Lanes(lanes.iter().map(|(lane, id)| (*lane, *id)).collect()));
            shared.untold.ring(lanes);
        }
    };
    let all = async { tokio::join!(own, ring(shared), listen(shared)) };
    tokio::select! {
        _ = all => {}
        () = stop.requested() => {}
    }
}

/// Notifies other processes.
async fn ring(shared: &WorkerState) {
    loop {
        let untold = shared.untold.rung().await;
        let lines: Vec<String> = untold
            .iter()
            .map(|(lane, id)| format!("{} {} {} {id}", lane.tenant, lane.kind, lane.priority))
            .collect();
        let rings: Vec<String> =
            lines.chunks(LINES).map(|lines| format!("{}\n{}", shared.sender, lines.join("\n"))).collect();
        let rung: Result<Vec<()>> = shared.queue.begin().last().rows(RING, &[&rings]).await;
        if let Err(error) = rung {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "Other workers were not told of new jobs"
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Listens to other processes, again and again.
async fn listen(shared: &WorkerState) {
    let Some(channel) = CHANNEL.filter(|_| shared.slots > 0) else { return };
    let mut said = false;
    loop {
        match shared.app.listen(channel, CAPACITY).await {
            Ok(mut notifications) => {
                let works = hear(shared, &mut notifications).await;
                if !works && !std::mem::replace(&mut said, true) {
                    tracing::warn!(
                        "LISTEN does not work on this connection, as behind a pooler: jobs that other processes enqueue \
                         begin up to a second later"
                    );
                }
            }
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "The doorbell cannot be listened to"
            ),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Hears until the connection ends. Says whether it heard anything: at first, what it says itself.
async fn hear(shared: &WorkerState, notifications: &mut Notifications) -> bool {
    let hello = vec![shared.sender.clone()];
    let sent: Result<Vec<()>> = shared.queue.begin().last().rows(RING, &[&hello]).await;
    if sent.is_err() {
        return true; // nothing was said that could be heard
    }
    let mut heard = false;
    loop {
        let next = if heard {
            Ok(notifications.next().await)
        } else {
            tokio::time::timeout(ECHO, notifications.next()).await
        };
        match next {
            Err(_) => return false,
            Ok(Err(_)) => return heard,
            Ok(Ok(Event::Lost(_))) => heard = true, // the next look finds them
            Ok(Ok(Event::Notification(notification))) => {
                heard = true;
                let lanes = lanes(shared, &notification.payload);
                if !lanes.is_empty() {
                    let _ = shared.news.send(News::Lanes(lanes));
                }
            }
        }
    }
}

/// The lanes that somebody else has rung for. What cannot be read is left out: a later version may say more.
fn lanes(shared: &WorkerState, payload: &str) -> Vec<(Lane, Uuid)> {
    let mut lines = payload.lines();
    if lines.next().is_none_or(|sender| sender == shared.sender) {
        return Vec::new();
    }
    let lane = |line: &str| {
        let mut words = line.split(' ');
        let tenant = words.next()?.parse().ok()?;
        let kind = shared.jobs.get(words.next()?)?.facts().name;
        let priority = words.next()?.parse().ok()?;
        Some((Lane { tenant, kind, priority }, Uuid::try_parse(words.next()?).ok()?))
    };
    lines.filter_map(lane).collect()
}
