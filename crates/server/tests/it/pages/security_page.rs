//! SECURITY.md says what is held and what is missing: a statement stands there as held when tests bear its id, and as
//! missing when none does.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use regex_lite::Regex;

/// What a test's name begins with, `t_01_` or `t01_`, and the statement that it holds.
const HELD: &[(&str, &str)] = &[
    ("A-01", "An endless password is refused before it is hashed"),
    ("A-02", "A password is taken as it is, and for as long as its owner wants"),
    ("A-03", "No password is among those that others have lost, or made of names that belong to the account"),
    ("A-04", "Passwords are hashed with argon2id; what is hashed otherwise is hashed anew at the sign-in"),
    ("A-05", "Failed sign-ins at an account count from everywhere, and many in a row shut strangers out"),
    ("A-06", "A lock-out reaches strangers, and neither known devices nor those who have the link of a mail"),
    ("A-07", "Failed sign-ins are limited, and a lock-out reaches nobody elsewhere"),
    (
        "A-08",
        "Every failed sign-in has the same answer, and costs the same; who asks for a link learns nothing by the answer",
    ),
    ("A-09", "Few passwords are hashed at a time, and who finds the queue full is refused at once"),
    ("A-10", "A new password wants the one before, and ends all other sessions"),
    ("A-11", "Links are good once, for a short time, and stored as hashes"),
    ("A-12", "The first operator comes by a one-time secret; there are no default credentials"),
    ("C-01", "Fields are encrypted with a key of their tenant, which is wrapped by one that no database has"),
    ("C-02", "A ciphertext that was copied elsewhere does not open, and is a security event"),
    (
        "C-03",
        "Keys are rotated while everything is read, and older versions end only when nothing names them",
    ),
    ("C-04", "A destroyed key opens nothing on any instance within a minute"),
    ("C-05", "No flipped bit of a ciphertext releases anything"),
    ("C-06", "Secrets come from files too, and are in no argument, log line, help or panic"),
    ("D-01", "No connection lives for long without the head of a request"),
    ("D-02", "A body that comes too slowly is 408, a reader that takes too little is cut"),
    ("D-03", "A body over its limit is 413 before it is read, and many of them take little memory"),
    ("D-04", "Heads and targets have limits: 431, 414"),
    ("D-05", "HTTP/2 has limits of streams, resets and empty frames"),
    ("D-06", "Connections have limits, all and by address; without file descriptors the server goes on"),
    ("D-07", "A request has a deadline, and its statement ends with it"),
    ("D-08", "TLS 1.3 or 1.2 with good ciphers only; a certificate is renewed without a cut"),
    ("H-01", "Every answer has the security headers, refusals too"),
    ("H-02", "An answer of JSON may not be run, framed, sniffed or kept by a cache"),
    ("H-03", "HSTS over TLS; plain HTTP is redirected or refused"),
    ("H-04", "An error is problem+json and tells no cause; a panic is one answer of 500"),
    ("H-05", "Methods, media types and HEAD are answered as RFC 9110 says"),
    ("H-06", "A client that is refused for now is told when to come back"),
    ("H-07", "No request is smuggled past another"),
    ("H-08", "Operators' routes are not there for strangers outside development"),
    ("H-09", "A request that is sent again with its Idempotency-Key has one effect"),
    ("H-10", "A change of what has changed meanwhile is 412"),
    ("I-01", "The server keeps its own contract; what is wrong is told all at once"),
    ("I-02", "No input, however odd, is a 500"),
    ("I-03", "Unknown fields are refused; answers have the declared ones only"),
    ("I-04", "Nothing that is sent becomes SQL"),
    ("I-05", "Pages, cursors and the time of a list have bounds"),
    ("J-01", "A forged or bent token is refused"),
    ("J-02", "A token holds for 15 minutes at most"),
    ("J-03", "A token for something else is refused"),
    ("J-04", "The signing key is rotated without an outage"),
    ("J-05", "Who is signed out, removed or paused is out everywhere within five seconds"),
    ("K-01", "A mistyped key is refused without a statement"),
    (
        "K-02",
        "A key has one tenant, scopes, networks and an end; revoked, it is out everywhere within five seconds",
    ),
    ("L-01", "A limit is exact, over several instances too"),
    ("L-02", "A client's address comes from trusted proxies only"),
    ("L-03", "Answers say where their client stands"),
    ("L-04", "Without Redis every instance limits by itself"),
    ("L-05", "The counters' memory is bounded"),
    ("L-06", "Few requests are held back at a time"),
    ("M-01", "A code of the second factor, and a passkey's answer, is good once, over all instances"),
    ("M-02", "Codes are those of RFC 6238, one step early or late, by the server's clock"),
    ("M-03", "Few wrong codes are let through, and what waits for one opens nothing"),
    ("M-04", "A second factor is set up with the password and a code, and kept sealed"),
    ("O-01", "What is sent cannot break a line of the log"),
    ("O-02", "Secrets are nowhere in the log, the metrics or the audit log"),
    ("O-03", "Ids of requests and traces are checked, echoed and on every line"),
    ("O-04", "Prometheus's own programs read the metrics"),
    ("O-05", "The number of series is bounded"),
    ("R-01", "A refresh token that was used before ends its session"),
    ("R-02", "Who has not got the answer to a refresh gets it again for ten seconds"),
    ("R-03", "Of refreshes at the same time one token comes"),
    ("R-04", "A session ends after its time, and when it is left unused"),
    ("R-05", "Each sign-in begins a session of its own, whatever the browser brings"),
    ("R-06", "The cookie of a session is for this server alone, and no script reads it"),
    ("R-07", "A change by a cookie wants a page of this server and its token"),
    ("R-08", "Pages of listed origins may call, and no others"),
    ("S-01", "Liveness touches no dependency"),
    ("S-02", "A stop turns away, drains and ends in time"),
    ("S-03", "All faults of the configuration are told at once, without values"),
    ("S-04", "A database that is killed, hung or full is 503, and recovery is quick"),
    ("S-05", "An unknown outcome of COMMIT is told, and a repetition has one effect"),
    ("S-06", "An exhausted pool refuses in time and loses no connection"),
    ("S-07", "A Redis that is killed, hung, full or refuses us slows no request by more than 100 ms"),
    ("S-08", "Overload is shed at once, and probes are answered"),
    ("S-09", "A cold key is loaded once for all who want it, and values are not over all at once"),
    ("S-10", "Migrations run once, and an old binary runs on the new schema"),
    ("S-11", "kill -9 loses nothing that was acknowledged"),
    ("S-12", "Under load for long, memory and connections stay"),
    ("T-01", "The server refuses to serve as a privileged role"),
    ("T-02", "Every tenant table has forced row level security"),
    ("T-03", "Without a tenant nothing is seen or written"),
    ("T-04", "A tenant's context ends with its transaction"),
    ("T-05", "The same holds behind PgBouncer"),
    ("T-06", "Every policy names the tenant for reading and for writing"),
    ("T-07", "A policy looks at the tenant once a statement, and uses the index"),
    ("T-08", "Foreign keys pair the tenants"),
    ("T-09", "What is unique is so within its tenant"),
    ("T-10", "The server's role may not truncate, reference or create"),
    ("T-11", "Views see what their reader may see"),
    ("T-12", "No function lends the server's role more rights"),
    ("T-14", "A PostgreSQL with known holes in row level security is told of"),
    ("T-15", "No answer tells statistics, plans or texts of the database"),
    ("T-16", "Another tenant's item is like one that does not exist"),
    ("T-17", "The tenant comes from the credential, never from a header, a host's name or a path alone"),
    ("T-18", "What is counted or kept is so by tenant"),
    (
        "T-20",
        "A job runs for a principal of its tenant or for declared work of the system, and fails closed without either",
    ),
    ("T-21", "Who is disabled, and who is of a suspended tenant, is nobody"),
    ("T-22", "One tenant's rush leaves the others their share"),
    ("U-01", "The server's role adds to the audit log, and cannot change it"),
    ("U-02", "What a superuser changes in the audit log is found and named, by programs of others, too"),
    ("U-03", "Many writers and a kill -9 leave no gap, fork or duplicate in the audit log"),
    ("U-05", "Every change has one audit row, and one that fails has none"),
    ("U-06", "An audit row says who changed what, with secrets masked, and is verified without the database"),
    ("W-01", "A webhook is signed as the reference libraries verify it, with a secret of its endpoint's own"),
    ("W-02", "A webhook that failed comes again under its id; 410 and five days of failures end it"),
    ("W-03", "A URL of a tenant's leads to public addresses only, when it is given and when it is called"),
    ("W-04", "Secrets of webhooks are replaced without a gap, and a crash loses no event"),
    ("X-01", "Licences, sources and advisories of all dependencies are checked"),
];

/// What no test holds, since it is not built; with the ids, where it has any.
const MISSING: &[(&str, &str)] = &[
    ("T-19", "export and erasure of a tenant's data"),
    ("X-02, X-03", "a container image and manifests"),
    ("", "audit rows for reads and for the administration of the system (both are in the log)"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The ids of requirements that tests bear, `T-01`; those of faults, `f55`, are others.
fn ids() -> BTreeSet<String> {
    let name = Regex::new(r"(?m)^\s*(?:async )?fn ([a-eg-z])_?(\d\d)_\w+\(\) \{").unwrap();
    let mut ids = BTreeSet::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(path).unwrap();
                ids.extend(
                    name.captures_iter(&source)
                        .map(|found| format!("{}-{}", found[1].to_uppercase(), &found[2])),
                );
            }
        }
    }
    ids
}

#[test]
fn the_security_page_lists_what_tests_hold_and_what_is_missing() {
    let ids = ids();
    let held: BTreeSet<String> = HELD.iter().map(|(id, _)| (*id).to_owned()).collect();
    assert_eq!(ids, held, "ids of tests, and HELD");
    for (missing, what) in MISSING {
        let built = missing.split(", ").find(|id| ids.contains(*id));
        assert_eq!(built, None, "a test bears its id, so it is not missing: {what}");
    }
    let mut list = String::from("\n| id | what holds |\n| --- | --- |\n");
    HELD.iter().for_each(|(id, what)| _ = writeln!(list, "| {id} | {what} |"));
    list.push_str("\nNot there yet:\n\n");
    for (ids, what) in MISSING {
        let ids = if ids.is_empty() { String::new() } else { format!(" ({ids})") };
        let _ = writeln!(list, "- {what}{ids}");
    }
    let (file, begin, end) = (
        root().join("SECURITY.md"),
        "<!-- The lists are generated: BLESS=1 script/test integration the_security_page -->\n",
        "\n<!-- End of what is generated -->",
    );
    let page = fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once(begin).expect("the mark of the beginning");
    let (_, after) = rest.split_once(end).expect("the mark of the end");
    let fresh = format!("{before}{begin}{list}{end}{after}");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, &fresh).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        fresh,
        "BLESS=1 script/test integration the_security_page"
    );
}
