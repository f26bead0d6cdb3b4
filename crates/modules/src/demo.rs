//! The demo tenants of development: `acme` and `globex`, each with an owner, a member and somebody who looks on.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use erp_core::auth::Role;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Seed;
use erp_core::shared::{Id, IdKind, Secret, Tenant, TenantId, UserId};
use serde::Serialize;

const TENANTS: [(&str, &str); 2] = [("acme", "Acme Corporation"), ("globex", "Globex Corporation")];
const PEOPLE: [(Role, &str, &str); 3] = [
    (Role::Owner, "owner", "Olivia Owner"),
    (Role::Member, "member", "Max Member"),
    (Role::ReadOnly, "reader", "Rita Reader"),
];
const ITEMS: [(&str, &str, i64); 3] =
    [("BOLT-M8", "Bolt M8", 1200), ("NUT-M8", "Nut M8", 1150), ("WASHER-8", "Washer 8 mm", 4000)];

const ADD_TENANT: &str = "insert into tenants (id, slug) values ($1, $2)";
const ADD_PROFILE: &str = "insert into tenant_profiles (name) values ($1)";
const ADD_USER: &str = "insert into users (id, email, name, password_hash) values ($1, $2, $3, $4) \
     on conflict (email) do update set password_hash = excluded.password_hash";
const ADD_MEMBERSHIP: &str = "insert into memberships (user_id, role) select id, $2 from users where email = $1 \
     on conflict do nothing";
const ADD_ITEM: &str = "insert into items (id, sku, name, quantity) values ($1, $2, $3, $4)";

/// One entry of `demo-credentials.json`.
#[derive(Serialize)]
struct Credential {
    tenant: &'static str,
    email: String,
    password: String,
    role: Role,
}

/// Makes the demo tenants where they are missing, and new passwords where their file is.
pub(crate) async fn seed(seed: Seed<'_>) -> Result<(), StartError> {
    let file = seed.data_dir.join("demo-credentials.json");
    let mut tenants = Vec::with_capacity(TENANTS.len());
    let mut complete = file.exists();
    for (slug, name) in TENANTS {
        let known = seed.owner.tenant(slug).await.map_err(failed)?;
        complete &= known.is_some();
        let tenant = match known {
            Some(tenant) => tenant,
            None => add_tenant(&seed, slug, name).await.map_err(failed)?,
        };
        tenants.push((slug, tenant));
    }
    if complete {
        return Ok(());
    }
    let mut credentials = Vec::with_capacity(TENANTS.len() * PEOPLE.len());
    for (role, mailbox, name) in PEOPLE {
        for (slug, tenant) in &tenants {
            credentials.push(add_person(&seed, slug, *tenant, role, mailbox, name).await?);
        }
    }
    write(&file, &credentials).map_err(|error| {
        let message = format!("{} cannot be written: make DATA_DIR writable", file.display());
        StartError::new(Exit::DataFolder, message).because(error)
    })
}

async fn add_tenant(seed: &Seed<'_>, slug: &str, name: &str) -> Result<TenantId, erp_core::db::OwnerError> {
    let tenant = id::<Tenant>(seed);
    seed.owner.execute(None, ADD_TENANT, &[&tenant, &slug]).await?;
    seed.owner.execute(Some(tenant), ADD_PROFILE, &[&name]).await?;
    for (sku, name, quantity) in ITEMS {
        let id = *id::<Tenant>(seed).as_uuid();
        seed.owner.execute(Some(tenant), ADD_ITEM, &[&id, &sku, &name, &quantity]).await?;
    }
    Ok(tenant)
}

async fn add_person(
    seed: &Seed<'_>,
    slug: &'static str,
    tenant: TenantId,
    role: Role,
    mailbox: &str,
    name: &str,
) -> Result<Credential, StartError> {
    let email = format!("{mailbox}@{slug}.example");
    let mut random = [0; 18];
    seed.rng.fill(&mut random);
    let password = URL_SAFE_NO_PAD.encode(random);
    let hash = seed.passwords.hash(Secret::new(password.clone())).await;
    let hash = hash.map_err(|error| {
        StartError::new(Exit::Internal, "A demo password could not be hashed").because(error)
    })?;
    let user: UserId = id(seed);
    seed.owner.execute(None, ADD_USER, &[&user, &email, &name, &hash.expose()]).await.map_err(failed)?;
    seed.owner.execute(Some(tenant), ADD_MEMBERSHIP, &[&email, &role.as_str()]).await.map_err(failed)?;
    Ok(Credential { tenant: slug, email, password, role })
}

fn id<K: IdKind>(seed: &Seed<'_>) -> Id<K> {
    Id::new(seed.clock, seed.rng)
}

/// Mode 600, and whole or not at all.
fn write(file: &Path, credentials: &[Credential]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = file.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    out.write_all(&serde_json::to_vec_pretty(credentials)?)?;
    out.write_all(b"\n")?;
    fs::rename(draft, file)
}

fn failed(error: erp_core::db::OwnerError) -> StartError {
    StartError::new(Exit::Internal, "The demo tenants could not be made").because(error)
}
