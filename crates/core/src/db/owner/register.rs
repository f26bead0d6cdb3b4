//! Writes the register of personal data, as the modules declare it: `app.declare_privacy`.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::db::schema::Schema;
use crate::db::{PersonalData, RetentionDuty};
use crate::lifecycle::{Exit, StartError};

const DECLARE: &str = "select app.declare_privacy($1::jsonb, $2::jsonb)";

/// Makes the register what the modules declare; rows that a migration has added by `app.personal` stay.
pub(in crate::db) async fn declare(client: &Client, schema: &Schema) -> Result<(), StartError> {
    let told = "The register of personal data cannot be written";
    let made = client
        .query_one("select to_regprocedure('app.declare_privacy(jsonb, jsonb)') is not null", &[])
        .await;
    match made.and_then(|row| row.try_get(0)) {
        Ok(true) => {}
        Ok(false) => return Ok(()), // a test of an upgrade, which ends before it
        Err(error) => return Err(refused(told, error)),
    }
    let personal: Vec<Value> = schema.personal().iter().flat_map(rows).collect();
    let duties = schema.duties().iter().map(duty).collect::<Vec<_>>();
    let declared = client.execute(DECLARE, &[&Value::from(personal), &Value::from(duties)]).await;
    declared.map(drop).map_err(|error| refused(told, error))
}

/// A row of `app.personal_data` for each column.
fn rows(data: &PersonalData) -> impl Iterator<Item = Value> {
    let PersonalData { relation, purpose, basis, kept, deleted, columns, .. } = *data;
    let (found_by, kind, subject) = data.whose.told();
    columns.iter().map(move |column| {
            json!({
                "relation": relation, "col": column.name, "category": column.category.as_str(), "purpose": purpose,
                "legal_basis": basis.as_str(), "kept": kept, "subject": subject, "found_by": found_by, "kind": kind,
                "erased_as": column.erased_as, "deleted": deleted, "declared": true,
            })
        })
}

/// A row of `app.retention_duties`.
fn duty(duty: &RetentionDuty) -> Value {
    let RetentionDuty { name, kind, law, holds } = duty;
    json!({ "name": name, "kind": kind, "law": law, "holds": holds })
}

fn refused(message: &str, error: tokio_postgres::Error) -> StartError {
    let Some(db) = error.as_db_error() else {
        return StartError::new(Exit::Internal, message).because(error);
    };
    let message = format!("{message}: {}", db.message());
    match db.hint().map(str::to_owned) {
        Some(hint) => StartError::with_fix(Exit::Internal, message, hint).because(error),
        None => StartError::new(Exit::Internal, message).because(error),
    }
}
