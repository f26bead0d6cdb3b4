//! Who asks, and what they may do: by an access token, and by the grants that the database has for its owner.

use erp_core::app::App;
use erp_core::auth::{
    Caller, Credential, Grants, Methods, Networks, OwnRole, PersonStanding, RequiredActions, Role,
    SESSION_COOKIE, Trace, bearer, cookie, key_header,
};
use erp_core::db::{System, TenantTx};
use erp_core::error::{Error, Result};
use erp_core::from_row;
use erp_core::module::{Authentication, Lookup, NamedTenant};
use erp_core::shared::{PrincipalId, SessionId, TenantId, UserId};
use http::HeaderMap;
use jiff::Timestamp;
use uuid::Uuid;

use super::{SELECT_TENANT, browser, keys, required};

const FIND_TENANT: &str = "select id from tenants where (id = $1 or slug = $2) and status = 'active'";
/// A row for each role of a principal, and one without a role for a member that has none; none for nobody, and none
/// for a session that has ended.
const READ_GRANTS: &str = "select m.user_id as principal, g.built_in, r.name, g.expires_at, null::text[] as scopes, \
     '{}'::text[] as networks, array(select p.permission from role_permissions p where p.role_id = g.role_id) as permissions, \
     r.demands_factor, s.amr, s.demanded, array(select a.terms_version from terms_acceptances a where a.user_id = m.user_id) as terms \
     from memberships m join tenants t on t.id = m.tenant_id \
     left join sessions s on s.id = $2 and s.principal_id = m.user_id and s.revoked_at is null and s.expires_at > now() \
     left join grants g on g.principal_id = m.user_id and (g.expires_at is null or g.expires_at > now()) \
     left join roles r on r.id = g.role_id \
     where m.user_id = $1 and m.ended_at is null and m.deactivated_at is null and m.disabled_at is null \
       and t.status = 'active' and ($2::uuid is null or s.id is not null) \
     order by array_position(array['owner', 'administrator', 'member', 'auditor', 'read-only'], g.built_in), r.name";
/// The same for a machine or a job, of which an id is known and not whose it is: a member's, a service account's or a key's. A key
/// is nobody's once its principal has ended.
const READ_OTHERS: &str = "with members as (select user_id as id from memberships \
       where ended_at is null and deactivated_at is null and disabled_at is null \
       union all select id from service_accounts where disabled_at is null), \
     asked as (select id, null::text[] as scopes, '{}'::text[] as networks from members where id = $1 \
       union all select m.id, k.scopes, k.allowed_networks from api_keys k join members m on m.id = k.principal_id \
       where k.id = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())) \
     select a.id as principal, g.built_in, r.name, g.expires_at, a.scopes, a.networks, \
       array(select p.permission from role_permissions p where p.role_id = g.role_id) as permissions, \
       null::boolean as demands_factor, null::text[] as amr, null::text[] as demanded, '{}'::text[] as terms \
     from asked a join tenants t on t.id = $2 and t.status = 'active' \
     left join grants g on g.principal_id = a.id and (g.expires_at is null or g.expires_at > now()) \
     left join roles r on r.id = g.role_id \
     order by array_position(array['owner', 'administrator', 'member', 'auditor', 'read-only'], g.built_in), r.name";

/// By `Authorization: Bearer` with an access token of ours or an API key, which `X-API-Key` brings, too; or else by the cookie of a
/// browser's session.
pub(super) static AUTHENTICATION: Authentication =
    Authentication { system: &SELECT_TENANT, credential, tenant, grants, required: required::required };

struct TenantOfName {
    id: TenantId,
}
from_row!(TenantOfName { id });

struct Granted {
    principal: PrincipalId,
    built_in: Option<String>,
    name: Option<String>,
    expires_at: Option<Timestamp>,
    scopes: Option<Vec<String>>,
    networks: Vec<String>,
    permissions: Vec<String>,
    demands_factor: Option<bool>,
    amr: Option<Vec<String>>,
    demanded: Option<Vec<String>>,
    terms: Vec<String>,
}
from_row!(Granted {
    principal,
    built_in,
    name,
    expires_at,
    scopes,
    networks,
    permissions,
    demands_factor,
    amr,
    demanded,
    terms
});

/// The roles that a caller holds now, as far as the scopes of its key go; of somebody who has no business in the tenant there are
/// none at all.
pub(super) struct HeldGrants(Vec<Granted>);

impl HeldGrants {
    /// Reads them in a transaction, in the caller's tenant.
    ///
    /// # Errors
    /// As the database answers.
    pub(super) async fn read(tx: &mut TenantTx<'_>, caller: &Caller) -> Result<Option<Self>> {
        let Some((sql, principal, other)) = asked(caller) else { return Ok(None) };
        Ok(Self::of(tx.rows(sql, &[&principal, &other]).await?))
    }

    /// Those of a person whose session has just begun.
    ///
    /// # Errors
    /// As the database answers.
    pub(super) async fn of_session(
        tx: TenantTx<'_>,
        person: UserId,
        session: SessionId,
    ) -> Result<Option<Self>> {
        Ok(Self::of(tx.last().rows(READ_GRANTS, &[&person, &session]).await?))
    }

    fn of(rows: Vec<Granted>) -> Option<Self> {
        (!rows.is_empty()).then_some(Self(rows))
    }

    /// Those whose end is `long` enough away; a grant for good has none.
    pub(super) fn lasting(&self, app: &App, long: impl Fn(Option<Timestamp>) -> bool) -> Result<Grants> {
        let (mut grants, mut limit) = (Grants { standing: self.standing(), ..Grants::default() }, None);
        if let Some(Granted { principal, networks, .. }) = self.0.first() {
            grants.principal = Some(*principal);
            // What cannot be read lets nobody in.
            grants.networks = Networks::read(networks.iter().map(String::as_str)).map_err(Error::internal)?;
        }
        for Granted { built_in, name, expires_at, scopes, permissions, .. } in &self.0 {
            limit = scopes.as_ref().or(limit);
            if !long(*expires_at) {
                continue;
            }
            if let Some(role) = built_in {
                grants.built_in.push(role.parse::<Role>().map_err(Error::internal)?);
            } else if let Some(name) = name {
                grants.own.push(OwnRole { name: name.clone(), permissions: permissions.clone() });
            }
        }
        Ok(match limit {
            Some(scopes) => keys::narrowed(app, grants, scopes),
            None => grants,
        })
    }
}

impl HeldGrants {
    /// What the rows say of the session, and of what the roles demand.
    fn standing(&self) -> PersonStanding {
        let Some(first) = self.0.first() else { return PersonStanding::default() };
        let (amr, demanded) = (first.amr.iter().flatten(), first.demanded.iter().flatten());
        PersonStanding {
            proven: Methods::of_words(amr.map(String::as_str)),
            factor_by_role: self.0.iter().any(|row| row.demands_factor == Some(true)),
            demanded: RequiredActions::of_words(demanded.map(String::as_str)),
            terms: first.terms.clone(),
        }
    }
}

/// The statement that reads a caller's grants, with its parameters: whose, and its session, or for others than people the tenant.
fn asked(caller: &Caller) -> Option<(&'static str, PrincipalId, Option<Uuid>)> {
    let principal = caller.actor().principal()?;
    let session = caller.signed_in().map(|signed_in| *signed_in.session.as_uuid());
    Some(match caller.actor().person() {
        Some(_) => (READ_GRANTS, principal, session),
        None => (READ_OTHERS, principal, Some(*caller.tenant().as_uuid())),
    })
}

fn credential(app: &App, system: System, headers: &HeaderMap) -> Result<Credential> {
    if let Some(key) = key_header(headers)? {
        return keys::credential(app, system, key);
    }
    let Some(token) = bearer(headers)? else {
        let Some(text) = cookie(headers, SESSION_COOKIE)? else { return Ok(Credential::Missing) };
        return browser::credential(app, system, text);
    };
    if token.starts_with("erp_") {
        return keys::credential(app, system, token);
    }
    app.authenticator.verify(token).map(Credential::Verified)
}

fn tenant<'a>(system: System, named: &'a NamedTenant<'a>, trace: &'a Trace) -> Lookup<'a, TenantId> {
    Box::pin(async move {
        let mut tx = system.begin(trace);
        let found: Option<TenantOfName> = tx.optional(FIND_TENANT, &[&named.id, &named.slug]).await?;
        Ok(found.map(|found| found.id))
    })
}

fn grants<'a>(app: &'a App, caller: &'a Caller) -> Lookup<'a, Grants> {
    Box::pin(async move {
        let Some((sql, principal, other)) = asked(caller) else { return Ok(None) };
        let rows = app.db.tenant_read(caller).last().rows(sql, &[&principal, &other]).await?;
        HeldGrants::of(rows).map(|held| held.lasting(app, |_| true)).transpose()
    })
}
