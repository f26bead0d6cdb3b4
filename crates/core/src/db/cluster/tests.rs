//! With the real binaries, each test in a folder of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::lifecycle::Exit;

use super::*;

/// A folder that is removed at the end, with the postmaster that a failed test left in it. A shell waits for the end
/// on a pipe, since a test may be killed, too.
struct Folder(PathBuf, Child);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("erp-cluster-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let clean =
            r#"read -r _; pid=$(head -n 1 "$0/pg/data/postmaster.pid") && kill -9 "$pid"; rm -rf "$0""#;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", clean]).arg(&path).process_group(0).stdin(Stdio::piped());
        Self(path, shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = self.1.wait(); // closes the pipe first
    }
}

fn pid_in(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("postmaster.pid")).ok()?.lines().next()?.parse().ok()
}

fn kill(pid: u32) {
    Command::new("/bin/sh").args(["-c", &format!("kill -9 {pid}")]).status().unwrap();
}

fn options(folder: &Folder) -> ClusterOptions {
    ClusterOptions { folder: folder.0.join("pg"), durable: false, max_connections: 20, path: OsString::new() }
}

/// What is left to the next start when the server is killed: PostgreSQL runs, the lock is free.
#[allow(clippy::needless_pass_by_value)]
fn die(cluster: Cluster) -> u32 {
    pid_in(&cluster.place.data).unwrap() // dropped without `stop`
}

#[allow(clippy::disallowed_methods)] // a part of db; the task ends with the client
async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn run(url: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    connect(url).await?.batch_execute(sql).await
}

/// The server runs these on tasks of its own.
#[allow(dead_code)]
fn tasks_can_be_moved_between_threads(options: ClusterOptions, cluster: Cluster, other: &Cluster) {
    fn moves(_: impl Send) {}
    moves(Cluster::start(options));
    moves(other.provision("erp"));
    moves(other.supervise(CancellationToken::new()));
    moves(cluster.stop());
}

#[tokio::test]
async fn starts_answers_stops_and_starts_again_with_its_data() {
    let folder = Folder::new();
    let begin = Instant::now();
    let cluster = Cluster::start(options(&folder)).await.unwrap();
    println!("first start: {:?}", begin.elapsed());
    run(&cluster.admin_url(), "CREATE TABLE kept ()").await.unwrap();
    let mode = fs::metadata(&cluster.place.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the socket is for nobody else");
    let (data, socket, begin) = (cluster.place.data.clone(), cluster.place.socket.clone(), Instant::now());
    cluster.stop().await.unwrap();
    println!("stop: {:?}", begin.elapsed());
    assert_eq!(pid_in(&data), None);
    assert!(!socket.exists() && data.join("PG_VERSION").exists());

    let begin = Instant::now();
    let cluster = Cluster::start(options(&folder)).await.unwrap();
    println!("start: {:?}", begin.elapsed());
    run(&cluster.admin_url(), "TABLE kept").await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn stops_although_somebody_is_connected() {
    let folder = Folder::new();
    let cluster = Cluster::start(options(&folder)).await.unwrap();
    let client = connect(&cluster.admin_url()).await.unwrap();
    cluster.stop().await.unwrap();
    assert!(client.batch_execute("SELECT").await.is_err());
}

#[tokio::test]
async fn what_a_killed_server_left_is_adopted_and_stopped() {
    let folder = Folder::new();
    let pid = die(Cluster::start(options(&folder)).await.unwrap());
    let begin = Instant::now();
    let cluster = Cluster::start(options(&folder)).await.unwrap();
    println!("adopt: {:?}", begin.elapsed());
    assert_eq!(pid_in(&cluster.place.data), Some(pid), "the same one");
    let data = cluster.place.data.clone();
    cluster.stop().await.unwrap();
    assert_eq!(pid_in(&data), None);
}

#[tokio::test]
async fn a_second_owner_is_refused() {
    let folder = Folder::new();
    let cluster = Cluster::start(options(&folder)).await.unwrap();
    let error = Cluster::start(options(&folder)).await.unwrap_err();
    assert_eq!(error.exit, Exit::DataFolder);
    assert!(error.message.contains(&format!("(pid {})", std::process::id())), "{}", error.message);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_postmaster_that_is_killed_is_started_again() {
    let folder = Folder::new();
    let cluster = Cluster::start(options(&folder)).await.unwrap();
    for round in ["ours", "adopted"] {
        let stop = CancellationToken::new();
        let killed = async {
            let pid = pid_in(&cluster.place.data).unwrap();
            let _witness = connect(&cluster.admin_url()).await.unwrap();
            kill(pid);
            let begin = Instant::now();
            while pid_in(&cluster.place.data) == Some(pid)
                || run(&cluster.admin_url(), "SELECT").await.is_err()
            {
                assert!(begin.elapsed() < Duration::from_secs(5), "{round}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            println!("again, {round}: {:?}", begin.elapsed());
            stop.cancel();
        };
        tokio::join!(cluster.supervise(stop.clone()), killed);
        let mut postmaster = cluster.postmaster.lock().await;
        *postmaster = Postmaster::Adopted;
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn an_initdb_killed_midway_is_cleaned_up() {
    let folder = Folder::new();
    let unfinished = folder.0.join("pg/data.new-1");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15").unwrap();
    let cluster = Cluster::start(options(&folder)).await.unwrap();
    assert!(!unfinished.exists());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn an_unusable_folder_is_named_in_one_line() {
    let folder = Folder::new();
    fs::write(folder.0.join("pg"), "not a folder").unwrap();
    let error = Cluster::start(options(&folder)).await.unwrap_err();
    assert_eq!(error.exit, Exit::DataFolder);
    assert!(error.message.contains(folder.0.join("pg").to_str().unwrap()) && !error.message.contains('\n'));
    // Where even root cannot write.
    let proc = ClusterOptions { folder: "/proc/1/erp".into(), ..options(&folder) };
    assert_eq!(Cluster::start(proc).await.unwrap_err().exit, Exit::DataFolder);
}

#[tokio::test]
async fn a_failed_start_says_why() {
    let folder = Folder::new();
    Cluster::start(options(&folder)).await.unwrap().stop().await.unwrap();
    fs::write(folder.0.join("pg/data/postgresql.conf"), "no_such_setting = 1\n").unwrap();
    let error = Cluster::start(options(&folder)).await.unwrap_err();
    assert_eq!(error.exit, Exit::Unavailable);
    assert!(error.message.contains("no_such_setting") && !error.message.contains('\n'), "{}", error.message);
}

#[tokio::test]
async fn a_folder_out_of_reach_or_too_long_lands_below_the_temporary_one() {
    let folder = Folder::new();
    let long = ClusterOptions { folder: folder.0.join("long ,\"path\" @".repeat(10)), ..options(&folder) };
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700)).unwrap();
    let cluster = Cluster::start(long).await.unwrap();
    assert!(cluster.place.socket_file().as_os_str().len() <= 100);
    run(&cluster.admin_url(), "SELECT").await.unwrap();
    let elsewhere = cluster.place.socket.parent().unwrap().to_owned();
    assert!(elsewhere.starts_with("/tmp") && !elsewhere.starts_with(&folder.0));
    cluster.stop().await.unwrap();
    let _ = fs::remove_dir_all(elsewhere);
}

#[tokio::test]
async fn the_roles_can_do_their_work_and_no_more() {
    let folder = Folder::new();
    let cluster = Cluster::start(options(&folder)).await.unwrap();
    let roles = cluster.provision("erp").await.unwrap();
    run(&cluster.admin_url(), "ALTER ROLE erp_app BYPASSRLS; GRANT erp_owner TO erp_app").await.unwrap();
    let (again, other) = tokio::join!(cluster.provision("erp"), cluster.provision("user"));
    assert_eq!(again.unwrap(), roles);
    assert_ne!(other.unwrap(), roles);

    run(&roles.owner_url, "CREATE TABLE t (a int); GRANT SELECT ON t TO erp_app").await.unwrap();
    run(&roles.runtime_url, "SELECT * FROM t").await.unwrap();
    let forbidden = [
        "CREATE TABLE u ()",
        "CREATE TEMPORARY TABLE u ()",
        "SET ROLE erp_owner",
        "CREATE SCHEMA u",
        "DROP TABLE t",
    ];
    for sql in forbidden {
        let error = run(&roles.runtime_url, sql).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
    }
    let row = connect(&roles.runtime_url).await.unwrap();
    let attributes = "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls OR rolreplication
                      FROM pg_roles WHERE rolname = current_user";
    assert!(!row.query_one(attributes, &[]).await.unwrap().get::<_, bool>(0));
    run(&cluster.admin_url(), "CREATE ROLE stranger LOGIN").await.unwrap();
    let error = run(&cluster.url("stranger", "erp"), "SELECT").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn psql_takes_the_same_url() {
    let folder = Folder::new();
    let cluster = Cluster::start(options(&folder)).await.unwrap();
    if let Ok(said) = Command::new("psql").args([&cluster.admin_url(), "-Atc", "SELECT 7"]).output() {
        assert_eq!(String::from_utf8_lossy(&said.stdout), "7\n", "{}", String::from_utf8_lossy(&said.stderr));
    }
    cluster.stop().await.unwrap();
}
