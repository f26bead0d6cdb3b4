//! Asks a server to cancel what runs on a connection, over a connection of its own.

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::AsyncWriteExt as _;

use super::Error;
use super::connect::{Connector, Target};

/// What the server knows a connection by.
#[derive(Debug, Clone)]
pub(in crate::db) struct Cancel {
    pub(super) target: Target,
    pub(super) process_id: i32,
    pub(super) secret_key: i32,
}

impl Cancel {
    /// Sends the request. The server does not answer; whether it was in time shows in what it was to cancel.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub(in crate::db) async fn send(&self, connector: &Connector) -> Result<(), Error> {
        let mut socket = connector.socket(&self.target).await?.0;
        let mut request = BytesMut::new();
        frontend::cancel_request(self.process_id, self.secret_key, &mut request);
        socket.write_all(&request).await?;
        socket.flush().await?;
        Ok(socket.shutdown().await?)
    }
}
