//! The SQL files of `migrations/`, embedded. A test compares these lists with the folder.

use erp_core::db::Migration;
use erp_core::db::proof::Sample;

macro_rules! migrations {
    ($($name:literal),+ $(,)?) => {
        &[$(Migration { name: $name, sql: include_str!(concat!("../../../migrations/", $name, ".sql")) }),+]
    };
}

macro_rules! samples {
    ($($table:literal),+ $(,)?) => {
        &[$(Sample { table: $table, insert: include_str!(concat!("../../../migrations/samples/", $table, ".sql")) }),+]
    };
}

/// Every migration, in the order in which they are applied. Never change one that has been released.
pub(crate) const MIGRATIONS: &[Migration] = migrations![
    "0001_tenancy",
    "0002_audit",
    "0003_identity",
    "0004_catalog",
    "0005_idempotency",
    "0006_tenant_rate_limit",
    "0007_data_rules",
    "0008_catalog_rules",
    "0009_record_rules"
];

/// A row for each tenant table that the runtime role can write.
pub(crate) const SAMPLES: &[Sample] = samples!["tenant_profiles", "audit_log", "items", "idempotency_keys"];

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &str) -> Vec<String> {
        let folder = format!("{}/../../migrations{folder}", env!("CARGO_MANIFEST_DIR"));
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".sql").map(str::to_owned))
            .filter(|name| name != "roles") // run by an administrator, before there is an owner
            .collect();
        names.sort();
        names
    }

    #[test]
    fn every_file_is_embedded_in_order() {
        let listed: Vec<&str> = MIGRATIONS.iter().map(|migration| migration.name).collect();
        assert_eq!(listed, files(""), "add the file to MIGRATIONS");
        let mut samples: Vec<&str> = SAMPLES.iter().map(|sample| sample.table).collect();
        samples.sort_unstable();
        assert_eq!(samples, files("/samples"), "add the file to SAMPLES");
    }
}
