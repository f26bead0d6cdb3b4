//! Clients that leave: what they wrote is finished, what they read is given up, and silence is cut off.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::database::{Database, Session};
use super::http::Client;
use super::process::{Home, Process, eventually};

/// A server, its database, and a session that has locked `items`.
pub(super) struct Blocked {
    pub(super) server: Process,
    pub(super) client: Client,
    pub(super) admin: Session,
    lock: Session,
    pub(super) database: Database,
    _home: Home,
}

impl Blocked {
    pub(super) fn set(name: &str, variables: &[(&str, &str)]) -> Self {
        let (home, database) = (Home::new(), Database::empty(name));
        let server = Process::serve(&home, &[&database.both(), variables].concat());
        let client = Client::signed_in(&server.address(), home.path());
        let (admin, lock) = (Session::open(&database.admin_url), Session::open(&database.admin_url));
        lock.run("begin; lock table items in access exclusive mode");
        Self { server, client, admin, lock, database, _home: home }
    }

    /// Waits until this many statements of the server wait for the lock.
    pub(super) fn waiting(&self, count: u32) -> Duration {
        let sql = format!(
            "select count(*) from pg_stat_activity where usename = '{}' and wait_event_type = 'Lock'",
            self.database.app()
        );
        eventually("statements wait for the lock", || self.admin.value(&sql) == count.to_string())
    }

    pub(super) fn unlock(&self) {
        self.lock.run("commit");
    }

    pub(super) fn items(&self, sku: &str) -> String {
        self.admin.value(&format!("select count(*) from items where sku = '{sku}'"))
    }
}

#[test]
fn a_write_whose_client_has_gone_still_commits() {
    let scene = Blocked::set("gone_write", &[]);
    let stream = scene.client.send_item("GONE-1").unwrap();
    scene.waiting(1);
    drop(stream);
    std::thread::sleep(Duration::from_millis(500)); // time in which a server that cancels would have done so
    scene.waiting(1);
    scene.unlock();
    eventually("it commits", || scene.items("GONE-1") == "1");
    let audited = "select count(*) from audit_log where action like '%item%' and tenant_id = \
        (select id from tenants where slug = 'acme') and after ->> 'sku' = 'GONE-1'";
    assert_eq!(scene.admin.value(audited), "1", "with its audit entry");
    assert_eq!(scene.server.stop("TERM").code, 0);
}

#[test]
fn a_read_whose_client_has_gone_is_cancelled_with_its_sql() {
    let scene = Blocked::set("gone_read", &[]);
    let streams: Vec<_> = (0..5).map(|_| scene.client.send("GET", "/api/v1/items", "").unwrap()).collect();
    scene.waiting(5);
    drop(streams);
    let took = scene.waiting(0);
    println!("five statements were cancelled within {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    scene.unlock();
    let answer = scene.client.get("/api/v1/items").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let open = format!(
        "select count(*) from pg_stat_activity where usename = '{}' and state like 'idle in transaction%'",
        scene.database.app()
    );
    assert_eq!(scene.admin.value(&open), "0", "no connection is left inside a transaction");
}

#[test]
fn silent_connections_are_closed() {
    let (home, database) = (Home::new(), Database::migrated("silent"));
    let server = Process::serve(&home, &[("DATABASE_URL", &database.runtime_url)]);
    let begin = Instant::now();
    let mut streams: Vec<_> = (0..500).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    // Some begin to speak, HTTP/2 or HTTP/1, and fall silent.
    for (stream, word) in
        streams.iter_mut().zip(["PRI * HT", "GET / HT", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
    {
        stream.write_all(word.as_bytes()).unwrap();
    }
    assert_eq!(
        Client::new(&server.address()).get("/ping").unwrap().status,
        200,
        "others are served meanwhile"
    );
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).unwrap(); // HTTP/2 says its settings first
    }
    println!("500 silent connections were closed within {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}
