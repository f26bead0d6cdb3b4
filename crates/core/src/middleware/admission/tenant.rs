//! Settles the tenant: the credential's, or another one of the caller's that `X-Tenant-ID`, the name of the host or the path selects
//! (T-17).
//!
//! Assumes nothing of the deployment: whatever a proxy lets through or sets, it selects among the caller's own memberships and
//! grants none. `crates/server/tests/it/admission/tenancy.rs` shows it with a database.

use http::{HeaderMap, HeaderName};

use crate::app::{App, Denial};
use crate::auth::{Actor, Caller, Identity, Methods, RequiredActions, Trace};
use crate::error::{Error, codes};
use crate::extract::SelectedTenant;
use crate::module::{Authentication, NamedTenant};
use crate::shared::TenantId;

static TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");

/// The caller, in the tenant that the credential, the header, the name of the host or the path names, with what it may do there now.
///
/// # Errors
/// `core.unauthenticated` when the credential has outlived the membership, the account or the tenant; `core.tenant_mismatch` for
/// a tenant that the caller does not belong to; `core.tenant_selection` where it is not clear which is meant.
pub(in crate::middleware) async fn enter(
    authentication: &Authentication,
    app: &App,
    identity: Identity,
    trace: Trace,
    (headers, selected): (&HeaderMap, Option<&SelectedTenant>),
) -> Result<Caller, Error> {
    let unclear = || Error::new(&codes::TENANT_SELECTION);
    let by_header = named(headers)?;
    let selected = selected.map(SelectedTenant::name).transpose()?.flatten();
    let (one, other) = match (by_header, selected.and_then(NamedTenant::parse)) {
        (None, None) => return authentication.caller(app, identity, trace).await,
        (Some(one), None) | (None, Some(one)) => (one, None),
        (Some(one), Some(other)) if one == other => (one, None),
        (Some(one), Some(other)) if one.id.is_some() == other.id.is_some() => return Err(unclear()),
        (Some(one), other) => (one, other),
    };
    // Boxed, since few requests come this way and all would carry its size.
    let caller = Box::pin(enter_one(authentication, app, identity, trace.clone(), one)).await?;
    if let Some(other) = other {
        // An id and a slug: whose they are is compared once the caller is known to belong to the first.
        let other = Box::pin(find(authentication, app, &other, &trace)).await?;
        if other != Some(caller.tenant()) {
            return Err(unclear());
        }
    }
    Ok(caller)
}

async fn enter_one(
    authentication: &Authentication,
    app: &App,
    identity: Identity,
    trace: Trace,
    named: NamedTenant<'_>,
) -> Result<Caller, Error> {
    if named.id == Some(*identity.tenant.as_uuid()) {
        return authentication.caller(app, identity, trace).await;
    }
    let tenant = find(authentication, app, &named, &trace).await?;
    if tenant == Some(identity.tenant) {
        return authentication.caller(app, identity, trace).await;
    }
    if matches!(identity.actor, Actor::Impersonator { .. }) {
        // It is for one tenant, whichever others the person belongs to.
        return Err(refuse(app, &Caller::unknown(identity, trace), &named));
    }
    let home = || Caller::unknown(identity, trace.clone());
    let Some(tenant) = tenant else { return Err(refuse(app, &home(), &named)) };
    let (mut proven, mut required) = (Methods::default(), RequiredActions::default());
    if identity.signed_in.is_some() {
        // The session, which is where it was begun: what is wanted of it there, is here too.
        let at_home = authentication.caller(app, identity, trace.clone()).await?;
        (proven, required) = (at_home.proven(), at_home.required());
    }
    let there = Identity::new(tenant, identity.actor);
    match authentication.caller_of(app, there, proven, trace.clone()).await {
        Ok(caller) => {
            let required = required.union(caller.required());
            Ok(caller.wanting(required))
        }
        // Somebody who is no member is told so alike, whether there is such a tenant or not.
        Err(error) if error.code() == &codes::UNAUTHENTICATED => Err(refuse(app, &home(), &named)),
        outcome => outcome,
    }
}

/// The active tenant of this name. Whose a slug is was read at most five seconds ago.
async fn find(
    authentication: &Authentication,
    app: &App,
    named: &NamedTenant<'_>,
    trace: &Trace,
) -> Result<Option<TenantId>, Error> {
    let asked = app.clock.instant();
    if let Some(tenant) = named.slug.as_deref().and_then(|slug| app.known_slugs.find(slug, asked)) {
        return Ok(Some(tenant));
    }
    let found = (authentication.tenant)(app.system(authentication.system), named, trace).await?;
    if let (Some(slug), Some(tenant)) = (named.slug.as_deref(), found) {
        app.known_slugs.remember(slug, tenant, asked);
    }
    Ok(found)
}

fn named(headers: &HeaderMap) -> Result<Option<NamedTenant<'_>>, Error> {
    let mut values = headers.get_all(&TENANT_ID).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let malformed =
        || Error::new(&codes::MALFORMED_HEADER).detail("X-Tenant-ID takes one tenant's slug or UUID.");
    if values.next().is_some() {
        return Err(malformed());
    }
    let text = value.to_str().map_err(|_| malformed())?;
    NamedTenant::parse(text).map(Some).ok_or_else(malformed)
}

/// An unknown tenant and one of others are refused alike, and the attempt goes into the caller's own audit log.
fn refuse(app: &App, home: &Caller, named: &NamedTenant<'_>) -> Error {
    const ACTION: &str = "core.tenant_mismatch";
    crate::security_event!(
        crate::logging::Severity::High,
        "A request selects a tenant that the caller is no member of",
        action = ACTION,
        tenant_id = %home.tenant(),
        user_id = %home.actor(),
        ip = home.trace().client_ip.map(|ip| ip.to_string()),
        target = named.to_string(),
    );
    let denial = Denial {
        tenant: home.tenant(),
        actor: home.actor(),
        action: ACTION,
        resource: "tenant",
        resource_id: None,
        outcome: "denied",
        code: codes::TENANT_MISMATCH.code,
    };
    app.deny(denial, home.trace());
    Error::new(&codes::TENANT_MISMATCH)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use http::HeaderValue;

    use super::*;

    const ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

    /// The id and the slug that the lines name.
    type Parts = (Option<String>, Option<String>);

    fn parts(lines: &[&[u8]]) -> Result<Option<Parts>, &'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&TENANT_ID, HeaderValue::from_bytes(line).unwrap());
        }
        let parts = |NamedTenant { id, slug }| (id.map(|id| id.to_string()), slug.map(Cow::into_owned));
        named(&headers).map(|named| named.map(parts)).map_err(|error| error.code().code)
    }

    #[test]
    fn t_17_a_header_names_one_tenant_by_id_or_by_slug_and_never_by_both() {
        assert_eq!(parts(&[]), Ok(None));
        // What reads like an id is one: a tenant whose slug is another's id is not found by it.
        for id in [ID.to_owned(), ID.to_uppercase()] {
            assert_eq!(parts(&[id.as_bytes()]), Ok(Some((Some(ID.to_owned()), None))), "{id}");
        }
        let longest = "a".repeat(63);
        for slug in ["a", "acme", "acme-2", "0", "-", &longest, &ID[1..], &ID.replace('-', "")] {
            for typed in [slug.to_owned(), slug.to_uppercase()] {
                let expected = Ok(Some((None, Some(slug.to_owned()))));
                assert_eq!(parts(&[typed.as_bytes()]), expected, "{typed}");
            }
        }
    }

    #[test]
    fn t_17_what_is_neither_is_refused_and_so_are_two_headers() {
        let too_long = "a".repeat(64);
        for line in ["", "acme,globex", "acme globex", "a_b", "acme%", "../acme", "' or 1=1 --", &too_long] {
            assert_eq!(parts(&[line.as_bytes()]), Err("core.malformed_header"), "{line:?}");
        }
        assert_eq!(parts(&["ácme".as_bytes()]), Err("core.malformed_header"));
        assert_eq!(parts(&[b"acme", b"acme"]), Err("core.malformed_header"));
    }
}
