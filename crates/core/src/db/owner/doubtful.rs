//! Columns that look as if they held something of a person, and of which nobody has said whether they do: `doctor privacy`.

use serde::Serialize;
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use crate::db::schema::Schema;
use crate::db::{Connection, Whose};
use crate::lifecycle::StartError;

/// A column that somebody should say something of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoubtfulColumn {
    /// The table, with its schema.
    pub relation: String,
    /// The column.
    pub column: String,
    /// Why it is one.
    pub why: &'static str,
    /// What to do.
    pub fix: String,
}

/// Every column that could hold what a person is known by.
const COLUMNS: &str = "select r.relation, a.attname::text, t.typname::text from app.relations r
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass(r.relation) and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    join pg_catalog.pg_type t on t.oid = a.atttypid
    left join pg_catalog.pg_type e on e.oid = t.typelem and t.typcategory = 'A'
    where coalesce(e.typcategory, t.typcategory) in ('S', 'I') or t.typname in ('json', 'jsonb', 'bytea', 'xml', 'date', 'point')
    order by r.ordinal, a.attnum";

/// Words that a column is called by which holds something of a person, alone or between underscores.
const WORDS: &[&str] = &[
    "address",
    "account",
    "avatar",
    "bic",
    "birth",
    "birthday",
    "birthdate",
    "born",
    "cell",
    "city",
    "contact",
    "device",
    "email",
    "fax",
    "forename",
    "fullname",
    "gender",
    "health",
    "iban",
    "ip",
    "latitude",
    "license",
    "location",
    "longitude",
    "mail",
    "mobile",
    "nationality",
    "nickname",
    "passport",
    "phone",
    "photo",
    "picture",
    "portrait",
    "postcode",
    "recipient",
    "religion",
    "salary",
    "sex",
    "signature",
    "ssn",
    "street",
    "surname",
    "telephone",
    "wage",
    "zip",
];
/// Before `name` they make it somebody's.
const WHOSE_NAME: &[&str] = &[
    "contact",
    "customer",
    "display",
    "employee",
    "family",
    "first",
    "full",
    "given",
    "last",
    "middle",
    "nick",
    "person",
    "recipient",
    "user",
];

/// The columns that look personal and are neither declared as that nor as impersonal. In a table that holds something of a subject,
/// those are all that could hold a text.
///
/// # Errors
/// `Exit::Unavailable` where the database cannot be asked.
pub async fn doubtful_columns(
    connection: &Connection,
    schema: &Schema,
    tasks: &TaskTracker,
) -> Result<Vec<DoubtfulColumn>, StartError> {
    let client = super::connect(connection, tasks).await?;
    let found = look(&client, schema).await;
    found.map_err(|error| super::explain(connection, error))
}

async fn look(client: &Client, schema: &Schema) -> Result<Vec<DoubtfulColumn>, tokio_postgres::Error> {
    let mut found = Vec::new();
    for row in client.query(COLUMNS, &[]).await? {
        let (relation, column, kind): (String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if let Some(why) = doubt(schema, (&relation, &column, &kind)) {
            let fix = format!(
                "declare {column} in PersonalData::new(\"{relation}\", …), as one of its columns or as impersonal with the reason"
            );
            found.push(DoubtfulColumn { relation, column, why, fix });
        }
    }
    Ok(found)
}

/// Why a column is one that somebody should say something of; `None` where that was done, or there is no doubt.
fn doubt(schema: &Schema, (relation, column, kind): (&str, &str, &str)) -> Option<&'static str> {
    let declared = || schema.personal().iter().filter(|data| data.relation == relation);
    let is_said = declared().any(|data| {
        data.columns.iter().any(|personal| personal.name == column)
            || data.impersonal.iter().any(|(name, _)| *name == column)
            || matches!(data.whose, Whose::Address(subject) | Whose::Id(_, subject) if subject == column)
    });
    if is_said || column.ends_with("_folded") {
        return None;
    }
    if declared().next().is_some() && kind != "date" {
        return Some("its table holds something of a person, and nobody has said whether this does");
    }
    looks_personal(column, kind).then_some("it looks as if it held something of a person")
}

fn looks_personal(column: &str, kind: &str) -> bool {
    let words: Vec<&str> = column.split('_').collect();
    let named = words.windows(2).any(|pair| pair[1] == "name" && WHOSE_NAME.contains(&pair[0]));
    let typed = matches!(kind, "inet" | "cidr" | "macaddr" | "point");
    typed || named || words.iter().any(|word| WORDS.contains(word))
}

#[cfg(test)]
mod tests {
    use super::looks_personal;

    #[test]
    fn a_column_looks_personal_by_a_word_of_its_name_or_by_its_type() {
        for (column, kind) in [
            ("email", "text"),
            ("home_phone", "text"),
            ("first_name", "text"),
            ("birth_date", "date"),
            ("seen_from", "inet"),
        ] {
            assert!(looks_personal(column, kind), "{column}");
        }
        for column in ["name", "description", "emailed", "item_name", "shipping"] {
            assert!(!looks_personal(column, "text"), "{column}");
        }
    }
}
