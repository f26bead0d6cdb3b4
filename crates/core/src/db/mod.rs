//! The only way to data: pools, the tenant's transaction, migrations, the isolation proof.
//!
//! A feature module sees [`Db::tenant`] and [`Db::tenant_read`], which take a [`Caller`](crate::auth::Caller) and give a transaction
//! that carries its tenant. Connections, pools and the driver's client stay private to this folder.

mod statement;

mod columns;

mod personal;

mod row_condition;

mod doorbell;

mod outbox;

mod connect;

pub mod cluster;

mod schema;

pub mod proof;

mod owner;

mod generations;

mod keys;

mod partitions;

mod pool;

mod tx;

pub use columns::{
    ColumnValues, FromColumns, One, RowPlace, RowSealer, RowValues, SealFields, Several, ToColumns,
    UseMoneyAndNoFloat, is_sealed,
};
pub use connect::connection::{Connection, Logins};
pub use connect::refusal::{Refusal, Step};
pub use connect::session::{Deviation, Writes};
pub use connect::version::ServerVersion;
pub use doorbell::{Doorbell, Lane};
pub use erp_postgres::{Params, Row, ToSql, WireError as RowError};
pub use generations::{HasTag, Tag};
pub(crate) use generations::{Telling, TenantTag};
pub(crate) use keys::NewVersion;
pub use keys::TenantKeys;
pub use owner::migrate::{Migrated, State, Status, pending, refuse_changed, tell_unclaimed, to_carry_over};
pub use owner::{
    DoubtfulColumn, Owner, Reached, accepted_encoding, accepted_version, connections_given, doubtful_columns,
    knows_case, migration_status, prove_once, reach, refuse_privileged_role,
};
pub(crate) use partitions::MAINTAIN;
pub use partitions::{PartitionOutcome, maintain_partitions};
pub use personal::{
    Category, LegalBasis, PersonalColumn, PersonalData, RetentionDuty, Whose, record_markdown,
};
pub(crate) use pool::MONITOR;
pub use pool::{Db, PoolOptions, Pools};
pub use row_condition::RowCondition;
pub use schema::{CORE, Entry, Migration, Namespace, Sample, Schema};
pub use statement::Sql;
/// What the owner's sessions answer.
pub use tokio_postgres::Error as OwnerError;
/// For types of a module's own, which are read from a column or bound to a parameter.
pub use tokio_postgres::types::{FromSql, IsNull, Type, private::BytesMut as SqlBuffer, to_sql_checked};
pub use tx::deferral::Deferral;
pub(crate) use tx::emit::NewEvent;
pub(crate) use tx::enqueue::{NewJob, NewMail};
pub(crate) use tx::no_row;
pub use tx::row::FromRow;
pub use tx::stream::RowStream;
pub use tx::system::{System, SystemTx, SystemWork};
pub use tx::{AuditEntry, Last, TenantTx};
