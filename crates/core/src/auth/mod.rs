//! Who is calling, and what they may do: credentials are verified here, and here alone.

mod authenticator;
mod blocklist;
mod caller;
mod cbor;
mod credential;
mod csrf;
mod entitlements;
mod fields;
mod foreign_hash;
mod known;
mod known_device;
mod known_keys;
mod known_slugs;
mod numbered;
mod operator;
mod passkey;
mod passkey_challenges;
mod password;
mod permission;
mod permissions;
mod qr;
mod recovery;
mod remembered;
mod required;
mod session;
mod signing;
mod tenant_secret;
mod totp;
mod verified;

pub use authenticator::{AccessToken, Authenticator};
pub use blocklist::is_blocked;
pub use caller::{Actor, Caller, Trace};
pub use credential::{Credential, Identity, SESSION_COOKIE, bearer, cookie, key_header};
pub use csrf::CsrfKeys;
pub use entitlements::{
    AnyTenantSetting, Counting, EntitlementTable, Entitlements, Flag, FlagReason, FlagState,
    KnownEntitlements, Meter, MonthDay, Networks, ReadSetting, SettingBounds, SettingValue,
    StoredEntitlements, StoredRollout, TenantPlan, TenantSetting, TenantSettingFacts, ZoneName,
};
pub use fields::{ConcealedColumns, GuardedColumns};
pub(crate) use fields::{EACH, GuardedField, GuardedFields};
pub(crate) use known::Grantee;
pub use known::KnownPermissions;
pub use known_device::DeviceKeys;
pub use known_keys::KnownKeys;
pub use known_slugs::KnownSlugs;
pub use operator::Operator;
pub use passkey::{
    InvalidPasskey, NewPasskey, PASSKEY_ALGORITHMS, PasskeyAct, PasskeyChallenge, PasskeyRequest,
    PasskeySite, ProvenPasskey,
};
pub use passkey_challenges::PasskeyChallengeKeys;
pub use password::{PasswordHash, PasswordVerdict, Passwords, normalised};
pub use permission::{Permission, Role, UnknownRole};
pub use permissions::{Grants, OwnRole, PermissionTable, Permissions};
pub use qr::qr_png;
pub use recovery::{recovery_code, recovery_hash};
pub use required::{PersonStanding, RequiredAction, RequiredActions};
pub use session::{Method, Methods, RefreshKey, RefreshKeys, RefreshToken, SignedIn};
pub use signing::{PublicKey, PublicKeys};
pub use tenant_secret::TenantSecret;
pub use totp::{TotpSeal, TotpSeed};
