use std::io;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use super::place::{ClusterPlace, SUPERUSER};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came back from the socket.
pub(super) enum Answerer {
    /// The cluster on our data.
    Ours,
    /// A cluster on other data.
    Stranger(String),
    /// It is starting, stopping, full or stuck.
    NotNow,
    /// Nobody listens.
    Nobody,
}

/// Asks who listens on our socket. Nothing is written to a cluster before it has answered [`Answerer::Ours`].
#[allow(clippy::disallowed_methods)] // a part of db, and no data are read
pub(super) async fn ask(place: &ClusterPlace) -> Answerer {
    let asked = async {
        let (client, connection) = tokio_postgres::connect(&place.url(SUPERUSER, "postgres"), NoTls).await?;
        let row = drive(connection, client.query_one("SHOW data_directory", &[])).await?;
        row.try_get::<_, String>(0)
    };
    match timeout(PATIENCE, asked).await {
        Ok(Ok(data)) if place.data.as_os_str() == data.as_str() => Answerer::Ours,
        Ok(Ok(data)) => Answerer::Stranger(data),
        Ok(Err(_)) if !listens(place).await => Answerer::Nobody,
        Ok(Err(_)) | Err(_) => Answerer::NotNow,
    }
}

/// Runs `work` while `connection` carries it: no task outlives the call.
pub(super) async fn drive<T>(
    connection: impl Future<Output = Result<(), tokio_postgres::Error>>,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, tokio_postgres::Error> {
    tokio::select! {
        biased;
        done = work => done,
        Err(error) = connection => Err(error),
    }
}

/// Whether anybody listens on our socket.
pub(super) async fn listens(place: &ClusterPlace) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    match UnixStream::connect(place.socket_file()).await {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ConnectionRefused | NotFound), // a full queue is a sign of life
    }
}
