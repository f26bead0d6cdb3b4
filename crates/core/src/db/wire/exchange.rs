//! One exchange: messages up to a Sync go out together, and what comes back is read until the server is ready again.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use postgres_protocol::message::frontend::BindError;
use postgres_protocol::message::{backend, frontend};
use postgres_types::IsNull;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};
use tokio_util::io::poll_read_buf;

use super::error::ServerError;
use super::inbox::Message;
use super::prepare::{Text, fields};
use super::{Column, Error, Plan, Rows, Status, Wire};
use crate::db::Params;

/// How values travel: our own texts as they are, all others as PostgreSQL holds them.
const TEXT: i16 = 0;
const BINARY: i16 = 1;
const TIMEOUT: &str = "select set_config('statement_timeout', $1, true)";
/// As many rows as there are.
const ALL: i32 = 0;

/// What has been put together for the next exchange.
#[derive(Default)]
pub(super) struct Batch {
    /// How many statements it executes, and which of them returns the rows that are wanted.
    steps: usize,
    wanted: Option<usize>,
    /// What that one returns, where it is known already; else whose description comes along.
    columns: Option<Arc<[Column]>>,
    described: Option<Text>,
    /// Statements that the server has not confirmed yet, in their order.
    pub(super) preparing: VecDeque<(Text, Arc<str>)>,
}

/// What came back of an exchange that succeeded. The rows lie in the connection until its next exchange begins.
#[derive(Debug, Default)]
pub(in crate::db) struct Reply {
    rows: Range<usize>,
    columns: Option<Arc<[Column]>>,
    /// The last command was COMMIT, and did not turn out a rollback.
    pub(in crate::db) committed: bool,
}

/// What has been read of an answer so far.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) step: usize,
    pub(super) refusal: Option<Error>,
    first_row: Option<usize>,
    rows: Range<usize>,
    committed: bool,
}

impl Wire {
    /// Begins to put an exchange together.
    ///
    /// # Errors
    /// When the last one was given up half-way: its answer would be taken for the one to this.
    pub(in crate::db) fn begin(&mut self) -> Result<(), Error> {
        if self.broken || self.awaited > 0 || !self.out.is_empty() {
            return Err(Error::Closed);
        }
        self.inbox.clear();
        self.batch = Batch::default();
        Ok(())
    }

    /// Adds a statement of our own, whose values are texts and whose rows do not matter.
    ///
    /// # Errors
    /// When a value is longer than any message.
    pub(in crate::db) fn own(&mut self, sql: &'static str, values: &[&str]) -> Result<(), Error> {
        let outcome = self
            .prepare(sql, &[])
            .and_then(|prepared| bind_texts(&prepared.name, values, BINARY, &mut self.out));
        self.execute("", ALL, outcome)
    }

    /// Bounds the statements that follow in this transaction.
    ///
    /// # Errors
    /// None that are known of.
    pub(in crate::db) fn bound(&mut self, limit: Option<Duration>) -> Result<(), Error> {
        limit.map_or(Ok(()), |limit| self.own(TIMEOUT, &[&limit.as_millis().to_string()]))
    }

    /// Adds a statement of our own whose one row is wanted, as texts.
    pub(super) fn own_row(&mut self, sql: &'static str, values: &[&str]) -> Result<(), Error> {
        self.batch.wanted = Some(self.batch.steps);
        let outcome = self
            .prepare(sql, &[])
            .and_then(|prepared| bind_texts(&prepared.name, values, TEXT, &mut self.out));
        self.execute("", ALL, outcome)
    }

    /// Adds the statement whose rows are wanted.
    ///
    /// # Errors
    /// When a value does not fit its parameter: nothing of the exchange is then sent.
    pub(in crate::db) fn statement(&mut self, plan: &Plan, params: Params<'_>) -> Result<(), Error> {
        self.portal("", ALL, plan, params)
    }

    /// The same through a portal, which hands out at most so many rows at a time.
    pub(super) fn portal(
        &mut self,
        name: &str,
        most: i32,
        plan: &Plan,
        params: Params<'_>,
    ) -> Result<(), Error> {
        let outcome = self.prepare(plan.sql, &plan.types).and_then(|prepared| {
            bind(name, &prepared.name, plan, params, &mut self.out)?;
            if prepared.columns.is_none() {
                self.batch.described = Some(Text::from(plan.sql));
                frontend::describe(b'P', name, &mut self.out)?;
            }
            self.batch.columns = prepared.columns;
            Ok(())
        });
        self.batch.wanted = Some(self.batch.steps);
        self.execute(name, most, outcome)
    }

    /// Executes what was bound; or, when it could not be, gives up the exchange before anything is sent.
    pub(super) fn execute(&mut self, portal: &str, most: i32, bound: Result<(), Error>) -> Result<(), Error> {
        let outcome = bound.and_then(|()| Ok(frontend::execute(portal, most, &mut self.out)?));
        match outcome {
            Ok(()) => self.batch.steps += 1,
            Err(_) => self.out.clear(),
        }
        outcome
    }

    /// Sends what was put together and reads the answer. `sent` is set once the server may have got all of it, the last
    /// message included; until then it commits nothing.
    ///
    /// # Errors
    /// What the server refused, or how the connection broke.
    pub(in crate::db) async fn exchange(&mut self, sent: &mut bool) -> Result<Reply, Error> {
        self.sync();
        *sent = true;
        if let Err(error) = self.flush().await {
            *sent = self.out.is_empty();
            return Err(error);
        }
        let mut reading = Reading::default();
        while self.awaited > 0 {
            self.read_one(&mut reading).await?;
        }
        if let Some(refusal) = reading.refusal {
            return Err(refusal);
        }
        if reading.step != self.batch.steps {
            self.broken = true;
            return Err(Error::Protocol("fewer answers than it was asked for"));
        }
        let columns = self.batch.columns.take();
        Ok(Reply { rows: reading.rows, columns, committed: reading.committed })
    }

    /// The rows of a reply.
    pub(in crate::db) fn rows<'a>(&'a self, reply: &'a Reply) -> Rows<'a> {
        let messages = self.inbox.bytes.get(reply.rows.clone()).unwrap_or_default();
        Rows { columns: reply.columns.as_deref().unwrap_or_default(), messages }
    }

    /// Reads one message of an answer.
    ///
    /// # Errors
    /// When the connection is of no more use; then with what the server had said before, if it had.
    pub(super) async fn read_one(&mut self, reading: &mut Reading) -> Result<Message, Error> {
        let outcome = match self.message().await {
            Ok(message) => self.take_in(&message, reading).map(|()| message),
            Err(error) => Err(error),
        };
        outcome.map_err(|error| {
            self.broken = true;
            reading.refusal.take().unwrap_or(error)
        })
    }

    fn take_in(&mut self, message: &Message, reading: &mut Reading) -> Result<(), Error> {
        let wanted = self.is_wanted(reading);
        match message.tag {
            backend::DATA_ROW_TAG if wanted => drop(reading.first_row.get_or_insert(message.start)),
            backend::DATA_ROW_TAG | backend::BIND_COMPLETE_TAG | backend::NO_DATA_TAG => {}
            backend::PORTAL_SUSPENDED_TAG | backend::PARAMETER_DESCRIPTION_TAG => {}
            backend::PARSE_COMPLETE_TAG => self.confirm_prepared(),
            backend::ROW_DESCRIPTION_TAG => self.describe_rows(message)?,
            backend::COMMAND_COMPLETE_TAG | backend::EMPTY_QUERY_RESPONSE_TAG => {
                if wanted {
                    reading.rows = reading.first_row.unwrap_or(message.start)..message.start;
                }
                reading.committed = self.inbox.body(message) == b"COMMIT\0";
                reading.step += 1;
            }
            _ => return self.end_or_refusal(message, &mut reading.refusal),
        }
        Ok(())
    }

    /// Whether what is read now belongs to the statement whose rows are wanted.
    pub(super) fn is_wanted(&self, reading: &Reading) -> bool {
        self.batch.wanted == Some(reading.step)
    }

    /// What the statement of the present exchange returns.
    pub(super) fn columns(&self) -> &[Column] {
        self.batch.columns.as_deref().unwrap_or_default()
    }

    /// Keeps what the statement returns, for its next use in this session too.
    fn describe_rows(&mut self, message: &Message) -> Result<(), Error> {
        let fields = fields(&self.inbox.parse(message)?)?;
        let column = |(name, oid): (String, _)| Column { name: name.into(), kind: self.plans.kind(oid) };
        let columns: Arc<[Column]> = fields.into_iter().map(column).collect();
        if let Some(prepared) = self.batch.described.take().and_then(|text| self.prepared.get_mut(&text)) {
            prepared.columns = Some(Arc::clone(&columns));
        }
        self.batch.columns = Some(columns);
        Ok(())
    }

    /// What an answer may hold besides results: its end, or a refusal, after which the server skips to the Sync.
    pub(super) fn end_or_refusal(
        &mut self,
        message: &Message,
        refusal: &mut Option<Error>,
    ) -> Result<(), Error> {
        match self.inbox.parse(message)? {
            backend::Message::ReadyForQuery(ready) => {
                self.status = match ready.status() {
                    b'I' => Status::Idle,
                    b'T' => Status::Open,
                    b'E' => Status::Failed,
                    _ => return Err(Error::Protocol("a state that does not exist")),
                };
                self.awaited -= 1;
                Ok(())
            }
            backend::Message::ErrorResponse(body) => {
                let error = ServerError::parse(body.fields())?;
                let fatal = error.fatal;
                refusal.get_or_insert(Error::Server(Box::new(error)));
                if fatal { Err(Error::Closed) } else { Ok(()) } // it hangs up after a fatal one
            }
            _ => Err(Error::Protocol("a message out of turn")),
        }
    }

    /// Ends what is to be sent: the server answers up to here, and commits what stands outside BEGIN and COMMIT.
    pub(super) fn sync(&mut self) {
        frontend::sync(&mut self.out);
        self.awaited += 1;
    }

    /// Reads what is still to come and throws it away.
    pub(super) async fn drain(&mut self) -> Result<(), Error> {
        while self.awaited > 0 {
            let message = self.message().await?;
            if message.tag == backend::READY_FOR_QUERY_TAG {
                self.end_or_refusal(&message, &mut None)?;
            }
            self.inbox.consume();
        }
        Ok(())
    }

    /// The next message that matters.
    pub(super) async fn message(&mut self) -> Result<Message, Error> {
        loop {
            match self.inbox.next() {
                Ok(Some(message)) if message.is_news() => {}
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
    pub(super) async fn fill(&mut self) -> Result<(), Error> {
        self.inbox.make_room().inspect_err(|_| self.broken = true)?;
        let read = self.socket.read_buf(&mut self.inbox.bytes).await.map_err(Error::from);
        match read {
            Ok(1..) => Ok(()),
            Ok(0) => self.broke(Error::Closed),
            Err(error) => self.broke(error),
        }
    }

    /// Sends all of `out`.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        poll_fn(|cx| self.poll_send(cx)).await.or_else(|error| self.broke(error))
    }

    fn broke(&mut self, error: Error) -> Result<(), Error> {
        self.broken = true;
        Err(error)
    }

    /// Reads while it cannot write: a server that waits for us to take its rows reads nothing more from us.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.out) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Error::Closed)),
                Poll::Ready(Ok(sent)) => self.out.advance(sent),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    self.inbox.make_room()?;
                    let read = poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.inbox.bytes);
                    if ready!(read)? == 0 {
                        return Poll::Ready(Err(Error::Closed));
                    }
                }
            }
        }
        Pin::new(&mut self.socket).poll_flush(cx).map_err(Error::from)
    }
}

fn bind(portal: &str, name: &str, plan: &Plan, params: Params<'_>, out: &mut BytesMut) -> Result<(), Error> {
    let expected = plan.types.len();
    if params.len() != expected {
        return Err(Error::Parameter(params.len(), format!("the statement takes {expected} values").into()));
    }
    let number = Cell::new(0);
    let values = || params.iter().zip(&plan.types);
    let formats = values().map(|(value, kind)| value.encode_format(kind) as i16);
    let write = |(value, kind): (&&(dyn crate::db::ToSql + Sync), &_), out: &mut BytesMut| {
        number.set(number.get() + 1);
        value.to_sql_checked(kind, out).map(|null| match null {
            IsNull::Yes => postgres_protocol::IsNull::Yes,
            IsNull::No => postgres_protocol::IsNull::No,
        })
    };
    frontend::bind(portal, name, formats, values(), write, [BINARY], out).map_err(|error| match error {
        BindError::Conversion(cause) => Error::Parameter(number.get(), cause),
        BindError::Serialization(cause) => Error::Parameter(number.get(), cause.into()),
    })
}

fn bind_texts(name: &str, values: &[&str], results: i16, out: &mut BytesMut) -> Result<(), Error> {
    let write = |value: &&str, out: &mut BytesMut| {
        out.extend_from_slice(value.as_bytes());
        Ok(postgres_protocol::IsNull::No)
    };
    frontend::bind("", name, [TEXT], values, write, [results], out).map_err(|error| match error {
        BindError::Conversion(cause) => Error::Parameter(0, cause),
        BindError::Serialization(cause) => Error::Parameter(0, cause.into()),
    })
}
