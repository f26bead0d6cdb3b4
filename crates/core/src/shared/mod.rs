//! Values that every room of the house uses: ids, secrets, time and randomness as arguments.

mod aead;
mod clock;
mod currency;
mod days;
mod derived;
mod hex;
mod id;
mod int;
mod list;
mod money;
mod network;
mod rng;
mod seal;
mod secret;
mod seldom;
mod text;
mod trace_context;
mod weights;

pub(crate) use aead::AeadKey;
pub use clock::{Clock, ManualClock, SystemClock};
pub use currency::Currency;
pub use days::{Day, Days};
pub(crate) use derived::{derived, derived_key};
pub(crate) use hex::{hex, put_hex};
pub use id::{
    Id, IdKind, InvalidId, OperatorId, OperatorRow, Principal, PrincipalId, SessionId, SessionRow, Tenant,
    TenantId, User, UserId,
};
pub use int::{Int, LARGEST_EXACT, Version};
pub use list::List;
pub(crate) use money::is_decimal;
pub use money::{Money, MoneyFault};
pub use network::{authority, network, site};
pub use rng::{Rng, SystemRng};
pub(crate) use seal::SealKeys;
pub use secret::{Secret, ShownSecret};
pub use seldom::Seldom;
pub use text::{Contains, Identifier, Text};
pub(crate) use text::{Form, is_same_text, normalise};
pub use trace_context::TraceContext;
pub(crate) use weights::choices;
