//! Whether a request may go on: it can be read, its caller is known, within the limits, and allowed.

pub(super) mod access;
pub(super) mod authenticate;
pub(super) mod csrf;
pub(super) mod fields;
pub(super) mod overload;
pub(crate) mod rate_limit;
pub(super) mod size;
pub(super) mod tenant;
pub(super) mod unread;

use axum::response::Response;

use crate::auth::Credential;
use crate::module::Route;

/// What a request is about, before anything is read for it.
pub(super) enum Asked<'edge> {
    /// A route, and what the request brings to say who asks, if the route wants to know.
    Route(&'edge Route, Credential),
    /// Which methods there are: it is answered already.
    Options(Response),
    /// Plain HTTP: it is answered already.
    Redirected(Response),
}
