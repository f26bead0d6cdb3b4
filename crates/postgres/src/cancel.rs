//! Asks a server to cancel what runs on a connection, over a connection of its own.

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::WireError;
use super::connect::{Connector, Target};
use super::socket::Socket;

/// How often it is listened to: PostgreSQL says nothing, or why it cannot.
const MOST: usize = 64;

/// What the server knows a connection by.
#[derive(Debug, Clone)]
pub struct Cancel {
    pub(super) target: Target,
    pub(super) process_id: i32,
    pub(super) secret_key: i32,
}

impl Cancel {
    /// Sends the request, and waits until the server hangs up: then it has taken it. Whether it was in time shows in
    /// what it was to cancel. The wait, which is libpq's too, is not for us: PgBouncer 1.18 takes the whole pooler down
    /// when the client of a request is gone before it has passed it on.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn send(&self, connector: &Connector) -> Result<(), WireError> {
        self.send_on(connector.socket(&self.target).await?.0).await
    }

    pub(super) async fn send_on(&self, mut socket: Socket) -> Result<(), WireError> {
        let mut request = BytesMut::new();
        frontend::cancel_request(self.process_id, self.secret_key, &mut request);
        socket.write_all(&request).await?;
        socket.flush().await?;
        // Through TLS its end is an error: PostgreSQL takes no leave.
        for _ in 0..MOST {
            if !socket.read(&mut [0; 16]).await.is_ok_and(|read| read > 0) {
                break;
            }
        }
        Ok(())
    }
}
