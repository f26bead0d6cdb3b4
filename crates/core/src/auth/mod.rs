//! Who is calling: credentials are verified here, and here alone.

mod authenticator;
mod caller;
mod password;
mod permission;
mod verified;

pub use authenticator::{AccessToken, Authenticator, Identity};
pub use caller::{Actor, Caller, Trace};
pub use password::{PasswordHash, Passwords};
pub use permission::{Permission, Role, UnknownRole};
