//! docs/guides/rotate-secrets.md: each secret is replaced as it says, while clients read, write, sign in and refresh on two instances,
//! and no request fails.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use erp_testkit::MailServer;
use serde_json::{Value, json};

use super::database::{Database, PASSWORD, Session};
use super::http::{Answer, Client};
use super::process::{Home, Process, eventually, run};
use crate::deep;

const IBAN: &str = "DE02120300000000202051";
/// How often each client has to have come round before a rotation goes on.
const ROUNDS: usize = 2;

/// Two instances, whose secrets are files.
struct Instances {
    home: Home,
    database: Database,
    others: Vec<(String, String)>,
    /// The secrets, by the names of their settings.
    secrets: BTreeMap<&'static str, String>,
    running: Vec<Process>,
    load: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the clients share with who restarts the instances.
#[derive(Default)]
struct Shared {
    /// Where requests go. A request holds it, so that nobody is sent to an instance that is about to end: a load balancer does the same.
    addresses: RwLock<Vec<String>>,
    metrics_token: Mutex<String>,
    rounds: AtomicUsize,
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Shared {
    /// Sends one request to the instance whose turn it is. What fails is noted.
    fn ask(&self, turn: usize, what: &str, send: impl Fn(&Client) -> std::io::Result<Answer>) -> Value {
        let addresses = self.addresses.read().unwrap();
        let answer = send(&Client::new(&addresses[turn % addresses.len()]));
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => {
                serde_json::from_str(&answer.body).unwrap_or_default()
            }
            failed => {
                self.failures.lock().unwrap().push(format!("{what}: {failed:?}"));
                Value::Null
            }
        }
    }

    /// What a person does, again and again: refreshes, reads, writes, and reads what is encrypted.
    fn work(&self, who: &Value, number: usize) {
        let signed_in = self.ask(number, "sign-in", |client| client.post("/api/v1/auth/login", who));
        let mut tokens = signed_in;
        let mut turn = number;
        while !self.stop.load(Ordering::Relaxed) {
            turn += 1;
            let access = tokens["accessToken"].as_str().unwrap_or_default().to_owned();
            let mine = |client: &Client| client.with_token(&access);
            self.ask(turn, "read", |client| mine(client).get("/api/v1/items?limit=3"));
            let item = json!({ "sku": format!("ROT-{number}-{turn}"), "name": "An item" });
            self.ask(turn + 1, "write", |client| mine(client).post("/api/v1/items", &item));
            let suppliers = self
                .ask(turn, "decrypt", |client| mine(client).get(&format!("/api/v1/suppliers?iban={IBAN}")));
            if suppliers["items"][0]["iban"] != IBAN {
                self.failures
                    .lock()
                    .unwrap()
                    .push(format!("nobody is found by the encrypted IBAN: {suppliers}"));
            }
            let token = self.metrics_token.lock().unwrap().clone();
            self.ask(turn, "metrics", |client| client.with_token(&token).get("/metrics"));
            let refresh = json!({ "refreshToken": tokens["refreshToken"] });
            tokens = self.ask(turn + 1, "refresh", |client| client.post("/api/v1/auth/refresh", &refresh));
            self.rounds.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Instances {
    /// Two of them, with an encrypted value in the database.
    fn start(name: &str, others: Vec<(String, String)>) -> Self {
        let (home, database) = (Home::new(), Database::migrated(name));
        // The demo's tenants and people are there before.
        Process::serve(&home, &database.both()).stop("TERM");
        let secrets = BTreeMap::from([
            ("DATABASE_URL", database.runtime_url.clone()),
            ("DATABASE_SYSTEM_URL", database.system_url()),
            ("JWT_SECRET", secret(&home, "tokens")),
            ("ENCRYPTION_KEY", fs::read_to_string(home.path().join("encryption-key")).unwrap()),
            ("WEBHOOK_SECRET", secret(&home, "webhooks")),
            ("METRICS_TOKEN", secret(&home, "metrics")),
            ("AUDIT_SIGNING_KEY", fs::read_to_string(home.path().join("audit-signing-key")).unwrap()),
            ("SMTP_PASSWORD", "kR4-vX9_mT2".to_owned()),
        ]);
        let load = Arc::new(Shared::default());
        let mut this =
            Self { home, database, others, secrets, running: Vec::new(), load, threads: Vec::new() };
        this.load.metrics_token.lock().unwrap().clone_from(&this.secrets["METRICS_TOKEN"]);
        this.running = vec![this.instance(), this.instance()];
        *this.load.addresses.write().unwrap() = this.running.iter().map(Process::address).collect();
        let owner = Client::signed_in(&this.running[0].address(), this.home.path());
        let paid = owner.post("/api/v1/suppliers", &json!({ "name": "Paid", "iban": IBAN })).unwrap();
        assert_eq!(paid.status, 201, "{paid:?}");
        this.load_begins();
        this
    }

    fn load_begins(&mut self) {
        for (number, who) in self.people().into_iter().enumerate() {
            let load = Arc::clone(&self.load);
            self.threads.push(thread::spawn(move || load.work(&who, number)));
        }
    }

    /// Those of acme who may write, as they sign in.
    fn people(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.home.path().join("demo-credentials.json")).unwrap();
        let mut people: Vec<Value> = serde_json::from_str(&text).unwrap();
        people.retain(|who| who["tenant"] == "acme" && (who["role"] == "owner" || who["role"] == "admin"));
        for who in &mut people {
            who.as_object_mut().unwrap().remove("role");
        }
        people
    }

    /// The settings, with each secret in a file of its own.
    fn variables(&self) -> Vec<(String, String)> {
        let mut all = self.others.clone();
        for (name, secret) in &self.secrets {
            let path = self.home.path().join(name.to_lowercase());
            replace(&path, secret);
            all.push((format!("{name}_FILE"), path.display().to_string()));
        }
        all
    }

    fn instance(&self) -> Process {
        let variables = self.variables();
        let borrowed: Vec<_> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
        Process::serve(&self.home, &borrowed)
    }

    /// Changes secrets, and restarts one instance after the other; each is used by the clients before the next one follows.
    fn roll(&mut self, what: &str, changes: &[(&'static str, Option<&str>)]) {
        for (name, secret) in changes {
            match secret {
                Some(secret) => self.secrets.insert(name, (*secret).to_owned()),
                None => self.secrets.remove(name),
            };
        }
        for number in 0..2 {
            let next = self.instance();
            self.load.addresses.write().unwrap()[number] = next.address();
            let before = std::mem::replace(&mut self.running[number], next);
            let ended = before.stop("TERM");
            assert_eq!(ended.code, 0, "{what}: {ended:#?}");
            self.is_used(what);
        }
    }

    /// Each client has come round, and nothing has failed.
    fn is_used(&self, what: &str) {
        let wanted = self.load.rounds.load(Ordering::Relaxed) + ROUNDS * self.threads.len();
        eventually(what, || {
            self.load.rounds.load(Ordering::Relaxed) >= wanted
                || !self.load.failures.lock().unwrap().is_empty()
        });
        let failures = self.load.failures.lock().unwrap();
        assert!(failures.is_empty(), "{what}: {failures:#?}");
    }

    fn command(&self, arguments: &[&str]) -> Vec<String> {
        let variables = self.variables();
        let borrowed: Vec<_> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
        let ended = run(&self.home, arguments, &borrowed);
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:#?}");
        ended.out
    }

    /// Another value of a secret, as the command makes it.
    fn new_secret(&self, what: &str) -> String {
        secret(&self.home, what)
    }

    fn end(mut self) {
        self.load.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        for process in self.running.drain(..) {
            assert_eq!(process.stop("TERM").code, 0);
        }
        self.is_used_no_more();
    }

    fn is_used_no_more(&self) {
        let failures = self.load.failures.lock().unwrap();
        assert!(failures.is_empty(), "{failures:#?}");
    }
}

fn secret(home: &Home, what: &str) -> String {
    let made = run(home, &["secret", "rotate", what, "--json"], &[]);
    assert_eq!(made.code, 0, "{what}: {made:#?}");
    let told: Value = serde_json::from_str(&made.out.join("\n")).unwrap();
    told["secret"].as_str().unwrap().to_owned()
}

/// In one step: nobody reads half of it.
fn replace(path: &std::path::Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&next, path).unwrap();
}

/// The former secret is moved away, the next one is set, and the former one is removed.
fn move_on(
    instances: &mut Instances,
    what: &str,
    [name, previous]: [&'static str; 2],
    then: impl Fn(&Instances),
) {
    let (former, next) = (instances.secrets[name].clone(), instances.new_secret(what));
    instances.roll(what, &[(previous, Some(&former)), (name, Some(&next))]);
    then(instances);
    instances.roll(what, &[(previous, None)]);
}

/// The same of a secret that every instance has to know before one of them uses it.
fn step_by_step(
    instances: &mut Instances,
    what: &str,
    [name, previous, next]: [&'static str; 3],
    then: impl Fn(&Instances),
) {
    let (former, coming) = (instances.secrets[name].clone(), instances.new_secret(what));
    instances.roll(what, &[(next, Some(&coming))]);
    instances.roll(what, &[(next, None), (previous, Some(&former)), (name, Some(&coming))]);
    then(instances);
    instances.roll(what, &[(previous, None)]);
}

/// The passwords of both logins, without a restart.
fn passwords(instances: &mut Instances) {
    let another = "another-never-to-be-shown";
    for (name, role) in
        [("DATABASE_URL", instances.database.app()), ("DATABASE_SYSTEM_URL", instances.database.system())]
    {
        let url = instances.secrets[name].replace(PASSWORD, another);
        instances.secrets.insert(name, url);
        instances.variables(); // writes the file
        instances.is_used("the file has another password");
        let since = instances.database.value("clock_timestamp()");
        instances.database.run(&format!("alter role {role} password '{another}'"));
        instances.is_used("the role has another password");
        // Requests that wait for a lock keep their sessions, so that others need further ones.
        let sessions = format!(
            "(select count(*) from pg_stat_activity where usename = '{role}' and backend_start > '{since}')"
        );
        eventually(&format!("a session of {role} is opened with the other password"), || {
            rush(instances);
            instances.database.value(&sessions) != "0"
        });
        instances.is_used("sessions are opened with the other password");
    }
}

/// More requests at once than sessions are open: reads use the runtime's login, and sign-ins the system's.
fn rush(instances: &Instances) {
    let owner = instances.people().remove(0);
    let signed_in = instances.load.ask(0, "sign-in", |client| client.post("/api/v1/auth/login", &owner));
    let token = signed_in["accessToken"].as_str().unwrap().to_owned();
    let lock = Session::open(&instances.database.admin_url);
    lock.run("begin; lock table items, sessions in access exclusive mode");
    let requests: Vec<_> = (0..30)
        .map(|turn| {
            let (load, token, owner) = (Arc::clone(&instances.load), token.clone(), owner.clone());
            thread::spawn(move || match turn {
                0..6 => load.ask(turn, "sign-in", |client| client.post("/api/v1/auth/login", &owner)),
                _ => load.ask(turn, "read", |client| client.with_token(&token).get("/api/v1/items?limit=1")),
            })
        })
        .collect();
    thread::sleep(Duration::from_secs(1)); // they wait for it, and so do the clients' own
    lock.run("commit");
    requests.into_iter().for_each(|thread| drop(thread.join().unwrap()));
}

/// The mail server takes another password; what is sent meanwhile waits.
fn mail(instances: &mut Instances, server: &mut MailServer) {
    let email = instances.people()[0]["email"].clone();
    let forgotten = json!({ "tenant": "acme", "email": email });
    instances.load.ask(0, "forgot", |client| client.post("/api/v1/auth/password/forgot", &forgotten));
    let mut taken = 0;
    let mut arrives = |server: &mut MailServer, what: &str| {
        let wanted = taken + 1;
        let begun = std::time::Instant::now();
        while taken < wanted {
            taken += server.mails_so_far().len();
            assert!(begun.elapsed() < Duration::from_secs(150), "{what}: no mail");
            thread::sleep(Duration::from_millis(20));
        }
    };
    arrives(server, "with the former password");
    server.change_password("pT7-wQ2_zL5");
    instances.load.ask(1, "forgot", |client| client.post("/api/v1/auth/password/forgot", &forgotten));
    let waits = "(select count(*) from mails where state = 'queued' and error like 'auth 535%')";
    eventually("a mail waits", || instances.database.value(waits) == "1");
    instances.roll("mail", &[("SMTP_PASSWORD", Some("pT7-wQ2_zL5"))]);
    arrives(server, "the mail that waited");
}

#[test]
fn every_secret_is_replaced_under_load_and_no_request_fails() {
    if !deep() || !MailServer::is_installed("the rotation of all secrets") {
        return;
    }
    let mut server = MailServer::with(json!({ "tls": "none", "account": ["erp", "kR4-vX9_mT2"] }));
    let port = server.port().to_string();
    let others = [
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", &*port),
        ("SMTP_USER", "erp"),
        ("SMTP_FROM", "erp@example.com"),
        ("SMTP_TLS", "none"),
        ("DATABASE_MAX_CONNECTIONS", "12"),
        ("DATABASE_SYSTEM_MAX_CONNECTIONS", "12"),
    ];
    let others = others.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut instances = Instances::start("rotations", others);
    instances.is_used("before");
    step_by_step(&mut instances, "tokens", ["JWT_SECRET", "JWT_SECRET_PREVIOUS", "JWT_SECRET_NEXT"], |_| {});
    let encryption = ["ENCRYPTION_KEY", "ENCRYPTION_KEY_PREVIOUS", "ENCRYPTION_KEY_NEXT"];
    step_by_step(&mut instances, "key-encryption", encryption, |instances| {
        instances.command(&["secret", "rewrap"]);
    });
    instances.command(&["secret", "rotate", "encryption"]);
    instances.is_used("data keys");
    move_on(&mut instances, "webhooks", ["WEBHOOK_SECRET", "WEBHOOK_SECRET_PREVIOUS"], |_| {});
    move_on(&mut instances, "metrics", ["METRICS_TOKEN", "METRICS_TOKEN_PREVIOUS"], |instances| {
        instances.load.metrics_token.lock().unwrap().clone_from(&instances.secrets["METRICS_TOKEN"]);
        instances.is_used("the scraper has the next token");
    });
    let signing = ["AUDIT_SIGNING_KEY", "AUDIT_SIGNING_KEY_PREVIOUS"];
    move_on(&mut instances, "audit-signing", signing, |instances| {
        instances.command(&["audit", "verify"]);
    });
    passwords(&mut instances);
    mail(&mut instances, &mut server);
    instances.command(&["audit", "verify"]);
    println!(
        "deep: rotations: {} rounds of clients, none failed",
        instances.load.rounds.load(Ordering::Relaxed)
    );
    instances.end();
}
