//! The only way to data: pools, the tenant's transaction, migrations, the isolation proof.

pub mod cluster;
pub mod proof;
