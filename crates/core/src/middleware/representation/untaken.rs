//! Bounds the memory that answers take while nobody takes them (D-02).
//!
//! A client of HTTP/2 may ask two hundred times over one connection and take nothing for [`WRITE_STALL`][stall], and of
//! HTTP/1 over as many connections. So each answer that is not small has a share of the app's `Answers` until the last of
//! its bytes is gone, and where there is none left, a request that may be repeated is refused. What a change has committed
//! is told all the same. Small answers, which most are, take no room and cost nothing here.
//!
//! Assumes nothing of the deployment: a proxy that takes answers at once gives their room back at once.
//!
//! [stall]: crate::server

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::app::{Answers, App, Flowing};
use crate::assets::Resident;
use crate::error::Error;
use crate::middleware::admission::overload::refusal;
use crate::module::{Access, Route};
use crate::shares::{OwnedShare, Party};

/// Whose answer it is.
pub(in crate::middleware) fn taker(route: &Route, party: Party) -> Party {
    if matches!(route.access, Access::Management) { Party::Operator } else { party }
}

/// Gives an answer its room.
///
/// # Errors
/// `core.overloaded` when there is none for the answer to a request that may be repeated.
pub(in crate::middleware) fn leave(
    app: &App,
    taker: Party,
    repeatable: bool,
    response: &mut Response,
) -> Result<(), Error> {
    let flowing = response.extensions_mut().remove::<Flowing>();
    let bytes = flowing.map(|Flowing(bytes)| bytes).or_else(|| response.body().size_hint().exact());
    if Answers::is_small(bytes) || response.extensions_mut().remove::<Resident>().is_some() {
        return Ok(());
    }
    match app.answers.take(taker, bytes) {
        Some(room) => {
            let body = std::mem::take(response.body_mut());
            *response.body_mut() = Body::new(Untaken { body, room: Arc::new(room) });
            Ok(())
        }
        None if repeatable => {
            Err(refusal(app).detail("Too many answers wait to be taken: take them, then ask again."))
        }
        None => Ok(()),
    }
}

/// A body whose room is given back with the last of its bytes: what is handed over may wait in a buffer still.
struct Untaken {
    body: Body,
    room: Arc<OwnedShare>,
}

/// Bytes of it.
struct Part {
    bytes: Bytes,
    _room: Arc<OwnedShare>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl http_body::Body for Untaken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let part = |bytes| Bytes::from_owner(Part { bytes, _room: Arc::clone(&self.room) });
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// How many more answers of a MiB find room.
    fn left(answers: &Answers) -> usize {
        std::iter::from_fn(|| answers.take(Party::Operator, Some(1 << 20))).collect::<Vec<_>>().len()
    }

    #[tokio::test]
    async fn d_02_room_is_given_back_with_the_last_of_the_bytes() {
        let answers = Answers::default();
        let all = left(&answers);
        let room = Arc::new(answers.take(Party::Operator, Some(1 << 20)).unwrap());
        let mut body = Untaken { body: Body::from(vec![7; 1 << 20]), room };
        assert_eq!((left(&answers), body.size_hint().exact()), (all - 1, Some(1 << 20)));
        let mut bytes = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(body.is_end_stream());
        drop(body);
        let last = bytes.split_off(bytes.len() - 1);
        drop(bytes);
        assert_eq!((left(&answers), &*last), (all - 1, &[7][..]), "it waits in a buffer still");
        drop(last);
        assert_eq!(left(&answers), all);
    }
}
