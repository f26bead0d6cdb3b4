//! The only way to data: pools, the tenant's transaction, migrations, the isolation proof.
//!
//! A feature module sees [`Db::tenant`] and [`Db::tenant_read`], which take a [`Caller`](crate::auth::Caller) and give a transaction
//! that carries its tenant. Connections, pools and the driver's client stay private to this folder.

mod checkout;
pub mod cluster;
mod connection;
mod context;
mod deferral;
mod exchange;
mod failure;
mod migrate;
mod monitor;
mod observed;
mod owner;
mod pool;
pub mod proof;
mod protected;
mod refusal;
mod repeat;
mod row;
mod scope;
mod session;
mod shortage;
mod statement;
mod stream;
mod tenant_share;
mod transaction;
mod version;

pub use connection::Connection;
pub use deferral::Deferral;
pub use erp_postgres::{Error as RowError, Params, Row, ToSql};
pub use migrate::{Migration, Status, pending, refuse_changed};
pub use owner::{
    Owner, Reached, accepted_encoding, accepted_version, connections_given, knows_case, migration_status,
    prove_once, reach, refuse_privileged_role,
};
pub use pool::{Db, Options};
pub use refusal::{Refusal, Step};
pub use row::FromRow;
pub use session::{Deviation, Writes};
pub use stream::RowStream;
/// What the owner's sessions answer.
pub use tokio_postgres::Error as OwnerError;
pub use transaction::{AuditEntry, Last, SystemReason, SystemTx, TenantTx};
pub use version::ServerVersion;
