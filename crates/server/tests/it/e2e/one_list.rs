//! Databases of before: all migrations stood in one list then, and the modules' names were not in theirs.

use erp_core::db::Entry;
use erp_modules::PRODUCT;

use super::database::{Database, Session};

/// The list, with what each file's SHA-256 was when it was released.
pub(super) const RELEASED: [(&str, &str); 8] = [
    ("0001_tenancy", "07a924983d8a665213eed6f751ea7cfe3a6de11f3e33520f894efad7f6ea7876"),
    ("0002_audit", "90827655004826816b29cb9f6dddbc0219167b1716d4eabad3f160756a754de4"),
    ("0003_identity", "994c99a7c801a072ffee339a0449f1683c33852f6925d5c690685380f8ec0455"),
    ("0004_catalog", "000bc5d414508239236e98ae79171eee83f1bac3b8f5cb5fd14cb106c33102db"),
    ("0005_idempotency", "b006fedf3d33c4c6772eb64cf3e0b9f08751b99d591a9eebb6e77f278040a389"),
    ("0006_tenant_rate_limit", "42b729469361622a0681d806b298d8745419ab0c2b4bbe6072d5c58a2505c707"),
    ("0007_data_rules", "271202a1c7601516bc049ca6890bebdc695ddb1a52372e6b156c64fa17a72771"),
    ("0008_catalog_rules", "b1450a74ea799dbaaa731d7a37ddedc9617e0dd3c699c86e21e006b5abfea197"),
];

/// The migration that once had this name.
pub(super) fn now(name: &str) -> Entry {
    let schema = PRODUCT.schema().unwrap();
    let found = schema.migrations().iter().find(|entry| entry.migration.was.contains(&name));
    found.unwrap_or_else(|| panic!("no migration says that it was {name}")).clone()
}

/// Applies the first `count` of them, in that order and as the version of that time did.
pub(super) fn migrate(database: &Database, count: usize) {
    let session = Session::open(&database.owner_url);
    for (name, checksum) in RELEASED.into_iter().take(count) {
        let migration = now(name).migration;
        assert_eq!(migration.checksum(), checksum, "{name} was released: it is never edited");
        let row_security = if name <= "0006_tenant_rate_limit" { "on" } else { "off" };
        session.run(&format!(
            "begin; set local app.runtime_role = '{}'; set local app.actor = 'system:migration';
             set local row_security = {row_security}",
            database.app()
        ));
        session.run(migration.sql);
        session.run(&format!(
            "insert into app.migrations (name, checksum) values ('{name}', '{checksum}'); commit"
        ));
    }
}
