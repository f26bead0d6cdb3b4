//! What tests send to the routes of the product.

use erp_testkit::{Sweeps, TestApp};

use crate::modules;

/// The sweeps over the product. A module's fixtures stand in its `tests.rs`, and in the list of `modules.rs`.
pub(crate) async fn sweeps(app: &TestApp) -> Sweeps<'_> {
    Sweeps::over(app, modules::FIXTURES).await
}
