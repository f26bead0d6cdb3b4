//! A way to PostgreSQL or Redis on which everything that is sent arrives late, as if it were on another host.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::config::Host;

/// What one round trip costs more.
pub const DELAY: Duration = Duration::from_millis(5);

/// Starts a way to PostgreSQL, and returns the URL of its near end.
pub async fn to_postgres(url: &str) -> Result<String> {
    let config: tokio_postgres::Config = url.parse()?;
    let host = config.get_hosts().first().context("no host")?.clone();
    let near = to(host, config.get_ports().first().copied().unwrap_or(5432)).await?;
    let (user, database) =
        (config.get_user().context("no user")?, config.get_dbname().context("no database")?);
    Ok(format!("postgresql://{user}@127.0.0.1:{near}/{database}"))
}

/// Starts a way to `host`, and returns the port of its near end.
pub async fn to(host: Host, port: u16) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let near = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connect(stream, host.clone(), port));
        }
    });
    Ok(near)
}

async fn connect(near: TcpStream, host: Host, port: u16) -> Result<()> {
    near.set_nodelay(true)?;
    match host {
        Host::Tcp(host) => {
            let far = TcpStream::connect((host.as_str(), port)).await?;
            far.set_nodelay(true)?;
            carry(near, far).await
        }
        Host::Unix(folder) => {
            carry(near, UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?).await
        }
    }
}

async fn carry<Far: AsyncRead + AsyncWrite + Send + 'static>(near: TcpStream, far: Far) -> Result<()> {
    let (near_in, mut near_out) = near.into_split();
    let (mut far_in, far_out) = tokio::io::split(far);
    tokio::select! {
        sent = late(near_in, far_out) => sent,
        answered = tokio::io::copy(&mut far_in, &mut near_out) => Ok(answered.map(drop)?),
    }
}

/// Each part arrives [`DELAY`] after it was sent, however many are on their way.
async fn late(mut from: impl AsyncRead + Unpin + Send, mut to: impl AsyncWrite + Unpin + Send) -> Result<()> {
    let (parts, mut on_the_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let depart = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 || parts.send((Instant::now() + DELAY, buffer[..read].to_vec())).is_err() {
                return anyhow::Ok(());
            }
        }
    };
    let arrive = async {
        while let Some((due, part)) = on_the_way.recv().await {
            sleep_until(due).await;
            to.write_all(&part).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! { ended = depart => ended, ended = arrive => ended }
}
