//! LISTEN: what other sessions NOTIFY, on a connection of its own.
//!
//! The connection is read whether or not anybody takes what it brings: PostgreSQL keeps a notification for everybody
//! until the slowest listener of the cluster has read it, and refuses NOTIFY once that queue is full. So what is not
//! taken is dropped here, and the next event that is taken says how much.

use std::time::Duration;

use postgres_protocol::message::{backend, frontend};
use tokio::time::timeout;

use super::notifications::{Notification, Notifications, Queue};
use super::{Connector, Wire, WireError};

/// A connection that has been silent for so long is asked for a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// PostgreSQL cuts longer names off (NAMEDATALEN), and would then listen to another channel.
const LONGEST: usize = 63;

/// The name of something that can be listened to: lower-case letters, digits and underscores, so that it means the same
/// in `LISTEN` and in `pg_notify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Channel(&'static str);

impl Channel {
    /// A channel; `None` for a name that does not begin with a lower-case letter or an underscore, holds anything but
    /// those and digits, or is longer than 63 bytes.
    pub const fn new(name: &'static str) -> Option<Self> {
        let bytes = name.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'a'..=b'z' | b'_' => {}
                b'0'..=b'9' if at > 0 => {}
                _ => return None,
            }
            at += 1;
        }
        if bytes.is_empty() || bytes.len() > LONGEST { None } else { Some(Self(name)) }
    }

    /// Its name, as `pg_notify` takes it.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// The connection behind [`Notifications`]. Somebody must [`run`](Self::run) it; dropped, it ends them.
#[must_use = "nothing arrives unless it is run"]
pub struct Listening {
    pub(super) wire: Wire,
    pub(super) channels: Box<[Channel]>,
    pub(super) queue: Queue,
    /// After how long a silence it asks for a sign of life, and how long it waits for one.
    pub(super) limits: (Duration, Duration),
}

impl Connector {
    /// Opens a connection that listens to `channels`. When this returns, it does: no notification that is committed
    /// later is missed. At most `capacity` notifications wait to be taken.
    ///
    /// The connection must lead to PostgreSQL itself or to a pooler in session mode: in transaction mode a pooler lets
    /// other sessions hear what this one listens to.
    ///
    /// # Errors
    /// When no session could be opened, or the server refused, which a standby does.
    pub async fn listen(
        &self,
        channels: &[Channel],
        capacity: usize,
    ) -> Result<(Notifications, Listening), WireError> {
        let wire = self.connect().await?;
        let (queue, notifications) = Notifications::new(capacity);
        let mut listening =
            Listening { wire, channels: channels.into(), queue, limits: (HEARTBEAT, PATIENCE) };
        let begun = timeout(PATIENCE, listening.begin()).await;
        begun.unwrap_or(Err(WireError::Silent(PATIENCE)))?;
        Ok((notifications, listening))
    }
}

impl Listening {
    pub(super) async fn begin(&mut self) -> Result<(), WireError> {
        self.wire.begin()?;
        let all: Vec<String> = self.channels.iter().map(|channel| format!("listen {}", channel.0)).collect();
        frontend::query(&all.join(";"), &mut self.wire.out)?;
        self.wire.awaited += 1;
        self.wire.flush().await?;
        while self.wire.awaited > 0 {
            self.take()?;
            if self.wire.awaited > 0 {
                self.wire.fill().await?;
            }
        }
        Ok(())
    }

    /// Reads the connection until it ends or nobody is left to take what it brings. [`Notifications::next`] tells why.
    pub async fn run(mut self) {
        let queue = self.queue.clone();
        let outcome = tokio::select! {
            biased;
            () = queue.abandoned() => return,
            outcome = self.read() => outcome,
        };
        queue.end(outcome.err().unwrap_or(WireError::Closed));
    }

    async fn read(&mut self) -> Result<(), WireError> {
        loop {
            self.take()?;
            let asked = self.wire.awaited > 0;
            let (silence, patience) = self.limits;
            match timeout(if asked { patience } else { silence }, self.wire.fill()).await {
                Ok(read) => read?,
                Err(_) if asked => return Err(WireError::Silent(patience)),
                Err(_) => {
                    self.wire.sync();
                    timeout(patience, self.wire.flush()).await.unwrap_or(Err(WireError::Silent(patience)))?;
                }
            }
        }
    }

    /// Takes in the messages that have arrived, and forgets them.
    fn take(&mut self) -> Result<(), WireError> {
        let mut refusal = None;
        let outcome = self.take_in(&mut refusal);
        refusal.map_or(outcome, Err) // it says why the server is about to hang up
    }

    fn take_in(&mut self, refusal: &mut Option<WireError>) -> Result<(), WireError> {
        while let Some(message) = self.wire.inbox.next()? {
            match message.tag {
                backend::NOTIFICATION_RESPONSE_TAG => {
                    let backend::Message::NotificationResponse(body) = self.wire.inbox.parse(&message)?
                    else {
                        return Err(WireError::Protocol("a notification that cannot be read"));
                    };
                    self.deliver(&body)?;
                }
                backend::COMMAND_COMPLETE_TAG | backend::EMPTY_QUERY_RESPONSE_TAG => {}
                _ if message.is_news() => {}
                _ => self.wire.end_or_refusal(&message, refusal)?,
            }
        }
        self.wire.inbox.consume();
        Ok(())
    }

    fn deliver(&self, body: &backend::NotificationResponseBody) -> Result<(), WireError> {
        const NO_TEXT: WireError = WireError::Protocol("a notification that is no text");
        let name = body.channel().map_err(|_| NO_TEXT)?;
        // The session may listen to more: a pooler in session mode hands on what its last user left.
        if let Some(channel) = self.channels.iter().find(|channel| channel.0 == name) {
            let payload = body.message().map_err(|_| NO_TEXT)?.to_owned();
            self.queue.push(Notification { channel: *channel, payload, process_id: body.process_id() });
        }
        Ok(())
    }
}

/// Tasks that wait for notifications must not wait for ever.
impl Drop for Listening {
    fn drop(&mut self) {
        self.queue.end(WireError::Closed);
    }
}
