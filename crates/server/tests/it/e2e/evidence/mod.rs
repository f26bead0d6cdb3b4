//! What the server has sealed, in others' hands: the export's own program with Python and openssl, Go's packages for its module
//! mirror, and the package rfc8785 for the form of entries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::clients::{demo, finish, installed, program, root};
use super::database::Database;
use super::http::Client;
use super::process::{Home, Process, eventually, run};

/// Texts that are written in more than one way by those who are careless.
const ODD: &str = "\u{20ac}\u{1f600}\u{fb33} \"quoted\" \\ back /";

const SEALED: &str = "select (l.size = h.seq + 1)::text from audit_logs l join audit_heads h using (tenant_id) \
     join tenants t on t.id = l.tenant_id where t.slug = 'acme'";

/// A server whose tenant acme has 300 rows and a few more in its audit log, all of them sealed.
fn sealed() -> (Home, Database, Process) {
    let (home, database, server) = demo("evidence", &[]);
    let client = Client::signed_in(&server.address(), home.path());
    for nth in 0..3 {
        let item = json!({ "sku": format!("ODD-{nth}"), "name": ODD.trim(), "quantity": 9_007_199_254_740_991_i64 - nth });
        assert_eq!(client.post("/api/v1/items", &item).unwrap().status, 201);
    }
    database.run(
        "begin; select set_config('app.tenant_id', (select id::text from tenants where slug = 'acme'), true);
         select app.audit('test.done', 'thing', g::text, details => '{\"n\": 9007199254740993, \"z\": [1.50, -0.0, 1e3], \"a\": null, \"\\u20ac\\u2028\": \"\\u007f\\u0001\\n\"}')
         from generate_series(1, 300) g; commit",
    );
    eventually("the rows are sealed", || database.value(SEALED) == "true");
    (home, database, server)
}

fn audit(home: &Home, database: &Database, arguments: &[&str]) -> (i32, String) {
    let ended = run(home, &[&["audit"], arguments].concat(), &[("DATABASE_URL", &*database.runtime_url)]);
    (ended.code, [ended.out, ended.err].concat().join("\n"))
}

/// An export of acme, and the proof of one of its rows.
fn exported(home: &Home, database: &Database) -> (PathBuf, PathBuf) {
    let folder = home.path().join("evidence");
    let (code, said) = audit(home, database, &["export", "--tenant", "acme", folder.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = audit(home, database, &["prove", "--tenant", "acme", "--json", "200"]);
    assert_eq!(code, 0, "{said}");
    let proof = home.path().join("row.tlog-proof");
    fs::write(&proof, serde_json::from_str::<Value>(&said).unwrap()["proof"].as_str().unwrap()).unwrap();
    (folder, proof)
}

/// The program of the export: its exit code, and what it said.
fn verify(export: &Path, key: &Path, kept: &[&Path]) -> Option<(i32, String)> {
    let python = program("python3", &installed(&["python3"]))?;
    program("openssl", &installed(&["openssl"]))?;
    let output = finish(Command::new(python).arg(export.join("verify.py")).arg(export).arg(key).args(kept));
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn u_06_an_export_is_verified_without_the_database_and_every_change_of_it_is_found() {
    let (home, database, server) = sealed();
    let (code, said) = audit(&home, &database, &["verify", "--tenant", "acme"]);
    assert!(code == 0 && said.contains("verified"), "{said}");
    let (_, note) = audit(&home, &database, &["checkpoint", "--tenant", "acme"]);
    let kept = home.path().join("kept");
    fs::write(&kept, format!("{}\n", note.trim())).unwrap();
    let (export, _) = exported(&home, &database);
    let key = home.path().join("key.pem");
    fs::copy(export.join("public-key.pem"), &key).unwrap();
    let Some((code, said)) = verify(&export, &key, &[&kept]) else { return };
    assert!(code == 0 && said.starts_with("verified: "), "{said}");
    let lines = fs::read_to_string(export.join("VERIFY.py".to_lowercase())).unwrap().lines().count();
    assert!(lines <= 120, "it fits a page or two: {lines}");

    let entries = export.join("log-0/entries");
    let whole = fs::read_to_string(&entries).unwrap();
    let rows: Vec<&str> = whole.lines().collect();
    let put = |rows: &[&str]| fs::write(&entries, format!("{}\n", rows.join("\n"))).unwrap();
    let changed: [(&str, Vec<String>); 6] = [
        ("a byte", rows.iter().map(|row| row.replace("\"100\"", "\"101\"")).collect()),
        (
            "a number",
            rows.iter().map(|row| row.replacen("9007199254740993", "9007199254740992", 1)).collect(),
        ),
        (
            "deleted",
            rows.iter().enumerate().filter(|(at, _)| *at != 150).map(|(_, row)| (*row).to_owned()).collect(),
        ),
        (
            "swapped",
            [&rows[..150], &[rows[151], rows[150]], &rows[152..]]
                .concat()
                .iter()
                .map(|row| (*row).to_owned())
                .collect(),
        ),
        ("cut", rows[..250].iter().map(|row| (*row).to_owned()).collect()),
        (
            "forged removal",
            rows.iter()
                .enumerate()
                .map(
                    |(at, row)| {
                        if at == 150 { format!("removed {}", "00".repeat(32)) } else { (*row).to_owned() }
                    },
                )
                .collect(),
        ),
    ];
    for (what, changed) in &changed {
        put(&changed.iter().map(String::as_str).collect::<Vec<_>>());
        let (code, said) = verify(&export, &key, &[]).unwrap();
        assert!(code == 1 && said.contains("NOT VERIFIED"), "{what}: {said}");
    }
    put(&rows);
    assert_eq!(verify(&export, &key, &[]).unwrap().0, 0);
    // A log that is older than a checkpoint that somebody has kept, and a key that is another one.
    let note = export.join("log-0/checkpoint");
    let signed = fs::read_to_string(&note).unwrap();
    fs::write(&note, signed.replace("\u{2014} ", "\u{2014} x")).unwrap();
    assert_eq!(verify(&export, &key, &[]).unwrap().0, 1, "signed under another name");
    fs::write(&note, signed).unwrap();
    let other = finish(Command::new("openssl").args(["genpkey", "-algorithm", "ed25519"]));
    let pair = home.path().join("other.pem");
    fs::write(&pair, other.stdout).unwrap();
    let public = finish(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&pair));
    fs::write(&pair, public.stdout).unwrap();
    let (code, said) = verify(&export, &pair, &[]).unwrap();
    assert!(code == 1 && said.contains("no signature of"), "{said}");
    drop(server);
}

#[test]
fn u_02_programs_that_are_not_ours_agree_on_note_tree_proof_and_form() {
    let (home, database, server) = sealed();
    let (export, proof) = exported(&home, &database);
    let log = export.join("log-0");
    let count = fs::read_to_string(log.join("entries")).unwrap().lines().count().to_string();
    let here = root().join("crates/server/tests/it/e2e/evidence");

    // openssl verifies the signature over the text of the note.
    let note = fs::read_to_string(log.join("checkpoint")).unwrap();
    let (text, signature) = note.split_once("\n\n").unwrap();
    let signature = signature.split_whitespace().last().unwrap();
    let decoded =
        finish(Command::new("sh").args(["-c", "printf %s \"$0\" | base64 -d | tail -c 64"]).arg(signature));
    fs::write(log.join("signature"), decoded.stdout).unwrap();
    fs::write(log.join("text"), format!("{text}\n")).unwrap();
    if let Some(openssl) = program("openssl", &installed(&["openssl"])) {
        let mut verify = Command::new(openssl);
        verify.args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"]).arg(export.join("public-key.pem"));
        verify.arg("-sigfile").arg(log.join("signature")).arg("-in").arg(log.join("text"));
        let output = finish(&mut verify);
        assert!(output.status.success(), "{output:?}");
    }
    // rfc8785 writes each entry in the same way.
    let tools = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    if let Some(python) = program("rfc8785", &[tools.join("tools/verifiers/bin/python")]) {
        let output = finish(Command::new(python).arg(here.join("canonical.py")).arg(log.join("entries")));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), count, "{output:?}");
    }
    // Go's packages build the same tree, and take the note and the proof.
    let packages = Path::new("/usr/share/gocode");
    if packages.join("src/golang.org/x/mod/sumdb/tlog").is_dir()
        && let Some(go) = program("Go", &installed(&["go"]))
    {
        let mut verify = Command::new(go);
        verify.arg("run").arg(here.join("verify.go")).arg(&log).arg(&proof);
        verify.env("GO111MODULE", "off").env("GOPATH", packages).env("GOCACHE", tools.join("tools/go-cache"));
        let output = finish(&mut verify);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), count, "{output:?}");
    }
    drop(server);
}

#[test]
fn half_an_export_never_has_the_name_of_a_whole_one() {
    let (home, database, server) = sealed();
    let full = Path::new("/dev/full");
    assert!(full.exists());
    let folder = home.path().join("evidence");
    fs::create_dir(&folder).unwrap();
    let (code, said) = audit(&home, &database, &["export", "--tenant", "acme", folder.to_str().unwrap()]);
    assert!(code == 69 && said.contains("already"), "{said}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    let (code, said) = audit(&home, &database, &["export", "--tenant", "acme", "/proc/evidence"]);
    assert!(code == 69 && said.contains("/proc/evidence"), "{said}");
    // A limit on the size of files stands for a disk that is full.
    let target = home.path().join("late");
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_erp-backend"));
    limited
        .args(["audit", "export", "--tenant", "acme"])
        .arg(&target)
        .env("DATABASE_URL", &*database.runtime_url);
    limited.env("DATABASE_SYSTEM_URL", database.system_url()).current_dir(home.path());
    let output = finish(&mut limited);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(!target.exists(), "{output:?}");
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
    drop(server);
}

#[test]
fn what_is_asked_for_wrongly_is_said_in_one_line() {
    let (home, database) = (Home::new(), Database::migrated("audit_usage"));
    let (code, said) = audit(&home, &database, &["verify", "--tenant", "nobody"]);
    assert!(code == 2 && said.contains("There is no tenant 'nobody'"), "{said}");
    let (code, said) = audit(&home, &database, &["verify", "--checkpoint", "/nonexistent"]);
    assert!(code == 2 && said.contains("/nonexistent"), "{said}");
    let (code, said) = audit(&home, &database, &["checkpoint", "--tenant", "erp-platform"]);
    assert!(code == 1 && said.contains("Nothing is sealed yet"), "{said}");
    let (code, said) = audit(&home, &database, &["verify", "--json"]);
    assert!(code == 0 && said.contains("erp-platform"), "{said}");
}
