//! What a failure of the connection means for the request that has asked.

use erp_postgres::WireError as Failure;

use crate::error::Error;

impl From<Failure> for Error {
    fn from(error: Failure) -> Self {
        let server = error.server();
        let state = server.map(|server| server.state.clone());
        let constraint = server.and_then(|server| server.constraint.clone());
        let broken = error.is_broken() || error.is_opening();
        // A request cannot help what the server refuses a new session for; that it is full is told apart.
        let state = state.filter(|state| !error.is_opening() || state.code().starts_with("53"));
        Self::from_database(state.as_ref(), constraint, broken, error)
    }
}
