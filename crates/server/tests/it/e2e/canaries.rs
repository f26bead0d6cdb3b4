//! O-02: secrets that nothing else looks like are used in every way that the product knows, and are then looked for wherever anything
//! is kept or said: by the real binary.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::clients::finish;
use super::database::{Database, PASSWORD};
use super::http::{Answer, Client};
use super::process::{Home, Process, eventually, path};

const JWT: &str = "canary-jwt-q7Wc2Zr9Lk4Vt8Hy3Nb6Mj1Px5Sd0Fg";
const WEBHOOK: &str = "canary-webhook-q7Wc2Zr9Lk4Vt8Hy3Nb6Mj1Px5Sd";
const METRICS: &str = "canary-metrics-q7Wc2Zr9Lk4Vt8Hy3Nb6Mj1Px5Sd";
const ENCRYPTION: &str = "Y2FuYXJ5QUJBZ01FQlFZSENBa0tDd3dORGc4UUVSSVQ=";
/// A card number that somebody has typed where it does not belong, and an account where it does.
const CARD: &str = "4000001234567899";
const IBAN: &str = "XX99CANARYACCOUNT0123456";
const TYPED: &str = "canary password that somebody typed";
const CHOSEN: &str = "canary password that somebody chose";
const COOKIE: &str = "erp_web_canaryCookie0123456789";

/// What is looked for, by a name that a failure can be told with.
struct Canaries(Vec<(&'static str, String)>);

impl Canaries {
    fn add(&mut self, name: &'static str, secret: impl Into<String>) {
        let secret = secret.into();
        assert!(secret.len() >= 16, "{name} could be anything: {secret}");
        self.0.push((name, secret));
    }

    /// Which of them stand in a text.
    fn in_text(&self, text: &str) -> Vec<&'static str> {
        self.0.iter().filter(|(_, secret)| text.contains(secret.as_str())).map(|(name, _)| *name).collect()
    }
}

/// Every file below a folder that holds some of them.
fn in_folder(canaries: &Canaries, folder: &Path, found: &mut Vec<(String, Vec<&'static str>)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            in_folder(canaries, &path, found);
        } else if kind.is_file() {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            let names = canaries.in_text(&text);
            if !names.is_empty() {
                found.push((path.display().to_string(), names));
            }
        }
    }
}

fn ok(answer: std::io::Result<Answer>) -> Value {
    let answer = answer.unwrap();
    assert!((200..300).contains(&answer.status), "{answer:?}");
    if answer.status == 204 { Value::Null } else { answer.json() }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}")).to_owned()
}

#[test]
fn o_02_no_secret_is_seen_where_anything_is_kept_or_said() {
    let (home, database) = (Home::new(), Database::migrated("canaries"));
    let mut canaries = Canaries(Vec::new());
    for (name, secret) in [
        ("the database's password", PASSWORD),
        ("JWT_SECRET", JWT),
        ("WEBHOOK_SECRET", WEBHOOK),
        ("METRICS_TOKEN", METRICS),
        ("ENCRYPTION_KEY", ENCRYPTION),
        ("a card number", CARD),
        ("an account", IBAN),
        ("a wrong password", TYPED),
        ("a password", CHOSEN),
        ("a cookie", COOKIE),
    ] {
        canaries.add(name, secret);
    }
    let mut variables = database.both().to_vec();
    variables.extend([
        ("JWT_SECRET", JWT),
        ("WEBHOOK_SECRET", WEBHOOK),
        ("METRICS_TOKEN", METRICS),
        ("ENCRYPTION_KEY", ENCRYPTION),
        // The most that is no debugging: development logs bodies there, by contract.
        ("LOG_LEVEL", "http"),
        ("DATABASE_LOGGING", "true"),
        ("OUTBOUND_ALLOW", "127.0.0.1"),
        ("RATE_LIMIT_MAX", "100000"),
    ]);
    let server = Process::serve(&home, &variables);
    let address = server.address();
    let mut errors = String::new();
    let mut refuse = |answer: std::io::Result<Answer>| {
        let answer = answer.unwrap();
        assert!(answer.status >= 400, "{answer:?}");
        errors.push_str(&format!("{answer:?}\n"));
    };

    // As everybody uses them, right and wrong.
    let stranger = Client::new(&address);
    let who: Value = serde_json::from_str::<Value>(
        &fs::read_to_string(home.path().join("demo-credentials.json")).unwrap(),
    )
    .unwrap();
    let (tenant, email, first) = (text(&who[0], "tenant"), text(&who[0], "email"), text(&who[0], "password"));
    refuse(
        stranger.post("/api/v1/auth/login", &json!({ "tenant": tenant, "email": email, "password": TYPED })),
    );
    refuse(
        stranger.post("/api/v1/auth/login", &json!({ "tenant": tenant, "email": TYPED, "password": CARD })),
    );
    let signed_in =
        ok(stranger
            .post("/api/v1/auth/login", &json!({ "tenant": tenant, "email": email, "password": first })));
    let refresh = text(&signed_in, "refreshToken");
    canaries.add("a refresh token", refresh.clone());
    canaries.add("an access token", text(&signed_in, "accessToken"));
    let me = stranger.with_token(&text(&signed_in, "accessToken"));
    let refreshed = ok(stranger.post("/api/v1/auth/refresh", &json!({ "refreshToken": refresh })));
    canaries.add("the next refresh token", text(&refreshed, "refreshToken"));
    refuse(stranger.with_token("canary.token.that-nobody-has-signed").get("/api/v1/items"));
    canaries.add("a forged token", "canary.token.that-nobody-has-signed");
    refuse(stranger.with_header("cookie", &format!("erp_session={COOKIE}")).get("/api/v1/items"));
    // A secret where none belongs: in a field that is unknown, in one that is too long, and in one that is taken.
    refuse(me.post("/api/v1/suppliers", &json!({ "name": "Card", "card": CARD })));
    refuse(me.post("/api/v1/suppliers", &json!({ "name": "Card", "iban": CARD.repeat(9) })));
    let supplier = ok(me.post("/api/v1/suppliers", &json!({ "name": "Paid", "iban": IBAN })));
    assert_eq!(supplier["iban"], IBAN);
    refuse(me.post("/api/v1/suppliers", &json!({ "name": "Paid", "iban": IBAN })));
    assert_eq!(ok(me.get(&format!("/api/v1/suppliers?iban={IBAN}")))["items"][0]["iban"], IBAN);
    refuse(me.get(&format!("/api/v1/suppliers?iban={CARD}-{CARD}-{CARD}")));
    // Credentials of each kind.
    let key = text(
        &ok(me.post("/api/v1/api-keys", &json!({ "name": "Script", "scopes": ["catalog.item.read"] }))),
        "key",
    );
    canaries.add("an API key", key.clone());
    ok(stranger.with_token(&key).get("/api/v1/items"));
    let webhook = json!({ "url": "http://127.0.0.1:9099/hook", "events": ["*"] });
    let secret = text(&ok(me.post("/api/v1/webhooks", &webhook)), "secret");
    canaries.add("the secret of a webhook", secret.trim_start_matches("whsec_"));
    let seed = text(&ok(me.post("/api/v1/auth/mfa/totp", &json!({ "password": first }))), "secret");
    canaries.add("the seed of a second factor", seed);
    refuse(me.post("/api/v1/auth/mfa/totp/confirm", &json!({ "code": "000000" })));
    ok(me.post("/api/v1/auth/password/change", &json!({ "currentPassword": first, "newPassword": CHOSEN })));
    canaries.add("the password before", first);
    // The link of a mail is meant for whom the mail is for: it is nowhere else.
    let forgot = json!({ "tenant": tenant, "email": email });
    assert_eq!(stranger.post("/api/v1/auth/password/forgot", &forgot).unwrap().status, 202);
    let mails = home.path().join("mails");
    let read = || {
        let files = fs::read_dir(&mails).into_iter().flatten().flatten();
        files.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect::<String>()
    };
    eventually("the mail with the link", || read().contains("/password?token="));
    let token = read().split_once("/password?token=").unwrap().1.to_owned();
    let is_of_token = |c: &char| c.is_ascii_alphanumeric() || "_-".contains(*c);
    canaries.add("the token of a reset", token.chars().take_while(is_of_token).collect::<String>());

    // Where it might be.
    let metrics = stranger.with_token(METRICS).get("/metrics").unwrap();
    let contract = stranger.get("/health/detailed").unwrap();
    let mut places = vec![
        ("error bodies", errors),
        ("metrics", format!("{metrics:?}")),
        ("health", format!("{contract:?}")),
        ("audit rows", database.value("(select coalesce(jsonb_agg(l)::text, '') from audit_log l)")),
        (
            "job arguments",
            database.value(
                "(select coalesce(jsonb_agg(j)::text, '') from (select to_jsonb(r) as j from job_ready r \
            union all select to_jsonb(d) from job_done d union all select to_jsonb(x) from job_dead x \
            union all select to_jsonb(s) from job_scheduled s) as jobs)",
            ),
        ),
        ("the arguments of the process", arguments(server.pid())),
        ("the log of PostgreSQL", log_of_postgresql(&database)),
        ("a dump of the database", dump(&database)),
    ];
    let ended = server.stop("TERM");
    assert_eq!(ended.code, 0, "{ended:#?}");
    places.push(("standard output", ended.out.join("\n")));
    places.push(("standard error", ended.err.join("\n")));
    let mut seen: Vec<(String, Vec<&str>)> =
        places.iter().map(|(place, text)| ((*place).to_owned(), canaries.in_text(text))).collect();
    in_folder(&canaries, home.path(), &mut seen);
    seen.retain(|(place, names)| {
        // Passwords of the demo tenants are told to the developer there; the mail is its reader's.
        let place_of_demo = place.ends_with("demo-credentials.json") || place == "standard error";
        let told = place_of_demo && names == &["the password before"];
        let meant = place.contains("/mails/") && names == &["the token of a reset"];
        !names.is_empty() && !told && !meant
    });
    assert!(seen.is_empty(), "{seen:#?}");
    // What it looks for it would find: the places are not empty.
    for (place, text) in &places {
        assert!(*place == "standard error" || text.len() > 20, "there is nothing in {place}: {text}");
    }
}

fn arguments(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()).repeat(2)
}

/// What PostgreSQL has logged, of this database and the other tests'.
fn log_of_postgresql(database: &Database) -> String {
    let data = database.value("current_setting('data_directory')");
    let log = fs::read(Path::new(&data).with_file_name("postgres.log")).unwrap();
    let text = String::from_utf8_lossy(&log);
    text.lines().filter(|line| !line.contains("alter role")).collect::<Vec<_>>().join("\n")
}

fn dump(database: &Database) -> String {
    let output =
        finish(Command::new("pg_dump").env("PATH", path()).arg("--inserts").arg(&database.admin_url));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
