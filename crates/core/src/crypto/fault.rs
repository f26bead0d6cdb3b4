use std::fmt;

/// Why something that is encrypted does not open. None of them says anything of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SealFault {
    /// It is no ciphertext: it has another form.
    Form,
    /// It names a version of the key that there is not.
    UnknownVersion(u32),
    /// The version of the key that it names has been retired: `min_decryption_version` is above it.
    Retired(u32),
    /// The key has been destroyed, and what it has encrypted with it.
    Destroyed,
    /// The version of the key that it names is wrapped by a key that this process does not have.
    Unwrapped(u32),
    /// It was changed, or belongs to another row, column or tenant.
    Altered,
    /// The library refused to encrypt, which it does beyond 64 GiB.
    TooLong,
}

impl SealFault {
    /// A word for metrics and audit entries.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::UnknownVersion(_) => "unknown_version",
            Self::Retired(_) => "retired",
            Self::Destroyed => "destroyed",
            Self::Unwrapped(_) => "no_key",
            Self::Altered => "altered",
            Self::TooLong => "too_long",
        }
    }

    /// Whether it says that somebody may have changed or moved what is stored.
    pub const fn is_suspicious(self) -> bool {
        matches!(self, Self::Form | Self::UnknownVersion(_) | Self::Altered)
    }
}

/// A sentence without a subject.
impl fmt::Display for SealFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("is no ciphertext"),
            Self::UnknownVersion(version) => {
                write!(f, "names version {version} of the tenant's key, which there is not")
            }
            Self::Retired(version) => {
                write!(f, "was encrypted with version {version} of the key, which is retired")
            }
            Self::Destroyed => f.write_str("was encrypted with a key that has been destroyed"),
            Self::Unwrapped(version) => write!(
                f,
                "was encrypted with version {version} of the key, which is wrapped by another ENCRYPTION_KEY than this process \
                 has: set ENCRYPTION_KEY_PREVIOUS to it"
            ),
            Self::Altered => f.write_str("was changed, or belongs to another row, column or tenant"),
            Self::TooLong => f.write_str("is too long to be encrypted"),
        }
    }
}

impl std::error::Error for SealFault {}

/// A field that does not open: where it stands, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unopened {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The row.
    pub row: uuid::Uuid,
    /// Why.
    pub fault: SealFault,
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, column, row, fault } = self;
        write!(f, "{table}.{column} of the row {row} {fault}")
    }
}

impl std::error::Error for Unopened {}
