//! What goes wrong on a connection, and what PostgreSQL says about it.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{self, ErrorFields};
use tokio_postgres::error::SqlState;

use super::attempts::Fault;
use super::limits::Excess;

/// What caused an error.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Why a statement failed, or a connection.
#[derive(Debug)]
pub enum WireError {
    /// The server refused something.
    Server(Box<ServerError>),
    /// The connection broke.
    Io(io::Error),
    /// The server closed the connection, or we did.
    Closed,
    /// The server sent what it should not have sent.
    Protocol(&'static str),
    /// The server sent more than a connection may hold: a statement that returns too much.
    TooLarge {
        /// What there was too much of.
        what: Excess,
        /// How many bytes of it are taken.
        limit: usize,
    },
    /// No session could be opened: what went wrong at each address that was tried.
    Opening(Vec<Fault>),
    /// The name of a host leads nowhere.
    Name(io::Error),
    /// An address took its whole share of the time.
    Silent(Duration),
    /// TLS could not be agreed on.
    Tls(Cause),
    /// The server has no TLS, and `sslmode` asks for it.
    NoTls,
    /// The session is not what it must be: what its [`Inspection`](crate::Inspection) says.
    Unfit(Cause),
    /// A session could not be opened for a reason of our own.
    Session(Cause),
    /// A value does not fit its parameter, counted from 1. Nothing was sent.
    Parameter(usize, Cause),
    /// A column is not there, or is of another type.
    Column(String, Cause),
}

/// The fields of ErrorResponse that mean something to us.
#[derive(Debug)]
pub struct ServerError {
    /// The SQLSTATE.
    pub state: SqlState,
    /// The constraint that was violated.
    pub constraint: Option<String>,
    /// The function of PostgreSQL's source that raised it.
    pub routine: String,
    severity: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    /// The server closes the connection.
    pub(super) fatal: bool,
}

impl ServerError {
    /// What it says beside its message, which a function of ours may have written for programs.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl WireError {
    /// What the server said, if it did.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            Self::Opening(faults) => faults.last()?.error.server(),
            _ => None,
        }
    }

    /// The connection is gone: not refused, not misused.
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Io(_) | Self::Closed | Self::Protocol(_) => true,
            Self::Opening(faults) => faults.last().is_some_and(|fault| fault.error.is_broken()),
            _ => false,
        }
    }

    /// No session was opened: no fault of what was to be done with it.
    pub fn is_opening(&self) -> bool {
        matches!(
            self,
            Self::Opening(_)
                | Self::Name(_)
                | Self::Silent(_)
                | Self::Tls(_)
                | Self::NoTls
                | Self::Unfit(_)
                | Self::Session(_)
        )
    }

    /// The session is not the one that we prepared our statements in: a pooler has put another one in its place.
    pub fn is_foreign(&self) -> bool {
        let foreign = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];
        matches!(self, Self::Server(server) if foreign.contains(&server.state) || server.misses_parameters())
    }

    /// The session has ended, or somebody between has lost it: nothing tells what became of the transaction.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::TooLarge { .. } => true, // it was left in the middle
            Self::Server(server) => server.is_last(),
            Self::Opening(_) => {
                let ended = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];
                self.is_broken() || self.server().is_some_and(|server| ended.contains(&server.state))
            }
            _ => self.is_broken(),
        }
    }
}

impl ServerError {
    /// What it says, in the language of the server.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// After it nothing comes of this transaction. Poolers report with class 08 that they have lost the server, some of
    /// them as a mere error; other databases say by 40003 that they do not know.
    fn is_last(&self) -> bool {
        let state = self.state.code();
        let lost = state.starts_with("08") || state.starts_with("57P0") || state == "40003";
        self.fatal || (lost && !self.misses_parameters())
    }

    /// The statement of this name takes others than were sent. It has not begun.
    fn misses_parameters(&self) -> bool {
        self.state == SqlState::PROTOCOL_VIOLATION && self.routine == "exec_bind_message"
    }

    /// Reads a whole ErrorResponse, header included, as a proxy or a test may hold it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        match backend::Message::parse(&mut BytesMut::from(message)) {
            Ok(Some(backend::Message::ErrorResponse(body))) => Self::from_fields(body.fields()),
            _ => Err(WireError::Protocol("what is no error")),
        }
    }

    pub(super) fn from_fields(mut fields: ErrorFields<'_>) -> Result<Self, WireError> {
        let mut error = Self {
            state: SqlState::INTERNAL_ERROR,
            constraint: None,
            routine: String::new(),
            severity: "ERROR".to_owned(),
            message: String::new(),
            detail: None,
            hint: None,
            fatal: false,
        };
        let mut severity = None; // in English; poolers leave it out
        while let Some(field) = fields.next().map_err(|_| WireError::Protocol("an error without an end"))? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'S' => error.severity = value,
                b'V' => severity = Some(value),
                b'C' => error.state = SqlState::from_code(&value),
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                b'n' => error.constraint = Some(value),
                b'R' => error.routine = value,
                _ => {}
            }
        }
        error.fatal = match severity {
            Some(severity) => severity != "ERROR",
            None => ["FATAL", "PANIC"].contains(&error.severity.as_str()),
        };
        Ok(error)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.severity, self.message, self.state.code())?;
        for (name, text) in [("DETAIL", &self.detail), ("HINT", &self.hint)] {
            if let Some(text) = text {
                write!(f, "\n{name}: {text}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::Io(_) => f.write_str("the connection to the database broke"),
            Self::Closed => f.write_str("the database closed the connection"),
            Self::Protocol(what) => write!(f, "the database sent {what}"),
            Self::TooLarge { what, limit } => {
                let (what, fix) = match what {
                    Excess::Row => ("a row", "let the statement return less of it"),
                    Excess::Description => ("a description, error or notice", "let it say less"),
                    Excess::Answer => ("an answer", "let it return fewer rows, or read them as a stream"),
                };
                write!(f, "the database sent {what} of more than {limit} bytes: {fix}")
            }
            Self::Opening(faults) => {
                f.write_str("no session with the database could be opened")?;
                faults.iter().try_for_each(|Fault { place, error }| write!(f, "; at {place}: {error}"))
            }
            Self::Name(_) => f.write_str("the name of the database's host leads nowhere"),
            Self::Silent(limit) => write!(f, "the database did not answer within {} s", limit.as_secs_f64()),
            Self::Tls(_) => f.write_str("TLS with the database could not be agreed on"),
            Self::NoTls => f.write_str("the database has no TLS, and sslmode asks for it"),
            Self::Unfit(cause) => write!(f, "the database {cause}"),
            Self::Session(_) => f.write_str("a session with the database could not be opened"),
            Self::Parameter(number, _) => write!(f, "the value of ${number} does not fit"),
            Self::Column(name, _) => write!(f, "the column '{name}' cannot be read"),
        }
    }
}

impl StdError for WireError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Io(error) | Self::Name(error) => Some(error),
            Self::Opening(faults) => faults.last()?.error.source(),
            Self::Tls(cause) | Self::Session(cause) | Self::Parameter(_, cause) | Self::Column(_, cause) => {
                Some(cause.as_ref())
            }
            Self::Server(_) | Self::Closed | Self::Protocol(_) | Self::TooLarge { .. } => None,
            Self::Silent(_) | Self::NoTls | Self::Unfit(_) => None,
        }
    }
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Closed } else { Self::Io(error) }
    }
}

impl From<tokio_postgres::Error> for WireError {
    /// The same of the driver's.
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            return Self::Server(Box::new(ServerError {
                state: db.code().clone(),
                constraint: db.constraint().map(str::to_owned),
                routine: db.routine().unwrap_or_default().to_owned(),
                severity: db.severity().to_owned(),
                message: db.message().to_owned(),
                detail: db.detail().map(str::to_owned),
                hint: db.hint().map(str::to_owned),
                fatal: false,
            }));
        }
        if error.is_closed() {
            return Self::Closed;
        }
        let text = error.to_string();
        match error.into_source().map(|cause| cause.downcast::<io::Error>()) {
            Some(Ok(io)) => Self::from(*io),
            Some(Err(cause)) => Self::Session(cause),
            None => Self::Session(text.into()),
        }
    }
}
