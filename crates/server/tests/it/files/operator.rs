//! What an operator sees of files and does about them, at a terminal.

use std::process::Command;

use erp_testkit::TestApp;
use serde_json::Value;

use super::{file_png, filing, stored, until, used};

/// Runs `erp-backend files …` on the app's database and store: its exit code, and what it printed.
fn files(app: &TestApp, arguments: &[&str]) -> (i32, String) {
    let roles = &app.database().roles;
    let mut command = Command::new(env!("CARGO_BIN_EXE_erp-backend"));
    command.arg("files").args(arguments).env_clear().current_dir(std::env::temp_dir());
    command.env("DATABASE_URL", &roles.runtime_url).env("DATABASE_SYSTEM_URL", &roles.system_url);
    command.env("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=");
    command.env("APP_ENV", "development").env("FILES_URL", format!("file://{}", app.files().display()));
    let output = command.output().expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

fn json(app: &TestApp, arguments: &[&str]) -> (i32, Value) {
    let (code, text) = files(app, &[arguments, &["--json"]].concat());
    (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_lists_files_sets_quotas_and_lets_the_sweep_come() {
    let app = filing().await;
    let file = file_png(&app.alice()).await;
    let (code, listed) = json(&app, &["list", "--tenant", "acme"]);
    assert_eq!(
        (code, &listed["acme"][0]["id"], &listed["acme"][0]["name"]),
        (0, &file["id"], &"scan.png".into())
    );
    let (code, usage) = json(&app, &["usage"]);
    let bytes = used(&app, "acme").await;
    assert_eq!(
        (code, usage["acme"]["bytes"].as_i64(), usage["globex"]["files"].as_i64()),
        (0, Some(bytes), Some(0))
    );
    assert!(usage.get("erp-platform").is_none(), "{usage}");
    let (code, told) = files(&app, &["quota", "--tenant", "acme", "1KiB"]);
    assert_eq!(code, 0, "{told}");
    let png = [("content-type", "image/png")];
    let more = [super::PNG, &[7; 2000]].concat();
    let answer = super::send(&app.alice(), ("POST", "/test/papers"), &png, more.clone()).await;
    answer.assert(413).problem("files.quota_exceeded");
    let audited = app.audit_of("acme").await;
    let row = audited.iter().find(|row| row["action"] == "files.quota_set").expect("it is audited");
    assert_eq!(row["actor"], "system:files");
    assert_eq!(files(&app, &["quota", "--tenant", "acme", "default"]).0, 0);
    super::send(&app.alice(), ("POST", "/test/papers"), &png, more).await.assert(200);
    assert_eq!(files(&app, &["quota", "--tenant", "acme", "20GB"]).0, 2);
    assert_eq!(files(&app, &["usage", "--tenant", "nobody"]).0, 2);
    until(&app, "select count(*) = 1 from job_schedules where name = 'files.nightly'").await;
    let (code, swept) = json(&app, &["sweep"]);
    assert_eq!((code, &swept["comes"]), (0, &true.into()));
    until(&app, "select count(*) = 2 from job_done where kind = 'files.sweep'").await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_damaged_or_nobodys_is_found() {
    let app = filing().await;
    for _ in 0..3 {
        file_png(&app.alice()).await;
    }
    assert_eq!(json(&app, &["verify", "--contents"]).0, 0);
    let objects = stored(&app);
    std::fs::remove_file(&objects[0]).unwrap();
    let mut bytes = std::fs::read(&objects[1]).unwrap();
    bytes[12] ^= 1;
    std::fs::write(&objects[1], bytes).unwrap();
    let shards = objects[2].parent().and_then(std::path::Path::parent).unwrap();
    let stray = shards.join("91/0190163d-8694-739b-aea5-966c26f8ad91");
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    std::fs::write(&stray, "left by a database that was restored").unwrap();
    let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let (code, found) = json(&app, &["verify"]);
    assert_eq!((code, &found["acme"]["missing"]), (1, &serde_json::json!([name(&objects[0])])));
    assert_eq!(found["acme"]["damaged"], serde_json::json!([]), "their bytes were not looked at");
    assert_eq!(found["acme"]["orphans"], serde_json::json!([name(&stray)]));
    let (code, found) = json(&app, &["verify", "--contents", "--remove-orphans"]);
    assert_eq!((code, &found["acme"]["damaged"]), (1, &serde_json::json!([name(&objects[1])])));
    assert_eq!((&found["acme"]["removed"], stray.exists()), (&1.into(), false));
    let (_, text) = files(&app, &["verify", "--contents"]);
    assert!(text.contains("3 files, 1 missing, 1 damaged, 0 objects of nobody's"), "{text}");
    app.finish().await;
}
