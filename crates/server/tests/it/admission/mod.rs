//! Who may go on: credentials, tenants, limits, overload.

mod fields;
mod grants;
mod management;
mod overload;
mod rate_limits;
mod selection;
mod sign_in;
mod tenancy;
mod tokens;
