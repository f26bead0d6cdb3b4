//! Values that every room of the house uses: ids, secrets, time and randomness as arguments.

mod clock;
mod hex;
mod id;
mod network;
mod panics;
mod rng;
mod secret;
mod seldom;
mod shares;
mod text;
mod trace_context;
mod weights;

/// The largest integer that every reader of JSON reads exactly: 2^53 - 1. JavaScript takes larger ones for their neighbours.
pub const LARGEST_EXACT: i64 = 9_007_199_254_740_991;

pub use clock::{Clock, ManualClock, SystemClock};
pub(crate) use hex::{hex, put_hex};
pub use id::{Id, IdKind, InvalidId, Tenant, TenantId, User, UserId};
pub use network::{authority, network, site};
pub use panics::panic_message;
pub use rng::{Rng, SystemRng};
pub use secret::Secret;
pub use seldom::Seldom;
pub(crate) use shares::{Shares, most_of};
pub(crate) use text::{Form, normalise};
pub use text::{Identifier, Text};
pub use trace_context::TraceContext;
pub(crate) use weights::choices;
