//! Streams rows of the audit log to receivers (SIEM): those of all tenants to the platform's, and a tenant's own to that of the tenant.
//!
//! **At least once.** What was sent counts as received when the connection has stayed open for a while after it: a receiver that dies
//! closes it, and everything since the cursor is sent again, with the ids that it had. The cursor lies in the database, and what waits is
//! the log itself: no queue grows, and no restart of ours loses anything
//! ([decision 0057](../../../../../../docs/decisions/0057-streams-of-the-audit-log.md)).

mod message;

use std::fmt;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::sealer::STREAM;
use super::search::AuditEvent;
use crate::app::App;
use crate::auth::Trace;
use crate::config::StreamUrl;
use crate::db::System;
use crate::error::{Error, Result};
use crate::from_row;
use crate::lifecycle::{Background, Stop, StopStage};
use crate::outbound::GivenBy;
use crate::outbound::dial::DialedStream;
use crate::shared::{TenantId, hex};

/// How many rows of a tenant are sent at a time, and of all together.
const MOST_OF_TENANT: i64 = 2000;
const MOST: usize = 20_000;
/// So long the connection stays open behind rows until they count as received.
const GRACE: Duration = Duration::from_secs(2);
/// How long a receiver may take to read what is sent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the platform's stream looks for new rows, and how long it waits after a failure.
const LOOK: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(5);

/// Whose cursor it is: of the stream of all tenants, and of a tenant's own.
const PLATFORM: &str = "platform-stream";
const OWN: &str = "own-stream";

/// Tenants with sealed rows that were not sent.
const BEHIND: &str = "select l.tenant_id from audit_logs l \
     left join audit_cursors c on c.tenant_id = l.tenant_id and c.reader = $1 \
     where l.is_open and l.first_seq + l.size - 2 > coalesce(c.seq, 0) order by l.tenant_id limit 1000";
/// Personal values leave as their commitments.
const ROWS: &str = "select l.seq, l.at, l.actor, l.action, l.resource, l.resource_id, l.outcome, l.correlation_id, l.client_ip, \
       app.committed(l.before, l.salt, 'before') as before, app.committed(l.after, l.salt, 'after') as after, \
       app.committed(l.details, l.salt, 'details') as details \
     from audit_log l \
     where l.at >= coalesce((select c.at from audit_cursors c where c.reader = $1), '1970-01-01') \
       and l.seq > coalesce((select c.seq from audit_cursors c where c.reader = $1), 0) \
       and l.seq <= (select o.first_seq + o.size - 2 from audit_logs o where o.is_open) \
     order by l.at, l.seq limit $2";
const KEEP: &str = "insert into audit_cursors (reader, seq, at) values ($1, $2, $3) \
     on conflict (tenant_id, reader) do update set seq = excluded.seq, at = excluded.at \
     where audit_cursors.seq < excluded.seq returning seq";
/// One process streams at a time: the one that has the lease, which lasts for a minute.
const LEASE: &str = "insert into audit_cursors as c (reader, seq, at, memory) \
     values ('platform-lease', 0, clock_timestamp() + interval '1 minute', jsonb_build_object('owner', $1::text)) \
     on conflict (tenant_id, reader) do update set at = excluded.at, memory = excluded.memory \
     where c.at < clock_timestamp() or c.memory ->> 'owner' = $1 returning c.seq";

struct BehindTenant {
    tenant_id: TenantId,
}
from_row!(BehindTenant { tenant_id });

struct StreamCursor {
    #[allow(dead_code, reason = "that it was kept is enough")]
    seq: i64,
}
from_row!(StreamCursor { seq });

/// Streams all tenants' rows to `AUDIT_STREAM_URL`.
pub(super) static STREAMED: Background<App> = Background {
    name: "audit stream",
    about: "Streams sealed rows of all tenants' audit logs to AUDIT_STREAM_URL, from one process at a time.",
    critical: false,
    stops: StopStage::Work,
    run: |app, stop| Box::pin(keep_streaming(app, stop)),
    observe: |_| {},
};

/// Why rows were not received.
#[derive(Debug)]
enum StreamFault {
    /// The receiver is away, or went away.
    Receiver(io::Error),
    /// The database does not answer.
    Database(Error),
}

impl fmt::Display for StreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receiver(error) => error.fmt(f),
            Self::Database(error) => error.fmt(f),
        }
    }
}

impl From<Error> for StreamFault {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<io::Error> for StreamFault {
    fn from(error: io::Error) -> Self {
        Self::Receiver(error)
    }
}

/// A receiver, and the connection to it while there is one.
struct AuditStream<'a> {
    app: &'a App,
    system: &'a System,
    trace: &'a Trace,
    url: StreamUrl,
    given: GivenBy,
    reader: &'static str,
    open: Option<Box<dyn DialedStream>>,
}

/// How far a tenant's rows go that were sent.
struct SentTo {
    tenant: TenantId,
    seq: i64,
    at: Timestamp,
}

impl AuditStream<'_> {
    /// Sends what is new of some tenants, waits until it counts as received, and moves their cursors; how many rows.
    async fn round(&mut self, tenants: &[TenantId]) -> Result<u64, StreamFault> {
        let (mut bytes, mut sent, mut rows) = (Vec::new(), Vec::new(), 0);
        for tenant in tenants {
            if rows >= MOST {
                break;
            }
            let tx = self.system.begin(self.trace).within(*tenant).await?;
            let events: Vec<AuditEvent> = tx.last().rows(ROWS, &[&self.reader, &MOST_OF_TENANT]).await?;
            let Some(last) = events.last() else { continue };
            sent.push(SentTo { tenant: *tenant, seq: last.seq, at: last.at });
            let host = self.app.config.http.public_url.as_ref();
            let host = host.and_then(|url| crate::config::host_of(url.as_str())).unwrap_or_default();
            events.iter().for_each(|event| message::write(self.url.format, host, *tenant, event, &mut bytes));
            rows += events.len();
        }
        if sent.is_empty() {
            return Ok(0);
        }
        if let Err(error) = self.deliver(&bytes).await {
            self.open = None;
            return Err(error.into());
        }
        for SentTo { tenant, seq, at } in sent {
            let tx = self.system.begin(self.trace).within(tenant).await?;
            let _: Option<StreamCursor> = tx.last().optional(KEEP, &[&self.reader, &seq, &at]).await?;
        }
        self.app.metrics.audit_streamed_rows_total.with(&[self.reader]).add(rows as u64);
        Ok(rows as u64)
    }

    async fn deliver(&mut self, bytes: &[u8]) -> io::Result<()> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.app.outbound.dial((&self.url.host, self.url.port), self.given, self.url.tls).await?,
        };
        let open = self.open.insert(open);
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the receiver does not read");
        timeout(PATIENCE, open.write_all(bytes)).await.map_err(late)??;
        timeout(PATIENCE, open.flush()).await.map_err(late)??;
        let mut answer = [0; 1024];
        // What a receiver answers does not matter: that it has gone does.
        let gone = async {
            loop {
                match open.read(&mut answer).await {
                    Ok(0) => return io::Error::new(io::ErrorKind::ConnectionReset, "the receiver has gone"),
                    Ok(_) => {}
                    Err(error) => return error,
                }
            }
        };
        match timeout(GRACE, gone).await {
            Ok(error) => Err(error),
            Err(_) => Ok(()),
        }
    }
}

/// Streams what is new of one tenant to its own receiver; how many rows. A receiver that is away is no error: what it misses waits.
///
/// # Errors
/// As the database answers.
pub async fn stream_own(
    (app, trace): (&App, &Trace),
    system: &System,
    tenant: TenantId,
    url: &StreamUrl,
) -> Result<u64> {
    let (given, reader) = (GivenBy::Tenant, OWN);
    let mut stream = AuditStream { app, system, trace, url: url.clone(), given, reader, open: None };
    let mut rows = 0;
    loop {
        match stream.round(&[tenant]).await {
            Ok(0) => return Ok(rows),
            Ok(more) => rows += more,
            Err(StreamFault::Database(error)) => return Err(error),
            Err(StreamFault::Receiver(error)) => {
                app.metrics.audit_stream_failures_total.with(&[OWN]).add(1);
                let (tenant, error) = (tenant.to_string(), error.to_string());
                tracing::warn!(tenant, error, "A tenant's receiver of audit rows is away");
                return Ok(rows);
            }
        }
    }
}

async fn keep_streaming(app: App, stop: Stop) {
    let Some(url) = app.config.audit.stream_url.clone() else { return stop.requested().await };
    let mut owner = [0; 8];
    app.rng.fill(&mut owner);
    let (owner, trace, system) = (hex(&owner), Trace::new("audit-stream"), app.queue(&STREAM));
    let (given, reader) = (GivenBy::Operator, PLATFORM);
    let mut stream =
        AuditStream { app: &app, system: &system, trace: &trace, url, given, reader, open: None };
    let (mut troubled, mut pause) = (false, LOOK);
    while stop.sleep(pause).await {
        match round_of_all(&mut stream, &owner).await {
            Ok(_) => (troubled, pause) = (false, LOOK),
            Err(fault) => {
                app.metrics.audit_stream_failures_total.with(&[PLATFORM]).add(1);
                if !std::mem::replace(&mut troubled, true) {
                    let error = fault.to_string(); // said once
                    tracing::warn!(error, receiver = %stream.url, "The receiver of audit rows is away; what it misses waits");
                }
                pause = PAUSE;
            }
        }
    }
}

async fn round_of_all(stream: &mut AuditStream<'_>, owner: &str) -> Result<u64, StreamFault> {
    let tx = stream.system.begin(stream.trace).within(TenantId::PLATFORM).await?;
    let lease: Option<StreamCursor> = tx.last().optional(LEASE, &[&owner]).await?;
    if lease.is_none() {
        stream.open = None;
        return Ok(0);
    }
    let tx = stream.system.begin(stream.trace).last();
    let behind: Vec<BehindTenant> = tx.rows(BEHIND, &[&stream.reader]).await?;
    let tenants: Vec<TenantId> = behind.into_iter().map(|behind| behind.tenant_id).collect();
    stream.round(&tenants).await
}
