//! The product and its peers as processes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

use crate::client::Connection;
use crate::request;

/// Needed in production; nothing in a measurement is encrypted with it.
const ENCRYPTION_KEY: &str = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=";
/// Connections of every pool.
const POOL: &str = "16";
const PATIENCE: Duration = Duration::from_secs(20);

/// What all of them are told.
pub struct Setup {
    pub server: PathBuf,
    pub peers: PathBuf,
    pub secret: String,
}

/// A running contestant; dropping it kills it.
pub struct Contestant {
    pub name: &'static str,
    pub port: u16,
    pub pid: u32,
    child: Child,
}

impl Contestant {
    /// The same under another name.
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Ends it in good order.
    pub async fn stop(mut self) -> Result<()> {
        Command::new("/bin/sh").args(["-c", &format!("kill -s TERM {}", self.pid)]).status().await?;
        tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        Ok(())
    }
}

impl Setup {
    /// The product, in production and with its request log. It is ready when this returns.
    pub async fn product(&self, database_url: &str) -> Result<Contestant> {
        self.product_with(database_url, &[]).await
    }

    /// The same with further settings.
    pub async fn product_with(&self, database_url: &str, settings: &[(&str, &str)]) -> Result<Contestant> {
        let mut command = clean(&self.server);
        command.args(["serve", "--env-file", "/dev/null"]).envs(settings.iter().copied());
        self.start("product", command, database_url, "/readyz").await
    }

    /// The same under another program, such as a profiler, which is given the product's command line.
    pub async fn product_under(&self, program: &[String], database_url: &str) -> Result<Contestant> {
        let mut command = clean(program[0].as_ref());
        command.args(&program[1..]).arg(&self.server).args(["serve", "--env-file", "/dev/null"]);
        // Otherwise it begins itself anew with these, and the profiler loses it.
        command.env("MALLOC_MMAP_THRESHOLD_", "131072").env("MALLOC_TRIM_THRESHOLD_", "131072");
        // Which worker takes what up is chance, and so is what they tell each other: a tenth of the instructions.
        command.env("WORKER_THREADS", "1");
        self.start("product", command, database_url, "/readyz").await
    }

    /// A peer: one of the sub-commands of `peers`.
    pub async fn peer(&self, name: &'static str, database_url: &str) -> Result<Contestant> {
        let mut command = clean(&self.peers);
        command.arg(name);
        self.start(name, command, database_url, "/").await
    }

    async fn start(
        &self,
        name: &'static str,
        mut command: Command,
        database_url: &str,
        probe: &str,
    ) -> Result<Contestant> {
        let port = free_port()?;
        command
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .env("APP_ENV", "production")
            .env("HOST", "127.0.0.1")
            .env("PORT", port.to_string())
            .env("DATABASE_URL", database_url)
            .env("DATABASE_SYSTEM_URL", database_url.replace("erp_app@", "erp_system@"))
            .env("DATABASE_MAX_CONNECTIONS", POOL)
            .env("JWT_SECRET", &self.secret)
            .env("ENCRYPTION_KEY", ENCRYPTION_KEY)
            .env("AUDIT_SIGNING_KEY", ENCRYPTION_KEY)
            // The load comes from one address.
            .env("RATE_LIMIT_MAX", "1000000")
            .env("RATE_LIMIT_WINDOW", "1s")
            .env("LOG_FORMAT", "json")
            .env("LOG_LEVEL", "http") // each request's line included
            .env("METRICS_ENABLED", "true")
            .env("SHUTDOWN_DRAIN_DELAY", "0s")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{name} cannot be run"))?;
        let pid = child.id().context("the process has ended")?;
        answers(name, port, probe, &mut child).await?;
        Ok(Contestant { name, port, pid, child })
    }
}

/// A command without this process's environment.
fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command
}

/// Asks until there is an answer; from the product, one that says ready.
async fn answers(name: &str, port: u16, probe: &str, child: &mut Child) -> Result<()> {
    let began = Instant::now();
    let request = request::get(probe);
    loop {
        if let Ok(mut connection) = Connection::open(port).await
            && let Ok(status) = connection.exchange(&request).await
            && (status == 200 || probe == "/")
        {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            bail!("{name} ended: {status}");
        }
        if began.elapsed() > PATIENCE {
            bail!("{name} does not answer");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
