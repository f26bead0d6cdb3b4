//! To whom a mail goes that concerns those who may do something.

use erp_core::auth::{Permission, Role};
use erp_core::db::TenantTx;
use erp_core::error::{Error, Result};
use erp_core::from_row;
use erp_core::mail::MailAddress;
use erp_core::shared::TenantId;

/// Members who may do it now, by a role that every tenant has or by one of its own.
const ADDRESSEES: &str = "select m.email from memberships m \
     where m.tenant_id = $1 and m.ended_at is null and m.deactivated_at is null and m.disabled_at is null \
       and exists (select from grants g left join role_permissions r on r.tenant_id = g.tenant_id and r.role_id = g.role_id \
         where g.tenant_id = m.tenant_id and g.principal_id = m.user_id and (g.expires_at is null or g.expires_at > now()) \
           and (g.built_in = any ($2::text[]) or r.permission = $3)) \
     order by m.email limit 100";

struct Addressee {
    email: String,
}
from_row!(Addressee { email });

/// The addresses of those members, 100 at most.
///
/// # Errors
/// As the database answers.
pub(crate) async fn addressees(
    tx: &mut TenantTx<'_>,
    tenant: TenantId,
    permission: &'static Permission,
) -> Result<Vec<MailAddress>> {
    let roles: Vec<&str> =
        Role::ALL.into_iter().filter(|role| role.has(permission)).map(Role::as_str).collect();
    let found: Vec<Addressee> = tx.rows(ADDRESSEES, &[&tenant, &roles, &permission.name]).await?;
    found.into_iter().map(|found| found.email.parse().map_err(Error::internal)).collect()
}
