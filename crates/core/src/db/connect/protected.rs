//! The driver's sessions over a stream of our own: found, timed and protected as those that serve requests.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use erp_postgres::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// What binds a session to the certificate of a stream that is protected already.
pub(in crate::db) struct Binding(pub(in crate::db) Option<Vec<u8>>);

/// Such a stream.
pub(in crate::db) struct Protected(Socket, Option<Vec<u8>>);

impl TlsConnect<Socket> for Binding {
    type Stream = Protected;
    type Error = io::Error;
    type Future = Ready<io::Result<Protected>>;

    fn connect(self, stream: Socket) -> Self::Future {
        ready(Ok(Protected(stream, self.0)))
    }
}

impl TlsStream for Protected {
    fn channel_binding(&self) -> ChannelBinding {
        self.1.clone().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for Protected {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Protected {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
