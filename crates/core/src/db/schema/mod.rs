//! What a database is made of: the migrations and sample rows of core and of the product's modules, in one order.
//!
//! Core and each module number their own migrations, from `0001` without gaps. In the database one is known by its
//! full name, `catalog/0001_items`, so that the next migration of one module never collides with another module's.
//! `order.rs` says which comes first.

mod order;
mod personal;

use std::borrow::Cow;

use crate::db::personal::{PersonalData, RetentionDuty};
use crate::lifecycle::{Exit, StartError};
use crate::shared::hex;

/// The namespace of [`CORE`]. No module may have this name.
pub(super) const CORE_NAME: &str = "core";

/// The first line of a migration that runs outside a transaction, one statement after the other.
const OUTSIDE: &str = "-- outside a transaction";

/// Of the one list that all migrations once stood in, those up to this one ran with row security on.
const LAST_WITH_ROW_SECURITY: &str = "0006_tenant_rate_limit";

/// Core's own: tenancy, the audit log, idempotency keys, numbers and states of documents, and the rules that hold of every table.
pub const CORE: Namespace<'static> = Namespace {
    name: CORE_NAME,
    migrations: crate::migrations![
        "0001_tenancy" was ["0001_tenancy"],
        "0002_audit" was ["0002_audit"],
        "0003_idempotency" was ["0005_idempotency"],
        "0004_data_rules" was ["0007_data_rules"],
        "0005_record_rules" was ["0009_record_rules"],
        "0006_private_tables",
        "0007_references",
        "0008_document_numbers",
        "0009_money",
        "0010_states",
        "0011_system_access",
        "0012_jobs",
        "0013_events",
        "0014_files",
        "0015_imports",
        "0016_mail",
        "0017_system_within",
        "0018_system_answers",
        "0019_planned_once",
        "0020_row_conditions",
        "0021_erased_tenants",
        "0022_usage",
        "0023_audit_functions",
        "0024_transparency_log",
        "0025_platform_log",
        "0026_encryption",
        "0027_audit_blocks",
        "0028_privacy",
        "0029_audit_retention",
        "0030_audit_alerts",
        "0031_erasure",
    ],
    samples: crate::samples![
        "audit_log",
        "idempotency_keys",
        "document_numbers",
        "job_ready",
        "job_scheduled",
        "job_running",
        "job_dead",
        "job_done",
        "job_keys",
        "import_rejections",
        "job_cancels",
        "events",
        "event_heads",
        "event_cursors",
        "webhook_receipts",
        "files",
        "unreferenced_objects",
        "file_usage",
        "mails",
        "mail_suppressions",
        "usage",
        "usage_totals",
        "audit_logs",
        "audit_entries",
        "audit_tiles",
        "audit_checkpoints",
        "audit_prunings",
        "audit_blocks",
        "audit_holds",
        "audit_cursors",
        "audit_alerts",
        "subject_keys"
    ],
    personal: personal::CORE,
    duties: &[],
};

/// One SQL file, embedded. [`migrations!`](crate::migrations) makes a list of them.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its name within its namespace, which is the file's without `.sql`: four digits, `_` and words, such as
    /// `0001_items`.
    pub name: &'static str,
    /// Its text. Once released it is never edited.
    pub sql: &'static str,
    /// The full names of migrations of other modules that must be applied before it, such as `catalog/0001_items`.
    /// What precedes it in its own namespace, and all of core's, always is.
    pub after: &'static [&'static str],
    /// The full names under which it was released before, where it or its module has been renamed.
    pub was: &'static [&'static str],
}

/// One row for a tenant table, inserted by the isolation proof as a reserved tenant and rolled back.
/// [`samples!`](crate::samples) makes a list of them.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The table, with its schema unless that is `public`.
    pub table: &'static str,
    /// One INSERT of constants, without `tenant_id`.
    pub insert: &'static str,
}

/// What core or one module adds to the schema.
#[derive(Debug, Clone, Copy)]
pub struct Namespace<'a> {
    /// The module's name.
    pub name: &'a str,
    /// Its migrations, in the order of their numbers.
    pub migrations: &'a [Migration],
    /// A sample row for each of its tenant tables.
    pub samples: &'a [Sample],
    /// What its tables hold of people.
    pub personal: &'a [PersonalData],
    /// Laws that want some of it to be kept.
    pub duties: &'a [RetentionDuty],
}

impl<'a> Namespace<'a> {
    /// One with these migrations and nothing else, as a test wants it.
    pub const fn of(name: &'a str, migrations: &'a [Migration]) -> Self {
        Self { name, migrations, samples: &[], personal: &[], duties: &[] }
    }
}

/// All migrations of a product in the order in which they are applied, and all its samples.
#[derive(Debug, Clone)]
pub struct Schema {
    entries: Vec<Entry>,
    samples: Vec<Sample>,
    personal: Vec<PersonalData>,
    duties: Vec<RetentionDuty>,
}

/// A migration under its full name.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Such as `catalog/0001_items`.
    pub name: String,
    /// The file.
    pub migration: Migration,
}

/// Embeds SQL files that stand in the folder `migrations` beside the source file that names them:
///
/// ```ignore
/// migrations: erp_core::migrations![
///     "0001_orders" after ["catalog/0001_items"],
///     "0002_order_lines" was ["0009_order_lines"],
/// ],
/// ```
///
/// `after` names migrations of other modules that must be applied before; `was` the full names under which it was
/// released before. See [`Migration`](crate::db::Migration).
#[macro_export]
macro_rules! migrations {
    ($($name:literal $(was [$($was:literal),+ $(,)?])? $(after [$($after:literal),+ $(,)?])?),+ $(,)?) => {
        &[$($crate::db::Migration {
            name: $name,
            sql: include_str!(concat!("migrations/", $name, ".sql")),
            after: &[$($($after),+)?],
            was: &[$($($was),+)?],
        }),+]
    };
}

/// Embeds the sample rows that stand in the folder `samples` beside the source file that names them, each under the name
/// of its table: `samples: erp_core::samples!["orders", "order_lines"]`.
#[macro_export]
macro_rules! samples {
    ($($table:literal),+ $(,)?) => {
        &[$($crate::db::Sample {
            table: $table,
            insert: include_str!(concat!("samples/", $table, ".sql")),
        }),+]
    };
}

impl Migration {
    /// SHA-256 of the text with its lines ended by LF, hex: a checkout with other line ends has the same one.
    pub fn checksum(&self) -> String {
        sha256(&self.text())
    }

    /// The text that is applied.
    pub(super) fn text(&self) -> Cow<'static, str> {
        let text = self.sql.strip_prefix('\u{feff}').unwrap_or(self.sql);
        if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n")) } else { Cow::Borrowed(text) }
    }

    /// Whether `checksum` is of this migration. A binary of before, built from a checkout with CRLF, has written the
    /// checksum of that text.
    pub(super) fn is(&self, checksum: &str) -> bool {
        checksum == self.checksum()
            || checksum == sha256(self.sql)
            || checksum == sha256(&self.text().replace('\n', "\r\n"))
    }

    /// Whether it begins with the line that says so.
    pub(super) fn is_outside_a_transaction(&self) -> bool {
        self.text().starts_with(OUTSIDE)
    }

    /// Whether it was released before row security was off in migrations.
    pub(super) fn has_row_security(&self) -> bool {
        self.was.iter().any(|was| !was.contains('/') && *was <= LAST_WITH_ROW_SECURITY)
    }
}

fn sha256(text: &str) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref())
}

impl Entry {
    /// Whether this binary or an earlier one applies it under this name.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.migration.was.contains(&name)
    }

    /// The module's name, and the file's number, such as `0001`.
    pub(super) fn place(&self) -> (&str, &str) {
        place(&self.name).unwrap_or_default()
    }
}

/// Of `catalog/0001_items` the namespace `catalog` and the number `0001`; `None` for a name of another form.
pub(super) fn place(full_name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = full_name.split_once('/')?;
    let number = name.get(..4)?;
    let rest = name.get(4..)?.strip_prefix('_')?;
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let well_formed = number.bytes().all(|byte| byte.is_ascii_digit()) && !rest.is_empty();
    (well_formed && rest.chars().all(is_word)).then_some((namespace, number))
}

impl Schema {
    /// Core's migrations and samples, and those of `modules`, in the order in which the product names them.
    ///
    /// # Errors
    /// `Exit::Internal` for a list that cannot be applied in order: with what to correct in it.
    pub fn new<'a>(modules: impl IntoIterator<Item = Namespace<'a>>) -> Result<Self, StartError> {
        Self::on(CORE, modules)
    }

    /// The same on another version of core, as a test of an upgrade wants it.
    ///
    /// # Errors
    /// As [`Schema::new`].
    pub fn on<'a>(
        core: Namespace<'a>,
        modules: impl IntoIterator<Item = Namespace<'a>>,
    ) -> Result<Self, StartError> {
        let namespaces: Vec<Namespace<'a>> = std::iter::once(core).chain(modules).collect();
        let entries = order::order(&namespaces)?;
        let mut samples: Vec<Sample> = Vec::new();
        for sample in namespaces.iter().flat_map(|namespace| namespace.samples) {
            if samples.iter().any(|other| other.qualified() == sample.qualified()) {
                let what = format!("The table {} has two samples", sample.table);
                return Err(StartError::with_fix(
                    Exit::Internal,
                    what,
                    "keep the one of the module that makes it",
                ));
            }
            samples.push(*sample);
        }
        let personal = namespaces.iter().flat_map(|namespace| namespace.personal).copied().collect();
        let duties = namespaces.iter().flat_map(|namespace| namespace.duties).copied().collect();
        Ok(Self { entries, samples, personal, duties })
    }

    /// The migrations, in the order in which they are applied.
    pub fn migrations(&self) -> &[Entry] {
        &self.entries
    }

    /// The samples: core's, then those of each module.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// What the tables hold of people: core's, then those of each module.
    pub fn personal(&self) -> &[PersonalData] {
        &self.personal
    }

    /// Laws that want some of it to be kept.
    pub fn duties(&self) -> &[RetentionDuty] {
        &self.duties
    }

    /// Whether one of them is, or once was, called so.
    pub fn knows(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.is_called(name))
    }

    /// Whether one of them belongs to this namespace.
    pub(super) fn has_namespace(&self, namespace: &str) -> bool {
        self.entries.iter().any(|entry| entry.place().0 == namespace)
    }

    /// The full name of the migration that makes the table `public.orders`, as far as its text says so.
    pub(super) fn maker_of(&self, relation: &str) -> Option<&str> {
        let bare = relation.strip_prefix("public.").unwrap_or(relation);
        let makes = |entry: &&Entry| {
            let text = entry.migration.text().to_ascii_lowercase();
            text.match_indices("create table ").any(|(at, create)| {
                let rest = text[at + create.len()..].trim_start_matches("if not exists ");
                let name = rest.split(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
                name == relation || name == bare
            })
        };
        self.entries.iter().find(makes).map(|entry| entry.name.as_str())
    }
}

impl Sample {
    /// The name under which the registry knows the table.
    pub(super) fn qualified(&self) -> String {
        if self.table.contains('.') { self.table.to_owned() } else { format!("public.{}", self.table) }
    }
}
