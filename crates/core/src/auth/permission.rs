use std::fmt;
use std::str::FromStr;

/// A role that every tenant has. What it allows is said where permissions are declared, so that a new module's come to
/// it by themselves; a tenant's own roles are rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the tenant: may do everything in it.
    Owner,
    /// Works in the tenant: reads and changes its data.
    Member,
    /// Looks on.
    ReadOnly,
}

impl Role {
    /// The role's name as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
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
        f.write_str("not a role: owner, member or read-only")
    }
}

impl std::error::Error for UnknownRole {}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        [Self::Owner, Self::Member, Self::ReadOnly]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(UnknownRole)
    }
}

/// One thing that a caller may be allowed to do. Declared in a module's table with [`permissions!`](crate::permissions).
#[derive(Debug, PartialEq, Eq)]
pub struct Permission {
    /// `module.resource.verb`; never reused for something else.
    pub name: &'static str,
    /// What it allows, for the administrator who grants it.
    pub what: &'static str,
    /// The roles that have it.
    pub roles: &'static [Role],
}

/// Declares a table of permissions: `NAME = "module.resource.verb" to [Owner, Member]: "what it allows";`.
#[macro_export]
macro_rules! permissions {
    ($(#[$doc:meta])* $vis:vis $table:ident {
        $($name:ident = $permission:literal to [$($role:ident),+]: $what:literal;)+
    }) => {
        $(
            #[doc = $what]
            $vis static $name: $crate::auth::Permission = $crate::auth::Permission {
                name: $permission,
                what: $what,
                roles: &[$($crate::auth::Role::$role),+],
            };
        )+

        $(#[$doc])*
        $vis static $table: &[&$crate::auth::Permission] = &[$(&$name),+];
    };
}
