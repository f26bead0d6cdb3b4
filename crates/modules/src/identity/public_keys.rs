use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::PublicKeys;
use erp_core::extract::Json;

/// Those of access tokens, for others that want to verify them.
pub(super) async fn public_keys(State(app): State<App>) -> Json<PublicKeys> {
    Json(app.public_keys())
}
