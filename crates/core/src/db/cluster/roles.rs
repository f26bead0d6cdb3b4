use tokio_postgres::{Config, Error, NoTls};

use crate::lifecycle::{Exit, StartError};

use super::answer::drive;

/// The roles and their rights. Operators run the same file with psql.
const ROLES: &str = include_str!("../../../../../migrations/roles.sql");

/// The roles' URLs for one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// Owns the database and its tables: for migrations (`DATABASE_OWNER_URL`).
    pub owner_url: String,
    /// Owns nothing: for requests (`DATABASE_URL`).
    pub runtime_url: String,
    /// Owns nothing: for the declared work of the system (`DATABASE_SYSTEM_URL`).
    pub system_url: String,
}

/// Makes `database` where it is missing, then the roles and their rights in it (`migrations/roles.sql`).
///
/// `admin_url` is a superuser's, on a cluster that asks for no password: a private one, or that of a test run.
///
/// # Errors
/// `Internal` when the name is not a plain identifier, or PostgreSQL refuses.
pub async fn provision(admin_url: &str, database: &str) -> Result<Roles, StartError> {
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
    create(admin_url, database).await.map_err(refused)?;
    run(admin_url, Some(database), ROLES).await.map_err(refused)?;
    Ok(Roles {
        owner_url: url_for(admin_url, "erp_owner", database),
        runtime_url: url_for(admin_url, "erp_app", database),
        system_url: url_for(admin_url, "erp_system", database),
    })
}

/// CREATE DATABASE knows no IF NOT EXISTS and no transaction: the second of two callers is told that it is there.
async fn create(admin_url: &str, database: &str) -> Result<(), Error> {
    use tokio_postgres::error::SqlState;
    match run(admin_url, None, &format!("CREATE DATABASE \"{database}\"")).await {
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => Ok(()),
        other => other,
    }
}

async fn run(admin_url: &str, database: Option<&str>, sql: &str) -> Result<(), Error> {
    let mut admin: Config = admin_url.parse()?;
    if let Some(database) = database {
        admin.dbname(database);
    }
    let (client, connection) = admin.connect(NoTls).await?;
    drive(connection, client.batch_execute(sql)).await
}

/// The same server as `url`'s, for another user and database.
fn url_for(url: &str, user: &str, database: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("postgresql://{user}@{host}/{database}")
}

/// `^[a-z_][a-z0-9_]{0,62}$`
fn is_identifier(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{is_identifier, url_for};

    #[test]
    fn a_url_keeps_its_server_only() {
        let expected = "postgresql://erp_app@%2Frun%2Fpg:5432/erp";
        for url in ["postgresql://root@%2Frun%2Fpg:5432/postgres", "postgres://a:b@%2Frun%2Fpg:5432/x?y=z"] {
            assert_eq!(url_for(url, "erp_app", "erp"), expected);
        }
    }

    #[test]
    fn only_plain_names_get_into_sql() {
        assert!(is_identifier("erp") && is_identifier("_t1") && is_identifier(&"a".repeat(63)));
        for bad in ["", "1a", "Erp", "a-b", "a\"b", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_identifier(bad), "{bad}");
        }
    }
}
