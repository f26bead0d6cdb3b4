//! What leaves the machine: the platform's checkpoint, each minute, to somebody who remembers it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use erp_core::audit::note::{AuditKeys, Checkpoint};
use erp_core::audit::tree::is_consistent;
use erp_testkit::TestApp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{NOTHING, config, fill, operator, tenant};

fn place(app: &str) -> PathBuf {
    std::env::temp_dir().join(format!("erp-witness-{app}-{}", std::process::id()))
}

async fn with_witness(url: &str) -> TestApp {
    TestApp::builder().setting("AUDIT_WITNESS_URL", url).start().await
}

async fn platform(app: &TestApp) -> Vec<(&'static str, i64)> {
    let operator = operator(app);
    let platform = tenant(&operator, "erp-platform").await;
    let logs = Box::pin(operator.verify(&platform, &[])).await.unwrap();
    operator.close().await;
    logs.iter().flat_map(|log| &log.findings).map(|finding| (finding.what, finding.seq)).collect()
}

#[tokio::test]
async fn checkpoints_of_all_tenants_are_in_the_platforms_log_and_that_is_told_to_a_file() {
    let file = place("file");
    let _ = std::fs::remove_file(&file);
    let app = with_witness(&format!("file://{}", file.display())).await;
    for last in [30, 60] {
        fill(&app, last).await;
        app.seal_audit().await;
        app.anchor_audit().await;
    }
    let notes = std::fs::read_to_string(&file).unwrap();
    let origin = format!("erp-backend/audit/{}", erp_core::shared::TenantId::PLATFORM);
    assert_eq!(notes.matches(&format!("{origin}\n")).count(), 2, "{notes}");
    let noted = format!("select count(*) from audit_entries where head_of = '{}'", app.tenant_id("acme"));
    assert_eq!(app.sql().query_one(&noted, &[]).await.unwrap().get::<_, i64>(0), 2);
    assert_eq!(platform(&app).await, NOTHING);
    // The witness knows more than the database: it is an older one, and nothing of any tenant is sealed.
    let ahead = Checkpoint { origin, size: 4000, root: [7; 32] };
    std::fs::write(&file, format!("{notes}{}\n", app.audit_keys().sign(&ahead))).unwrap();
    fill(&app, 90).await;
    let outcome = app.seal_audit().await;
    assert!(outcome.sealed == 0 && outcome.failed > 0, "{outcome:?}");
    assert!(platform(&app).await.iter().any(|(what, _)| *what == "log_shrunk"));
    // Until an operator opens a new log.
    let operator = operator(&app);
    let platform = tenant(&operator, "erp-platform").await;
    operator.reopen(&platform, "The database was restored", Some(&ahead)).await.unwrap();
    operator.close().await;
    let outcome = app.seal_audit().await;
    assert!(outcome.sealed >= 30 && outcome.failed == 0, "{outcome:?}");
    app.anchor_audit().await;
    let told = std::fs::read_to_string(&file).unwrap();
    assert!(told.contains(&format!("{}/1\n", ahead.origin)), "{told}");
    std::fs::remove_file(&file).unwrap();
    app.expect_errors();
    app.finish().await;
}

/// A witness as C2SP tlog-witness has it: it remembers the last checkpoint of each log.
struct Witness {
    keys: AuditKeys,
    known: Mutex<HashMap<String, (u64, [u8; 32])>>,
}

impl Witness {
    fn answer(&self, body: &str) -> (u16, String) {
        let (head, note) = body.split_once("\n\n").unwrap();
        let mut lines = head.lines();
        let old: u64 = lines.next().unwrap().strip_prefix("old ").unwrap().parse().unwrap();
        let proof: Vec<[u8; 32]> =
            lines.map(|line| BASE64_STANDARD.decode(line).unwrap().try_into().unwrap()).collect();
        let Ok(new) = self.keys.open(note) else { return (403, String::new()) };
        let mut known = self.known.lock().unwrap();
        let (size, root) = known.get(&new.origin).copied().unwrap_or((0, [0; 32]));
        if old > new.size {
            return (400, String::new());
        }
        if old != size {
            return (409, format!("{size}\n"));
        }
        if !is_consistent((size, root), (new.size, new.root), &proof) {
            return (422, String::new());
        }
        known.insert(new.origin, (new.size, new.root));
        (200, "\u{2014} witness.example/w1 AAAAAAAA\n".to_owned())
    }
}

async fn witness(keys: AuditKeys) -> (String, Arc<Witness>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let witness = Arc::new(Witness { keys, known: Mutex::default() });
    let serving = Arc::clone(&witness);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
            let body = loop {
                let count = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head
                    .lines()
                    .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                if body.len() >= length.unwrap().parse::<usize>().unwrap() {
                    assert!(head.starts_with("POST /add-checkpoint "), "{head}");
                    break body.to_owned();
                }
            };
            let (status, answer) = serving.answer(&body);
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                answer.len()
            );
            let _ = stream.write_all(format!("{head}{answer}").as_bytes()).await;
        }
    });
    (url, witness)
}

#[tokio::test]
async fn a_witness_over_http_gets_proofs_and_one_that_knows_another_past_stops_the_sealing() {
    let plain = TestApp::start().await;
    let keys = plain.audit_keys();
    plain.finish().await;
    let (url, witness) = witness(keys).await;
    let app = with_witness(&url).await;
    for last in [30, 60, 90] {
        fill(&app, last).await;
        app.seal_audit().await;
        app.anchor_audit().await;
    }
    let (origin, known) =
        witness.known.lock().unwrap().iter().next().map(|(name, known)| (name.clone(), *known)).unwrap();
    let sealed =
        "select size from audit_logs l join tenants t on t.id = l.tenant_id where t.slug = 'erp-platform'";
    let size: i64 = app.sql().query_one(sealed, &[]).await.unwrap().get(0);
    assert_eq!(known.0, size.unsigned_abs());
    // The witness has lost what it knew: it is told anew, from the beginning.
    witness.known.lock().unwrap().clear();
    fill(&app, 120).await;
    app.seal_audit().await;
    app.anchor_audit().await;
    assert!(witness.known.lock().unwrap()[&origin].0 > known.0);
    // It knows more than the database has.
    witness.known.lock().unwrap().insert(origin, (100_000, [1; 32]));
    fill(&app, 150).await;
    let outcome = app.seal_audit().await;
    assert!(outcome.sealed == 0 && outcome.failed > 0, "{outcome:?}");
    app.expect_errors();
    app.finish().await;
}

#[tokio::test]
async fn what_a_witness_that_is_away_has_missed_waits_and_is_told_in_order() {
    let file = place("away").join("notes");
    let app = with_witness(&format!("file://{}", file.display())).await;
    for last in [30, 60, 90] {
        fill(&app, last).await;
        app.seal_audit().await;
        app.anchor_audit().await;
    }
    let waiting = "select count(*) from audit_checkpoints where witness = $1";
    let count = async |state: &str| app.sql().query_one(waiting, &[&state]).await.unwrap().get::<_, i64>(0);
    assert_eq!((count("waits").await, count("told").await), (3, 0));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    app.anchor_audit().await;
    assert_eq!((count("waits").await, count("told").await), (0, 3));
    let notes = std::fs::read_to_string(&file).unwrap();
    let keys = AuditKeys::of(&config(&app)).unwrap().unwrap();
    let parts: Vec<&str> = notes.split("\n\n").collect();
    let sizes: Vec<u64> = parts
        .chunks(2)
        .filter(|pair| pair.len() == 2)
        .map(|pair| {
            keys.open(&format!("{}\n\n{}\n", pair[0].trim_start_matches('\n'), pair[1])).unwrap().size
        })
        .collect();
    assert!(sizes.len() == 3 && sizes.is_sorted(), "{sizes:?}");
    // Of too many the oldest are dropped.
    let many = format!(
        "insert into audit_checkpoints (tenant_id, log, size, note, witness)
        select '{}', 0, 100000 + g, 'x', 'waits' from generate_series(1, 1500) g",
        erp_core::shared::TenantId::PLATFORM
    );
    app.sql().execute(&many, &[]).await.unwrap();
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    app.anchor_audit().await;
    assert_eq!((count("waits").await, count("dropped").await), (1440, 60));
    app.finish().await;
}
