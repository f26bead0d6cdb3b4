use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::Input;
use crate::error::{Error, Result, codes};

/// The tenant that the name of the host or the path selects: `acme.erp.example.com`, `/t/acme/api/…`.
///
/// Anybody can send either, so that it grants nothing. A handler of somebody who has not signed in yet takes it for what he would
/// type otherwise; of a caller, it has selected among his memberships already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelectedTenant(SelectedName);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum SelectedName {
    #[default]
    Nothing,
    One(Arc<str>),
    Unclear,
}

impl SelectedTenant {
    /// What is selected: a slug in small letters, or an id.
    pub(crate) fn one(name: &str) -> Self {
        Self(SelectedName::One(name.into()))
    }

    /// What selects two, or something that is no tenant's name.
    pub(crate) const fn unclear() -> Self {
        Self(SelectedName::Unclear)
    }

    /// Its slug or id, if one is selected.
    ///
    /// # Errors
    /// `core.tenant_selection` where it is not clear which.
    pub fn name(&self) -> Result<Option<&str>> {
        match &self.0 {
            SelectedName::Nothing => Ok(None),
            SelectedName::One(name) => Ok(Some(name)),
            SelectedName::Unclear => Err(Error::new(&codes::TENANT_SELECTION)),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SelectedTenant {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

impl Input for SelectedTenant {}
