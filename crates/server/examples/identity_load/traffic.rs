//! Requests at a steady rate or as fast as they are answered, and how long they take.

use std::future::Future;
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::task::JoinSet;

/// What requests took, and how they were answered.
#[derive(Default)]
pub(super) struct Answers(pub(super) Vec<(StatusCode, Duration)>);

impl Answers {
    /// How many were answered so.
    pub(super) fn count(&self, is: impl Fn(StatusCode) -> bool) -> usize {
        self.0.iter().filter(|(status, _)| is(*status)).count()
    }

    /// The time below which so many percent are, in milliseconds.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let mut all: Vec<f64> = self.0.iter().map(|(_, took)| took.as_secs_f64() * 1e3).collect();
        all.sort_by(f64::total_cmp);
        all.get((all.len() * percent / 100).min(all.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// So many at a time, for so long, as fast as they are answered. A request is made of the number of those before it.
pub(super) async fn closed<F, R>(at_once: u64, time: Duration, request: F) -> Answers
where
    F: Fn(u64) -> R,
    R: Future<Output = StatusCode>,
{
    let end = Instant::now() + time;
    let one = |first: u64| {
        let request = &request;
        async move {
            let mut answers = Vec::new();
            let mut number = first;
            while Instant::now() < end {
                let began = Instant::now();
                answers.push((request(number).await, began.elapsed()));
                number += at_once;
            }
            answers
        }
    };
    let all = futures_util::future::join_all((0..at_once).map(one)).await;
    Answers(all.into_iter().flatten().collect())
}

/// So many a second, whether those before are answered or not: the time counts from when a request was due.
pub(super) async fn open<F, R>(a_second: f64, time: Duration, request: F) -> Answers
where
    F: Fn(u64) -> R,
    R: Future<Output = StatusCode> + Send + 'static,
{
    let begin = Instant::now();
    let mut running = JoinSet::new();
    let mut number = 0_u32;
    loop {
        let due = begin + Duration::from_secs_f64(f64::from(number) / a_second);
        if due > begin + time {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let answer = request(u64::from(number));
        running.spawn(async move { (answer.await, due.elapsed()) });
        number += 1;
    }
    Answers(running.join_all().await)
}
