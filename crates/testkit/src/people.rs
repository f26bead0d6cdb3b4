use erp_core::auth::Role;
use erp_core::shared::{TenantId, UserId};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

/// Somebody of the demo tenants, who can sign in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Person {
    /// What `demo-credentials.json` says.
    #[serde(flatten)]
    pub credential: Credential,
    /// The tenant's id.
    pub tenant_id: TenantId,
    /// The person's id.
    pub user_id: UserId,
}

/// One entry of `demo-credentials.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Credential {
    /// The tenant's slug: `acme` or `globex`.
    pub tenant: String,
    /// The e-mail address.
    pub email: String,
    /// The password.
    pub password: String,
    /// The role in the tenant.
    pub role: Role,
}

impl Person {
    /// Looks up the ids of those in `demo-credentials.json`, as the superuser.
    pub(crate) async fn identify(root: &Client, credentials: &[u8]) -> Vec<Self> {
        let credentials: Vec<Credential> = serde_json::from_slice(credentials).expect("credentials are JSON");
        let sql = "select t.id, u.id from tenants t, auth.people u where t.slug = $1 and u.email = $2";
        let mut people = Vec::with_capacity(credentials.len());
        for credential in credentials {
            let row = root.query_one(sql, &[&credential.tenant, &credential.email]).await;
            let row = row.expect("the seed made its tenants and people");
            people.push(Self { credential, tenant_id: row.get(0), user_id: row.get(1) });
        }
        people
    }
}
