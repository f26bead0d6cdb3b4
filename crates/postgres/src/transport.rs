//! Bytes out and messages in.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use postgres_protocol::message::{backend, frontend};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};
use tokio_util::io::poll_read_buf;

use super::inbox::Message;
use super::{Wire, WireError};

impl Wire {
    /// Ends what is to be sent: the server answers up to here, and commits what stands outside BEGIN and COMMIT.
    pub(super) fn sync(&mut self) {
        frontend::sync(&mut self.out);
        self.awaited += 1;
    }

    /// Reads what is still to come and throws it away.
    pub(super) async fn drain(&mut self) -> Result<(), WireError> {
        while self.awaited > 0 {
            let message = self.message().await?;
            match message.tag {
                backend::READY_FOR_QUERY_TAG => self.end_or_refusal(&message, &mut None)?,
                backend::PARSE_COMPLETE_TAG => self.confirm_prepared(), // it keeps the name
                _ => {}
            }
            self.inbox.consume();
        }
        Ok(())
    }

    /// The next message that matters.
    pub(super) async fn message(&mut self) -> Result<Message, WireError> {
        loop {
            match self.inbox.next() {
                Ok(Some(message)) if message.is_news() => {
                    if message.start == 0 {
                        self.inbox.consume(); // a reader of rows one by one may be sent any number of them
                    }
                }
                Ok(Some(message)) => return Ok(message),
                Ok(None) => self.fill().await?,
                Err(error) => {
                    self.broken = true;
                    return Err(error);
                }
            }
        }
    }

    /// Reads whatever has arrived; waits when that is nothing.
    pub(super) async fn fill(&mut self) -> Result<(), WireError> {
        self.inbox.make_room().inspect_err(|_| self.broken = true)?;
        let read = self.socket.read_buf(&mut self.inbox.bytes).await.map_err(WireError::from);
        match read {
            Ok(1..) => Ok(()),
            Ok(0) => self.broke(WireError::Closed),
            Err(error) => self.broke(error),
        }
    }

    /// Sends all of `out`.
    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        if self.out.is_empty() {
            return Ok(());
        }
        poll_fn(|cx| self.poll_send(cx)).await.or_else(|error| self.broke(error))
    }

    fn broke(&mut self, error: WireError) -> Result<(), WireError> {
        self.broken = true;
        Err(error)
    }

    /// Reads while it cannot write: a server that waits for us to take its rows reads nothing more from us.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.out) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(WireError::Closed)),
                Poll::Ready(Ok(sent)) => self.out.advance(sent),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    self.inbox.make_room()?;
                    let read = poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.inbox.bytes);
                    if ready!(read)? == 0 {
                        return Poll::Ready(Err(WireError::Closed));
                    }
                }
            }
        }
        Pin::new(&mut self.socket).poll_flush(cx).map_err(WireError::from)
    }
}
