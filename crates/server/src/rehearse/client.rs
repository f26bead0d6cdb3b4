//! One keep-alive connection, and what became of each request on it.

use std::net::SocketAddr;
use std::time::Duration;

use erp_core::config::Config;
use erp_core::server::{Loopback, introduce};
use http::header::{AUTHORIZATION, CONNECTION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a connection, and an answer, may take: far longer than any takes that comes. A server that takes a request
/// and says nothing is something to find, and not to wait for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of a request.
pub(super) enum Ask {
    /// It was answered to the last byte; `last` when the server will not answer another on this connection.
    Answered { status: StatusCode, last: bool },
    /// The connection ended before any of the answer came, or no whole answer came in time.
    Unanswered,
    /// It ended within the answer.
    Cut,
}

/// A listener, and how to speak to it: as these settings say, or in plain HTTP.
#[derive(Clone)]
pub(super) struct ServerAddress {
    pub(super) address: SocketAddr,
    pub(super) config: Option<Config>,
}

pub(super) struct LoopbackClient {
    sender: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<()>,
    host: String,
}

impl LoopbackClient {
    pub(super) async fn connect(place: &ServerAddress) -> std::io::Result<Self> {
        timeout(PATIENCE, Self::open(place)).await?
    }

    #[allow(clippy::disallowed_methods)] // the client owns the task, and ends it
    async fn open(ServerAddress { address, config }: &ServerAddress) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let stream: Box<dyn Loopback> = match config {
            Some(config) => introduce(stream, config).await?,
            None => Box::new(stream),
        };
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        let connection = tokio::spawn(async {
            let _ = connection.await; // the request that it breaks says so
        });
        Ok(Self { sender, connection, host: address.to_string() })
    }

    pub(super) async fn get(&mut self, path: &str, token: Option<&str>) -> Ask {
        self.get_within(PATIENCE, path, token).await
    }

    async fn get_within(&mut self, patience: Duration, path: &str, token: Option<&str>) -> Ask {
        timeout(patience, self.ask(path, token)).await.unwrap_or(Ask::Unanswered)
    }

    async fn ask(&mut self, path: &str, token: Option<&str>) -> Ask {
        let mut request = Request::get(path).header(HOST, &self.host);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let Ok(request) = request.body(Empty::new()) else { return Ask::Unanswered };
        if self.sender.ready().await.is_err() {
            return Ask::Unanswered;
        }
        let Ok(response) = self.sender.send_request(request).await else { return Ask::Unanswered };
        let (head, body) = response.into_parts();
        let last = head.headers.get(CONNECTION).is_some_and(|value| value == "close");
        match body.collect().await {
            Ok(_) => Ask::Answered { status: head.status, last },
            Err(_) => Ask::Cut,
        }
    }
}

impl Drop for LoopbackClient {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_server_that_takes_a_request_and_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = ServerAddress { address: listener.local_addr().unwrap(), config: None };
        let mut client = LoopbackClient::connect(&place).await.unwrap();
        let asked = client.get_within(Duration::from_millis(50), "/ping", None).await;
        assert!(matches!(asked, Ask::Unanswered), "it was not answered");
    }
}
