//! Why Redis is not in use, in an operator's words.

use redis::ServerErrorKind::{
    Ask, BusyLoading, ClusterDown, CrossSlot, MasterDown, Moved, NoPerm, ReadOnly, TryAgain,
};
use redis::{ErrorKind, RedisError};

/// Why instances do not share their limits, and each limits by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No answer, or none in time: it may come back any moment.
    Silent,
    /// It refuses writes, as a replica does, or a server that is out of memory.
    NoWrites,
    /// The user or the password is wrong.
    Credentials,
    /// The user may not run what limits need.
    Denied,
    /// The keys lie on several nodes.
    Cluster,
    /// It answers, with an error of another kind.
    Refused,
}

impl Trouble {
    pub(crate) fn of(error: &RedisError) -> Self {
        let text = error.to_string();
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Credentials,
            ErrorKind::Server(Moved | Ask | ClusterDown | CrossSlot) => Self::Cluster,
            ErrorKind::Server(ReadOnly) => Self::NoWrites,
            _ if is_denied(error) => Self::Denied,
            _ if error.code() == Some("NOAUTH") || error.code() == Some("WRONGPASS") => Self::Credentials,
            _ if error.code() == Some("OOM") || text.contains("OOM ") => Self::NoWrites,
            ErrorKind::Server(BusyLoading | MasterDown | TryAgain) => Self::Silent, // and will answer soon
            _ if error.code() == Some("BUSY") => Self::Silent,
            ErrorKind::Server(_) | ErrorKind::Extension => Self::Refused,
            _ => Self::Silent,
        }
    }

    /// Whether somebody must do something before it can end.
    pub(crate) fn lasts(self) -> bool {
        matches!(self, Self::Credentials | Self::Denied | Self::Cluster)
    }

    /// What is wrong, and what to do.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Silent => "Redis does not answer: each instance limits by itself",
            Self::NoWrites => {
                "Redis takes no writes, as a replica or for want of memory: each instance limits by itself. Name the \
                 primary in REDIS_URL, or raise maxmemory"
            }
            Self::Credentials => {
                "Redis refuses the user or the password of REDIS_URL: each instance limits by itself. Correct them, in \
                 the form redis://user:password@host:6379"
            }
            Self::Denied => {
                "Redis denies a command to the user of REDIS_URL: each instance limits by itself. Grant it ~erp:rl:* \
                 ~erp:cache:* +eval +evalsha +script|load +time +get +set +del"
            }
            Self::Cluster => {
                "REDIS_URL names a node of a Redis Cluster, which limits cannot use: each instance limits by itself. \
                 Name a Redis that is not in cluster mode"
            }
            Self::Refused => {
                "Redis answers with an error: each instance limits by itself. Correct what it names"
            }
        }
    }
}

/// Whether the user may not run this, or what the script calls: that is a plain error, in words that changed with Redis 7.
pub(super) fn is_denied(error: &RedisError) -> bool {
    let text = error.to_string();
    let in_the_script = text.contains("ACL failure in script")
        || text.contains("NOPERM")
        || text.contains("can't run this command");
    error.kind() == ErrorKind::Server(NoPerm) || in_the_script
}
