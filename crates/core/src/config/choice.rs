//! Settings whose value is one of a few words.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares an enum whose variants are written as words: in settings in any case, in JSON in lower case.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident: $kind:literal { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            pub(super) const KIND: &'static str = $kind;

            /// The word for it, in lower case.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|one| one.as_str().eq_ignore_ascii_case(text)).ok_or(UnknownWord(Self::KIND))
            }
        }
    };
}

choice! {
    /// What the process is for: `APP_ENV`.
    Environment: "development, staging or production" {
        /// A person's machine: generous defaults, generated secrets.
        Development = "development",
        /// As production, with other data.
        Staging = "staging",
        /// Real tenants.
        Production = "production",
    }
}

choice! {
    /// How a connection to the mail server is protected: `SMTP_TLS`.
    SmtpTls: "none, starttls or tls" {
        /// In the clear.
        None = "none",
        /// Upgraded before anything is said (RFC 3207); refused when the server cannot.
        StartTls = "starttls",
        /// From the first byte (RFC 8314).
        Tls = "tls",
    }
}

choice! {
    /// The oldest version of TLS that the listener speaks: `TLS_MIN_VERSION`.
    TlsVersion: "1.2 or 1.3" {
        /// RFC 5246, with forward secrecy and authenticated encryption only.
        Tls12 = "1.2",
        /// RFC 8446.
        Tls13 = "1.3",
    }
}

choice! {
    /// How access tokens are signed: `JWT_ALGORITHM`.
    TokenAlgorithm: "HS256 or EdDSA" {
        /// With the secret itself (RFC 7518, 3.2).
        Hs256 = "HS256",
        /// With a key of Ed25519 that follows from the secret (RFC 8037).
        EdDsa = "EdDSA",
    }
}

choice! {
    /// Whether clients of the listener show a certificate: `TLS_CLIENT_AUTH`.
    ClientAuth: "off, optional or required" {
        /// They are not asked.
        Off = "off",
        /// They are asked, and may have none; one that they show must be good.
        Optional = "optional",
        /// Without a good one there is no connection.
        Required = "required",
    }
}

choice! {
    /// How important a log line is; a smaller one is more important: `LOG_LEVEL`.
    Level: "error, warn, info, http, debug or verbose" {
        /// Something failed and somebody should look.
        Error = "error",
        /// Something is odd, and the process copes.
        Warn = "warn",
        /// What an operator wants to read on a quiet day.
        Info = "info",
        /// One line for each request.
        Http = "http",
        /// What a developer wants to read while searching for a fault.
        Debug = "debug",
        /// Everything.
        Verbose = "verbose",
    }
}

choice! {
    /// How a log line looks: `LOG_FORMAT`.
    LogFormat: "console or json" {
        /// One line for people.
        Console = "console",
        /// One JSON object a line, for machines.
        Json = "json",
    }
}

/// The text was none of the words; holds those that are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownWord(&'static str);

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "must be {}", self.0)
    }
}

impl std::error::Error for UnknownWord {}
