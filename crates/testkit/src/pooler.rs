//! PgBouncer in transaction mode before a test's database: a connection of the product's pool is then no connection of
//! the server, and the next transaction may run on another (T-05).

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// Connections to the server for all clients together.
const POOL_SIZE: usize = 2;
/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// On every system the account without rights: a pooler that root starts refuses to run as root.
const NOBODY: (u32, u32) = (65534, 65534);
/// Where packages put it, which is often not in PATH.
const PACKAGES: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"];
const PORT: u16 = 6432;

/// A running PgBouncer, which dropping this ends.
pub struct Pooler {
    process: Child,
    folder: PathBuf,
}

impl Pooler {
    /// Whether PgBouncer is there. Where it is not, says so and that `what` was not run; on CI that is a failure.
    pub fn is_installed(what: &str) -> bool {
        let found = program().is_some();
        if !found {
            eprintln!("pgbouncer is not installed: {what} was not run");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI runs every test: install pgbouncer");
        }
        found
    }

    /// Starts one before the database of `url`; returns it and the URL that leads through it.
    pub fn start(url: &str) -> (Self, String) {
        Self::with(url, "")
    }

    /// The same with one that takes a session's start-up options and drops them.
    pub fn dropping_options(url: &str) -> (Self, String) {
        Self::with(url, "ignore_startup_parameters = options\n")
    }

    fn with(url: &str, more: &str) -> (Self, String) {
        let config: Config = url.parse().expect("our own URL");
        let (user, database) = (config.get_user().expect("a user"), config.get_dbname().expect("a database"));
        let pooler = Self::configured(url, |server, folder| {
            format!(
                "[databases]\n{database} = {server} dbname={database}\n\
                 [pgbouncer]\nlisten_port = {PORT}\nauth_type = trust\nauth_file = {folder}/users\n\
                 pool_mode = transaction\ndefault_pool_size = {POOL_SIZE}\nmax_client_conn = 500\n{more}"
            )
        });
        let host = pooler.folder.display().to_string().replace('/', "%2F");
        let url = format!("postgresql://{user}@{host}:{PORT}/{database}");
        (pooler, url)
    }

    /// Starts one with settings of the caller's, who is told the server (`host=… port=…`) and the pooler's folder. There it
    /// listens on a socket, and finds the user of `url` in the file `users`.
    pub fn configured(url: &str, settings: impl FnOnce(&str, &str) -> String) -> Self {
        let config: Config = url.parse().expect("our own URL");
        let (host, owner) = match config.get_hosts().first().expect("a URL names a host") {
            Host::Unix(folder) => {
                // The owner of the socket; its folder is closed to all others.
                let owner = fs::metadata(folder).expect("PostgreSQL listens there");
                (folder.display().to_string(), (owner.uid(), owner.gid()))
            }
            Host::Tcp(host) => (host.clone(), NOBODY),
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let user = config.get_user().expect("a user");
        let password = String::from_utf8_lossy(config.get_password().unwrap_or_default());

        let folder = fresh_folder();
        let shown = folder.display().to_string();
        let settings = settings(&format!("host={host} port={port}"), &shown);
        fs::write(folder.join("settings"), format!("{}\nunix_socket_dir = {shown}\n", settings.trim_end()))
            .expect("our own folder");
        let system = format!("{}_system", user.strip_suffix("_app").unwrap_or(user));
        let users = [user, &system].map(|user| format!("\"{user}\" \"{password}\"\n")).concat();
        fs::write(folder.join("users"), users).expect("our own folder");
        let process = spawn(&folder, owner);
        let pooler = Self { process, folder };
        pooler.wait_until_it_listens();
        pooler
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn sockets(&self) -> impl Iterator<Item = PathBuf> {
        let files = fs::read_dir(&self.folder).expect("our own folder").flatten().map(|entry| entry.path());
        files.filter(|path| path.to_string_lossy().contains("/.s.PGSQL."))
    }

    fn wait_until_it_listens(&self) {
        let begun = Instant::now();
        while !self.sockets().any(|socket| UnixStream::connect(socket).is_ok()) {
            assert!(begun.elapsed() < PATIENCE, "pgbouncer does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &Path, (uid, gid): (u32, u32)) -> Child {
    let log = fs::File::create(folder.join("log")).expect("our own folder");
    let mut command = Command::new(program().expect("asked before: Pooler::is_installed"));
    command.arg(folder.join("settings")).current_dir(folder).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let ours = fs::metadata(folder).expect("our own folder").uid();
    if ours == 0 {
        let (uid, gid) = if uid == 0 { NOBODY } else { (uid, gid) };
        for path in [folder, &folder.join("settings"), &folder.join("users")] {
            chown(path, Some(uid), Some(gid)).expect("root may");
        }
        command.uid(uid).gid(gid);
    }
    command.spawn().expect("pgbouncer starts")
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(PACKAGES.map(PathBuf::from));
    folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file())
}

/// Below `/tmp`, since a socket's path must be short.
fn fresh_folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/erp-pooler-{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made.expect("the temporary folder is writable");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("our own folder");
                return path;
            }
        }
    }
}
