//! Reads a request's body whole: at most so long, so slowly and so many at a time (D-02, D-03).

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::mapped::Mapped;
use crate::app::{App, SMALL};
use crate::error::{Error, codes};
use crate::shared::TenantId;
use crate::shares::OwnedShare;

/// The largest body that is read.
pub(crate) const MAX_BODY_BYTES: usize = 1024 * 1024;
/// A body that brings less than this in each [`WINDOW`] is held back on purpose: 1 KiB/s.
const LEAST_BYTES: usize = 10 * 1024;
const WINDOW: Duration = Duration::from_secs(10);
/// How long a body waits for its room. What waits holds its share of its connection's window of HTTP/2, without which
/// those that have room get no further.
const PATIENCE: Duration = Duration::from_secs(5);

/// A large body, which gives its room back when the last of its bytes goes.
struct Large {
    bytes: Mapped,
    _room: OwnedShare,
}

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// The body of a member of the tenant that is its `sender`, or of a stranger.
///
/// # Errors
/// 413 beyond the limit, 408 when it comes too slowly, 503 when there is no memory for it in time, 400 when it breaks off.
pub(crate) async fn read(mut body: Body, sender: Option<TenantId>, app: &App) -> Result<Bytes, Error> {
    let mut reading = BodyReading::new(app.config.traffic.body_timeout);
    let declared = body.size_hint().exact();
    // What came along with the head is there without a wait, and mostly all there is.
    let first = reading.next(&mut body).await?.unwrap_or_default();
    if body.is_end_stream() && first.len() <= MAX_BODY_BYTES {
        return Ok(first);
    }
    // A copy, since a part keeps all of the buffer that it came in.
    let mut small = BytesMut::from(&*first);
    drop(first);
    while small.len() < SMALL && declared.is_none_or(|bytes| bytes <= SMALL as u64) {
        let Some(part) = reading.next(&mut body).await? else {
            return Ok(small.freeze());
        };
        small.extend_from_slice(&part);
    }
    // Before more is read: while it waits, a request holds next to nothing.
    let room = reading.room(app, sender, declared).await?;
    let mut bytes = Mapped::new(most(declared)).map_err(overloaded)?;
    let mut put = |part: &[u8]| bytes.put(part).ok_or_else(|| Error::new(&codes::TOO_LARGE));
    put(&small)?;
    drop(small);
    while let Some(part) = reading.next(&mut body).await? {
        put(&part)?;
    }
    Ok(Bytes::from_owner(Large { bytes, _room: room }))
}

/// What a body may come to.
fn most(declared: Option<u64>) -> usize {
    declared.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(MAX_BODY_BYTES).min(MAX_BODY_BYTES)
}

/// The clocks of a body: one for the whole, and one for each stretch of it.
pub(super) struct BodyReading {
    deadline: Instant,
    window_ends: Instant,
    in_window: usize,
}

impl BodyReading {
    pub(super) fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self { deadline: now + limit, window_ends: now + WINDOW, in_window: 0 }
    }

    /// The next part; `None` at the end.
    pub(super) async fn next(&mut self, body: &mut Body) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = timeout_at(self.window_ends.min(self.deadline), body.frame()).await;
            match frame {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    let Ok(part) = frame.into_data() else { continue }; // trailers
                    self.in_window += part.len();
                    return Ok(Some(part));
                }
                Ok(Some(Err(error))) => {
                    return Err(Error::new(&codes::MALFORMED_BODY)
                        .detail("The body broke off.")
                        .because(error));
                }
                Err(_) if Instant::now() >= self.deadline || self.in_window < LEAST_BYTES => {
                    return Err(Error::new(&codes::REQUEST_TIMEOUT));
                }
                Err(_) => (self.window_ends, self.in_window) = (Instant::now() + WINDOW, 0),
            }
        }
    }

    /// A share of the memory, within [`PATIENCE`] and the time for the whole.
    async fn room(
        &self,
        app: &App,
        sender: Option<TenantId>,
        declared: Option<u64>,
    ) -> Result<OwnedShare, Error> {
        let waiting = app.bodies.take(sender, declared.is_some(), most(declared));
        timeout_at(self.deadline.min(Instant::now() + PATIENCE), waiting)
            .await
            .map_err(overloaded)?
            .ok_or_else(Error::unavailable)
    }
}

fn overloaded(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(&codes::OVERLOADED).retry_after(Duration::from_secs(1)).because(error)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::time::sleep;

    use super::*;

    /// A body without an end that brings so many bytes each second.
    fn dripping(bytes: usize) -> Body {
        Body::from_stream(stream::unfold((), move |()| async move {
            sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::convert::Infallible>(Bytes::from(vec![b' '; bytes])), ()))
        }))
    }

    /// After how long it is refused.
    async fn refused(mut body: Body) -> Duration {
        let (begun, mut reading) = (Instant::now(), BodyReading::new(Duration::from_secs(25)));
        loop {
            if let Err(error) = reading.next(&mut body).await {
                assert_eq!(error.code().code, "core.request_timeout");
                return begun.elapsed();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn d_02_a_body_slower_than_1_kib_a_second_is_refused_after_10_s() {
        let took = refused(dripping(1000)).await;
        assert!(took >= WINDOW && took < WINDOW + Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn d_02_a_body_that_keeps_pace_has_until_its_deadline() {
        assert_eq!(refused(dripping(2000)).await, Duration::from_secs(25));
    }
}
