//! What goes wrong on a connection, and what PostgreSQL says about it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorFields;
use tokio_postgres::error::SqlState;

type Cause = Box<dyn StdError + Send + Sync>;

/// Why a statement failed, or a connection.
#[derive(Debug)]
pub enum Error {
    /// The server refused something.
    Server(Box<ServerError>),
    /// The connection broke.
    Io(io::Error),
    /// The server closed the connection, or we did.
    Closed,
    /// The server sent what it should not have sent.
    Protocol(&'static str),
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
    pub(in crate::db) state: SqlState,
    pub(in crate::db) constraint: Option<String>,
    /// The function of PostgreSQL's source that raised it.
    pub(in crate::db) routine: String,
    severity: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    /// The server closes the connection.
    pub(super) fatal: bool,
}

impl Error {
    /// What the server said, if it did.
    pub(in crate::db) fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            _ => None,
        }
    }

    /// The connection is gone: not refused, not misused.
    pub(in crate::db) fn is_broken(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Closed | Self::Protocol(_))
    }
}

impl ServerError {
    pub(super) fn parse(mut fields: ErrorFields<'_>) -> Result<Self, Error> {
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
        while let Some(field) = fields.next().map_err(|_| Error::Protocol("an error without an end"))? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'S' => error.severity = value,
                b'V' => error.fatal = value != "ERROR",
                b'C' => error.state = SqlState::from_code(&value),
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                b'n' => error.constraint = Some(value),
                b'R' => error.routine = value,
                _ => {}
            }
        }
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::Io(_) => f.write_str("the connection to the database broke"),
            Self::Closed => f.write_str("the database closed the connection"),
            Self::Protocol(what) => write!(f, "the database sent {what}"),
            Self::Session(_) => f.write_str("a session with the database could not be opened"),
            Self::Parameter(number, _) => write!(f, "the value of ${number} does not fit"),
            Self::Column(name, _) => write!(f, "the column '{name}' cannot be read"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Session(cause) | Self::Parameter(_, cause) | Self::Column(_, cause) => Some(cause.as_ref()),
            Self::Server(_) | Self::Closed | Self::Protocol(_) => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Closed } else { Self::Io(error) }
    }
}

impl From<Error> for crate::error::Error {
    fn from(error: Error) -> Self {
        let server = error.server();
        let state = server.map(|server| server.state.clone());
        let constraint = server.and_then(|server| server.constraint.clone());
        let broken = error.is_broken() || matches!(error, Error::Session(_));
        Self::from_database(state.as_ref(), constraint, broken, error)
    }
}
