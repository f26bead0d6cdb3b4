//! People from another system, whom an operator brings into a tenant, with the hashes of their passwords.
//!
//! It is no act of a tenant's administrator, since people belong to no tenant. Somebody who has an account already keeps the password,
//! the name and the address that are there, and becomes a member at most. A row that cannot be taken is told, and the others are taken.

use erp_core::auth::{PasswordHash, Role};
use erp_core::bootstrap::OperatorSession;
use erp_core::db::{AuditEntry, TenantTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::imports::RowReader;
use erp_core::mail::MailAddress;
use erp_core::shared::{Clock, Id, Rng, TenantId, Text, UserId};
use erp_core::{from_row, input};
use serde::Serialize;
use serde_json::json;

use super::codes;
use super::invitations::JOIN;
use super::operator;

/// Rows that are read at a time.
const BATCH: usize = 100;

input! {
    /// A row of the file: somebody who is to be a member.
    pub NewPerson {
        /// By which the person is found, and signs in.
        #[schemars(example = &"ada@example.com")]
        email: MailAddress,
        #[schemars(example = &"Ada Lovelace")]
        name: Text<1, 200>,
        /// What the person may do; without one what the command says.
        #[schemars(example = &"member")]
        role: Option<Text<1, 100>>,
        /// As the other system has written it; without one the person asks for a link to set a password.
        #[schemars(example = &"$2b$12$…")]
        password_hash: Option<Text<1, 1024>>,
        /// Whether the person chooses another password at the first sign-in.
        change_password: Option<bool>,
    }
}

/// How an import is done.
pub struct PeopleTerms<'a> {
    /// The role of those whose row names none.
    pub role: Role,
    /// Whether nothing is to be written: it is only tried.
    pub dry_run: bool,
    /// The time, for ids.
    pub clock: &'a dyn Clock,
    /// Randomness, for ids.
    pub rng: &'a dyn Rng,
}

/// What has become of the rows.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeopleImported {
    /// Rows that were read.
    pub rows: u64,
    /// People who had no account.
    pub created: u64,
    /// People who had one, and are members now.
    pub joined: u64,
    /// People who were members already.
    pub unchanged: u64,
    /// Rows that were not taken.
    pub rejected: Vec<RejectedPerson>,
    /// Whether nothing was written.
    pub dry_run: bool,
}

/// A row that was not taken.
#[derive(Debug, Serialize)]
pub struct RejectedPerson {
    /// Its number, as a spreadsheet shows it.
    pub row: u64,
    /// What is wrong with it.
    pub why: String,
}

enum PersonOutcome {
    Created,
    Joined,
    Unchanged,
}

const KNOWN: &str = "select p.id, p.disabled_at is not null as disabled, \
       exists (select from memberships m where m.tenant_id = $2 and m.user_id = p.id and m.ended_at is null) as is_member \
     from auth.people p where p.email = $1";
const ADD_PERSON: &str = "insert into auth.people (id, email, name) values ($1, $2, $3) on conflict (email) do nothing returning id";
const ADD_PASSWORD: &str = "insert into auth.passwords (person_id, phc) values ($1, $2)";
const GRANT: &str = "insert into grants (id, principal_id, built_in) values (gen_random_uuid(), $1, $2) on conflict do nothing";

struct KnownPerson {
    id: UserId,
    disabled: bool,
    is_member: bool,
}
from_row!(KnownPerson { id, disabled, is_member });

/// Takes the people of a file into a tenant, each in a transaction of its own.
///
/// # Errors
/// `core.not_found` where there is no such tenant, or as the file cannot be read or the database answers.
pub async fn import(
    session: &OperatorSession,
    slug: &str,
    mut rows: RowReader<NewPerson>,
    terms: PeopleTerms<'_>,
) -> Result<PeopleImported> {
    let tenant = session.tenant(slug).await?.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    let mut told = PeopleImported { dry_run: terms.dry_run, ..PeopleImported::default() };
    loop {
        let batch = rows.next(BATCH).await?;
        if batch.is_empty() {
            return Ok(told);
        }
        for row in batch {
            told.rows += 1;
            let taken = match row.parsed {
                Ok(person) => take(session, tenant, &person, &terms).await,
                Err(error) => Err(error),
            };
            match taken {
                Ok(PersonOutcome::Created) => told.created += 1,
                Ok(PersonOutcome::Joined) => told.joined += 1,
                Ok(PersonOutcome::Unchanged) => told.unchanged += 1,
                Err(error) if error.code().status < 500 => {
                    told.rejected.push(RejectedPerson { row: row.number, why: reason(&error) });
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn reason(error: &Error) -> String {
    let each =
        error.violations().iter().map(|violation| format!("{}: {}", violation.pointer, violation.detail));
    let all: Vec<String> = each.collect();
    if all.is_empty() { error.told().to_owned() } else { all.join(" ") }
}

async fn take(
    session: &OperatorSession,
    tenant: TenantId,
    person: &NewPerson,
    terms: &PeopleTerms<'_>,
) -> Result<PersonOutcome> {
    let refused = |why: &str| Err(Error::new(&core::INVALID).detail(why.to_owned()));
    let named = person.role.as_ref().map(|role| role.as_str().parse::<Role>());
    let Ok(role) = named.unwrap_or(Ok(terms.role)) else { return refused("There is no such built-in role.") };
    let hash = person.password_hash.as_ref().map(|text| PasswordHash::of_another_system(text.as_str()));
    if matches!(hash, Some(None)) {
        return refused("The hash is of no way that is known here, or costs more than is borne.");
    }
    let email = person.email.to_string().to_lowercase();
    let mut tx = session.within(tenant).await?;
    let known: Option<KnownPerson> = tx.optional(KNOWN, &[&email, &tenant]).await?;
    let (id, outcome) = match known {
        Some(KnownPerson { is_member: true, .. }) => {
            tx.rollback();
            return Ok(PersonOutcome::Unchanged);
        }
        Some(KnownPerson { disabled: true, .. }) => return refused("The account is disabled."),
        // The password is the person's own, whatever the file says.
        Some(KnownPerson { id, .. }) => (id, PersonOutcome::Joined),
        None => (Id::new(terms.clock, terms.rng), PersonOutcome::Created),
    };
    if matches!(outcome, PersonOutcome::Created) {
        create(&mut tx, id, (&email, person), hash.flatten()).await?;
    }
    let _: Option<()> = tx.optional(JOIN, &[&id]).await?;
    let _: Vec<()> = tx.rows(GRANT, &[&id, &role.as_str()]).await?;
    tx.audit(&AuditEntry {
        action: "identity.imported",
        resource: "user",
        resource_id: Some(id.to_string()),
        outcome: "success",
        details: json!({ "role": role.as_str() }),
    })?;
    if terms.dry_run {
        tx.rollback();
    } else {
        tx.commit().await?;
    }
    Ok(outcome)
}

async fn create(
    tx: &mut TenantTx<'_>,
    id: UserId,
    (email, person): (&str, &NewPerson),
    hash: Option<PasswordHash>,
) -> Result<()> {
    let added: Option<()> = tx.optional(ADD_PERSON, &[&id, &email, &person.name]).await?;
    if added.is_none() {
        return Err(Error::new(&codes::PERSON_CAME)
            .detail("Somebody else has made the account just now: import the file again."));
    }
    if let Some(hash) = hash {
        let _: Vec<()> = tx.rows(ADD_PASSWORD, &[&id, &hash.expose()]).await?;
        if person.change_password == Some(true) {
            operator::demand_of_new(tx, id).await?;
        }
    }
    Ok(())
}
