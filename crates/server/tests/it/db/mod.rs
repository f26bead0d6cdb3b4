//! The database, as the whole product uses it.

mod auditing;
mod cancellation;
mod database_texts;
mod database_use;
mod exhaustion;
mod module_sql;
mod numbers;
mod pooler;
mod records;
mod reproof;
mod round_trip;
mod row_conditions;
pub(crate) mod states;
mod stress;
mod transactions;
