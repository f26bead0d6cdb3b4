//! The demo tenants of development: `acme` and `globex`, each with an owner, a member and somebody who looks on, and with
//! the rows that the product's modules bring. It wants the module `identity`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use erp_core::auth::{PasswordHash, Role};
use erp_core::db::OwnerError;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Seed;
use erp_core::shared::{Id, IdKind, Secret, TenantId, UserId};
use serde::{Deserialize, Serialize};

const TENANTS: [(&str, &str); 2] = [("acme", "Acme Corporation"), ("globex", "Globex Corporation")];
const PEOPLE: [(Role, &str, &str); 3] = [
    (Role::Owner, "owner", "Olivia Owner"),
    (Role::Member, "member", "Max Member"),
    (Role::ReadOnly, "reader", "Rita Reader"),
];

const ADD_TENANT: &str = "insert into tenants (id, slug) values ($1, $2)";
const ADD_PROFILE: &str = "insert into tenant_profiles (name) values ($1)";
const ADD_PERSON: &str =
    "insert into auth.people (id, email, name) values ($1, $2, $3) on conflict (email) do nothing";
const ADD_PASSWORD: &str = "insert into auth.passwords (person_id, phc) select id, $2 from auth.people where email = $1 \
     on conflict do nothing";
const NEW_PASSWORD: &str = "update auth.passwords w set phc = $2, set_at = now() from auth.people p \
     where p.email = $1 and w.person_id = p.id";
const ADD_MEMBERSHIP: &str = "insert into memberships (user_id, email, name) select id, email, name from auth.people where email = $1 \
     on conflict do nothing";
const ADD_GRANT: &str = "insert into grants (id, principal_id, built_in) select gen_random_uuid(), id, $2 from auth.people \
     where email = $1 on conflict do nothing";

/// One entry of `demo-credentials.json`.
#[derive(Serialize, Deserialize)]
struct DemoCredential {
    tenant: String,
    email: String,
    password: String,
    role: Role,
}

/// A demo tenant, and its id where it is there.
struct Demo {
    slug: &'static str,
    name: &'static str,
    id: Option<TenantId>,
}

/// Somebody who is to be made, or to get a new password.
struct DemoPerson {
    tenant: &'static str,
    email: String,
    name: &'static str,
    role: Role,
    hash: PasswordHash,
}

/// Makes the demo tenants where they are missing. Those that are there keep their passwords, unless new ones are asked
/// for: another process, with another `DATA_DIR`, has given them out.
///
/// # Errors
/// `Exit::DataFolder` when the credentials cannot be written, `Exit::Internal` when the database refuses.
pub async fn seed(seed: Seed<'_>) -> Result<(), StartError> {
    let file = seed.data_dir.join("demo-credentials.json");
    let mut demos = Vec::with_capacity(TENANTS.len());
    for (slug, name) in TENANTS {
        demos.push(Demo { slug, name, id: seed.owner.tenant(slug).await.map_err(failed)? });
    }
    let kept = if seed.new_passwords { Vec::new() } else { read(&file) };
    let is_kept = |credential: &DemoCredential| {
        demos.iter().any(|demo| demo.id.is_some() && demo.slug == credential.tenant)
    };
    let mut credentials: Vec<DemoCredential> = kept.into_iter().filter(is_kept).collect();
    if !seed.new_passwords && demos.iter().all(|demo| demo.id.is_some()) {
        if credentials.is_empty() {
            tracing::warn!(
                "The demo tenants were made with another DATA_DIR, which holds their passwords; \
                 'erp-backend db seed' makes new ones"
            );
        }
        return Ok(());
    }
    let mut people = Vec::new();
    for demo in demos.iter().filter(|demo| seed.new_passwords || demo.id.is_none()) {
        for (role, mailbox, name) in PEOPLE {
            let (person, credential) = person(&seed, demo.slug, role, mailbox, name).await?;
            people.push(person);
            credentials.push(credential);
        }
    }
    // Owners first, and before the tenants: without their passwords these would be of no use.
    let rank = |role| PEOPLE.iter().position(|(listed, ..)| *listed == role);
    credentials.sort_by_cached_key(|credential| (rank(credential.role), credential.tenant.clone()));
    write(&file, &credentials).map_err(|error| {
        let message = format!("{} cannot be written: make DATA_DIR writable", file.display());
        StartError::new(Exit::DataFolder, message).because(error)
    })?;
    for demo in &demos {
        let tenant = demo.id.unwrap_or_else(|| id(&seed));
        seed.owner.transaction(tenant, settle(&seed, demo, tenant, &people)).await.map_err(failed)?;
    }
    Ok(())
}

/// Makes the tenant unless it is there, and its people, in one transaction.
async fn settle(
    seed: &Seed<'_>,
    demo: &Demo,
    tenant: TenantId,
    people: &[DemoPerson],
) -> Result<(), OwnerError> {
    if demo.id.is_none() {
        seed.owner.execute(ADD_TENANT, &[&tenant, &demo.slug]).await?;
        seed.owner.execute(ADD_PROFILE, &[&demo.name]).await?;
        for rows in seed.product.modules.iter().flat_map(|module| module.demo) {
            seed.owner.execute(rows, &[]).await?;
        }
    }
    for DemoPerson { email, name, role, hash, .. } in
        people.iter().filter(|person| person.tenant == demo.slug)
    {
        let user: UserId = id(seed);
        seed.owner.execute(ADD_PERSON, &[&user, email, name]).await?;
        seed.owner.execute(ADD_PASSWORD, &[email, &hash.expose()]).await?;
        if seed.new_passwords {
            seed.owner.execute(NEW_PASSWORD, &[email, &hash.expose()]).await?;
        }
        seed.owner.execute(ADD_MEMBERSHIP, &[email]).await?;
        seed.owner.execute(ADD_GRANT, &[email, &role.as_str()]).await?;
    }
    Ok(())
}

async fn person(
    seed: &Seed<'_>,
    tenant: &'static str,
    role: Role,
    mailbox: &str,
    name: &'static str,
) -> Result<(DemoPerson, DemoCredential), StartError> {
    let email = format!("{mailbox}@{tenant}.example");
    let mut random = [0; 18];
    seed.rng.fill(&mut random);
    let password = URL_SAFE_NO_PAD.encode(random);
    let hash = seed.passwords.hash(Secret::new(password.clone())).await;
    let hash = hash.map_err(|error| {
        StartError::new(Exit::Internal, "A demo password could not be hashed").because(error)
    })?;
    let credential = DemoCredential { tenant: tenant.to_owned(), email: email.clone(), password, role };
    Ok((DemoPerson { tenant, email, name, role, hash }, credential))
}

fn id<K: IdKind>(seed: &Seed<'_>) -> Id<K> {
    Id::new(seed.clock, seed.rng)
}

/// What an earlier start has written; nothing when that is not to be read.
fn read(file: &Path) -> Vec<DemoCredential> {
    fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Mode 600, and whole or not at all.
fn write(file: &Path, credentials: &[DemoCredential]) -> io::Result<()> {
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

fn failed(error: OwnerError) -> StartError {
    StartError::new(Exit::Internal, "The demo tenants could not be made").because(error)
}
