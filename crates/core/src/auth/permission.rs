use std::fmt;
use std::str::FromStr;

/// A role that every tenant has. What it allows is said where permissions are declared, so that a new module's come to
/// it by themselves; a tenant's own roles are rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Answers for the tenant: may do everything in it.
    Owner,
    /// Runs the tenant for its owners: may do what is not theirs alone.
    Administrator,
    /// Works in the tenant: reads and changes its data.
    Member,
    /// Examines: sees all that others see, and what only owners see of what was done.
    Auditor,
    /// Looks on.
    ReadOnly,
}

impl Role {
    /// All of them, those who may do most first.
    pub const ALL: [Self; 5] =
        [Self::Owner, Self::Administrator, Self::Member, Self::Auditor, Self::ReadOnly];

    /// Whether the role has `permission`. Administrators have what owners have, but for what is theirs alone, and auditors what
    /// those have who look on: a module does not name them.
    pub fn has(self, permission: &Permission) -> bool {
        let listed = |role| permission.roles.contains(&role);
        listed(self)
            || match self {
                Self::Administrator => listed(Self::Owner) && !permission.owners_alone,
                Self::Auditor => listed(Self::ReadOnly),
                Self::Owner | Self::Member | Self::ReadOnly => false,
            }
    }

    /// The role's name as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Administrator => "administrator",
            Self::Member => "member",
            Self::Auditor => "auditor",
            Self::ReadOnly => "read-only",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a role.
#[derive(Debug)]
pub struct UnknownRole;

impl fmt::Display for UnknownRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a role: owner, administrator, member, auditor or read-only")
    }
}

impl std::error::Error for UnknownRole {}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// One thing that a caller may be allowed to do. Declared in a module's table with [`permissions!`](crate::permissions).
#[derive(Debug, PartialEq, Eq)]
pub struct Permission {
    /// `module.resource.verb`; never reused for something else.
    pub name: &'static str,
    /// What it allows, for the administrator who grants it.
    pub what: &'static str,
    /// The roles that have it; see [`Role::has`] for those that follow from them.
    pub roles: &'static [Role],
    /// Whether it is kept from administrators.
    pub owners_alone: bool,
}

/// Whether a row of [`permissions!`](crate::permissions) says `alone`.
#[doc(hidden)]
#[macro_export]
macro_rules! is_said {
    () => {
        false
    };
    (alone) => {
        true
    };
}

/// Declares a table of permissions: `NAME = "module.resource.verb" to [Owner, Member]: "what it allows";`. Administrators have
/// what owners have, unless it says `to [Owner] alone`, and auditors what `ReadOnly` has.
#[macro_export]
macro_rules! permissions {
    ($(#[$doc:meta])* $vis:vis $table:ident {
        $($name:ident = $permission:literal to [$($role:ident),+] $($alone:ident)?: $what:literal;)+
    }) => {
        $(
            #[doc = $what]
            $vis static $name: $crate::auth::Permission = $crate::auth::Permission {
                name: $permission,
                what: $what,
                roles: &[$($crate::auth::Role::$role),+],
                owners_alone: $crate::is_said!($($alone)?),
            };
        )+

        $(#[$doc])*
        $vis static $table: &[&$crate::auth::Permission] = &[$(&$name),+];
    };
}
