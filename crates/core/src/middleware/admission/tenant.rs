//! Settles the tenant: the credential's, or another one of the caller's that `X-Tenant-ID` selects (T-17).
//!
//! Assumes nothing of the deployment: whatever a proxy lets through or sets, the header selects among the caller's own
//! memberships and grants none. `crates/server/tests/it/admission/tenancy.rs` shows it with a database.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use uuid::Uuid;

use crate::app::{App, Denial};
use crate::auth::{Caller, Identity, Role, Trace};
use crate::db::SystemReason;
use crate::error::{Error, codes};
use crate::from_row;
use crate::shared::TenantId;

static TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");

const FIND_TENANT: &str = "select id from tenants where (id = $1 or slug = $2) and status = 'active'";
const FIND_MEMBERSHIP: &str = "select m.role from memberships m join users u on u.id = m.user_id \
     where m.user_id = $1 and m.ended_at is null and u.disabled_at is null";

struct Found {
    id: TenantId,
}
from_row!(Found { id });

struct Membership {
    role: String,
}
from_row!(Membership { role });

/// What the header names: an id, or else a slug. A slug that reads like an id is another tenant's attempt to be taken
/// for it.
struct Named<'a> {
    id: Option<Uuid>,
    slug: Option<Cow<'a, str>>,
}

/// The caller, in the tenant that the credential or the header names.
pub(in crate::middleware) async fn enter(
    app: &App,
    identity: Identity,
    trace: Trace,
    headers: &HeaderMap,
) -> Result<Caller, Error> {
    let home = Caller::member(identity.tenant, identity.user, identity.role, trace);
    let Some(named) = named(headers)? else { return Ok(home) };
    if named.id == Some(*identity.tenant.as_uuid()) {
        return Ok(home);
    }
    // Boxed, since few requests come this way and all would carry its size.
    Box::pin(select(app, home, identity, named)).await
}

async fn select(app: &App, home: Caller, identity: Identity, named: Named<'_>) -> Result<Caller, Error> {
    match membership(app, &home, identity, &named).await? {
        // Also in the tenant of the token: what was read now counts, and not what was so when it was signed.
        Some((tenant, role)) => Ok(Caller::member(tenant, identity.user, role, home.trace().clone())),
        None => Err(refuse(app, &home, &named)),
    }
}

fn named(headers: &HeaderMap) -> Result<Option<Named<'_>>, Error> {
    let mut values = headers.get_all(&TENANT_ID).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let malformed =
        || Error::new(&codes::MALFORMED_HEADER).detail("X-Tenant-ID takes one tenant's slug or UUID.");
    if values.next().is_some() {
        return Err(malformed());
    }
    let text = value.to_str().map_err(|_| malformed())?;
    let slug = (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let id = text.parse::<TenantId>().ok().map(|id| *id.as_uuid());
    let slug = (slug && id.is_none()).then(|| fold(text));
    if slug.is_some() || id.is_some() { Ok(Some(Named { id, slug })) } else { Err(malformed()) }
}

/// A slug is written in lower case, whatever case it comes in.
fn fold(slug: &str) -> Cow<'_, str> {
    let lower = !slug.bytes().any(|byte| byte.is_ascii_uppercase());
    if lower { Cow::Borrowed(slug) } else { Cow::Owned(slug.to_ascii_lowercase()) }
}

/// The tenant that was named, if the caller is a member of it; two round trips.
async fn membership(
    app: &App,
    home: &Caller,
    identity: Identity,
    named: &Named<'_>,
) -> Result<Option<(TenantId, Role)>, Error> {
    let mut tx = app.db.system(SystemReason::SelectTenant, home.trace());
    let Some(Found { id }) = tx.optional(FIND_TENANT, &[&named.id, &named.slug]).await? else {
        return Ok(None);
    };
    let membership = tx.within(id).await?.last().optional(FIND_MEMBERSHIP, &[&identity.user]).await?;
    let Some(Membership { role }) = membership else { return Ok(None) };
    Ok(Some((id, role.parse().map_err(Error::internal)?)))
}

/// An unknown tenant and one of others are refused alike, and the attempt goes into the caller's own audit log.
fn refuse(app: &App, home: &Caller, named: &Named<'_>) -> Error {
    const ACTION: &str = "core.tenant_mismatch";
    let slug = named.slug.as_deref().map(str::to_owned);
    let named = named.id.map(|id| id.to_string()).or(slug);
    crate::security_event!(
        crate::logging::Severity::High,
        "X-Tenant-ID names a tenant that the caller is no member of",
        action = ACTION,
        tenant_id = %home.tenant(),
        user_id = %home.actor(),
        ip = home.trace().client_ip.map(|ip| ip.to_string()),
        target = named,
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
        let parts = |Named { id, slug }| (id.map(|id| id.to_string()), slug.map(Cow::into_owned));
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
