//! What can become of a call other than an answer.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::resolver::NotPublic;
use crate::error::{Error, codes};

type OutboundCause = Box<dyn StdError + Send + Sync>;

/// Why there is no answer to a call, or none that is of use.
#[derive(Debug)]
pub enum OutboundError {
    /// The call was recorded and not sent, since `OUTBOUND_ALLOW` does not list its host.
    Held,
    /// The call was not sent: its path or a header is malformed, or its body is larger than 10 MiB.
    Malformed(OutboundCause),
    /// The call was not sent: the name in a tenant's URL leads to no public address now.
    Refused(OutboundCause),
    /// The call was not sent: the destination has failed so often that it is left alone for so long.
    LeftAlone(Duration),
    /// The call was not sent: no connection could be opened, or no TLS spoken.
    Unreachable(OutboundCause),
    /// The connection was lost, or what came is no HTTP. The call may have had an effect.
    Broken(OutboundCause),
    /// There was no whole answer in time. The call may have had an effect.
    TimedOut,
    /// The answer, of this status, is larger than the caller allows. The call has had its effect.
    TooLarge(StatusCode),
    /// The answer has another status than success: see [`OutboundResponse::success`](super::OutboundResponse::success).
    Status(StatusCode),
    /// The body of the answer is not what the caller expects.
    Unreadable(OutboundCause),
}

impl OutboundError {
    /// What became of the client's own attempt.
    pub(super) fn of(error: reqwest::Error) -> Self {
        if let Some(refusal) = cause::<NotPublic>(&error) {
            return if refusal.is_refused() {
                Self::Refused(error.into())
            } else {
                Self::Unreachable(error.into())
            };
        }
        match error {
            error if error.is_connect() => Self::Unreachable(error.into()),
            error if error.is_timeout() => Self::TimedOut,
            error if error.is_builder() => Self::Malformed(error.into()),
            error => Self::Broken(error.into()),
        }
    }

    /// The word for it in metrics and in the log.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Malformed(_) => "malformed",
            Self::Refused(_) => "refused",
            Self::LeftAlone(_) => "left_alone",
            Self::Unreachable(_) => "unreachable",
            Self::Broken(_) => "broken",
            Self::TimedOut => "timed_out",
            Self::TooLarge(_) => "too_large",
            Self::Status(status) => super::response::outcome(*status),
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// Whether the destination is to blame, and so the breaker counts it.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Broken(_) | Self::TimedOut)
    }
}

/// The first error of this type in the chain of causes.
fn cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

impl fmt::Display for OutboundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("not sent, since OUTBOUND_ALLOW does not list its host"),
            Self::Malformed(_) => f.write_str("not sent, since the call is malformed"),
            Self::Refused(_) => f.write_str("not sent, since the name leads to no public address"),
            Self::LeftAlone(pause) => {
                write!(
                    f,
                    "not sent, since the destination fails and is left alone for {} s",
                    pause.as_secs_f32().ceil()
                )
            }
            Self::Unreachable(_) => f.write_str("the destination cannot be reached"),
            Self::Broken(_) => f.write_str("the connection was lost, or what came is not HTTP"),
            Self::TimedOut => f.write_str("there was no whole answer in time"),
            Self::TooLarge(status) => write!(f, "the answer, {status}, is too large"),
            Self::Status(status) => write!(f, "the answer is {status}"),
            Self::Unreadable(_) => f.write_str("the answer is not what was expected"),
        }
    }
}

impl StdError for OutboundError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Malformed(cause)
            | Self::Refused(cause)
            | Self::Unreachable(cause)
            | Self::Broken(cause)
            | Self::Unreadable(cause) => Some(&**cause),
            Self::Held | Self::LeftAlone(_) | Self::TimedOut | Self::TooLarge(_) | Self::Status(_) => None,
        }
    }
}

/// For a handler that cannot do without the answer.
impl From<OutboundError> for Error {
    fn from(error: OutboundError) -> Self {
        let failed = match &error {
            OutboundError::Malformed(_) => return Self::internal(error),
            OutboundError::LeftAlone(pause) => Self::new(&codes::EXTERNAL_FAILED).retry_after(*pause),
            _ => Self::new(&codes::EXTERNAL_FAILED),
        };
        failed.because(error)
    }
}
