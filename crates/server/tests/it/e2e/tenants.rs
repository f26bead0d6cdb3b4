//! Tenants from the outside: made by an operator at a terminal, brought to life by their first owner, suspended and closed.

use serde_json::{Value, json};

use super::database::Database;
use super::http::Client;
use super::process::{Ended, Home, Process, run};

const PASSWORD: &str = "correct horse battery staple";

fn tenant(home: &Home, database: &Database, arguments: &[&str]) -> Ended {
    run(home, &[&["tenant"], arguments].concat(), &database.both()[..1])
}

fn told(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{ended:#?}");
    serde_json::from_str(&ended.out.join("\n")).unwrap()
}

#[test]
fn a_company_comes_on_board_and_is_suspended_and_resumed() {
    let (home, database) = (Home::new(), Database::migrated("tenants"));
    let empty = tenant(&home, &database, &["list"]);
    assert!(empty.out[0].starts_with("There is no tenant yet"), "{empty:#?}");
    let create = ["create", "initech", "--name", "Initech", "--owner", "bill@initech.example", "--json"];
    let first = told(&tenant(&home, &database, &create));
    assert_eq!((&first["created"], &first["slug"]), (&json!(true), &json!("initech")));
    // Said again, it gives another link, and the one before ends.
    let second = told(&tenant(&home, &database, &create));
    assert_eq!((&second["created"], &second["id"]), (&json!(false), &first["id"]));

    let settings = [database.both()[0], ("PORT", "0"), ("HOST", "127.0.0.1"), ("RATE_LIMIT_AUTH_MAX", "100")];
    let server = Process::serve(&home, &settings);
    let client = Client::new(&server.address());
    let post = |path: &str, body: &Value| {
        let answer = client.post(path, body).unwrap();
        (answer.status, answer.json())
    };
    let accept = |made: &Value| {
        let link = made["invitation"].as_str().unwrap();
        let token = link.split_once("/invitation?token=").unwrap().1;
        let body = json!({ "token": token, "name": "Bill Lumbergh", "password": PASSWORD });
        post("/api/v1/invitations/accept", &body).0
    };
    assert_eq!((accept(&first), accept(&second)), (410, 200));
    let sign_in = || {
        let body = json!({ "tenant": "initech", "email": "bill@initech.example", "password": PASSWORD });
        post("/api/v1/auth/login", &body)
    };
    let (status, tokens) = sign_in();
    assert_eq!(status, 200, "{tokens}");
    let taken = tenant(&home, &database, &create);
    assert_eq!((taken.code, taken.err.len()), (1, 1), "{taken:#?}");

    let suspended = tenant(&home, &database, &["suspend", "initech", "--why", "unpaid"]);
    assert_eq!(suspended.code, 0, "{suspended:#?}");
    assert_eq!(sign_in().0, 401);
    let again = tenant(&home, &database, &["suspend", "initech", "--why", "unpaid"]);
    assert_eq!(again.code, 1, "{again:#?}");
    assert_eq!(tenant(&home, &database, &["resume", "initech", "--why", "paid"]).code, 0);
    assert_eq!(sign_in().0, 200);
    let audit =
        "select string_agg(action, ' ' order by seq) from audit_log where action like 'identity.tenant%'";
    let audit = database.value(audit);
    assert_eq!(
        audit,
        "identity.tenant_created identity.tenant_created identity.tenant_suspended identity.tenant_resumed"
    );
    assert_eq!(tenant(&home, &database, &["close", "nobody", "--why", "x"]).code, 2);
    for bad in ["Initech", "-x", "x-", "", "canary_one"] {
        let refused = tenant(&home, &database, &["create", bad, "--name", "X", "--owner", "x@example.com"]);
        assert_eq!(refused.code, 2, "{bad}: {refused:#?}");
    }
    let reserved = tenant(&home, &database, &["suspend", "canary-one", "--why", "x"]);
    assert_eq!(reserved.code, 1, "{reserved:#?}");
    server.stop("TERM");
}

#[test]
fn a_tenant_is_made_with_settings_and_erased_by_a_worker_once_it_was_closed_for_long_enough() {
    let (home, database) = (Home::new(), Database::migrated("tenant_end"));
    let create = ["create", "initech", "--name", "Initech", "--owner", "bill@initech.example"];
    let with = |more: &[&str]| tenant(&home, &database, &[&create[..], more].concat());
    let refused = with(&["--set", "tenants.currency=Francs"]);
    assert_eq!(refused.code, 2, "{refused:#?}");
    assert!(refused.err[0].contains("/settings/tenants.currency"), "{refused:#?}");
    assert_eq!(with(&["--plan", "golden"]).code, 2);
    assert_eq!(with(&["--set", "currency"]).code, 2);
    assert_eq!(with(&["--set", "tenants.currency=CHF", "--set", "tenants.time_zone=Europe/Zurich"]).code, 0);
    let setting = |arguments: &[&str]| run(&home, &[&["setting"], arguments].concat(), &database.both()[..1]);
    assert_eq!(setting(&["set", "initech", "tenants.currency=EUR"]).code, 0);
    assert_eq!(setting(&["set", "initech", "tenants.currency=Francs"]).code, 2);
    let shown = setting(&["show", "initech"]);
    assert_eq!(shown.out.len(), 2, "{shown:#?}");

    let erase = |more: &[&str]| {
        tenant(&home, &database, &[&["erase", "initech", "--why", "The contract has ended"], more].concat())
    };
    assert_eq!(erase(&["--yes"]).code, 1, "it is not closed");
    assert_eq!(tenant(&home, &database, &["close", "initech", "--why", "The contract has ended"]).code, 0);
    assert_eq!(erase(&["--yes"]).code, 1, "since a moment ago");
    database.run("update tenants set closed_at = closed_at - interval '30 days' where slug = 'initech'");
    assert_eq!(erase(&[]).code, 2, "nobody said yes");
    assert_eq!(erase(&["--yes"]).code, 0);
    let settings = [database.both()[0], ("PORT", "0"), ("HOST", "127.0.0.1")];
    let server = Process::serve(&home, &settings);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while database.value("select count(*)::text from tenants where status = 'erased'") == "0" {
        assert!(std::time::Instant::now() < deadline, "it is not erased");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(database.value("select count(*)::text from tenant_settings s join tenants t on t.id = s.tenant_id and t.status = 'erased'"), "0");
    let listed = told(&tenant(&home, &database, &["list", "--json"]));
    assert_eq!(listed[0]["status"], "erased", "{listed}");
    server.stop("TERM");
}
