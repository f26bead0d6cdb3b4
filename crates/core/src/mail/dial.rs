//! From the settings to a connection on which SMTP can be spoken: name, TCP, TLS.
//!
//! TLS is ours and not the SMTP library's, so that there is one configuration of it in the product, and since what a server says
//! before `STARTTLS` must not be taken for something it has said under TLS (CVE-2011-0411).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use lettre::transport::smtp::client::AsyncTokioStream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault::{SmtpFault, SmtpFaultKind, SmtpReply, SmtpStage};

/// A server that says more than this to one command is cut off: a reply has some hundred bytes. The SMTP library reads a reply of
/// many lines anew with each of them, so that 64 KiB would keep a thread busy for a second.
const MOST_UNASKED: usize = 8 * 1024;
/// What stands in for the greeting that came before TLS: the SMTP library begins with one.
const GREETED: &[u8] = b"220 greeted\r\n";

/// A connection to a mail server, whatever it is protected by. It bounds what the server says, and shows no byte of it that is not
/// ASCII: replies in other encodings are met, and are read all the same.
pub(super) struct SmtpStream {
    io: SmtpIo,
    /// What is read before what the server sends.
    before: &'static [u8],
    /// Bytes that came since we have last said something.
    unasked: usize,
    peer: SocketAddr,
}

enum SmtpIo {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl SmtpStream {
    pub(super) fn plain(tcp: TcpStream, peer: SocketAddr) -> Self {
        Self { io: SmtpIo::Plain(tcp), before: b"", unasked: 0, peer }
    }

    fn tls(stream: TlsStream<TcpStream>, peer: SocketAddr, before: &'static [u8]) -> Self {
        Self { io: SmtpIo::Tls(Box::new(stream)), before, unasked: 0, peer }
    }

    fn io(&mut self) -> Pin<&mut (dyn SmtpBytes + Send + Sync)> {
        match &mut self.io {
            SmtpIo::Plain(tcp) => Pin::new(tcp),
            SmtpIo::Tls(tls) => Pin::new(tls.as_mut()),
        }
    }
}

/// What both kinds of connections can do.
trait SmtpBytes: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> SmtpBytes for T {}

/// Connects to the first address that answers.
pub(super) async fn connect(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok((stream, *address));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Speaks TLS from here on, with a server whose certificate is for `host`. `upgraded` says whether the server has greeted before.
pub(super) async fn encrypt(
    config: Arc<ClientConfig>,
    host: &str,
    (tcp, peer): (TcpStream, SocketAddr),
    upgraded: bool,
) -> io::Result<SmtpStream> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, tcp).await?;
    Ok(SmtpStream::tls(stream, peer, if upgraded { GREETED } else { b"" }))
}

/// The part of the exchange that is in the clear with `SMTP_TLS=starttls`: greeting, `EHLO`, `STARTTLS`, and not a byte more.
pub(super) async fn ask_for_tls(tcp: &mut TcpStream, hello: &str, limit: Duration) -> Result<(), SmtpFault> {
    within(SmtpStage::Hello, limit, reply(tcp, SmtpStage::Hello)).await?;
    let offers = within(SmtpStage::Hello, limit, async {
        say(tcp, &format!("EHLO {hello}\r\n")).await?;
        reply(tcp, SmtpStage::Hello).await
    });
    if !offers.await?.iter().any(|line| line.trim().eq_ignore_ascii_case("STARTTLS")) {
        return Err(SmtpFault::new(SmtpStage::StartTls, SmtpFaultKind::Missing("starttls")));
    }
    let asked = async {
        say(tcp, "STARTTLS\r\n").await?;
        reply(tcp, SmtpStage::StartTls).await
    };
    within(SmtpStage::StartTls, limit, asked).await.map(drop)
}

async fn say(tcp: &mut TcpStream, command: &str) -> Result<(), SmtpFault> {
    let said = tcp.write_all(command.as_bytes()).await;
    said.map_err(|error| SmtpFault::new(SmtpStage::StartTls, SmtpFaultKind::Io(error)))
}

/// A stage of the exchange with its deadline.
pub(super) async fn within<T>(
    stage: SmtpStage,
    limit: Duration,
    work: impl Future<Output = Result<T, SmtpFault>>,
) -> Result<T, SmtpFault> {
    let late = |_| SmtpFault::new(stage, SmtpFaultKind::TimedOut(limit));
    tokio::time::timeout(limit, work).await.map_err(late)?
}

/// Reads one reply, and nothing behind it: byte by byte, since what follows may be TLS. A yes is returned with its lines.
async fn reply(tcp: &mut TcpStream, stage: SmtpStage) -> Result<Vec<String>, SmtpFault> {
    let nonsense = |what: &str| SmtpFault::new(stage, SmtpFaultKind::Nonsense(what.to_owned()));
    let (mut line, mut lines, mut total) = (Vec::new(), Vec::new(), 0);
    loop {
        let byte = tcp.read_u8().await.map_err(|error| SmtpFault::new(stage, SmtpFaultKind::Io(error)))?;
        total += 1;
        if total > MOST_UNASKED {
            return Err(nonsense("a reply without an end"));
        }
        line.push(byte);
        if byte != b'\n' {
            continue;
        }
        let text: String = std::mem::take(&mut line).into_iter().map(ascii).map(char::from).collect();
        let code =
            text.get(..3).and_then(|code| code.parse::<u16>().ok()).filter(|code| (200..600).contains(code));
        let code = code.ok_or_else(|| nonsense("a line without a code"))?;
        lines.push(text.get(4..).unwrap_or_default().trim_end().to_owned());
        if text.as_bytes().get(3) != Some(&b'-') {
            let reply = SmtpReply::new(code, &lines.join(" "));
            let is_yes = code < 400;
            return if is_yes { Ok(lines) } else { Err(SmtpFault::new(stage, SmtpFaultKind::Reply(reply))) };
        }
    }
}

fn ascii(byte: u8) -> u8 {
    if byte.is_ascii() { byte } else { b'?' }
}

impl AsyncRead for SmtpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if !stream.before.is_empty() {
            let (now, later) = stream.before.split_at(stream.before.len().min(buf.remaining()));
            buf.put_slice(now);
            stream.before = later;
            return Poll::Ready(Ok(()));
        }
        if stream.unasked > MOST_UNASKED {
            return Poll::Ready(Err(io::Error::other("the server says more than 8 KiB to one command")));
        }
        let filled = buf.filled().len();
        ready!(stream.io().poll_read(cx, buf))?;
        let read = buf.filled_mut().get_mut(filled..).unwrap_or_default();
        read.iter_mut().for_each(|byte| *byte = ascii(*byte));
        stream.unasked += read.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SmtpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        stream.unasked = 0;
        stream.io().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io().poll_shutdown(cx)
    }
}

impl fmt::Debug for SmtpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpStream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl AsyncTokioStream for SmtpStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}
