//! How the process starts, stops and with which code it exits.

use std::error::Error as StdError;
use std::fmt;

/// The process's exit codes (contract, "Command line and process"). A forced stop by signal is 128 + n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// A check found something: `doctor`, `verify`, `db check`.
    Finding = 1,
    /// The command line was not understood.
    Usage = 2,
    /// A service, a program or a port is missing or cannot be reached.
    Unavailable = 69,
    /// A migration failed, or a fault of our own.
    Internal = 70,
    /// The data folder cannot be used.
    DataFolder = 73,
    /// The isolation proof found a hole: the port was not bound.
    Isolation = 77,
    /// A setting is missing, invalid or refused.
    Configuration = 78,
}

/// Why the process cannot go on, in one line for a person, with the exit code that belongs to it.
#[derive(Debug)]
pub struct StartError {
    /// The code the process ends with.
    pub exit: Exit,
    /// What happened and what to do, for the terminal. Never holds a secret's value.
    pub message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StartError {
    /// A start that failed for the reason in `message`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), source: None }
    }

    /// The same with its cause, which goes to the log and not to the terminal.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for StartError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
