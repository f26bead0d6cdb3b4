//! The ways in which a connection to PostgreSQL fails, told apart by `db check` and at the start; and the ones that a
//! running server gets over.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use erp_testkit::Pooler;
use serde_json::Value;

use super::database::{Database, PASSWORD, Session};
use super::http::Client;
use super::postgres::Postgres;
use super::process::{Home, Process, eventually, run};
use super::relay::{Authority, Relay};
use super::versions::{pretending, socket_file};

/// A way to fail: what it is called in the table, the URL, and the step at which it ends.
struct Way {
    what: &'static str,
    url: String,
    step: &'static str,
}

/// The failed step of `db check`: what it says, and what to do.
fn failed(way: &Way) -> (String, String) {
    let ended = run(&Home::new(), &["db", "check", "--json"], &[("DATABASE_URL", &way.url)]);
    assert_eq!(ended.code, 1, "{}: {ended:#?}", way.what);
    let steps: Vec<Value> = serde_json::from_str(&ended.out.join("\n")).unwrap();
    let step = steps.iter().find(|step| step["passed"] == false).unwrap();
    assert_eq!(step["name"], way.step, "{}: {step}", way.what);
    let text = |name: &str| step[name].as_str().unwrap().to_owned();
    (text("detail"), text("fix"))
}

/// A start with this URL ends at once, with one line.
fn refused(way: &Way) -> String {
    let begun = Instant::now();
    let variables = [("DATABASE_URL", way.url.as_str()), ("STARTUP_TIMEOUT", "60s"), ("PORT", "0")];
    let ended = run(&Home::new(), &[], &variables);
    assert!(matches!(ended.code, 69 | 77) && ended.err.len() == 1, "{}: {ended:#?}", way.what);
    assert!(begun.elapsed() < Duration::from_secs(10), "{}: {:?}", way.what, begun.elapsed());
    assert!(!format!("{ended:?}").contains(PASSWORD), "{ended:#?}");
    ended.err[0].clone()
}

/// `url` with another way to the server.
fn through(url: &str, place: &str, query: &str) -> String {
    let (whom, rest) = url.split_once('@').unwrap();
    let (_, database) = rest.rsplit_once('/').unwrap();
    format!("{whom}@{place}/{database}{query}")
}

/// A server that takes connections and says nothing.
fn silent() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    port
}

/// The first line of pg_hba.conf, from now on.
fn admit(postgres: &Postgres, line: &str) {
    let admin = postgres.admin();
    let file = admin.value("current_setting('hba_file')");
    let rules = format!("{line}\n{}", admin.value("pg_read_file(current_setting('hba_file'))"));
    let literal = rules.replace('\\', "\\\\").replace('\'', "''").replace('\t', "\\t");
    admin.run(&format!(
        "copy (select unnest(string_to_array(E'{literal}', E'\n'))) to '{file}' (delimiter E'\\x01')"
    ));
    let faulty = "select count(*) from pg_hba_file_rules where error is not null";
    assert_eq!(admin.value(faulty), "0");
    admin.run("select pg_reload_conf()");
}

/// What a test has to name itself, as an operator would name it.
fn plain(text: &str, names: &[(&str, &str)]) -> String {
    let mut text = names.iter().fold(text.to_owned(), |text, (own, plain)| text.replace(own, plain));
    for port in regex_lite::Regex::new("127\\.0\\.0\\.1:[0-9]+|/tmp/erp-pooler-[^:]+:6432")
        .unwrap()
        .find_iter(&text.clone())
    {
        text = text.replace(port.as_str(), "db.example:5432");
    }
    text.replace('|', "\\|")
}

/// Compares `docs/reference/connecting.md` with what was seen; BLESS=1 writes it.
fn compare(table: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/connecting.md");
    let text = format!(
        "# Ways in which a connection to PostgreSQL fails\n\n\
         Each was made to happen, and `erp-backend db check` was asked. A start ends with the same words; where waiting\n\
         may help (the first two), after `STARTUP_TIMEOUT`; and where transactions are read-only by default it serves reads.\n\n\
         | what is wrong | step | it says | what to do |\n| --- | --- | --- | --- |\n{table}\n\
         The test `every_way_to_fail_is_told_apart_and_shown_in_the_reference` fills this page:\n\
         `BLESS=1 script/test e2e every_way_to_fail`.\n"
    );
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let shown = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, text, "BLESS=1 script/test e2e every_way_to_fail, and commit the difference");
}

#[test]
fn every_way_to_fail_is_told_apart_and_shown_in_the_reference() {
    if !Pooler::is_installed("the table of ways to fail") {
        return;
    }
    let (home, database, read_only) =
        (Home::new(), Database::migrated("ways"), Database::empty("ways_read_only"));
    let (url, socket) = (&database.runtime_url, socket_file(&database.runtime_url));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (authority, other) = (Authority::new(home.path(), "ours"), Authority::new(home.path(), "other"));
    let tls = |host: &str| {
        let (certificate, key) = authority.certificate(host);
        Relay::tls(socket.clone(), certificate, key)
    };
    let (unknown, named) = (tls("127.0.0.1"), tls("db.example.net"));
    let verified = |relay: &Relay, authority: &Authority| {
        let query = format!("?sslmode=verify-full&sslrootcert={}", authority.file.display());
        through(url, &relay.address.to_string(), &query)
    };
    let clear = Relay::plain(socket.clone());
    // Rules and passwords need a server of the test's own.
    let own = Postgres::start();
    own.admin().run("alter role erp_owner password 'right'; create role erp_reader login");
    admit(&own, "local all erp_reader reject\nlocal all erp_owner scram-sha-256");
    let as_role = |role: &str| own.roles.runtime_url.replace("//erp_app", &format!("//{role}"));
    let (_pooler, pooled) = Pooler::dropping_options(url);
    read_only.run(&format!(
        "alter database {} set default_transaction_read_only = on",
        read_only.value("current_database()")
    ));
    let way = |what, step, url: String| Way { what, url, step };
    let ways = [
        way(
            "nothing listens at the address",
            "address",
            through(url, &closed.to_string(), "?sslmode=disable"),
        ),
        way(
            "the host takes the connection and stays silent",
            "address",
            through(url, &format!("127.0.0.1:{}", silent()), ""),
        ),
        way("the certificate is of an unknown authority", "tls", verified(&unknown, &other)),
        way("the certificate names another host", "tls", verified(&named, &authority)),
        way("the server has no TLS", "tls", through(url, &clear.address.to_string(), "?sslmode=require")),
        way("pg_hba.conf does not let the user in", "credentials", as_role("erp_reader")),
        way("the password is wrong", "credentials", as_role("erp_owner:wrong")),
        way("the database is missing", "database", format!("{url}_missing")),
        way("a pooler drops the settings of a session", "session", pooled),
        way("transactions are read-only by default", "session", read_only.runtime_url.clone()),
        way(
            "the role has privileges that isolation does not survive",
            "privileges",
            database.admin_url.clone(),
        ),
        way("the server is older than PostgreSQL 14", "version", pretending(&database, "13.9")),
    ];
    let (name, app) = (database.value("current_database()"), database.app());
    let (other_name, other_app) = (read_only.value("current_database()"), read_only.app());
    let folder = socket.parent().unwrap().display().to_string();
    let own_folder = socket_file(&own.roles.runtime_url).parent().unwrap().display().to_string();
    let names = [
        (other_app.as_str(), "erp_app"),
        (&app, "erp_app"),
        (&other_name, "erp"),
        (&name, "erp"),
        (&own_folder, "/run/postgresql"),
        (&folder, "/run/postgresql"),
        ("127.0.0.1 (", "db.example ("),
        ("and not for 127.0.0.1", "and not for db.example"),
    ];
    let checked: Vec<(String, String)> = thread::scope(|scope| {
        let asking: Vec<_> = ways.iter().map(|way| scope.spawn(|| failed(way))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut table = String::new();
    for (way, (detail, fix)) in ways.iter().zip(&checked) {
        assert!(!format!("{detail}{fix}").contains(PASSWORD), "{detail}: {fix}");
        let told = checked.iter().filter(|(other, _)| other == detail).count();
        assert_eq!(told, 1, "told like another: {detail}");
        let row = [way.what, &format!("`{}`", way.step), &plain(detail, &names), &plain(fix, &names)];
        table += &format!("| {} |\n", row.join(" | "));
    }
    compare(&table);
    // A start says the same, and at once: none of these mends itself.
    for (way, (detail, _)) in
        ways.iter().zip(&checked).filter(|(way, _)| way.step == "tls" || way.what.contains("pooler"))
    {
        assert!(refused(way).contains(detail), "{}: the start says something else", way.what);
    }
}

#[test]
fn the_first_of_two_hosts_may_be_silent_at_the_start_and_later() {
    let database = Database::migrated("hosts");
    let relays = [1, 2].map(|_| Relay::plain(socket_file(&database.runtime_url)));
    let query = "?sslmode=disable&connect_timeout=1";
    let silent = format!("127.0.0.1:{}", silent());
    let url = through(&database.runtime_url, &format!("{silent},{}", relays[0].address), query);
    let ended = run(&Home::new(), &["db", "check"], &[("DATABASE_URL", &url)]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    // Where neither will do, each is named with what it did.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let neither = through(&database.runtime_url, &format!("{silent},{dead}"), query);
    let said = run(&Home::new(), &["db", "check"], &[("DATABASE_URL", &neither)]).out.join("\n");
    assert!(said.contains(&format!("{silent} does not answer")), "{said}");
    assert!(said.contains(&format!("{dead} it cannot be reached")), "{said}");

    let both = format!("{},{}", relays[0].address, relays[1].address);
    let url = through(&database.runtime_url, &both, "?sslmode=disable");
    let home = Home::new();
    let owner = ("DATABASE_OWNER_URL", database.owner_url.as_str());
    let server = Process::serve(&home, &[("DATABASE_URL", &url), owner]);
    let client = Client::signed_in(&server.address(), home.path());
    let lists = || client.get("/api/v1/items").is_ok_and(|answer| answer.status == 200);
    assert!(lists());
    relays[0].fall_silent();
    let took = eventually("the other host serves", lists);
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(server.stop("TERM").code, 0);
}

#[test]
fn a_connection_that_was_forgotten_on_the_way_is_replaced_before_it_is_used() {
    let database = Database::migrated("forgotten");
    let relay = Relay::forgetful(socket_file(&database.runtime_url), Duration::from_secs(2));
    let url = through(&database.runtime_url, &relay.address.to_string(), "?sslmode=disable");
    let home = Home::new();
    let owner = ("DATABASE_OWNER_URL", database.owner_url.as_str());
    let server = Process::serve(&home, &[("DATABASE_URL", &url), owner]);
    let client = Client::signed_in(&server.address(), home.path());
    let parallel = || {
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let client = client.clone();
                thread::spawn(move || client.get("/api/v1/items").unwrap().status)
            })
            .collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(parallel(), [200; 8]);
    // Long enough that the way has forgotten them, and that they count as silent.
    thread::sleep(Duration::from_secs(6));
    let begun = Instant::now();
    assert_eq!(parallel(), [200; 8]);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(server.stop("TERM").code, 0);
}

#[test]
fn a_database_that_turns_read_only_serves_reads_and_says_why_changes_fail() {
    let database = Database::migrated("turns");
    let name = database.value("current_database()");
    let home = Home::new();
    let serve = |url: &str| {
        Process::serve(&home, &[("DATABASE_URL", url), ("DATABASE_OWNER_URL", &database.owner_url)])
    };
    let server = serve(&database.runtime_url);
    let client = Client::signed_in(&server.address(), home.path());
    database.run(&format!("alter database {name} set default_transaction_read_only = on"));
    database.run(&format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and pid <> pg_backend_pid()"
    ));
    let status = |answer: std::io::Result<super::http::Answer>| answer.map_or(0, |answer| answer.status);
    let create = || status(client.post("/api/v1/items", &serde_json::json!({ "sku": "R-1", "name": "A" })));
    eventually("a change is refused", || create() == 503);
    let refused = client.post("/api/v1/items", &serde_json::json!({ "sku": "R-1", "name": "A" })).unwrap();
    assert_eq!(
        (&refused.json()["code"], refused.header("retry-after")),
        (&"core.read_only".into(), Some("2"))
    );
    let line = server.line("every change gets 503");
    assert!(line.contains("reset default_transaction_read_only"), "{line}");
    assert_eq!(status(client.get("/api/v1/items")), 200);
    assert_eq!(status(client.get("/readyz")), 200);
    let writes = || {
        let health = client.get("/health/detailed").unwrap().json();
        health["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["name"] == "databaseWrites")
            .unwrap()
            .clone()
    };
    let shown = writes();
    assert_eq!((&shown["passed"], &shown["required"]), (&false.into(), &false.into()), "{shown}");
    assert!(shown["details"]["failure"].as_str().unwrap().contains("read-only by default"), "{shown}");
    // A migration is refused with the mend.
    let ended = run(&home, &["db", "migrate"], &database.both());
    assert!(ended.code == 69 && ended.err[0].contains("reset default_transaction_read_only"), "{ended:#?}");

    let admin = Session::open(&database.admin_url);
    admin.run("set default_transaction_read_only = off");
    admin.run(&format!("alter database {name} reset default_transaction_read_only"));
    // Nobody ends the sessions that were opened meanwhile: the server replaces them.
    server.line("takes changes again");
    for number in 0..8 {
        let item = serde_json::json!({ "sku": format!("R-{number}"), "name": "A" });
        assert_eq!(status(client.post("/api/v1/items", &item)), 201);
    }
    assert_eq!(writes()["passed"], true);
    let ended = server.stop("TERM");
    assert_eq!(ended.code, 0);
    let said = ended.out.iter().chain(&ended.err).filter(|line| line.contains("every change gets 503"));
    assert_eq!(said.count(), 1, "{ended:#?}");
}

#[test]
fn a_pool_that_is_larger_than_what_the_server_gives_waits_for_the_connections_it_has() {
    let database = Database::migrated("short");
    let home = Home::new();
    let (url, owner) =
        (("DATABASE_URL", &*database.runtime_url), ("DATABASE_OWNER_URL", &*database.owner_url));
    let server = Process::serve(&home, &[url, owner, ("RATE_LIMIT_MAX", "10000")]);
    let client = Client::signed_in(&server.address(), home.path());
    // Of six the monitor has one, and the proof one for a moment.
    database.run(&format!("alter role {} connection limit 6", database.app()));
    let asking: Vec<_> = (0..60)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || [(); 4].map(|()| client.get("/api/v1/items").unwrap().status))
        })
        .collect();
    let statuses: Vec<u16> = asking.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(statuses, [200; 240]);
    server.line("gives no further connection");
    // With more to be had, more are opened.
    database.run(&format!("alter role {} connection limit -1", database.app()));
    assert_eq!(client.get("/api/v1/items").unwrap().status, 200);
    assert_eq!(server.stop("TERM").code, 0);
}
