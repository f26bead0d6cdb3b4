//! The smallest client that can speak to the server: one request, one connection.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

/// No answer may take longer: a request that does is a hang.
const LIMIT: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.head.lines().filter_map(|line| line.split_once(": "));
        pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

/// Where requests go, and as whom.
#[derive(Clone)]
pub(super) struct Client {
    address: String,
    token: Option<String>,
    /// A header more.
    header: Option<String>,
}

impl Client {
    pub(super) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), token: None, header: None }
    }

    /// Signs in with the first of the demo credentials in `folder`: the owner of `acme`.
    pub(super) fn signed_in(address: &str, folder: &std::path::Path) -> Self {
        Self::signed_in_as(address, folder, 0)
    }

    /// The same with another one of them: the owners come first.
    pub(super) fn signed_in_as(address: &str, folder: &std::path::Path, number: usize) -> Self {
        let text = std::fs::read_to_string(folder.join("demo-credentials.json")).unwrap();
        let mut who: Value = serde_json::from_str::<Value>(&text).unwrap()[number].take();
        who.as_object_mut().unwrap().remove("role");
        let mut client = Self::new(address);
        let answer = client.post("/api/v1/auth/login", &who).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        client.token = Some(answer.json()["accessToken"].as_str().unwrap().to_owned());
        client
    }

    /// With another credential.
    pub(super) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// With a header more.
    pub(super) fn with_header(&self, name: &str, value: &str) -> Self {
        Self { header: Some(format!("{name}: {value}\r\n")), ..self.clone() }
    }

    /// The access token, of a client that is signed in.
    pub(super) fn token(&self) -> &str {
        self.token.as_deref().unwrap()
    }

    pub(super) fn get(&self, path: &str) -> io::Result<Answer> {
        receive(self.send("GET", path, "")?)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> io::Result<Answer> {
        receive(self.send("POST", path, &body.to_string())?)
    }

    pub(super) fn patch(&self, path: &str, body: &Value) -> io::Result<Answer> {
        receive(self.send("PATCH", path, &body.to_string())?)
    }

    pub(super) fn delete(&self, path: &str) -> io::Result<Answer> {
        receive(self.send("DELETE", path, "")?)
    }

    /// The same person at another address.
    pub(super) fn at(&self, address: &str) -> Self {
        Self { address: address.to_owned(), ..self.clone() }
    }

    /// Creates an item in the catalogue.
    pub(super) fn create_item(&self, sku: &str) -> io::Result<Answer> {
        receive(self.send_item(sku)?)
    }

    /// Sends the request that creates an item, and returns the connection on which its answer will come.
    pub(super) fn send_item(&self, sku: &str) -> io::Result<TcpStream> {
        self.send("POST", "/api/v1/items", &json!({ "sku": sku, "name": "An item" }).to_string())
    }

    /// Sends a file.
    pub(super) fn upload(&self, path: &str, media_type: &str, text: &str) -> io::Result<Answer> {
        receive(self.send_as("POST", path, media_type, text)?)
    }

    /// Sends a request, and returns the connection on which its answer will come.
    pub(super) fn send(&self, method: &str, path: &str, body: &str) -> io::Result<TcpStream> {
        self.send_as(method, path, "application/json", body)
    }

    fn send_as(&self, method: &str, path: &str, media_type: &str, body: &str) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let bearer = self.token.iter().map(|token| format!("authorization: Bearer {token}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: {media_type}\r\n\
             content-length: {}\r\n{}\r\n",
            self.address,
            body.len(),
            bearer.chain(self.header.clone()).collect::<String>()
        );
        stream.write_all((head + body).as_bytes())?;
        Ok(stream)
    }
}

/// Reads the answer to the end of the connection.
pub(super) fn receive(mut stream: TcpStream) -> io::Result<Answer> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
