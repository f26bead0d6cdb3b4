//! The clocks of one connection.
//!
//! hyper has one deadline for both the head of a request and the silence before it, and none while it tells HTTP/1 from
//! HTTP/2. So we watch ourselves: an attacker who drips a head gets `HEADER_TIMEOUT`, a load balancer that keeps a
//! connection for later gets `KEEP_ALIVE_TIMEOUT`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::ConnectionLimits;
use super::activity::{Activity, Doing};

/// How long a client that has been told to leave may take to do so, or to complete a request that it has begun.
pub(super) const FAREWELL: Duration = Duration::from_millis(500);
/// How long a client may take for 32 KiB of its answer, or for what is left of it (D-02).
pub(super) const WRITE_STALL: Duration = Duration::from_secs(30);

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatienceVerdict {
    /// It ends after the requests in hand: `Connection: close`, or GOAWAY.
    Leave,
    /// It is closed as it is.
    Cut,
}

pub(super) struct Patience {
    activity: Arc<Activity>,
    limits: ConnectionLimits,
    doing: Doing,
    /// When it began to do so.
    since: Instant,
    /// What it last did when it did nothing, and since when.
    idle: Option<(Doing, Instant)>,
    alarm: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    stopping: bool,
    told_to_leave: bool,
}

impl Patience {
    /// `since` is from when the first head's time counts.
    pub(super) fn new(
        activity: Arc<Activity>,
        limits: ConnectionLimits,
        stop: &CancellationToken,
        since: Instant,
    ) -> Self {
        Self {
            doing: activity.doing(),
            activity,
            limits,
            since,
            idle: None,
            alarm: Box::pin(sleep_until(since + limits.header_timeout)),
            // A token of its own: waiting on the common one would take its lock at each request.
            stop: Box::pin(stop.child_token().cancelled_owned()),
            stopping: false,
            told_to_leave: false,
        }
    }

    /// To be asked each time the connection has made progress; wakes the task when time is up.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<PatienceVerdict> {
        if !self.stopping && self.stop.as_mut().poll(cx).is_ready() {
            self.stopping = true;
            self.since = Instant::now();
        }
        loop {
            let doing = self.activity.doing();
            if doing != self.doing {
                self.turn_to(doing);
            }
            if self.stopping && !self.told_to_leave && !matches!(doing, Doing::FirstHead | Doing::NextHead) {
                return self.leave();
            }
            let deadline = self.since + self.limit();
            // An alarm that is too early only looks and is set again, which spares each request a timer.
            if deadline < self.alarm.deadline() {
                self.alarm.as_mut().reset(deadline);
            }
            ready!(self.alarm.as_mut().poll(cx));
            if Instant::now() < deadline {
                self.alarm.as_mut().reset(deadline);
                continue;
            }
            match doing {
                Doing::Answering => {
                    self.since = Instant::now();
                    let again = self.since + self.limit();
                    self.alarm.as_mut().reset(again);
                }
                Doing::Idle(_) if !self.told_to_leave => return self.leave(),
                _ => return Poll::Ready(PatienceVerdict::Cut),
            }
        }
    }

    fn turn_to(&mut self, doing: Doing) {
        self.doing = doing;
        self.since = match self.idle {
            // No request has come since: a frame alone gains no time.
            Some((idle, since)) if idle == doing => since,
            _ => Instant::now(),
        };
        if matches!(doing, Doing::Idle(_)) {
            self.idle = Some((doing, self.since));
        }
    }

    fn leave(&mut self) -> Poll<PatienceVerdict> {
        self.told_to_leave = true;
        self.since = Instant::now();
        Poll::Ready(PatienceVerdict::Leave)
    }

    /// How long it may go on doing what it does. An answer has its own deadline (`REQUEST_TIMEOUT`); here it is only
    /// looked at again, since its end need not wake this task.
    fn limit(&self) -> Duration {
        match self.doing {
            Doing::Blocked(_) => WRITE_STALL,
            Doing::Answering => self.limits.header_timeout.min(FAREWELL * 10),
            _ if self.stopping || self.told_to_leave => FAREWELL,
            Doing::FirstHead | Doing::NextHead => self.limits.header_timeout,
            Doing::Idle(_) => self.limits.keep_alive_timeout,
        }
    }
}
