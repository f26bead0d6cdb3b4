//! Servers on loopback that answer as a test tells them: well, late, without end or not at all.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server, and what has come to it.
pub(super) struct Service {
    pub(super) port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request of a connection: its head and body, and how it is answered.
pub(super) struct Asked {
    pub(super) stream: TcpStream,
    /// Which of the server's requests it is, from 1.
    pub(super) number: usize,
}

impl Asked {
    pub(super) async fn say(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Sends `text` again and again, until nobody takes it.
    pub(super) async fn trickle(&mut self, text: &str, every: Duration) {
        while self.stream.write_all(text.as_bytes()).await.is_ok() {
            tokio::time::sleep(every).await;
        }
    }

    /// Says nothing, until the client leaves.
    pub(super) async fn hang(&mut self) {
        let _ = self.stream.read(&mut [0; 1]).await;
    }
}

impl Service {
    /// Answers every request with `respond`, and then takes the next one of the same connection.
    pub(super) async fn answering<F, R>(respond: F) -> Self
    where
        F: Fn(Asked) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Asked> + Send + 'static,
    {
        Self::at("127.0.0.1:0", respond).await
    }

    pub(super) async fn at<F, R>(address: &str, respond: F) -> Self
    where
        F: Fn(Asked) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Asked> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counted, noted) = (Arc::clone(&connections), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (respond, noted) = (respond.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    while let Some(request) = read(&mut stream).await {
                        let number = {
                            let mut noted = noted.lock().unwrap();
                            noted.push(request);
                            noted.len()
                        };
                        stream = respond(Asked { stream, number }).await.stream;
                    }
                });
            }
        });
        Self { port, connections, requests, task }
    }

    /// Answers each request with these bytes.
    pub(super) async fn saying(text: &str) -> Self {
        let text = text.to_owned();
        Self::answering(move |mut asked| {
            let text = text.clone();
            async move {
                asked.say(&text).await;
                asked
            }
        })
        .await
    }

    /// Answers with the status and a short body.
    pub(super) async fn status(line: &str) -> Self {
        Self::saying(&format!("HTTP/1.1 {line}\r\nContent-Length: 2\r\n\r\nok")).await
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The requests so far, as they came.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request, head and body; `None` when the connection has ended.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    loop {
        if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if text.len() >= end + 4 + length.unwrap_or(0) {
                return Some(String::from_utf8_lossy(&text).into_owned());
            }
        }
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => text.extend_from_slice(&more[..length]),
        }
    }
}
