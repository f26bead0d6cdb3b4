use tokio_postgres::{Error, NoTls};

use crate::lifecycle::{Exit, StartError};

use super::answer::drive;
use super::place::{Place, SUPERUSER};

/// The two roles and their rights. Operators run the same file with psql.
const ROLES: &str = include_str!("../../../../../migrations/roles.sql");

/// The two roles' URLs for one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// Owns the database and its tables: for migrations (`DATABASE_OWNER_URL`).
    pub owner_url: String,
    /// Owns nothing: for everything else (`DATABASE_URL`).
    pub runtime_url: String,
}

/// Makes `database` where it is missing, then the roles and their rights in it.
pub(super) async fn provision(place: &Place, database: &str) -> Result<Roles, StartError> {
    if !is_identifier(database) {
        return Err(StartError::new(
            Exit::Internal,
            format!(
                "the database name {database:?} is not made of a-z, 0-9 and _ (at most 63, no digit first)"
            ),
        ));
    }
    let refused = |error: Error| {
        StartError::new(Exit::Internal, format!("the database {database} could not be provisioned: {error}"))
            .because(error)
    };
    create(place, database).await.map_err(refused)?;
    run(place, database, ROLES).await.map_err(refused)?;
    Ok(Roles { owner_url: place.url("erp_owner", database), runtime_url: place.url("erp_app", database) })
}

/// CREATE DATABASE knows no IF NOT EXISTS and no transaction: whoever comes second is told that it is there.
async fn create(place: &Place, database: &str) -> Result<(), Error> {
    use tokio_postgres::error::SqlState;
    match run(place, "postgres", &format!("CREATE DATABASE \"{database}\"")).await {
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => Ok(()),
        other => other,
    }
}

#[allow(clippy::disallowed_methods)] // a part of db
async fn run(place: &Place, database: &str, sql: &str) -> Result<(), Error> {
    let (client, connection) = tokio_postgres::connect(&place.url(SUPERUSER, database), NoTls).await?;
    drive(connection, client.batch_execute(sql)).await
}

/// `^[a-z_][a-z0-9_]{0,62}$`
fn is_identifier(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_identifier;

    #[test]
    fn only_plain_names_get_into_sql() {
        assert!(is_identifier("erp") && is_identifier("_t1") && is_identifier(&"a".repeat(63)));
        for bad in ["", "1a", "Erp", "a-b", "a\"b", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_identifier(bad), "{bad}");
        }
    }
}
